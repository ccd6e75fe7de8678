//! Reads a queue without taking anything out of it, and settles single messages where that is wanted.
//!
//! A message that is taken and put back goes to another place in a quorum queue. So nothing is put
//! back: everything that was looked at stays with the broker as delivered until the channel is closed,
//! and then it all returns, in order. Whoever is killed in the middle loses nothing either, but the order:
//! what has been returned before stands in a list of its own, before what has not, and what returns goes
//! to its end. So a look that is given up takes the rest unread before it closes.
//!
//! ```text
//! count = high-water mark ─▶ consumer 1 (so many, unacked) ─▶ consumer 2 ─▶ … ─▶ mark ─▶ close
//! ```
//!
//! The library keeps what a consumer is sent in memory without a bound. The bound is the prefetch of
//! each: when one has delivered all of its, the next one subscribes, on the same channel.

mod acks;
mod held;
mod take;
mod wear;
mod window;

use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::message::DeliveryResult;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, Consumer};
use tokio::time::{Instant, sleep, timeout};

use super::prepare::Lock;
use super::{Error, Topology, answered};
use acks::Acks;
use held::count;
pub use held::{Held, Ticket};
pub use take::Taker;
pub use wear::Wear;
use wear::Worn;
pub use window::Ahead;
use window::window;

/// What the last consumer takes while messages are settled, so that no earlier one is sent any.
const LATER_MAX: u16 = u16::MAX;

/// Priority of that consumer. Others have none.
const PRIORITY_MAX: i32 = 10;

/// How often it is looked whether anything is still to come.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long the broker may hold messages and hand out none.
const STILL_MAX: Duration = Duration::from_secs(30);

/// How long what is given back may take to be counted again.
const RETURNED_MAX: Duration = Duration::from_secs(5);
const RETURNED_LOOK: Duration = Duration::from_millis(20);

/// Told of every message that comes behind the mark.
type Later = Arc<dyn Fn(&BasicProperties) + Send + Sync>;

/// One look at a queue, from its head to where its end was at the beginning.
pub struct Browser {
    channel: Channel,
    /// To ask on while the other one is busy, and after it is closed.
    asks: Channel,
    lock: Option<Lock>,
    queue: String,
    consumers: Vec<Consumer>,
    /// Subscriptions that were asked for, those included that were broken off.
    subscribed: usize,
    ahead: Ahead,
    /// What the newest consumer has still to deliver.
    awaited: u64,
    mark: u64,
    others: u32,
    seen: u64,
    seen_bytes: u64,
    acked: u64,
    acks: Acks,
    /// Nothing more is looked at: messages are taken out.
    is_sealed: bool,
    later: Option<Later>,
    /// Of a queue that gives up what is returned too often.
    wear: Option<Wear>,
    /// The last one seen was returned before: there may be more of those behind it.
    is_returned: bool,
}

impl std::fmt::Debug for Browser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { queue, mark, seen, acked, .. } = self;
        let mut debug = f.debug_struct("Browser");
        debug.field("queue", queue).field("mark", mark).field("seen", seen).field("acked", acked);
        debug.finish_non_exhaustive()
    }
}

impl Drop for Browser {
    /// Before the consumers are dropped, or the library would cancel them: what is cancelled returns
    /// behind messages that came later.
    fn drop(&mut self) {
        let _queued_or_closed = self.channel.close(200, "done".into()).now_or_never();
    }
}

impl Browser {
    /// Takes the operators' lock and looks how much there is.
    ///
    /// # Errors
    /// [`Error::OperatorAtWork`]: what another one holds cannot be seen. [`Error::NoQueue`].
    /// [`Error::Unanswered`].
    pub async fn open(
        connection: &Connection,
        topology: &Topology,
        queue: &str,
        ahead: Ahead,
    ) -> Result<Self, Error> {
        let lock = answered(Lock::take(connection, &topology.operator_lock())).await?;
        let Some(lock) = lock else { return Err(Error::OperatorAtWork) };
        let asks = answered(connection.create_channel()).await?;
        let (mark, others) = count(&asks, queue).await?;
        let channel = answered(connection.create_channel()).await?;
        Ok(Self {
            channel,
            asks,
            lock: Some(lock),
            queue: queue.to_owned(),
            consumers: Vec::new(),
            subscribed: 0,
            ahead,
            awaited: 0,
            mark,
            others,
            seen: 0,
            seen_bytes: 0,
            acked: 0,
            acks: Acks::default(),
            is_sealed: false,
            later: None,
            wear: None,
            is_returned: false,
        })
    }

    /// The queue gives a message up that is returned too often: the look ends before that.
    pub fn spare(&mut self, wear: Option<Wear>) {
        self.wear = wear;
    }

    /// Messages that were there at the beginning. What comes later is not looked at.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// Consumers of somebody else's: what they hold cannot be seen, and what they take is gone.
    pub fn others(&self) -> u32 {
        self.others
    }

    /// The next message; nothing at the mark, or when somebody else has taken what was there.
    ///
    /// # Errors
    /// [`Error::Ended`], [`Error::NotHandedOut`], [`Error::Unanswered`]. Everything returns to the queue
    /// then.
    pub async fn next(&mut self) -> Result<Option<Held>, Error> {
        if self.seen >= self.mark || self.is_sealed {
            return Ok(None);
        }
        if self.awaited == 0 {
            let begun = u64::try_from(self.consumers.len()).unwrap_or(u64::MAX);
            let window = window(self.ahead, self.mark, self.seen, self.seen_bytes, begun);
            self.subscribe(window, FieldTable::default()).await?;
            self.awaited = u64::from(window);
        }
        let begun = Instant::now();
        let mut none_left = false;
        loop {
            let Some(consumer) = self.consumers.last_mut() else { return Ok(None) };
            let Ok(next) = timeout(LOOK_EVERY, consumer.next()).await else {
                let (ready, _) = count(&self.asks, &self.queue).await?;
                // Twice: it may have been on its way the first time.
                if ready == 0 && none_left {
                    return Ok(None);
                }
                none_left = ready == 0;
                if begun.elapsed() >= STILL_MAX {
                    let (queue, seconds) = (self.queue.clone(), STILL_MAX.as_secs());
                    return Err(Error::NotHandedOut { queue, seconds });
                }
                continue;
            };
            let Some(delivery) = next else {
                // The queue was deleted, or its leader moved: no error comes with it.
                return Err(Error::NoQueue { queue: self.queue.clone() });
            };
            let held = self.held(delivery?);
            return match self.wear.map(|wear| wear.judge(&held)) {
                None | Some(Worn::Fine) => Ok(Some(held)),
                Some(Worn::Nearly(error)) => Err(error),
                Some(Worn::Out(error)) => {
                    wear::renew(&self.asks, &self.queue, held).await?;
                    self.acked += 1;
                    Err(error)
                }
            };
        }
    }

    fn held(&mut self, delivery: lapin::message::Delivery) -> Held {
        self.awaited -= 1;
        self.seen += 1;
        self.seen_bytes += u64::try_from(delivery.data.len()).unwrap_or(u64::MAX);
        let held = Held::new(self.seen, delivery);
        self.is_returned = held.returns > 0;
        held
    }

    async fn subscribe(&mut self, prefetch: u16, arguments: FieldTable) -> Result<(), Error> {
        // Per consumer, not global: brokers close the connection over the latter on quorum queues.
        answered(self.channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        // By name in the order of their subscription, which is the order in which all of it returns.
        // Counted at once: when this is broken off, the broker may know the name all the same.
        self.subscribed += 1;
        let tag = format!("browse-{:05}", self.subscribed).as_str().into();
        let (queue, options) = (self.queue.as_str().into(), BasicConsumeOptions::default());
        let consuming = self.channel.basic_consume(queue, tag, options, arguments);
        self.consumers.push(answered(consuming).await?);
        Ok(())
    }

    /// Ends the look. For each message that is taken out, the broker sends its consumer another one from
    /// behind, which would return before what is held by later consumers. So a consumer that goes before
    /// all others (RabbitMQ 4; 3 disturbs the order) takes those, and they are dropped unread.
    async fn seal(&mut self) -> Result<(), Error> {
        if self.is_sealed {
            return Ok(());
        }
        self.is_sealed = true;
        // What is not looked at is not taken where each return counts: there, its order matters less.
        if self.wear.is_none() {
            self.subscribe_unread(PRIORITY_MAX).await?;
        }
        for consumer in &self.consumers {
            consumer.set_delegate(unread(self.later.clone()));
        }
        Ok(())
    }

    /// Ends the look, and tells from now on of every message that comes behind the mark: it is held as well, and
    /// returns with all else.
    ///
    /// # Errors
    /// As [`Self::ack`].
    pub async fn watch(
        &mut self,
        tell: impl Fn(&BasicProperties) + Send + Sync + 'static,
    ) -> Result<(), Error> {
        self.later = Some(Arc::new(tell));
        self.seal().await
    }

    /// One more that takes what comes. Where several do, the higher priority takes first, so that what
    /// they hold is in order.
    async fn subscribe_unread(&mut self, priority: i32) -> Result<(), Error> {
        let mut first = FieldTable::default();
        first.insert("x-priority".into(), AMQPValue::LongInt(priority));
        self.subscribe(LATER_MAX, first).await?;
        if let Some(consumer) = self.consumers.last() {
            consumer.set_delegate(unread(self.later.clone()));
        }
        Ok(())
    }

    /// Takes everything that was not looked at, so that it returns behind what was.
    async fn take_rest(&mut self) -> Result<(), Error> {
        self.seal().await?;
        let (mut ready, _) = count(&self.asks, &self.queue).await?;
        for priority in
            (1..PRIORITY_MAX).rev().take(usize::try_from(ready / u64::from(LATER_MAX)).unwrap_or(0))
        {
            self.subscribe_unread(priority).await?;
        }
        let mut fell = Instant::now();
        // Not without end: somebody may have taken the queue's leader away.
        while ready > 0 && fell.elapsed() < RETURNED_MAX {
            sleep(RETURNED_LOOK).await;
            let (now, _) = count(&self.asks, &self.queue).await?;
            if now < ready {
                fell = Instant::now();
            }
            ready = now;
        }
        Ok(())
    }

    /// Takes a message out of the queue, and ends the look: [`Self::next`] gives nothing more. Call
    /// [`Self::close`] before you believe it: a connection that is lost may lose what was sent last, and the
    /// message is there again.
    ///
    /// # Errors
    /// [`Error::Ended`]: the channel is gone, and everything that was not acked returned.
    /// [`Error::Unanswered`].
    pub async fn ack(&mut self, receipt: Ticket) -> Result<(), Error> {
        self.seal().await?;
        if !answered(receipt.acker.ack(BasicAckOptions::default())).await? {
            return Err(Error::NoQueue { queue: self.queue.clone() });
        }
        self.acked += 1;
        self.acks.one_more(&self.channel, &self.queue).await
    }

    /// Gives back everything that was not acked, waits until it is there for the next one to see, and
    /// lets the next operator in. A browser that is dropped instead loses nothing, but the order.
    ///
    /// # Errors
    /// [`Error::Ended`]: the last acks may be lost, and their messages there again.
    pub async fn close(mut self) -> Result<(), Error> {
        // What was returned before stands before what was not: where that is over, what returns now does as well.
        if self.seen < self.mark && self.is_returned && self.wear.is_none() {
            self.take_rest().await?;
        }
        self.acks.done(&self.channel, &self.queue).await?;
        let (ready, _) = count(&self.asks, &self.queue).await?;
        // At least: what was sent and not looked at comes on top.
        let all = ready + self.seen - self.acked;
        answered(self.channel.close(200, "done".into())).await?;
        let begun = Instant::now();
        // The channel's end reaches the queue a moment after it is confirmed.
        while count(&self.asks, &self.queue).await?.0 < all && begun.elapsed() < RETURNED_MAX {
            sleep(RETURNED_LOOK).await;
        }
        answered(self.asks.close(200, "done".into())).await?;
        match self.lock.take() {
            Some(lock) => answered(lock.release()).await,
            None => Ok(()),
        }
    }
}

/// Drops what comes. Whoever wants to know is shown its properties.
fn unread(later: Option<Later>) -> impl Fn(DeliveryResult) -> Ready<()> + Send + Sync + 'static {
    move |came| {
        if let (Some(tell), Ok(Some(message))) = (&later, &came) {
            tell(&message.properties);
        }
        ready(())
    }
}
