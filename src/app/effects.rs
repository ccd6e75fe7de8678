//! What the dispatch's steps do to the world: the edges behind one trait.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::notice::Asked;
use crate::broker::{Begun, Delivery, Notices, Outgoing, Publisher, Topology, origin};
use crate::config::Settings;
use crate::dead_letter::{self, Original};
use crate::dispatch::{Effects, Held, Letter, Outcome, Trail};
use crate::odata::Client;
use crate::order::{ETag, OrderKey};
use crate::protocol::Reply;
use crate::protocol::backoff::{Retry, jittered};
use crate::telemetry::field;

/// A delivery, in the words of the dispatch.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) delivery: Delivery,
    pub(super) settle_window: Duration,
}

impl Held for Message {
    type Begun = Begun;

    fn begin(&self) -> Option<Begun> {
        self.delivery.receipt.begin()
    }

    fn may_begin(&self) -> bool {
        self.delivery.receipt.may_begin()
    }

    fn is_live(&self) -> bool {
        self.delivery.receipt.is_live()
    }

    async fn ending(&self) {
        self.delivery.receipt.ending().await;
    }

    async fn settled(&self) {
        // A message that was never out has no former owner.
        if self.delivery.redelivered {
            self.delivery.receipt.settled(self.delivery.arrived, self.settle_window).await;
        }
    }

    fn losses(&self) -> u64 {
        self.delivery.delivery_count()
    }

    fn give_up_channel(begun: &Begun) {
        begun.give_up_channel();
    }

    fn doubt(begun: &Begun) {
        begun.doubt();
    }

    async fn lost(&self) {
        self.delivery.receipt.lost().await;
    }
}

#[derive(Debug)]
pub(super) struct Edges {
    client: Client,
    publisher: Arc<Publisher>,
    notices: Arc<Notices>,
    /// Exchange for dead letters.
    exchange: String,
    limits: dead_letter::Limits,
    retry: Retry,
    stop: CancellationToken,
}

impl Edges {
    pub(super) fn new(
        client: Client,
        (publisher, notices): (Arc<Publisher>, Arc<Notices>),
        topology: &Topology,
        settings: &Settings,
        instance: &str,
        stop: &CancellationToken,
    ) -> Self {
        // One second up to half a minute: long enough for a broker's leader election or for an
        // operator's quick repair, short beside the consumer timeout.
        let retry = Retry {
            retries_max: settings.dead_letter.publish_retries_max,
            wait_min: Duration::from_secs(1),
            wait_max: Duration::from_secs(30),
        };
        Self {
            client,
            publisher,
            notices,
            exchange: topology.dead_letters(),
            limits: dead_letter::Limits::new(&settings.dead_letter, instance),
            retry,
            stop: stop.clone(),
        }
    }

    /// Publishes until confirmed. False when it is time to give up: a drain, a lost channel, or no
    /// retry left.
    async fn publish(&self, message: &Message, letter: &Outgoing) -> bool {
        for spent in 0.. {
            // A message that comes again anyway needs no letter, and a drain no queue for a lane.
            let lane = tokio::select! { biased;
                () = message.ending() => None,
                lane = self.publisher.lane() => lane,
            };
            let Some(lane) = lane else { return false };
            let (live, ending) = (|| message.is_live(), message.ending());
            let sending = self.publisher.publish(lane, letter, live, ending);
            let Err(error) = sending.await else { return true };
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, source, "a dead letter could not be published");
            let Some(wait) = self.retry.wait(spent) else { return false };
            tokio::select! { biased;
                () = self.stop.cancelled() => return false,
                () = message.ending() => return false,
                () = tokio::time::sleep(jittered(wait, 0.2, self.dice())) => {}
            }
        }
        false
    }
}

impl Effects for Edges {
    type Held = Message;

    async fn get(&self, key: &OrderKey, trail: Trail) -> Reply {
        self.client.get(key, trail).await
    }

    async fn patch(&self, key: &OrderKey, etag: &ETag, body: &str, trail: Trail) -> Reply {
        self.client.patch(key, etag, body, trail).await
    }

    async fn probe(&self, trail: Trail) -> Reply {
        self.client.probe(trail).await
    }

    async fn ack(&self, held: Message, outcome: Outcome) -> bool {
        let asked = Asked::by(&held.delivery.properties);
        let done = held.delivery.receipt.ack().await.is_ok();
        // An ack that was lost brings the message again, and that time tells.
        if let Some(asked) = asked.filter(|_| done) {
            self.notices.send(asked.settled(&outcome, self.now()));
        }
        done
    }

    async fn dead_letter(&self, mut held: Message, letter: Letter) -> bool {
        let (exchange, routing_key) = origin(&held.delivery);
        let now = self.now();
        let id = dead_letter::letter_id(now, fastrand::u128(..));
        let original = Original {
            properties: &held.delivery.properties,
            exchange: &exchange,
            routing_key: &routing_key,
            queue: held.delivery.receipt.queue(),
        };
        let outgoing = Outgoing {
            exchange: self.exchange.clone(),
            routing_key: routing_key.as_str().into(),
            properties: dead_letter::record(original, &letter, &self.limits, id, now),
            body: std::mem::take(&mut held.delivery.body),
        };
        let confirmed = self.publish(&held, &outgoing).await;
        let (order, id) = (letter.order.as_deref(), held.delivery.properties.message_id().as_ref());
        let id = id.map(ToString::to_string);
        if !confirmed {
            // Neither settled nor skipped: later updates of the order must not overtake it. The
            // broker hands out the whole shard again, in order.
            held.delivery.receipt.give_up_channel();
            return false;
        }
        tracing::warn!(
            { field::ORDER } = order,
            { field::REASON } = letter.code,
            { field::MESSAGE_ID } = id,
            attempts = letter.attempts.len(),
            "dead-lettered"
        );
        let asked = Asked::by(&held.delivery.properties);
        let done = held.delivery.receipt.ack().await.is_ok();
        if let Some(asked) = asked.filter(|_| done) {
            let notice = asked.dead_lettered(&letter, &outgoing.properties, self.now());
            self.notices.send(notice);
        }
        done
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn dice(&self) -> f64 {
        fastrand::f64()
    }

    fn uuid(&self) -> uuid::Uuid {
        // Names requests in logs. Guards nothing, so no secure randomness is spent on it.
        uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid()
    }
}
