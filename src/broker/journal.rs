//! The stream that keeps what operators did: written with a confirm, read from its beginning.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use lapin::{BasicProperties, Connection};
use tokio::time::timeout;

use super::stream::{Entry, Stream};
use super::{Error, Outgoing, Publisher, Topology, answered};

/// A stream that does not show its last chunk within this is empty.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// What is left of the last chunk comes within this.
const QUIET: Duration = Duration::from_millis(500);

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

/// Reads the last `records_max` records, oldest first. Every record of the stream is sent over the wire;
/// no more than these are kept.
///
/// # Errors
/// [`Error::Ended`] if there is no such stream; [`Error::Unanswered`].
pub async fn read(
    connection: &Connection,
    topology: &Topology,
    records_max: usize,
) -> Result<Vec<Vec<u8>>, Error> {
    let name = topology.journal();
    let mut end = answered(Stream::open(connection, &name, "last")).await?;
    let Ok(newest) = timeout(ANSWER_MAX, end.next()).await else { return Ok(Vec::new()) };
    let newest = newest?.offset;
    drop(end);
    let mut stream = answered(Stream::open(connection, &name, "first")).await?;
    let mut kept = VecDeque::new();
    let mut keep = async |mut entry: Entry| {
        if kept.len() >= records_max {
            kept.pop_front();
        }
        kept.push_back(std::mem::take(&mut entry.data));
        entry.done().await
    };
    loop {
        let entry = answered(stream.next()).await?;
        let is_last = entry.offset >= newest;
        keep(entry).await?;
        if is_last {
            break;
        }
    }
    while let Ok(more) = timeout(QUIET, stream.next()).await {
        keep(more?).await?;
    }
    Ok(kept.into())
}
