//! The stream that keeps what operators did: written with a confirm, read from its beginning.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, Consumer};
use tokio::time::timeout;

use super::{Error, Outgoing, Publisher, Topology};

/// Records that the broker sends ahead.
const AHEAD_MAX: u16 = 500;

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
/// [`Error::Ended`]. Not bounded in time where the connection is lost.
pub async fn read(
    connection: &Connection,
    topology: &Topology,
    records_max: usize,
) -> Result<Vec<Vec<u8>>, Error> {
    let mut end = Reader::open(connection, topology, "last").await?;
    let Ok(newest) = timeout(ANSWER_MAX, end.next()).await else { return Ok(Vec::new()) };
    let (newest, _) = newest?;
    drop(end);
    let mut reader = Reader::open(connection, topology, "first").await?;
    let mut kept = VecDeque::new();
    let mut keep = |body| {
        if kept.len() >= records_max {
            kept.pop_front();
        }
        kept.push_back(body);
    };
    loop {
        let (offset, body) = reader.next().await?;
        keep(body);
        if offset >= newest {
            break;
        }
    }
    while let Ok(more) = timeout(QUIET, reader.next()).await {
        keep(more?.1);
    }
    Ok(kept.into())
}

struct Reader {
    channel: Channel,
    consumer: Consumer,
}

impl Drop for Reader {
    /// Before the consumer is dropped, or the library would cancel it.
    fn drop(&mut self) {
        let _queued_or_closed = self.channel.close(200, "done".into()).now_or_never();
    }
}

impl Reader {
    async fn open(
        connection: &Connection,
        topology: &Topology,
        offset: &str,
    ) -> Result<Self, Error> {
        let channel = connection.create_channel().await?;
        channel.basic_qos(AHEAD_MAX, BasicQosOptions::default()).await?;
        let mut from = FieldTable::default();
        from.insert("x-stream-offset".into(), AMQPValue::LongString(offset.into()));
        let (queue, options) = (topology.journal(), BasicConsumeOptions::default());
        let consuming = channel.basic_consume(queue.as_str().into(), "".into(), options, from);
        let consumer = consuming.await?;
        Ok(Self { channel, consumer })
    }

    /// The next record with its offset.
    async fn next(&mut self) -> Result<(i64, Vec<u8>), Error> {
        let Some(delivery) = self.consumer.next().await else {
            let state = lapin::ChannelState::Closed;
            let kind = lapin::ErrorKind::InvalidChannelState(state, "the journal ended");
            return Err(Error::Ended(kind.into()));
        };
        let delivery = delivery?;
        let headers = delivery.properties.headers().as_ref();
        let offset = match headers.and_then(|headers| headers.inner().get("x-stream-offset")) {
            Some(AMQPValue::LongLongInt(offset)) => *offset,
            Some(_) | None => 0,
        };
        // Not an ack of anything: it asks the broker for more.
        delivery.acker.ack(BasicAckOptions::default()).await?;
        Ok((offset, delivery.data))
    }
}
