//! Sends messages that were found in a wrong queue on to their order's own shard queue.
//!
//! One queue's messages one at a time and in their order: published, confirmed, acked, then the next.
//! So what is behind a message that cannot be forwarded is not forwarded either, and a crash between
//! confirm and ack sends it once more, which is a redelivery like any other.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Delivery, Error, Outgoing, Publisher, Topology};
use crate::properties::republished;
use crate::protocol::backoff::Retry;

/// A message that was forwarded this often finds no home: pods disagree on the number of shards.
const FORWARDS_MAX: u32 = 8;

const FORWARDS: &str = "orderwright-forwards";
const EXCHANGE: &str = "orderwright-forwarded-exchange";
const ROUTING_KEY: &str = "orderwright-forwarded-routing-key";

/// Where a message was published to, and with which key, before anything was forwarded.
#[must_use]
pub fn origin(delivery: &Delivery) -> (String, String) {
    let text = |name: &str| {
        let headers = delivery.properties.headers().as_ref()?;
        Some(headers.inner().get(name)?.as_long_string()?.to_string())
    };
    (
        text(EXCHANGE).unwrap_or_else(|| delivery.exchange.to_string()),
        text(ROUTING_KEY).unwrap_or_else(|| delivery.routing_key.to_string()),
    )
}

/// Forwards.
#[derive(Debug)]
pub struct Forwarder {
    lanes: BTreeMap<String, mpsc::Sender<(u16, Delivery)>>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
    forwarded: Arc<AtomicU64>,
}

impl Forwarder {
    /// Starts a lane for each queue that is consumed from.
    pub fn start(publisher: &Arc<Publisher>, topology: &Topology, prefetch: u16) -> Self {
        let forwarded = Arc::<AtomicU64>::default();
        let mut tasks = JoinSet::new();
        let mut lanes = BTreeMap::new();
        for (_, queue) in topology.sources() {
            // What a lost channel left behind may still be there when the new one fills up.
            let (sender, inbox) = mpsc::channel(2 * usize::from(prefetch));
            let lane = Lane {
                inbox,
                publisher: publisher.clone(),
                topology: topology.clone(),
                forwarded: forwarded.clone(),
            };
            tasks.spawn(lane.run());
            lanes.insert(queue, sender);
        }
        Self { lanes, tasks: tokio::sync::Mutex::new(tasks), forwarded }
    }

    /// Queues a delivery for its order's shard. Gives it back if it was forwarded too often.
    ///
    /// # Errors
    /// The delivery: no shard will take it.
    #[expect(clippy::result_large_err, reason = "the delivery itself is handed back")]
    pub fn forward(&self, shard: u16, delivery: Delivery) -> Result<(), Delivery> {
        if forwards(&delivery.properties) >= FORWARDS_MAX {
            return Err(delivery);
        }
        let Some(lane) = self.lanes.get(delivery.receipt.queue()) else { return Err(delivery) };
        if let Err(full) = lane.try_send((shard, delivery)) {
            full.into_inner().1.receipt.give_up_channel();
        }
        Ok(())
    }

    /// Messages forwarded since the start.
    pub fn forwarded(&self) -> u64 {
        self.forwarded.load(Ordering::Relaxed)
    }

    /// Ends the lanes. Nothing may be waiting for them any more.
    pub async fn end(&self) {
        self.tasks.lock().await.shutdown().await;
    }
}

struct Lane {
    inbox: mpsc::Receiver<(u16, Delivery)>,
    publisher: Arc<Publisher>,
    topology: Topology,
    forwarded: Arc<AtomicU64>,
}

/// Retries of one forwarding. Then the channel is given up, and the queue begins anew.
const RETRY: Retry = Retry {
    retries_max: 3,
    wait_min: Duration::from_millis(250),
    wait_max: Duration::from_secs(1),
};

impl Lane {
    async fn run(mut self) {
        while let Some((shard, delivery)) = self.inbox.recv().await {
            // A channel that is gone or given back hands everything out again.
            let Some(begun) = delivery.receipt.begin() else { continue };
            let one = AssertUnwindSafe(self.one(shard, delivery)).catch_unwind();
            if one.await.is_err() {
                tracing::error!("a bug: forwarding a message panicked");
                begun.give_up_channel();
            }
        }
    }

    async fn one(&self, shard: u16, delivery: Delivery) {
        let message = outgoing(&self.topology, shard, &delivery);
        if let Err(error) = self.publish(&message, &delivery).await {
            tracing::warn!(%error, queue = delivery.receipt.queue(), "cannot forward");
            return delivery.receipt.give_up_channel();
        }
        self.forwarded.fetch_add(1, Ordering::Relaxed);
        if delivery.receipt.ack().await.is_err() {
            tracing::debug!("the ack of a forwarded message was lost; it is forwarded again");
        }
    }

    async fn publish(&self, message: &Outgoing, delivery: &Delivery) -> Result<(), Error> {
        let mut spent = 0;
        loop {
            let lane = tokio::select! { biased;
                () = delivery.receipt.ending() => None,
                lane = self.publisher.lane() => lane,
            };
            let Some(lane) = lane else { return Err(Error::Withdrawn) };
            let (live, ending) = (|| delivery.receipt.is_live(), delivery.receipt.ending());
            let sending = self.publisher.publish(lane, message, live, ending);
            let Err(error) = sending.await else { return Ok(()) };
            let Some(wait) = RETRY.wait(spent) else { return Err(error) };
            spent += 1;
            tokio::select! { biased;
                () = delivery.receipt.ending() => return Err(error),
                () = sleep(wait) => {}
            }
        }
    }
}

fn forwards(properties: &BasicProperties) -> u32 {
    let headers = properties.headers().as_ref();
    match headers.and_then(|headers| headers.inner().get(FORWARDS)) {
        Some(AMQPValue::LongUInt(count)) => *count,
        Some(_) | None => 0,
    }
}

fn outgoing(topology: &Topology, shard: u16, delivery: &Delivery) -> Outgoing {
    let mut headers = FieldTable::default();
    if let Some(theirs) = delivery.properties.headers() {
        for (name, value) in theirs.inner() {
            // They would send copies to queues of the publisher's choice, as they did once.
            if !matches!(name.as_str(), "CC" | "BCC" | "x-delivery-count" | "x-acquired-count") {
                headers.insert(name.clone(), value.clone());
            }
        }
    }
    let (exchange, routing_key) = origin(delivery);
    headers.insert(EXCHANGE.into(), AMQPValue::LongString(exchange.into()));
    headers.insert(ROUTING_KEY.into(), AMQPValue::LongString(routing_key.into()));
    let count = forwards(&delivery.properties).saturating_add(1);
    headers.insert(FORWARDS.into(), AMQPValue::LongUInt(count));
    Outgoing {
        exchange: topology.forward(),
        routing_key: topology.shard_queue(shard).as_str().into(),
        properties: republished(&delivery.properties).with_headers(headers),
        body: delivery.body.clone(),
    }
}
