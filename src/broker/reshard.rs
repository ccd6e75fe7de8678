//! Moves a running cluster to another number of shards, one generation after the other, so that no
//! order is ever worked on in two shards.
//!
//! Every step can be done twice, and the records of the generations tell how far it came: a command
//! that died is started again and goes on. Between any two steps every message is routed to exactly one
//! generation: while the entry leads nowhere, its alternate exchange leads to the next one.

use std::time::Duration;

use lapin::Connection;
use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use tokio::time::{Instant, sleep, timeout};

use super::declare::{bind, make, unbind};
use super::generation::{LAST_ROUND, Phase, ROUNDS, Record};
use super::history::{History, append};
use super::prepare::Lock;
use super::{Error, Generation, Generations, Part, Publisher, Topology, marker};

/// Time for what was routed just before a change of bindings to arrive: nodes of a cluster learn of the
/// change one after the other. What arrives later still is sent on, and can only come late.
const ROUTED_MAX: Duration = Duration::from_secs(2);

/// How often it is told what is waited for.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Markers are sent again after this time without any progress: somebody may have emptied a queue by
/// hand.
const PATIENCE: Duration = Duration::from_mins(1);

/// Shards of two generations together: a pod has a channel for each, and a connection takes 2047.
const SHARDS_MAX: u16 = 2000;

/// How often, and after which wait, the lock is asked for.
const ASKED_MAX: u32 = 50;
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// A step on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make the queues of the next generation.
    Open(Generation),
    /// Let messages go to it and to no other.
    Switch(Generation),
    /// Wait until everything in this generation is settled: once for what was published to it, and once
    /// for what was sent on from one of its queues to another.
    Drain(Generation, u8),
    /// Let the pods work on the next generation.
    Start(Generation),
    /// Delete the one that was left, after whatever strayed into it was sent on.
    Retire(Generation),
}

/// What is left to do for this number of shards.
///
/// # Errors
/// [`Error::Unfinished`]: another reshard has to be finished first.
pub fn steps(now: &Generations, shards: u16) -> Result<Vec<Step>, Error> {
    let live = now.live;
    let goal = match (now.next, now.left) {
        (Some((next, _)), _) => next,
        (None, Some(_)) => live,
        (None, None) => Generation { number: live.number.saturating_add(1), shards },
    };
    if goal.shards != shards {
        return Err(Error::Unfinished { shards: goal.shards });
    }
    if now.may_open() && live.shards.saturating_add(shards) > SHARDS_MAX {
        return Err(Error::TooManyShards { live: live.shards, next: shards, most: SHARDS_MAX });
    }
    if let (None, Some(left)) = (now.next, now.left) {
        return Ok(vec![Step::Retire(left)]);
    }
    let mut steps = Vec::new();
    match now.next {
        None => steps.extend([Step::Open(goal), Step::Switch(goal)]),
        Some((_, Phase::Opened)) => steps.push(Step::Switch(goal)),
        Some((_, Phase::Switched)) => {}
    }
    steps.extend((1..=ROUNDS).map(|round| Step::Drain(live, round)));
    steps.extend([Step::Start(goal), Step::Retire(live)]);
    Ok(steps)
}

/// What is told while it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A step is begun.
    Begun(Step),
    /// What is waited for.
    Waiting {
        /// Shards that are not drained yet.
        shards: Vec<u16>,
        /// Messages that wait in their queues. Those that are delivered cannot be counted.
        ready: u64,
        /// Queues among them that no pod takes from.
        unattended: usize,
    },
}

/// A reshard under way.
struct Reshard<'a> {
    connection: &'a Connection,
    publisher: &'a Publisher,
    topology: &'a Topology,
    history: History,
    answer_max: Duration,
    linger: Duration,
    tell: &'a (dyn Fn(Progress) + Sync),
}

impl std::fmt::Debug for Reshard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reshard").field("history", &self.history).finish_non_exhaustive()
    }
}

/// How patient a reshard is.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long the broker may take for all objects of a step.
    pub answer_max: Duration,
    /// How long to wait for strays before what was left is deleted.
    pub linger: Duration,
}

/// Brings the number of shards about, or goes on where an earlier call stopped. `goal` is that of an
/// earlier call, and becomes that of this one.
///
/// Waits without end for messages to be settled; whoever gives it up may call it again.
///
/// # Errors
/// Any of the broker's, [`Error::Locked`], [`Error::Unfinished`]. Everything goes on as it was then,
/// but messages that came in after the switch are not worked on until the end.
pub async fn reshard(
    connection: &Connection,
    publisher: &Publisher,
    topology: &Topology,
    shards: u16,
    goal: &mut Option<Generation>,
    patience: Patience,
    tell: &(dyn Fn(Progress) + Sync),
) -> Result<Generation, Error> {
    let Patience { answer_max, linger } = patience;
    let lock = within(answer_max, lock(connection, topology)).await?;
    let history = within(answer_max, History::open(connection, topology)).await?;
    let mut way = Reshard { connection, publisher, topology, history, answer_max, linger, tell };
    let reading = way.history.catch_up(publisher, topology, topology.generation());
    let now = within(answer_max, reading).await?;
    let all = match *goal {
        // An earlier call came to the end, and did not hear of it.
        Some(goal) if now.live == goal && now.may_open() => Vec::new(),
        Some(_) | None => steps(&now, shards)?,
    };
    let next = Generation { number: now.live.number.saturating_add(1), shards };
    let reached = now.next.is_none() && (now.left.is_some() || all.is_empty());
    let goal = *goal.insert(if reached { now.live } else { next });
    for step in all {
        (way.tell)(Progress::Begun(step));
        way.step(now.live, step).await?;
    }
    drop(way.history);
    within(answer_max, lock.release()).await?;
    Ok(goal)
}

async fn lock(connection: &Connection, topology: &Topology) -> Result<Lock, Error> {
    for _ in 0..ASKED_MAX {
        if let Some(lock) = Lock::take(connection, &topology.lock()).await? {
            return Ok(lock);
        }
        sleep(ASK_AGAIN).await;
    }
    Err(Error::Locked)
}

/// An answer that the loss of the connection overtook would be waited for without end.
async fn within<T>(
    limit: Duration,
    asked: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let silent = |_elapsed| Error::Unconfirmed { seconds: limit.as_secs() };
    timeout(limit, asked).await.map_err(silent)?
}

impl Reshard<'_> {
    async fn step(&mut self, live: Generation, step: Step) -> Result<(), Error> {
        match step {
            Step::Open(next) => {
                let is_so = |now: &Generations| now.next == Some((next, Phase::Opened));
                self.record(Record::Opened(next), is_so).await
            }
            Step::Switch(next) => {
                within(self.answer_max, self.switch(live, next)).await?;
                let is_so = |now: &Generations| now.next == Some((next, Phase::Switched));
                self.record(Record::Switched(next), is_so).await?;
                sleep(ROUTED_MAX).await;
                Ok(())
            }
            Step::Drain(old, round) => self.drain(old, round).await,
            Step::Start(next) => {
                let is_so = |now: &Generations| now.live == next;
                self.record(Record::Live(next), is_so).await
            }
            Step::Retire(left) => {
                // Of a call that came so far, the queues may be gone.
                if !self.undrained(LAST_ROUND).is_empty() {
                    within(self.answer_max, self.close(left)).await?;
                    sleep(self.linger).await;
                    self.drain(left, LAST_ROUND).await?;
                }
                self.demand(|now| now.left == Some(left))?;
                within(self.answer_max, self.delete(left)).await?;
                self.record(Record::Retired(left), Generations::may_open).await
            }
        }
    }

    /// Writes a record, reads until it is there, and demands what it claims: one that did not fit, because
    /// of another that came before, changes nothing.
    async fn record(
        &mut self,
        record: Record,
        is_so: impl Fn(&Generations) -> bool,
    ) -> Result<(), Error> {
        let limit = self.answer_max;
        within(limit, append(self.publisher, self.topology, &record)).await?;
        let first = self.topology.generation();
        let reading = self.history.catch_up(self.publisher, self.topology, first);
        within(limit, reading).await?;
        self.demand(is_so)
    }

    fn demand(&self, is_so: impl Fn(&Generations) -> bool) -> Result<(), Error> {
        if self.history.generations().is_some_and(is_so) { Ok(()) } else { Err(Error::Locked) }
    }

    /// Closes all ways into a generation that was left, but for that of the last markers: whoever would
    /// still send there is told that nobody takes it, and asks again where it belongs.
    async fn close(&self, left: Generation) -> Result<(), Error> {
        let topology = self.topology.of(left);
        let (ways, ends): (Vec<_>, Vec<_>) = topology.ways_in().unzip();
        bind(self.connection, &ends).await?;
        for way in &ways {
            unbind(self.connection, way).await?;
        }
        let channel = self.connection.create_channel().await?;
        if let Some(spread) = topology.spread() {
            let options = ExchangeDeleteOptions::default();
            channel.exchange_delete(spread.as_str().into(), options).await?;
        }
        Ok(channel.close(200, "done".into()).await?)
    }

    /// Makes the next generation and lets messages go there. At each moment every message finds one way
    /// and no more than one.
    async fn switch(&self, live: Generation, next: Generation) -> Result<(), Error> {
        let (old, new) = (self.topology.of(live), self.topology.of(next));
        let Part { exchanges, queues, bindings } = new.own();
        let report = make(self.connection, exchanges, queues).await?;
        if let Some((what, name, finding)) = report.faults().next() {
            return Err(Error::InTheWay {
                what,
                name: name.clone(),
                found: format!("{finding:?}"),
            });
        }
        bind(self.connection, &bindings).await?;
        bind(self.connection, &[new.detour()]).await?;
        unbind(self.connection, &new.catch()).await?;
        unbind(self.connection, &old.entry()).await?;
        // From here on everything takes the detour to the next generation,
        bind(self.connection, &[new.entry(), new.catch()]).await?;
        // and from here on nothing does.
        unbind(self.connection, &new.detour()).await
    }

    /// Waits until every queue of this generation has settled what stood before a marker of ours.
    async fn drain(&mut self, old: Generation, round: u8) -> Result<(), Error> {
        let topology = self.topology.of(old);
        let mut told = Instant::now();
        // When markers were sent last, or the last one was settled.
        let mut moved: Option<Instant> = None;
        let mut count = 0;
        loop {
            let now = self.undrained(round);
            if now.is_empty() {
                return Ok(());
            }
            if moved.is_none_or(|at| at.elapsed() >= PATIENCE) {
                let sending =
                    now.iter().map(|shard| marker::send(self.publisher, &topology, *shard, round));
                // The publisher lets a few of them go at a time.
                within(self.answer_max, futures_util::future::try_join_all(sending)).await?;
                moved = Some(Instant::now());
            } else if now.len() != count {
                moved = Some(Instant::now());
            }
            count = now.len();
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                let progress = within(self.answer_max, self.waiting(&topology, now)).await?;
                (self.tell)(progress);
            }
            if let Ok(read) = timeout(TELL_EVERY, self.history.next()).await {
                read?;
            }
        }
    }

    fn undrained(&self, round: u8) -> Vec<u16> {
        let known = self.history.generations();
        known.map(|now| now.undrained(round).collect()).unwrap_or_default()
    }

    async fn waiting(&self, topology: &Topology, shards: Vec<u16>) -> Result<Progress, Error> {
        let channel = self.connection.create_channel().await?;
        let (mut ready, mut unattended) = (0, 0);
        for shard in &shards {
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let (queue, none) = (topology.shard_queue(*shard), FieldTable::default());
            let found = channel.queue_declare(queue.as_str().into(), options, none).await?;
            ready += u64::from(found.message_count());
            unattended += usize::from(found.consumer_count() == 0);
        }
        channel.close(200, "done".into()).await?;
        Ok(Progress::Waiting { shards, ready, unattended })
    }

    async fn delete(&self, left: Generation) -> Result<(), Error> {
        let topology = self.topology.of(left);
        let channel = self.connection.create_channel().await?;
        for queue in topology.shard_queues() {
            channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
        }
        Ok(channel.close(200, "done".into()).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Generation = Generation { number: 4, shards: 16 };
    const NEW: Generation = Generation { number: 5, shards: 64 };

    fn begun() -> Generations {
        Generations::begin(&Record::Begun(OLD)).unwrap()
    }

    #[test]
    fn steps_go_on_where_an_earlier_call_stopped() {
        let mut now = begun();
        let all = steps(&now, 64).unwrap();
        assert_eq!(
            all,
            [
                Step::Open(NEW),
                Step::Switch(NEW),
                Step::Drain(OLD, 1),
                Step::Drain(OLD, 2),
                Step::Start(NEW),
                Step::Retire(OLD),
            ]
        );
        now.apply(&Record::Opened(NEW));
        assert_eq!(steps(&now, 64).unwrap(), all[1..]);
        now.apply(&Record::Switched(NEW));
        assert_eq!(steps(&now, 64).unwrap(), all[2..]);
        for (shard, round) in (0..16).flat_map(|shard| [(shard, 1), (shard, 2)]) {
            now.apply(&Record::Drained { generation: 4, shard, round });
        }
        now.apply(&Record::Live(NEW));
        assert_eq!(steps(&now, 64).unwrap(), all[5..]);
    }

    #[test]
    fn reshard_that_is_not_finished_is_not_passed_over() {
        let mut now = begun();
        now.apply(&Record::Opened(NEW));
        assert!(matches!(steps(&now, 32), Err(Error::Unfinished { shards: 64 })));
    }

    #[test]
    fn same_number_of_shards_makes_a_new_ring() {
        let steps = steps(&begun(), 16).unwrap();
        assert_eq!(steps[0], Step::Open(Generation { number: 5, shards: 16 }));
    }
}
