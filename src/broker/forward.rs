//! Sends messages that were found in a wrong queue on to their order's own shard queue.
//!
//! The messages of one order one at a time and in the order of their queue: published, confirmed,
//! acked, then the next. So what is behind a message that cannot be forwarded is not forwarded either, and
//! a crash between confirm and ack sends it once more, which is a redelivery like any other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::wire::Publish;
use super::{Begun, Delivery, Error, Order, Outgoing, Publisher, Source, Topology};
use crate::config::Settings;
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
pub struct Forwarder<P = Publisher> {
    publisher: Arc<P>,
    exchange: String,
    prefetch: u16,
    settle_window: Duration,
    lanes: Mutex<Lanes>,
    forwarded: Arc<AtomicU64>,
}

/// Names the queue that a message belongs to, when it is asked: generations may change while a message
/// waits to be forwarded.
pub type Home = Box<dyn Fn() -> String + Send + Sync>;

/// A lane for each queue in which something was found that belongs elsewhere, while it is consumed from.
#[derive(Debug, Default)]
struct Lanes {
    inboxes: BTreeMap<String, mpsc::Sender<Job>>,
    tasks: JoinSet<()>,
}

impl<P: Publish> Forwarder<P> {
    /// Forwards by this publisher.
    pub fn new(publisher: &Arc<P>, topology: &Topology, settings: &Settings) -> Self {
        let (publisher, exchange) = (publisher.clone(), topology.forward());
        let (prefetch, settle_window) = (settings.broker.prefetch, settings.dispatch.settle_window);
        let (lanes, forwarded) = (Mutex::default(), Arc::default());
        Self { publisher, exchange, prefetch, settle_window, lanes, forwarded }
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
        let waiting_max = 2 * usize::from(self.prefetch);
        let (sender, inbox) = mpsc::channel(waiting_max);
        let (publisher, exchange) = (self.publisher.clone(), self.exchange.clone());
        let (settle_window, forwarded) = (self.settle_window, self.forwarded.clone());
        let at_once = Semaphore::new(AT_ONCE_MAX);
        let lane = Lane { publisher, exchange, settle_window, waiting_max, at_once, forwarded };
        let running = async move { lane.run(inbox).await };
        lanes.tasks.spawn(self.publisher.task(running));
        lanes.inboxes.insert(queue.to_owned(), sender.clone());
        sender
    }

    /// These queues are consumed from now on. Lanes of others finish what they have and end.
    pub fn keep(&self, queues: &BTreeSet<&str>) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.inboxes.retain(|queue, _| queues.contains(queue.as_str()));
        while lanes.tasks.try_join_next().is_some() {}
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

struct Lane<P> {
    publisher: Arc<P>,
    exchange: String,
    settle_window: Duration,
    /// Most messages that wait because their order is busy.
    waiting_max: usize,
    at_once: Semaphore,
    forwarded: Arc<AtomicU64>,
}

/// The first message that waits whose order is not busy.
fn next(waiting: &mut VecDeque<Job>, busy: &BTreeSet<Arc<str>>) -> Option<Job> {
    let at = waiting.iter().position(|job| !busy.contains(&job.order))?;
    waiting.remove(at)
}

/// Messages of one queue that are published at once.
const AT_ONCE_MAX: usize = 16;

/// Retries of one forwarding, over about ten minutes. Then the channel is given up, and the queue begins
/// anew, which counts as one more delivery of all that is held: not often, or an outage would look like a
/// message that kills its worker, and somebody else's queue would drop what it hands out too often.
const RETRY: Retry = Retry {
    retries_max: 120,
    wait_min: Duration::from_millis(250),
    wait_max: Duration::from_secs(5),
};

impl<P: Publish> Lane<P> {
    /// One message of an order at a time, and several orders side by side: only within an order does it
    /// matter which comes first.
    async fn run(&self, mut inbox: mpsc::Receiver<Job>) {
        let mut running = FuturesUnordered::new();
        let (mut busy, mut waiting) = (BTreeSet::new(), VecDeque::new());
        let mut is_open = true;
        loop {
            while let Some(job) = next(&mut waiting, &busy) {
                busy.insert(job.order.clone());
                running.push(self.one(job));
            }
            tokio::select! { biased;
                Some(order) = running.next() => drop(busy.remove(&order)),
                job = inbox.recv(), if is_open && waiting.len() < self.waiting_max => match job {
                    Some(job) => waiting.push_back(job),
                    None => is_open = false,
                },
                // Closed, and all that there was is done.
                else => return,
            }
        }
    }

    /// Sends one on, and says of which order it was.
    async fn one(&self, job: Job) -> Arc<str> {
        let Job { order, home, delivery } = job;
        // A channel that is gone or given back hands everything out again.
        if let Some(begun) = delivery.receipt.begin()
            && let Err(panicked) = caught(self.send(&home, delivery, &begun)).await
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

    async fn send(&self, home: &Home, delivery: Delivery, begun: &Begun) {
        if !self.is_settled(&delivery).await {
            return;
        }
        let Ok(_turn) = self.at_once.acquire().await else { return };
        if let Err(error) = self.publish(home, &delivery, begun).await {
            tracing::warn!(%error, { field::QUEUE } = %delivery.receipt.queue(), "cannot forward");
            return delivery.receipt.give_up_channel();
        }
        self.forwarded.fetch_add(1, Ordering::Relaxed);
        // Or it could be sent once more behind the next one of its order.
        delivery.receipt.hurry();
        if delivery.receipt.ack().is_err() {
            tracing::debug!("the ack of a forwarded message was lost; it is forwarded again");
        }
    }

    /// Lets pass until no publication of this message by a former owner of its queue can be on its way
    /// any more: behind newer ones of its order it would be the last word. False if the message is to be
    /// given back meanwhile.
    async fn is_settled(&self, delivery: &Delivery) -> bool {
        match delivery.source {
            Source::Intake { order: Order::Kept } if delivery.redelivered => {}
            // Over a change of the ring, and among many pods, no order is promised.
            Source::Intake { .. } | Source::Shard { .. } | Source::Left { .. } => return true,
        }
        tokio::select! { biased;
            () = delivery.receipt.ending() => false,
            () = delivery.receipt.settled(delivery.arrived, self.settle_window) => true,
        }
    }

    async fn publish(&self, home: &Home, delivery: &Delivery, begun: &Begun) -> Result<(), Error> {
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
            if error.leaves_doubt() {
                begun.doubt();
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Link;

    #[tokio::test]
    async fn lanes_of_queues_that_are_consumed_no_more_end() {
        let settings = Settings::default();
        let link = Link::new(&settings.broker, "lanes").unwrap();
        let publisher = Arc::new(Publisher::new(link, settings.broker.publish_timeout));
        let forwarder = Forwarder::new(&publisher, &Topology::of_all(&settings), &settings);
        let kept = forwarder.lane("g2.000");
        // As many generations as one likes.
        for shard in ["g1.000", "g1.001"] {
            let _ = forwarder.lane(shard);
        }
        forwarder.keep(&BTreeSet::from(["g2.000", "g2.001"]));
        let mut tasks = {
            let mut lanes = forwarder.lanes.lock().unwrap();
            assert_eq!(lanes.inboxes.keys().collect::<Vec<_>>(), ["g2.000"]);
            std::mem::take(&mut lanes.tasks)
        };
        for _ended in ["g1.000", "g1.001"] {
            tasks.join_next().await.unwrap().unwrap();
        }
        assert!(!kept.is_closed() && tasks.try_join_next().is_none());
        assert!(forwarder.lane("g2.000").same_channel(&kept), "and not another one beside it");
    }
}
