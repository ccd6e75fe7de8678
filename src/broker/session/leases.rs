//! One queue on one connection: a lease after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Consumer, Intake, sleep_unless};
use crate::broker::clean::Inheritance;
use crate::broker::declare::is_missing;
use crate::broker::lease::Lease;
use crate::broker::pulse::Session;
use crate::broker::shard::{End, Shard, Surroundings};
use crate::broker::slot::{Order, Slot, Source};
use crate::broker::standing::add;
use crate::broker::wire::{Terms, Tie};
use crate::telemetry::field;

/// Wait before a queue of a left generation is tried again: it is most likely being deleted. 4.0.5 once
/// ended the whole connection with `INTERNAL_ERROR` while pods asked for such queues over and over.
const LEFT_AGAIN: Duration = Duration::from_secs(5);

impl Consumer {
    /// One queue on this connection: a lease after the other.
    pub(super) async fn slot<T: Tie>(
        self: Arc<Self>,
        one: One<T>,
        intake: Arc<dyn Intake>,
        unready: Arc<AtomicU64>,
    ) {
        let One { slot, connection, session, turned } = one;
        let counts = !matches!(slot.source, Source::Left { .. });
        let (mut failures, mut anew, mut first) = (0, false, counts);
        let mut aged = false;
        let over = || {
            !connection.is_connected()
                || session.lost.is_cancelled()
                || turned.is_cancelled()
                || self.stops.stop.is_cancelled()
                || self.is_retired(slot.source)
        };
        while !over() {
            self.rest(&slot, aged, &session, &turned).await;
            if over() {
                break;
            }
            let lease = self.lease(&slot, &session);
            if let Some(shard) = self.subscribe(&*connection, &slot, lease.clone()).await {
                if std::mem::take(&mut first) && unready.fetch_sub(1, Ordering::Relaxed) == 1 {
                    self.ready.cancel();
                }
                if anew {
                    // It stands behind the others now: they give it back to us once more.
                    self.peers.renew();
                }
                let begun = Instant::now();
                slot.lease.send_replace(Some(lease.clone()));
                if turned.is_cancelled() || self.is_halted() {
                    // Whoever ended the leases may have looked just before.
                    lease.ending.cancel();
                }
                let surroundings = Surroundings {
                    intake: intake.as_ref(),
                    publisher: &self.publisher,
                    topology: &self.topology,
                    generations: &self.generations,
                    settle_window: self.settle_window,
                    stop: &self.stops.stop,
                    force: &self.stops.force,
                };
                let end = shard.hold(surroundings, || self.tell_clean(&slot, &lease)).await;
                add(match end {
                    End::GivenBack => &self.counts.given_back,
                    End::Abandoned => &self.counts.abandoned,
                    End::Broken(_) => &self.counts.broken,
                });
                if !matches!(end, End::GivenBack) {
                    self.peers.forget_clean(&slot.queue);
                    slot.broke(Instant::now());
                }
                slot.lease.send_replace(None);
                aged = lease.is_aged();
                if begun.elapsed() > self.settings.reconnect_wait_max {
                    failures = 0;
                }
                let lost = !connection.is_connected() || session.lost.is_cancelled();
                if told(&end, &slot, &lease, lost.then_some(&session)) {
                    continue;
                }
                anew = true;
            }
            // Only a channel that ended alone waits here: a lost connection waits in `run`.
            if !over() {
                let again = async {
                    match slot.source {
                        Source::Shard { .. } | Source::Intake { .. } => self.pause(failures).await,
                        Source::Left { .. } => sleep_unless(LEFT_AGAIN, &self.stops.stop).await,
                    }
                };
                tokio::select! { biased;
                    () = turned.cancelled() => {}
                    () = session.lost.cancelled() => {}
                    () = again => {}
                }
                failures = failures.saturating_add(1);
            }
        }
    }

    /// Takes no shard while nothing of it could be worked on: all that would be handed out would wait
    /// here, be given back, and count as one more delivery. What is only forwarded waits for no target,
    /// but for a broker that takes messages; and so does a shard that was `aged` waiting for one.
    async fn rest(&self, slot: &Slot, aged: bool, session: &Session, turned: &CancellationToken) {
        let (mut paused, mut away) = (self.paused.clone(), self.peers.away());
        let resting = async {
            // Its sender is our own.
            drop(away.wait_for(|away| !away).await);
            let is_forwarded = match slot.source {
                Source::Shard { .. } => false,
                Source::Intake { .. } | Source::Left { .. } => true,
            };
            if (is_forwarded || aged) && self.publisher.is_blocked() {
                tracing::info!(
                    { field::QUEUE } = %slot.queue,
                    "the broker takes no messages; the queue is taken again when it does"
                );
                self.publisher.unblocked().await;
            }
            if !is_forwarded {
                // Whoever could end the pause is gone: so is the process, in a moment.
                drop(paused.wait_for(|paused| !paused).await);
                if let Some(parking) = &self.parking {
                    parking.ready().await;
                }
            }
        };
        tokio::select! { biased;
            () = resting => {}
            () = self.stops.stop.cancelled() => {}
            () = session.lost.cancelled() => {}
            () = turned.cancelled() => {}
        }
    }

    fn is_retired(&self, source: Source) -> bool {
        match source {
            Source::Shard { .. } | Source::Intake { .. } => false,
            Source::Left { of, .. } => self.generations.borrow().left != Some(of),
        }
    }

    /// Tells the other pods that nothing of this shard is on the wire, for whoever is the next one.
    fn tell_clean(&self, slot: &Slot, lease: &Lease) {
        match slot.source {
            // A publication is a request as well: a late one would land behind newer ones.
            Source::Shard { .. } | Source::Intake { order: Order::Kept } => {}
            Source::Intake { order: Order::Any } | Source::Left { .. } => return,
        }
        // Requests of an earlier lease of ours may be at work as well.
        if slot.broke_within(self.settle_window) {
            return;
        }
        if let Some(first) = lease.goes_back_clean(self.settle_window) {
            self.peers.tell_clean(&slot.queue, first);
        }
    }

    fn lease(&self, slot: &Slot, session: &Session) -> Arc<Lease> {
        let generation = self.channels.fetch_add(1, Ordering::Relaxed);
        let inheritance = Inheritance::new(self.peers.word(&slot.queue));
        let lost = session.lost.child_token();
        let shared = (session.pulse.clone(), session.outbox.clone());
        let (queue, prefetch) = (slot.queue.clone(), self.settings.prefetch);
        Arc::new(Lease::new(generation, queue, lost, shared, prefetch, inheritance))
    }

    async fn subscribe<T: Tie>(
        &self,
        connection: &T,
        slot: &Slot,
        lease: Arc<Lease>,
    ) -> Option<Shard<T::Line>> {
        let tag = format!("{}-{}", self.instance, lease.generation);
        let terms = Terms {
            prefetch: self.settings.prefetch,
            tag: &tag,
            answer_max: self.settings.connect_timeout,
            age_max: self.settings.consumer_timeout / 2,
        };
        match Shard::subscribe(connection, lease, slot.source, terms).await {
            Ok(Some(shard)) => return Some(shard),
            Ok(None) => {
                tracing::warn!({ field::QUEUE } = %slot.queue, "the broker does not answer");
            }
            Err(error) if is_missing(&error) && matches!(slot.source, Source::Left { .. }) => {
                tracing::debug!({ field::QUEUE } = %slot.queue, "the queue of a left generation is gone");
            }
            Err(error) => {
                tracing::warn!({ field::QUEUE } = %slot.queue, %error, "cannot subscribe");
                if let Some(connection) = connection.lapin().filter(|_| is_missing(&error)) {
                    self.restore(connection).await;
                }
            }
        }
        None
    }
}

/// What a task for one queue works with.
pub(super) struct One<T> {
    pub(super) slot: Arc<Slot>,
    pub(super) connection: Arc<T>,
    pub(super) session: Session,
    /// Another generation is to be worked on.
    pub(super) turned: CancellationToken,
}

/// Says how a lease ended; of a connection that is lost, that alone. True where the next one may begin at once.
fn told(end: &End, slot: &Slot, lease: &Lease, lost: Option<&Session>) -> bool {
    match end {
        End::GivenBack if lease.is_troubled() => {
            tracing::warn!(
                { field::QUEUE } = %slot.queue,
                "gave the shard up: a message can neither be settled nor skipped"
            );
            false
        }
        End::GivenBack | End::Abandoned => {
            tracing::debug!({ field::QUEUE } = %slot.queue, "gave the shard back");
            true
        }
        // Deleted at the end of its time, and empty.
        End::Broken(_) if matches!(slot.source, Source::Left { .. }) => {
            tracing::debug!({ field::QUEUE } = %slot.queue, "the queue of a left generation is gone");
            false
        }
        End::Broken(error) if let Some(session) = lost => {
            session.tell_lost(error.as_ref());
            tracing::debug!({ field::QUEUE } = %slot.queue, "lost the shard with the connection");
            false
        }
        End::Broken(error) => {
            tracing::warn!(
                { field::QUEUE } = %slot.queue,
                error = error.as_ref().map(tracing::field::display),
                "lost the shard; what was delivered comes again"
            );
            false
        }
    }
}
