//! Takes all messages of a queue out of it, one after the other, each delivered once.
//!
//! For queues that are not ours to wear out: a look returns what it has seen, and each return counts.

use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use tokio::time::{Instant, sleep, timeout};

use super::super::prepare::Lock;
use super::super::{Error, Topology, answered};
use super::held::{Held, Ticket, count};
use super::{LOOK_EVERY, RETURNED_LOOK, RETURNED_MAX, STILL_MAX};

/// Messages that are held at once: those that return when it is broken off.
const HELD_MAX: u16 = 64;

/// Takes what is there, from the head to where the end was at the beginning.
pub struct Taker {
    channel: Channel,
    asks: Channel,
    lock: Option<Lock>,
    queue: String,
    consumer: Option<Consumer>,
    mark: u64,
    taken: u64,
    acked: u64,
}

impl std::fmt::Debug for Taker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { queue, mark, taken, .. } = self;
        let mut debug = f.debug_struct("Taker");
        debug.field("queue", queue).field("mark", mark).field("taken", taken);
        debug.finish_non_exhaustive()
    }
}

impl Drop for Taker {
    /// As of a browser: what is cancelled returns behind what came later.
    fn drop(&mut self) {
        let _queued_or_closed = self.channel.close(200, "done".into()).now_or_never();
    }
}

impl Taker {
    /// Takes the operators' lock, and looks how much there is. Nothing is delivered before [`Self::next`].
    ///
    /// # Errors
    /// As [`super::Browser::open`].
    pub async fn open(
        connection: &Connection,
        topology: &Topology,
        queue: &str,
    ) -> Result<Self, Error> {
        let lock = answered(Lock::take(connection, &topology.operator_lock())).await?;
        let Some(lock) = lock else { return Err(Error::OperatorAtWork) };
        let asks = answered(connection.create_channel()).await?;
        let (mark, _) = count(&asks, queue).await?;
        let channel = answered(connection.create_channel()).await?;
        let (lock, queue) = (Some(lock), queue.to_owned());
        Ok(Self { channel, asks, lock, queue, consumer: None, mark, taken: 0, acked: 0 })
    }

    /// Messages that were there at the beginning.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// So many may be held before some of them must be acked.
    pub const HELD_MAX: usize = HELD_MAX as usize;

    /// The next message; nothing at the mark, or when somebody else has taken what was there.
    ///
    /// # Errors
    /// As [`super::Browser::next`].
    pub async fn next(&mut self) -> Result<Option<Held>, Error> {
        if self.taken >= self.mark {
            return Ok(None);
        }
        let begun = Instant::now();
        let mut none_left = false;
        loop {
            let consumer = match &mut self.consumer {
                Some(consumer) => consumer,
                none @ None => none.insert(subscribe(&self.channel, &self.queue).await?),
            };
            let Ok(next) = timeout(LOOK_EVERY, consumer.next()).await else {
                let (ready, _) = count(&self.asks, &self.queue).await?;
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
                return Err(Error::NoQueue { queue: self.queue.clone() });
            };
            self.taken += 1;
            return Ok(Some(Held::new(self.taken, delivery?)));
        }
    }

    /// Takes this one out of the queue, and all that were given before it.
    ///
    /// # Errors
    /// As [`super::Browser::ack`].
    pub async fn ack_up_to(&mut self, receipt: Ticket) -> Result<(), Error> {
        // One command for all of them: few are ever under way, so none is held back by the channel.
        let acked = answered(receipt.acker.ack(BasicAckOptions { multiple: true })).await?;
        if !acked {
            return Err(Error::NoQueue { queue: self.queue.clone() });
        }
        self.acked = self.taken;
        Ok(())
    }

    /// Gives back what was not acked, and lets the next operator in.
    ///
    /// # Errors
    /// As [`super::Browser::close`].
    pub async fn close(mut self) -> Result<(), Error> {
        // The broker does what was sent before it answers: the acks have left the channel.
        count(&self.channel, &self.queue).await?;
        let (ready, _) = count(&self.asks, &self.queue).await?;
        let all = ready + self.taken - self.acked;
        answered(self.channel.close(200, "done".into())).await?;
        let begun = Instant::now();
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

async fn subscribe(channel: &Channel, queue: &str) -> Result<Consumer, Error> {
    answered(channel.basic_qos(HELD_MAX, BasicQosOptions::default())).await?;
    let options = BasicConsumeOptions::default();
    let consuming =
        channel.basic_consume(queue.into(), "take".into(), options, FieldTable::default());
    answered(consuming).await
}
