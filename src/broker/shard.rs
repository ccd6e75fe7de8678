//! One shard: one channel, whose life is the lease.
//!
//! The way out is always the same: nothing more is begun, what runs is finished and acked, the
//! channel is closed. Never `basic.cancel`: after a cancel the broker starts the next consumer while
//! this one still works, and hands the unfinished messages out last. The library cancels by itself
//! when a `Consumer` is dropped while its channel is open, so the consumer outlives the channel here.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::lease::Lease;
use super::marker::{Marker, ends_generation};
use super::session::Intake;
use super::slot::Source;
use super::wire::{Line, Terms, Tie};
use super::{Delivery, Generations, Publisher, Receipt, Topology};
use crate::telemetry::field;

/// Why a lease ended.
#[derive(Debug)]
pub(super) enum End {
    /// We gave the channel back, with nothing of it on the wire.
    GivenBack,
    /// We gave the channel back while something was still on the wire: the grace ran out.
    Abandoned,
    /// The broker took it, or is not heard of any more.
    Broken(Option<lapin::Error>),
}

/// Looks at the age of the oldest delivery in the time that it may have.
const AGE_LOOKS: u32 = 16;

/// What a lease needs of the world while it is held.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    /// Takes the deliveries.
    pub(super) intake: &'a dyn Intake,
    /// Says what is drained.
    pub(super) publisher: &'a Arc<Publisher>,
    /// Names.
    pub(super) topology: &'a Topology,
    /// What is known of the generations.
    pub(super) generations: &'a watch::Sender<Generations>,
    /// How long a request of unknown outcome may still be at work in the service.
    pub(super) settle_window: Duration,
    /// Begins the drain.
    pub(super) stop: &'a CancellationToken,
    /// Ends its grace.
    pub(super) force: &'a CancellationToken,
}

/// A subscribed channel.
pub(super) struct Shard<L: Line> {
    line: L,
    lease: Arc<Lease>,
    source: Source,
    answer_max: Duration,
    age_max: Duration,
    markers: JoinSet<()>,
}

impl<L: Line> Drop for Shard<L> {
    /// On every way out that `hold` does not see, such as a panic: the channel's close is queued before
    /// the consumer is dropped, or the library would cancel it. After a close this does nothing.
    fn drop(&mut self) {
        self.lease.flush();
        let _queued_or_closed = self.line.close("dropped").now_or_never();
    }
}

impl<L: Line> Shard<L> {
    /// Opens a channel and subscribes. `None` if the broker does not answer.
    pub(super) async fn subscribe(
        connection: &impl Tie<Line = L>,
        lease: Arc<Lease>,
        source: Source,
        terms: Terms<'_>,
    ) -> Result<Option<Self>, lapin::Error> {
        let Some(line) = connection.subscribe(&lease.queue, terms).await? else { return Ok(None) };
        let Terms { answer_max, age_max, .. } = terms;
        // A lease has one channel in its life.
        let _first = lease.acker.set(line.acker());
        let markers = JoinSet::new();
        Ok(Some(Self { line, lease, source, answer_max, age_max, markers }))
    }

    /// Hands deliveries to the intake until the lease ends. `clean` is called when nothing of this shard
    /// is on the wire any more, just before the channel is closed.
    pub(super) async fn hold(
        mut self,
        surroundings: Surroundings<'_>,
        clean: impl FnOnce(),
    ) -> End {
        let lease = self.lease.clone();
        let Surroundings { stop, force, .. } = surroundings;
        let mut looks = interval((self.age_max / AGE_LOOKS).max(Duration::from_millis(1)));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Once for all deliveries: to be told of an end is to enter a list, and to leave it.
        let mut lost = pin!(lease.lost.cancelled());
        let mut stopped = pin!(stop.cancelled());
        let mut ending = pin!(lease.ending.cancelled());
        let end = loop {
            tokio::select! { biased; // Stop wins over new work.
                () = &mut lost => break End::Broken(None),
                () = &mut stopped => break self.finish(force).await,
                () = &mut ending => break self.finish(force).await,
                _ = looks.tick() => self.look_at_age(),
                Some(_settled) = self.markers.join_next() => {}
                next = self.line.next() => match next {
                    Some(Ok(delivery)) => {
                        let delivery = self.received(delivery, surroundings.generations);
                        self.hand_on(delivery, surroundings);
                    }
                    Some(Err(error)) => break End::Broken(Some(error)),
                    // The queue was deleted, or its leader moved: no error comes with it.
                    None => break End::Broken(None),
                },
            }
        };
        lease.flush();
        if matches!(end, End::GivenBack) {
            clean();
        }
        lease.lost.cancel();
        match timeout(self.answer_max, self.line.close("done")).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the channel was closed already"),
            Err(_elapsed) => tracing::debug!("the broker did not say goodbye to the channel"),
        }
        end
    }

    /// Waits for what was begun to be settled; nothing else is. What the broker still sends is noted and
    /// left alone: it goes back, in order, when the channel closes.
    async fn finish(&mut self, force: &CancellationToken) -> End {
        let lease = self.lease.clone();
        lease.ending.cancel();
        lease.working.close();
        let at_rest = lease.at_rest();
        tokio::pin!(at_rest);
        loop {
            tokio::select! { biased;
                () = lease.lost.cancelled() => return End::Broken(None),
                () = &mut at_rest => return End::GivenBack,
                () = force.cancelled() => return End::Abandoned,
                next = self.line.next() => match next {
                    Some(Ok(delivery)) => lease.delivered(&delivery, Instant::now()),
                    Some(Err(error)) => return End::Broken(Some(error)),
                    None => return End::Broken(None),
                },
            }
        }
    }

    fn hand_on(&mut self, delivery: Delivery, surroundings: Surroundings<'_>) {
        match Marker::of(delivery, surroundings.topology) {
            Err(update) => surroundings.intake.deliver(update),
            Ok(marker) => {
                if ends_generation(marker.round())
                    && let Source::Shard { number, of } = self.source
                {
                    // Whether or not this pod has heard of it: the next generation is about to be worked on.
                    self.source = Source::Left { number, of };
                }
                // Only a real broker is resharded.
                let Some(channel) = self.line.lapin().cloned() else { return };
                let Surroundings { publisher, topology, settle_window, .. } = surroundings;
                let (publisher, topology) = (publisher.clone(), topology.clone());
                self.markers.spawn(async move {
                    marker.settle(&channel, &publisher, &topology, settle_window).await;
                });
            }
        }
    }

    /// What waits too long is given back before the broker takes it, with everything else of the channel.
    fn look_at_age(&self) {
        let oldest = self.lease.unsettled.oldest();
        if oldest.is_some_and(|arrived| arrived.elapsed() >= self.age_max) {
            tracing::warn!(
                { field::QUEUE } = %self.lease.queue,
                "a message waits for too long behind others of its order; giving the shard back"
            );
            self.lease.age();
        }
    }

    /// Where a delivery comes from. Asked for each one: another lease on this shard, of this pod or another
    /// one, may have settled the last marker.
    fn source(&self, generations: &watch::Sender<Generations>) -> Source {
        match self.source {
            Source::Shard { number, of } if generations.borrow().is_settled(of, number) => {
                Source::Left { number, of }
            }
            source @ (Source::Shard { .. } | Source::Left { .. } | Source::Intake { .. }) => source,
        }
    }

    fn received(
        &self,
        delivery: lapin::message::Delivery,
        generations: &watch::Sender<Generations>,
    ) -> Delivery {
        let (tag, arrived) = (delivery.delivery_tag, Instant::now());
        self.lease.delivered(&delivery, arrived);
        Delivery {
            receipt: Receipt::new(self.lease.clone(), tag),
            source: self.source(generations),
            properties: delivery.properties,
            exchange: delivery.exchange,
            routing_key: delivery.routing_key,
            body: delivery.data,
            redelivered: delivery.redelivered,
            received_at: self.line.now(),
            arrived,
        }
    }
}
