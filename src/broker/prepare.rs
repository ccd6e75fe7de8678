//! Makes ready to consume: the objects are there, and it is known which generation is worked on.

use std::time::Duration;

use futures_util::FutureExt;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::time::sleep;

use super::connection::said;
use super::declare::{bind, check, make};
use super::history::History;
use super::single_active;
use super::{Error, Finding, Generations, Part, Publisher, Report, Topology};

/// AMQP reply code "resource locked".
const LOCKED: u16 = 405;

/// How often, and after which wait, the lock is asked for again: pods that start together hold it for
/// some milliseconds each.
const ASKED_MAX: u32 = 50;
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The right to do what one alone may do at a time, such as to say where the entry leads to: an exclusive
/// queue. Ends with its connection at the latest, so a holder that dies locks nobody out.
pub(super) struct Lock {
    channel: Channel,
    queue: String,
    is_held: bool,
}

impl Drop for Lock {
    /// On every way out, also that of an error: the queue belongs to a connection that may live for days.
    fn drop(&mut self) {
        if self.is_held {
            let options = QueueDeleteOptions::default();
            let queue = self.queue.as_str().into();
            let _queued = self.channel.queue_delete(queue, options).now_or_never();
        }
    }
}

impl Lock {
    /// Takes it, unless somebody else has it.
    pub(super) async fn take(connection: &Connection, queue: &str) -> Result<Option<Self>, Error> {
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
        match declared {
            Ok(_) => Ok(Some(Self { channel, queue: queue.to_owned(), is_held: true })),
            Err(error) if said(&error).is_some_and(|(code, _)| code == LOCKED) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives it back, and waits until others can have it.
    pub(super) async fn release(mut self) -> Result<(), Error> {
        let options = QueueDeleteOptions::default();
        self.channel.queue_delete(self.queue.as_str().into(), options).await?;
        // A second deletion could meet the next lock of ours.
        self.is_held = false;
        Ok(())
    }
}

/// Declares and binds whatever is missing, and reads which generation is worked on. Idempotent.
///
/// Objects that exist with another shape are reported and left alone, and nothing is bound then: half a topology would
/// lead messages astray. `None` in that case.
///
/// # Errors
/// Any of the broker's. Not bounded in time: the library waits without end for an answer that the
/// loss of the connection overtook.
pub async fn declare(
    connection: &Connection,
    publisher: &Publisher,
    topology: &Topology,
) -> Result<(Report, Option<Generations>), Error> {
    let Part { exchanges, queues, bindings } = topology.shared();
    let mut report = make(connection, exchanges, queues).await?;
    if report.faults().next().is_some() {
        return Ok((report, None));
    }
    bind(connection, &bindings).await?;
    let first = topology.generation();
    let history = History::open(connection, topology).await?;
    let read = history.read(connection, publisher, topology, first).await?;
    let (mut history, mut generations) = read;
    loop {
        let own = topology.of(generations.live);
        let Part { exchanges, queues, bindings } = own.own();
        let found = make(connection, exchanges, queues).await?;
        let is_fine = found.faults().next().is_none();
        report.findings.extend(found.findings);
        if !is_fine {
            return Ok((report, None));
        }
        bind(connection, &bindings).await?;
        let locking = lock_unless_resharding(connection, topology, history, publisher).await?;
        let (after, lock) = locking;
        history = after;
        let Some(lock) = lock else { break };
        // Only whoever has the lock changes generations: what is read now stays so until the release.
        let now;
        (history, now) = history.read(connection, publisher, topology, first).await?;
        let is_same = now.live == generations.live;
        if is_same && now.next.is_none() {
            bind(connection, &[own.catch(), own.entry()]).await?;
        }
        lock.release().await?;
        generations = now;
        if is_same {
            break;
        }
    }
    let generations = history.generations().cloned().unwrap_or(generations);
    report.findings.extend(single_active::look(connection, topology).await?);
    Ok((report, Some(generations)))
}

/// The lock. `None` if the entry is being switched: whoever does so sees to it.
async fn lock_unless_resharding(
    connection: &Connection,
    topology: &Topology,
    mut history: History,
    publisher: &Publisher,
) -> Result<(History, Option<Lock>), Error> {
    for _ in 0..ASKED_MAX {
        let now;
        let first = topology.generation();
        (history, now) = history.read(connection, publisher, topology, first).await?;
        if now.next.is_some() {
            return Ok((history, None));
        }
        if let Some(lock) = Lock::take(connection, &topology.lock()).await? {
            return Ok((history, Some(lock)));
        }
        if now.left.is_some() {
            // A reshard that comes to its end: the entry is bound.
            return Ok((history, None));
        }
        sleep(ASK_AGAIN).await;
    }
    tracing::warn!("somebody else has the lock of the entry; whether it is bound is not known");
    Ok((history, None))
}

/// Looks whether everything is there, makes nothing, and reads which generation is worked on: that of
/// the settings if nobody has begun yet.
///
/// # Errors
/// Any of the broker's. Not bounded in time, as [`declare`].
pub async fn inspect(
    connection: &Connection,
    topology: &Topology,
) -> Result<(Report, Option<Generations>), Error> {
    let Part { exchanges, queues, .. } = topology.shared();
    let mut report = check(connection, exchanges, queues).await?;
    let stream = topology.generations();
    let is_there = |(_, name, finding): &&(&str, String, Finding)| {
        *name == stream && !matches!(finding, Finding::Missing | Finding::Denied(_))
    };
    let mut generations = None;
    if report.findings.iter().any(|found| is_there(&found)) {
        (_, generations) = History::look(connection, topology).await?;
    }
    let live = generations.as_ref().map_or(topology.generation(), |known| known.live);
    let Part { exchanges, queues, .. } = topology.of(live).own();
    report.findings.extend(check(connection, exchanges, queues).await?.findings);
    report.findings.extend(single_active::look(connection, topology).await?);
    Ok((report, generations))
}

/// Which generation is worked on: exact, unlike what [`inspect`] finds. Where nobody has begun yet,
/// the one of the settings is.
///
/// # Errors
/// Any of the broker's. Not bounded in time, as [`declare`].
pub async fn generations(
    connection: &Connection,
    publisher: &Publisher,
    topology: &Topology,
) -> Result<Generations, Error> {
    let history = History::open(connection, topology).await?;
    let read = history.read(connection, publisher, topology, topology.generation()).await?;
    Ok(read.1)
}
