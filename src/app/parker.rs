//! Where dead letters park their orders: what is asked before an update, and written after a letter.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::message::Message;
use crate::broker::Parking;
use crate::dispatch::{Gate, Letter};
use crate::parking::{Change, Record, Release, is_replay, is_replay_of, unparks};
use crate::protocol::Code;
use crate::protocol::backoff::{Retry, jittered};
use crate::telemetry::field;

/// How long a record may still take when its shard is to be given back: the letter is there already, and
/// would come a second time. Shorter than any grace.
const FINISH_MAX: Duration = Duration::from_millis(500);

/// It is time to give up: a drain, or a channel that is lost or given back.
#[derive(Debug)]
pub(super) struct GivenBack;

/// Parks orders, and releases them.
#[derive(Debug)]
pub(super) struct Parker {
    parking: Arc<Parking>,
    retry: Retry,
    stop: CancellationToken,
}

impl Parker {
    pub(super) fn new(parking: Arc<Parking>, retry: Retry, stop: CancellationToken) -> Self {
        Self { parking, retry, stop }
    }

    /// Whether an update may be begun. One that names the head of its order passes; the head itself is
    /// judged as any replay, for it was begun once.
    pub(super) async fn gate(&self, message: &Message, order: &str) -> Gate {
        match self.parking.head(&message.delivery.receipt, order).await {
            None => Gate::Open,
            Some(head) => {
                let properties = &message.delivery.properties;
                match (unparks(properties) == Some(head), is_replay_of(properties, head)) {
                    (true, true) => Gate::Open,
                    (true, false) => Gate::Next,
                    (false, _) => Gate::Behind(head),
                }
            }
        }
    }

    /// The order that a letter parks, or is one more letter of, once there is room for it. An update that
    /// was superseded says nothing of later ones, and a replay of an order that goes on was passed by later
    /// ones long ago: they park nothing.
    pub(super) async fn place<'a>(
        &self,
        message: &Message,
        letter: &'a Letter,
    ) -> Result<Option<&'a str>, GivenBack> {
        let Some(order) = letter.order.as_deref() else { return Ok(None) };
        let parks =
            letter.code != Code::Superseded.as_str() && !is_replay(&message.delivery.properties);
        let place = async {
            // While the stream is read anew, what is parked is not known.
            let _reading = self.parking.ready().await;
            if !parks && !self.parking.is_parked(order) {
                return None;
            }
            self.parking.room(order).await;
            Some(order)
        };
        tokio::select! { biased;
            place = place => Ok(place),
            () = self.stop.cancelled() => Err(GivenBack),
            () = message.delivery.receipt.ending() => Err(GivenBack),
        }
    }

    /// Writes that this letter stands in the dead-letter queue. False when it is time to give up: the
    /// message must not be acked then.
    pub(super) async fn died(&self, message: &Message, order: &str, letter: Uuid) -> bool {
        let record = Record::Died { order: order.into(), letter, at: Timestamp::now() };
        let Some(change) = self.write(message, &record).await else { return false };
        if change == Change::Parked {
            tracing::warn!(
                { field::ORDER } = order,
                head = %letter,
                "parked: later updates of the order go to the dead-letter queue behind it"
            );
        }
        true
    }

    /// Lets an order go on, if it is as the message says. False when it is time to give up.
    pub(super) async fn release(&self, message: &Message, release: Release) -> bool {
        let order = release.order.clone();
        let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid();
        let record = Record::Released { id, release, at: Timestamp::now() };
        let Some(change) = self.write(message, &record).await else { return false };
        if change == Change::Released {
            tracing::info!({ field::ORDER } = %order, "released: the order goes on");
        } else {
            tracing::warn!(
                { field::ORDER } = %order,
                "not released: the order is not parked as was thought; look again"
            );
        }
        true
    }

    /// Writes until it is confirmed and read back. `None` when it is time to give up: a drain, a lost
    /// channel, or no retry left.
    async fn write(&self, message: &Message, record: &Record) -> Option<Change> {
        for spent in 0.. {
            let receipt = &message.delivery.receipt;
            let late = async {
                receipt.ending().await;
                tokio::time::sleep(FINISH_MAX).await;
            };
            let written = tokio::select! { biased;
                written = self.parking.write(record) => written,
                () = receipt.lost() => return None,
                () = late => return None,
            };
            let error = match written {
                Ok(change) => return Some(change),
                Err(error) => error,
            };
            tracing::warn!(%error, "cannot write which orders are parked");
            let wait = self.retry.wait(spent)?;
            tokio::select! { biased;
                () = self.stop.cancelled() => return None,
                () = message.delivery.receipt.ending() => return None,
                () = tokio::time::sleep(jittered(wait, 0.2, fastrand::f64())) => {}
            }
        }
        None
    }
}
