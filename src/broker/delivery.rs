//! A message as the broker hands it over, and the right to settle it once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::ShortString;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::clean::{Handing, Inheritance, delivery_count};
use super::parking::Passed;
use super::pulse::Pulse;
use super::slot::Source;
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
    doubtful: AtomicBool,
    /// What was begun and is not yet settled.
    pub(super) working: TaskTracker,
    /// What was delivered and is not yet settled.
    pub(super) unsettled: Unsettled,
    /// Whether the broker still speaks with us.
    pub(super) pulse: Arc<Pulse>,
    /// What it has of the shard's former holders.
    inheritance: Inheritance,
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

impl Lease {
    pub(super) fn new(
        generation: u64,
        queue: Arc<str>,
        lost: CancellationToken,
        pulse: Arc<Pulse>,
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
        self.unsettled.add(delivery.delivery_tag, now, handing);
        if delivery.redelivered {
            self.inheritance.note(handing, now);
        }
        self.delivered.store(self.after(now), Ordering::Relaxed);
    }

    /// Milliseconds since it began, at least one: zero means never.
    fn after(&self, now: Instant) -> u64 {
        let after = now.saturating_duration_since(self.opened).as_millis().max(1);
        u64::try_from(after).unwrap_or(u64::MAX)
    }

    /// Completes when all that was begun is settled, and the broker had its time to write that down.
    pub(super) async fn at_rest(&self) {
        self.working.wait().await;
        match self.acked.load(Ordering::Relaxed) {
            0 => {}
            acked => sleep_until(self.opened + Duration::from_millis(acked) + ACKS_REST).await,
        }
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

    fn is_live(&self) -> bool {
        if !self.pulse.is_fresh() {
            // For good: what is dropped now must not find its channel alive again a moment later.
            self.lost.cancel();
        }
        !self.lost.is_cancelled()
    }

    fn may_ask(&self) -> bool {
        self.is_live() && self.pulse.is_recent()
    }

    fn give_up(&self) {
        self.troubled.store(true, Ordering::Relaxed);
        self.ending.cancel();
    }
}

/// A delivery.
#[derive(Debug)]
pub struct Delivery {
    /// The right to settle it.
    pub receipt: Receipt,
    /// Where it comes from.
    pub source: Source,
    /// AMQP properties and headers.
    pub properties: BasicProperties,
    /// Exchange it was published to.
    pub exchange: ShortString,
    /// Routing key it was published with.
    pub routing_key: ShortString,
    /// Payload.
    pub body: Vec<u8>,
    /// Whether the broker has handed it out before.
    pub redelivered: bool,
    /// When it arrived here.
    pub received_at: Timestamp,
    /// The same on the clock that waits are measured by.
    pub arrived: Instant,
}

impl Delivery {
    /// How often the broker counts earlier deliveries as failed (`x-delivery-count`; quorum queues).
    pub fn delivery_count(&self) -> u64 {
        delivery_count(&self.properties)
    }
}

/// The right to settle one delivery once. Dropping it settles nothing: the broker keeps the message
/// until the channel closes, and hands it out again.
#[derive(Debug)]
pub struct Receipt {
    pub(super) lease: Arc<Lease>,
    pub(super) tag: u64,
}

/// Says that a message is being worked on. While it lives, its channel is not given back.
#[derive(Debug)]
pub struct Begun {
    lease: Arc<Lease>,
    _working: TaskTrackerToken,
}

impl Begun {
    /// As [`Receipt::give_up_channel`], for when the receipt itself is gone.
    pub fn give_up_channel(&self) {
        self.lease.give_up();
    }

    /// A request of unknown outcome may still be at work: the next owner must wait for it.
    pub fn doubt(&self) {
        self.lease.doubtful.store(true, Ordering::Relaxed);
    }
}

/// A settlement that did not come about. Nobody retries it: a delivery tag dies with its channel, and
/// the broker hands the message out again.
#[derive(Debug, thiserror::Error)]
#[error("the channel of this delivery is gone; the broker hands the message out again")]
pub struct SettleError;

/// Tells whether a request may be begun for a delivery, for whoever does not hold its receipt.
#[derive(Debug, Clone)]
pub struct Life(Arc<Lease>);

impl Life {
    /// Whether the channel lives, and the broker was heard of within the settle window: the next owner, of whom we
    /// may not know, waits no longer.
    pub fn may_ask(&self) -> bool {
        self.0.may_ask()
    }
}

impl Receipt {
    /// Whether the channel lives, as far as can be known: not closed, and the broker was heard of
    /// within two heartbeats. A process that was stopped and goes on finds this false.
    pub fn is_live(&self) -> bool {
        self.lease.is_live()
    }

    /// For those who ask when the receipt is not here any more.
    pub fn life(&self) -> Life {
        Life(self.lease.clone())
    }

    /// Whether this message may be begun: its channel lives and is not about to be given back.
    pub fn may_begin(&self) -> bool {
        !self.lease.ending.is_cancelled() && self.is_live()
    }

    /// Begins it.
    pub fn begin(&self) -> Option<Begun> {
        // Counted first: whoever gives the channel back either sees the count or is seen here.
        let begun = Begun { lease: self.lease.clone(), _working: self.lease.working.token() };
        self.may_begin().then_some(begun)
    }

    /// Completes once a request may be begun, as [`Life::may_ask`] says, or the channel is gone.
    pub async fn may_ask(&self) {
        // Most need not wait: then nobody has to be told of a loss.
        tokio::select! { biased;
            () = self.lease.pulse.recent() => {}
            () = self.lease.lost.cancelled() => {}
        }
    }

    /// Completes when the channel is gone.
    pub async fn lost(&self) {
        self.lease.lost.cancelled().await;
    }

    /// Completes when the channel is gone or about to be given back.
    pub async fn ending(&self) {
        self.lease.ending.cancelled().await;
    }

    /// Completes once a delivery that arrived then cannot meet a request of its former owner any
    /// more: after `window`, or at once where the former owner said that it had finished.
    pub async fn settled(&self, arrived: Instant, window: Duration) {
        self.lease.inheritance.wait(arrived, window).await;
    }

    /// Completes when everything that came by the channel before it is settled.
    pub(super) async fn is_first(&self) {
        self.lease.unsettled.first(self.tag).await;
    }

    /// Whether a request of unknown outcome, sent under this lease, may still be at work.
    pub(super) fn is_doubtful(&self) -> bool {
        self.lease.doubtful.load(Ordering::Relaxed)
    }

    /// The queue it came from.
    pub fn queue(&self) -> &Arc<str> {
        &self.lease.queue
    }

    /// Which of this process's channels it came by.
    pub fn generation(&self) -> u64 {
        self.lease.generation
    }

    /// Acks this delivery alone: puts the ack into the line of what is to be sent, behind which the close of
    /// its channel comes. Whether it went out is not waited for. One that the loss of the connection
    /// overtakes is lost like one that the loss overtakes on the wire, and the lease tells of the loss.
    ///
    /// # Errors
    /// [`SettleError`]. The lease is lost then: what waits behind this message must not start.
    pub fn ack(self) -> Result<(), SettleError> {
        // The generation check: an ack on a dead channel belongs to somebody else's delivery.
        let Some(acker) = self.lease.acker.get().filter(|_| !self.lease.lost.is_cancelled()) else {
            return Err(SettleError);
        };
        if acker.ack(self.tag) {
            self.lease.unsettled.remove(self.tag);
            self.lease.acked.store(self.lease.after(Instant::now()), Ordering::Relaxed);
            Ok(())
        } else {
            self.lease.lost.cancel();
            Err(SettleError)
        }
    }

    /// Gives up the channel, so that the broker hands out again everything that came by it, in
    /// order. For a message that can neither be settled nor skipped.
    pub fn give_up_channel(&self) {
        self.lease.give_up();
    }
}
