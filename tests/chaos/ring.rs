//! What the run does to the broker's objects over AMQP, and what it reads of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::time::{sleep, timeout};

use crate::Result;
use crate::options::{INBOX, Options};
use crate::publisher::{Update, read};
use crate::reshard::Generation;

/// All that is asked here is answered within a moment by a broker that is well.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Dead letters that are read: more than a run of ten minutes parks at the usual rate.
const LETTERS_MAX: u32 = 50_000;
/// How long reading them may take.
const LETTERS_WITHIN: Duration = Duration::from_mins(2);
/// A broker that was restarted a moment ago may still be about to elect leaders.
const TRIES: u32 = 5;

/// The broker's objects of this run.
#[derive(Debug)]
pub(crate) struct Ring {
    url: String,
    prefix: String,
    /// At the start.
    shards: u64,
    /// Of now.
    generation: Mutex<Generation>,
    has_inbox: bool,
}

/// The dead letters: reason and update.
pub(crate) type Letters = Vec<(String, Option<Update>)>;

impl Ring {
    pub(crate) fn new(url: &str, prefix: &str, options: &Options) -> Self {
        let (shards, has_inbox) = (options.shards, options.inbox);
        let generation = Mutex::new((1, shards));
        Self { url: url.to_owned(), prefix: prefix.to_owned(), shards, generation, has_inbox }
    }

    /// Where the broker is, without any link in between.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The exchange that publishers know.
    pub(crate) fn entry(&self) -> String {
        format!("{}.updates", self.prefix)
    }

    fn generation(&self) -> Generation {
        *self.generation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is another generation now.
    pub(crate) fn turned(&self, generation: Generation) {
        *self.generation.lock().unwrap_or_else(PoisonError::into_inner) = generation;
    }

    /// Four times as many shards as at the start, or as many again.
    pub(crate) fn other_number(&self) -> u64 {
        if self.generation().1 == self.shards { self.shards * 4 } else { self.shards }
    }

    fn shard(&self, (generation, _): Generation, shard: u64) -> String {
        format!("{}.shard.g{generation}.{shard:03}", self.prefix)
    }

    /// Unbinds a queue in the middle of the ring and binds it again: most keys move. `None` if a
    /// reshard has just done away with that ring.
    pub(crate) async fn scramble(&self, dice: &mut fastrand::Rng) -> Result<Option<u64>> {
        let now = self.generation();
        if now.1 < 2 {
            return Err("a single shard has no ring to scramble".to_owned());
        }
        let shard = dice.u64(0..now.1 - 1);
        let (queue, exchange) =
            (self.shard(now, shard), format!("{}.shards.g{}", self.prefix, now.0));
        let asked = self.ask(async |channel| {
            let (queue, exchange) = (queue.as_str(), exchange.as_str());
            let none = FieldTable::default();
            channel.queue_unbind(queue.into(), exchange.into(), "1".into(), none.clone()).await?;
            let options = QueueBindOptions::default();
            channel.queue_bind(queue.into(), exchange.into(), "1".into(), options, none).await
        });
        match asked.await {
            Ok(()) => Ok(Some(shard)),
            Err(error) if error.contains("NOT_FOUND") || error.contains("NOT-FOUND") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the queue that publishers use instead of the entry.
    pub(crate) async fn make_inbox(&self) -> Result<()> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(i32::MAX));
        self.ask(async |channel| {
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(INBOX.into(), options, arguments.clone()).await
        })
        .await
        .map(drop)
    }

    /// Messages that wait in the shard queues, and in the one for what no queue took. Exact only
    /// when nobody consumes.
    pub(crate) async fn waiting(&self) -> Result<(u32, u32)> {
        self.ask(async |channel| {
            let mut waiting = 0;
            if self.has_inbox {
                waiting += depth(channel, INBOX).await?;
            }
            let now = self.generation();
            for shard in 0..now.1 {
                waiting += depth(channel, &self.shard(now, shard)).await?;
            }
            Ok((waiting, depth(channel, &format!("{}.unroutable", self.prefix)).await?))
        })
        .await
    }

    /// How many dead letters there are.
    pub(crate) async fn dead(&self) -> Result<u32> {
        let queue = format!("{}.dead-letters", self.prefix);
        self.ask(async |channel| depth(channel, &queue).await).await
    }

    /// All dead letters. They are put back.
    pub(crate) async fn letters(&self) -> Result<Letters> {
        let queue = format!("{}.dead-letters", self.prefix);
        self.ask_within(LETTERS_WITHIN, async |channel| {
            let mut letters = Vec::new();
            for _ in 0..depth(channel, &queue).await?.min(LETTERS_MAX) {
                let options = BasicGetOptions::default();
                let Some(letter) = channel.basic_get(queue.as_str().into(), options).await? else {
                    break;
                };
                letters.push((reason(&letter.delivery), read(&letter.delivery.data)));
            }
            Ok(letters)
        })
        .await
    }

    /// Asks on a channel of its own, again if the broker is not quite up yet.
    async fn ask<T>(&self, question: impl AsyncFn(&Channel) -> lapin::Result<T>) -> Result<T> {
        self.ask_within(ANSWER_MAX, question).await
    }

    async fn ask_within<T>(
        &self,
        within: Duration,
        question: impl AsyncFn(&Channel) -> lapin::Result<T>,
    ) -> Result<T> {
        let mut last = String::new();
        for _ in 0..TRIES {
            let asked = async {
                let properties = ConnectionProperties::default();
                let connection = Connection::connect(&self.url, properties).await?;
                let channel = connection.create_channel().await?;
                let answer = question(&channel).await;
                drop(connection.close(200, "asked".into()).await);
                answer
            };
            last = match timeout(within, asked).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error.to_string(),
                Err(_elapsed) => "no answer".to_owned(),
            };
            sleep(Duration::from_secs(1)).await;
        }
        Err(format!("the broker: {last}"))
    }
}

async fn depth(channel: &Channel, queue: &str) -> lapin::Result<u32> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
    Ok(declared.message_count())
}

fn reason(letter: &lapin::message::Delivery) -> String {
    let headers = letter.properties.headers().as_ref();
    let header = |name: &str| {
        let value = headers.and_then(|headers| headers.inner().get(name))?;
        value.as_long_string().map(ToString::to_string)
    };
    header("orderwright-reason")
        .or_else(|| header("x-first-death-reason").map(|reason| format!("broker: {reason}")))
        .unwrap_or_else(|| "(no reason)".to_owned())
}

/// How many dead letters of each reason.
pub(crate) fn by_reason(letters: &Letters) -> BTreeMap<&str, u64> {
    let mut counts = BTreeMap::new();
    for (reason, _) in letters {
        *counts.entry(reason.as_str()).or_default() += 1;
    }
    counts
}
