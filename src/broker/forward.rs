//! Sends messages that were found in a wrong queue on to their order's own shard queue.
//!
//! The messages of one order one at a time and in the order of their queue: published, confirmed,
//! acked, then the next. So what is behind a message that cannot be forwarded is not forwarded either, and
//! a crash between confirm and ack sends it once more, which is a redelivery like any other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Delivery, Error, Outgoing, Publisher, Topology};
use crate::properties::{FORWARDED_EXCHANGE, FORWARDED_ROUTING_KEY, header, republished};
use crate::protocol::backoff::Retry;
use crate::telemetry::field;
use crate::telemetry::panics::caught;

/// A message that was forwarded this often finds no home: pods disagree on the number of shards.
const FORWARDS_MAX: u32 = 8;

/// The priority of a message that names none (RabbitMQ's quorum queues).
const NORMAL: u8 = 4;

const FORWARDS: &str = "orderwright-forwards";

/// Where a message was published to, and with which key, before anything was forwarded.
#[must_use]
pub fn origin(delivery: &Delivery) -> (String, String) {
    let text = |name| header(&delivery.properties, name)?.ok().map(str::to_owned);
    (
        text(FORWARDED_EXCHANGE).unwrap_or_else(|| delivery.exchange.to_string()),
        text(FORWARDED_ROUTING_KEY).unwrap_or_else(|| delivery.routing_key.to_string()),
    )
}

/// Forwards.
#[derive(Debug)]
pub struct Forwarder {
    publisher: Arc<Publisher>,
    exchange: String,
    prefetch: u16,
    lanes: Mutex<Lanes>,
    forwarded: Arc<AtomicU64>,
}

/// Names the queue that a message belongs to, when it is asked: generations may change while a message
/// waits to be forwarded.
pub type Home = Box<dyn Fn() -> String + Send + Sync>;

/// A lane for each queue in which something was found that belongs elsewhere.
#[derive(Debug, Default)]
struct Lanes {
    inboxes: BTreeMap<String, mpsc::Sender<Job>>,
    tasks: JoinSet<()>,
}

impl Forwarder {
    /// Forwards by this publisher.
    pub fn new(publisher: &Arc<Publisher>, topology: &Topology, prefetch: u16) -> Self {
        let (publisher, exchange) = (publisher.clone(), topology.forward());
        let (lanes, forwarded) = (Mutex::default(), Arc::default());
        Self { publisher, exchange, prefetch, lanes, forwarded }
    }

    /// Queues a delivery for the shard queue that is its home. Gives it back if it was forwarded too often.
    ///
    /// # Errors
    /// The delivery: no shard will take it.
    #[expect(clippy::result_large_err, reason = "the delivery itself is handed back")]
    pub fn forward(&self, order: Arc<str>, home: Home, delivery: Delivery) -> Result<(), Delivery> {
        if forwards(&delivery.properties) >= FORWARDS_MAX {
            return Err(delivery);
        }
        let lane = self.lane(delivery.receipt.queue());
        if let Err(full) = lane.try_send(Job { order, home, delivery }) {
            full.into_inner().delivery.receipt.give_up_channel();
        }
        Ok(())
    }

    /// The lane for what is found in this queue.
    fn lane(&self, queue: &str) -> mpsc::Sender<Job> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inbox) = lanes.inboxes.get(queue) {
            return inbox.clone();
        }
        // What a lost channel left behind may still be there when the new one fills up.
        let (sender, inbox) = mpsc::channel(2 * usize::from(self.prefetch));
        let (publisher, exchange) = (self.publisher.clone(), self.exchange.clone());
        let lane = Lane { publisher, exchange, forwarded: self.forwarded.clone() };
        lanes.tasks.spawn(async move { lane.run(inbox).await });
        lanes.inboxes.insert(queue.to_owned(), sender.clone());
        sender
    }

    /// Messages forwarded since the start.
    pub fn forwarded(&self) -> u64 {
        self.forwarded.load(Ordering::Relaxed)
    }

    /// Ends the lanes. Nothing may be waiting for them any more.
    pub fn end(&self) {
        *self.lanes.lock().unwrap_or_else(PoisonError::into_inner) = Lanes::default();
    }
}

/// A message, and where it is to go.
struct Job {
    order: Arc<str>,
    home: Home,
    delivery: Delivery,
}

struct Lane {
    publisher: Arc<Publisher>,
    exchange: String,
    forwarded: Arc<AtomicU64>,
}

/// Messages of one queue that are forwarded at once.
const AT_ONCE_MAX: usize = 16;

/// Retries of one forwarding, over about ten minutes. Then the channel is given up, and the queue begins
/// anew, which counts as one more delivery of all that is held: not often, or an outage would look like a
/// message that kills its worker, and somebody else's queue would drop what it hands out too often.
const RETRY: Retry = Retry {
    retries_max: 120,
    wait_min: Duration::from_millis(250),
    wait_max: Duration::from_secs(5),
};

impl Lane {
    /// One message of an order at a time, and several orders side by side: only within an order does it
    /// matter which comes first.
    async fn run(&self, mut inbox: mpsc::Receiver<Job>) {
        let mut running = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        let mut waiting: Option<Job> = None;
        loop {
            let may_start =
                |job: &mut Job| running.len() < AT_ONCE_MAX && !busy.contains(&job.order);
            if let Some(job) = waiting.take_if(may_start) {
                busy.insert(job.order.clone());
                running.push(self.one(job));
                continue;
            }
            tokio::select! { biased;
                Some(order) = running.next() => drop(busy.remove(&order)),
                next = inbox.recv(), if waiting.is_none() => match next {
                    Some(job) => waiting = Some(job),
                    None => return,
                },
            }
        }
    }

    /// Sends one on, and says of which order it was.
    async fn one(&self, job: Job) -> Arc<str> {
        let Job { order, home, delivery } = job;
        // A channel that is gone or given back hands everything out again.
        if let Some(begun) = delivery.receipt.begin()
            && let Err(panicked) = caught(self.send(&home, delivery)).await
        {
            tracing::error!(
                { field::ORDER } = %order,
                { field::ERROR } = %panicked,
                "a bug: forwarding this message panicked"
            );
            begun.give_up_channel();
        }
        order
    }

    async fn send(&self, home: &Home, delivery: Delivery) {
        if let Err(error) = self.publish(home, &delivery).await {
            tracing::warn!(%error, { field::QUEUE } = %delivery.receipt.queue(), "cannot forward");
            return delivery.receipt.give_up_channel();
        }
        self.forwarded.fetch_add(1, Ordering::Relaxed);
        if delivery.receipt.ack().is_err() {
            tracing::debug!("the ack of a forwarded message was lost; it is forwarded again");
        }
    }

    async fn publish(&self, home: &Home, delivery: &Delivery) -> Result<(), Error> {
        let mut spent = 0;
        loop {
            let message = &outgoing(&self.exchange, &home(), delivery);
            let lane = tokio::select! { biased;
                () = delivery.receipt.ending() => None,
                lane = self.publisher.lane() => lane,
            };
            let Some(lane) = lane else { return Err(Error::Withdrawn) };
            let (live, ending) = (|| delivery.receipt.is_live(), delivery.receipt.ending());
            let sending = self.publisher.publish(lane, message, live, ending);
            let Err(error) = sending.await else { return Ok(()) };
            let Some(wait) = RETRY.wait(spent) else { return Err(error) };
            if spent == 0 {
                tracing::warn!(%error, { field::QUEUE } = %delivery.receipt.queue(), "cannot forward yet");
            }
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

fn outgoing(exchange: &str, queue: &str, delivery: &Delivery) -> Outgoing {
    let mut headers = FieldTable::default();
    if let Some(theirs) = delivery.properties.headers() {
        for (name, value) in theirs.inner() {
            // They would send copies to queues of the publisher's choice, as they did once.
            if !matches!(name.as_str(), "CC" | "BCC" | "x-delivery-count" | "x-acquired-count") {
                headers.insert(name.clone(), value.clone());
            }
        }
    }
    let (first, routing_key) = origin(delivery);
    headers.insert(FORWARDED_EXCHANGE.into(), AMQPValue::LongString(first.into()));
    headers.insert(FORWARDED_ROUTING_KEY.into(), AMQPValue::LongString(routing_key.into()));
    let count = forwards(&delivery.properties).saturating_add(1);
    headers.insert(FORWARDS.into(), AMQPValue::LongUInt(count));
    let mut properties = republished(&delivery.properties).with_headers(headers);
    // One that is normal on 4.0 is kept: 4.3 goes by all of them, and without it a message that was sent
    // on would overtake one that was not.
    if let Some(priority) = delivery.properties.priority().filter(|priority| *priority <= NORMAL) {
        properties = properties.with_priority(priority);
    }
    Outgoing {
        exchange: exchange.to_owned(),
        routing_key: queue.into(),
        properties,
        body: delivery.body.clone(),
    }
}
