//! A message as the broker hands it over, and the right to settle it once.

use std::sync::Arc;

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::options::BasicAckOptions;
use lapin::types::{AMQPValue, ShortString};
use tokio_util::sync::CancellationToken;

/// One life of one channel: the lease on a shard.
#[derive(Debug)]
pub(super) struct Lease {
    /// Counts the channels of this process, so that logs can tell two leases of a shard apart.
    pub(super) generation: u64,
    pub(super) queue: Arc<str>,
    /// The channel is gone: the broker hands out again what it had delivered.
    pub(super) lost: CancellationToken,
    /// We want to be rid of it.
    pub(super) give_up: CancellationToken,
}

impl Lease {
    pub(super) fn new(generation: u64, queue: Arc<str>) -> Self {
        let (lost, give_up) = (CancellationToken::new(), CancellationToken::new());
        Self { generation, queue, lost, give_up }
    }
}

/// A delivery.
#[derive(Debug)]
pub struct Delivery {
    /// The right to settle it.
    pub receipt: Receipt,
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
}

impl Delivery {
    /// How often the broker counts earlier deliveries as failed (`x-delivery-count`; quorum queues).
    pub fn delivery_count(&self) -> u64 {
        let headers = self.properties.headers().as_ref();
        let count = headers.and_then(|headers| headers.inner().get("x-delivery-count"));
        match count {
            Some(AMQPValue::LongLongInt(count)) => u64::try_from(*count).unwrap_or(0),
            Some(AMQPValue::LongInt(count)) => u64::try_from(*count).unwrap_or(0),
            Some(AMQPValue::LongUInt(count)) => u64::from(*count),
            Some(_) | None => 0,
        }
    }
}

/// The right to settle one delivery once. Dropping it settles nothing: the broker keeps the message
/// until the channel closes, and hands it out again.
#[derive(Debug)]
pub struct Receipt {
    pub(super) lease: Arc<Lease>,
    pub(super) acker: lapin::Acker,
}

/// A settlement that did not come about. Nobody retries it: a delivery tag dies with its channel, and
/// the broker hands the message out again.
#[derive(Debug, thiserror::Error)]
#[error("the channel of this delivery is gone; the broker hands the message out again")]
pub struct SettleError;

impl Receipt {
    /// Whether the channel still lives.
    pub fn is_live(&self) -> bool {
        !self.lease.lost.is_cancelled() && !self.lease.give_up.is_cancelled()
    }

    /// Completes when the channel is gone or given up.
    pub async fn lost(&self) {
        tokio::select! {
            () = self.lease.lost.cancelled() => {}
            () = self.lease.give_up.cancelled() => {}
        }
    }

    /// The queue it came from.
    pub fn queue(&self) -> &str {
        &self.lease.queue
    }

    /// Which of this process's channels it came by.
    pub fn generation(&self) -> u64 {
        self.lease.generation
    }

    /// Acks this delivery alone.
    ///
    /// # Errors
    /// [`SettleError`]. The lease is lost then: what waits behind this message must not start.
    pub async fn ack(self) -> Result<(), SettleError> {
        // The generation check: an ack on a dead channel belongs to somebody else's delivery.
        if !self.is_live() {
            return Err(SettleError);
        }
        if let Ok(true) = self.acker.ack(BasicAckOptions::default()).await {
            return Ok(());
        }
        self.lease.lost.cancel();
        Err(SettleError)
    }

    /// Gives up the channel, so that the broker hands out again everything that came by it, in
    /// order. For a message that can neither be settled nor skipped.
    pub fn give_up_channel(self) {
        self.lease.give_up.cancel();
    }
}
