//! A message as the broker hands it over, and the right to settle it once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::ShortString;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::clean::delivery_count;
use super::lease::Lease;
use super::slot::Source;

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
    tag: u64,
    /// Its ack waits for no other.
    hurried: AtomicBool,
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
    pub(super) const fn new(lease: Arc<Lease>, tag: u64) -> Self {
        Self { lease, tag, hurried: AtomicBool::new(false) }
    }

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

    /// Sends what waits to be acked: what is done next for one of their orders must not outlive their acks.
    pub fn send_acks(&self) {
        self.lease.flush();
    }

    /// Its ack is to be sent before that of any other that is acked later: acks of smaller tags might overtake it.
    pub fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
    }

    /// Acks this delivery, and speaks for no other one that is not to be acked as well. The ack goes out with others: at
    /// the latest some 41 ms later, and before the close of its channel where that is given back in good order. That is
    /// not waited for. One that the loss of the connection overtakes is lost like one that the loss overtakes on the
    /// wire, and the lease tells of the loss.
    ///
    /// # Errors
    /// [`SettleError`]. The lease is lost then: what waits behind this message must not start.
    pub fn ack(self) -> Result<(), SettleError> {
        // The generation check: an ack on a dead channel belongs to somebody else's delivery.
        let Some(acker) = self.lease.acker.get().filter(|_| !self.lease.lost.is_cancelled()) else {
            return Err(SettleError);
        };
        if acker.is_open() {
            self.lease.outbox.add(&self.lease, self.tag, self.hurried.load(Ordering::Relaxed));
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
