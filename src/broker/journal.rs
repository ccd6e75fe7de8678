//! The stream that keeps what operators did: written with a confirm, read from its beginning.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use lapin::{BasicProperties, Connection};
use tokio::time::{Instant, timeout, timeout_at};

use super::stream::Stream;
use super::{Error, Outgoing, Publisher, Topology, answered};

/// A stream that does not show its last chunk within this is empty.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// What is left of the last chunk comes without such a pause.
const QUIET: Duration = Duration::from_millis(500);

/// A chunk has a few thousand records at most, and is sent in far less than this.
const LAST_MAX: Duration = Duration::from_secs(3);

/// Writes a record, and waits until the broker has it.
///
/// # Errors
/// As [`Publisher::publish`]. The record may be there all the same; twice does no harm.
pub async fn append(
    publisher: &Publisher,
    topology: &Topology,
    body: Vec<u8>,
) -> Result<(), Error> {
    let Some(lane) = publisher.lane().await else { return Err(Error::Withdrawn) };
    let message = Outgoing {
        exchange: topology.forward(),
        routing_key: topology.journal().as_str().into(),
        properties: BasicProperties::default().with_content_type("application/json".into()),
        body,
    };
    publisher.publish(lane, &message, || true, pending()).await
}

/// Reads the last `records_max` records of those that are there, oldest first. Every record of the stream is sent
/// over the wire; no more than these are kept. What is written meanwhile is not waited for.
///
/// # Errors
/// [`Error::Ended`] if there is no such stream; [`Error::Unanswered`].
pub async fn read(
    connection: &Connection,
    topology: &Topology,
    records_max: usize,
) -> Result<Vec<Vec<u8>>, Error> {
    let name = topology.journal();
    let Some(newest) = newest(connection, &name).await? else { return Ok(Vec::new()) };
    let mut stream = answered(Stream::open(connection, &name, "first")).await?;
    let mut kept = VecDeque::new();
    loop {
        let mut entry = answered(stream.next()).await?;
        if kept.len() >= records_max {
            kept.pop_front();
        }
        kept.push_back(std::mem::take(&mut entry.data));
        if entry.offset >= newest {
            return Ok(kept.into());
        }
        entry.done().await?;
    }
}

/// The place of the newest record. The broker begins with its last chunk, and goes on with what is written.
async fn newest(connection: &Connection, name: &str) -> Result<Option<i64>, Error> {
    let mut end = answered(Stream::open(connection, name, "last")).await?;
    let Ok(first) = timeout(ANSWER_MAX, end.next()).await else { return Ok(None) };
    let mut newest = first?;
    // While others write without a pause, so much of the last chunk as has come by then.
    let until = Instant::now() + LAST_MAX;
    while let Ok(next) = timeout_at(until.min(Instant::now() + QUIET), end.next()).await {
        std::mem::replace(&mut newest, next?).done().await?;
    }
    Ok(Some(newest.offset))
}
