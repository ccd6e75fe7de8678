//! The lease on a shard, which is the life of a channel: what was delivered by it, and what became of that.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clean::{Handing, Inheritance};
use super::outbox::Outbox;
use super::parking::Passed;
use super::pulse::Pulse;
use super::unsettled::Unsettled;
use super::wire::Acker;

/// One life of one channel: the lease on a shard.
#[derive(Debug)]
pub(super) struct Lease {
    /// Counts the channels of this process, so that logs can tell two leases of a shard apart.
    pub(super) generation: u64,
    pub(super) queue: Arc<str>,
    /// Once there is a channel.
    pub(super) acker: OnceLock<Acker>,
    /// The channel is gone: the broker hands out again what it had delivered.
    pub(super) lost: CancellationToken,
    /// The channel is to be given back, or gone: begin nothing more that came by it.
    pub(super) ending: CancellationToken,
    /// It is given back because of a message that can neither be settled nor skipped.
    troubled: AtomicBool,
    /// It is given back because a message was held for too long.
    aged: AtomicBool,
    /// A request of unknown outcome, sent under it, may still be at work in the service.
    pub(super) doubtful: AtomicBool,
    /// What was begun and is not yet settled.
    pub(super) working: TaskTracker,
    /// What was delivered and is not yet settled.
    pub(super) unsettled: Unsettled,
    /// Whether the broker still speaks with us.
    pub(super) pulse: Arc<Pulse>,
    /// Where its acks go.
    pub(super) outbox: Arc<Outbox>,
    /// With so many acks waiting it wants new deliveries.
    pub(super) acks_max: usize,
    /// What it has of the shard's former holders.
    pub(super) inheritance: Inheritance,
    /// What is known of the parked orders.
    pub(super) passed: Passed,
    opened: Instant,
    /// The last delivery, in milliseconds after `opened`.
    delivered: AtomicU64,
    /// The last ack, alike.
    acked: AtomicU64,
}

/// How long the broker has, after the last ack, to write it down before its channel is closed.
///
/// A channel of RabbitMQ passes no more than 32 commands on to one quorum queue at a time, keeps the rest to
/// itself, and forgets it when it is closed. Nothing that an active consumer may ask tells when it is through.
/// Measured on 4.0.5 with 200 acks at once: without a rest, some were forgotten in every other run.
const ACKS_REST: Duration = Duration::from_millis(250);

/// Once one in so many that may be unsettled waits for its ack, new deliveries are wanted, unless the connection has
/// enough to do: what is left of the prefetch keeps the workers busy meanwhile.
const PREFETCH_SHARE: u16 = 4;

impl Lease {
    pub(super) fn new(
        generation: u64,
        queue: Arc<str>,
        lost: CancellationToken,
        (pulse, outbox): (Arc<Pulse>, Arc<Outbox>),
        prefetch: u16,
        inheritance: Inheritance,
    ) -> Self {
        let (ending, working) = (lost.child_token(), TaskTracker::new());
        let (opened, [delivered, acked]) = (Instant::now(), [0; 2].map(AtomicU64::new));
        let [troubled, aged, doubtful] = [false; 3].map(AtomicBool::new);
        Self {
            generation,
            queue,
            acker: OnceLock::new(),
            lost,
            ending,
            troubled,
            aged,
            doubtful,
            working,
            unsettled: Unsettled::default(),
            pulse,
            outbox,
            acks_max: usize::from(prefetch / PREFETCH_SHARE).max(1),
            inheritance,
            passed: Passed::default(),
            opened,
            delivered,
            acked,
        }
    }

    /// Notes a delivery.
    pub(super) fn delivered(&self, delivery: &lapin::message::Delivery, now: Instant) {
        let handing = Handing::of(delivery);
        self.hold(delivery.delivery_tag, now, handing);
        if delivery.redelivered {
            self.inheritance.note(handing, now);
        }
        self.delivered.store(self.after(now), Ordering::Relaxed);
    }

    /// Notes that this tag is to be settled.
    pub(super) fn hold(&self, tag: u64, now: Instant, handing: Handing) {
        self.unsettled.add(tag, now, handing);
        self.outbox.delivered();
    }

    /// Milliseconds since it began, at least one: zero means never.
    fn after(&self, now: Instant) -> u64 {
        let after = now.saturating_duration_since(self.opened).as_millis().max(1);
        u64::try_from(after).unwrap_or(u64::MAX)
    }

    /// Completes when all that was begun is settled, and the broker had its time to write that down.
    pub(super) async fn at_rest(&self) {
        self.working.wait().await;
        self.flush();
        match self.acked.load(Ordering::Relaxed) {
            0 => {}
            acked => sleep_until(self.opened + Duration::from_millis(acked) + ACKS_REST).await,
        }
    }

    /// Puts its acks, and all others of the connection, into the line of what is to be sent: nothing that is said on its
    /// channel from now on overtakes one.
    pub(super) fn flush(&self) {
        self.outbox.send();
    }

    /// Hands over the acks that are due, as [`Unsettled::due`] says. Whether some wait still. One that finds the
    /// channel gone is lost, as one that the loss overtakes on the wire.
    pub(super) fn pass(&self, now: Instant, patience: Duration) -> bool {
        let acks = self.unsettled.due(now, patience);
        for ack in &acks {
            if !self.acker.get().is_some_and(|acker| acker.ack(*ack)) {
                self.lost.cancel();
                return false;
            }
            self.unsettled.settled(*ack);
        }
        if !acks.is_empty() {
            self.acked.store(self.after(now), Ordering::Relaxed);
        }
        self.unsettled.waiting() > 0
    }

    /// Time since the last delivery, or since the subscription.
    pub(super) fn silent_for(&self) -> Duration {
        let last = Duration::from_millis(self.delivered.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(last)
    }

    /// Whether it is given back because of a message that can neither be settled nor skipped.
    pub(super) fn is_troubled(&self) -> bool {
        self.troubled.load(Ordering::Relaxed)
    }

    /// Whether it is given back because a message was held for too long.
    pub(super) fn is_aged(&self) -> bool {
        self.aged.load(Ordering::Relaxed)
    }

    /// Gives it back before the broker takes away what was held for too long.
    pub(super) fn age(&self) {
        self.aged.store(true, Ordering::Relaxed);
        self.ending.cancel();
    }

    /// Whether anything was delivered under it.
    pub(super) fn was_served(&self) -> bool {
        self.delivered.load(Ordering::Relaxed) > 0
    }

    /// The first message that goes back when it ends now, if no request can be at work any more: none that
    /// was sent under it, and none of the shard's former holders.
    pub(super) fn goes_back_clean(&self, window: Duration) -> Option<Handing> {
        let haunted = self.inheritance.is_haunted(Instant::now(), window);
        let is_clean = !haunted && !self.doubtful.load(Ordering::Relaxed);
        self.unsettled.first_handing().filter(|_| is_clean)
    }

    pub(super) fn is_live(&self) -> bool {
        if !self.pulse.is_fresh() {
            // For good: what is dropped now must not find its channel alive again a moment later.
            self.lost.cancel();
        }
        !self.lost.is_cancelled()
    }

    pub(super) fn may_ask(&self) -> bool {
        self.is_live() && self.pulse.is_recent()
    }

    pub(super) fn give_up(&self) {
        self.troubled.store(true, Ordering::Relaxed);
        self.ending.cancel();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.outbox.forgotten(self.unsettled.undecided());
    }
}
