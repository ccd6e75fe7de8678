//! A stream, read record by record.

use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Acker, Channel, Connection, Consumer};

use super::Error;

/// Records that the broker sends ahead.
const AHEAD_MAX: u16 = 1000;

/// After so many records it is asked for as many more: once for each would cost more than the reading.
const MORE_AFTER: u16 = 100;

/// A reader.
pub(super) struct Stream {
    channel: Channel,
    consumer: Consumer,
    /// Records since the broker was last asked for more.
    taken: u16,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Drop for Stream {
    /// Before the consumer is dropped, or the library would cancel it. A cancel does no harm to a stream,
    /// but the rule is simpler without exceptions.
    fn drop(&mut self) {
        let _queued_or_closed = self.channel.close(200, "done".into()).now_or_never();
    }
}

/// A record as it was written.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its place in the stream, from 0.
    pub(super) offset: i64,
    pub(super) data: Vec<u8>,
    /// Where it is time to ask for more.
    acker: Option<Acker>,
}

impl Entry {
    /// Asks the broker for more, now and then. No ack of anything: a stream keeps all.
    pub(super) async fn done(self) -> Result<(), Error> {
        if let Some(acker) = self.acker {
            acker.ack(BasicAckOptions { multiple: true }).await?;
        }
        Ok(())
    }
}

impl Stream {
    /// Begins to read at `offset`, which is `first` or `last`.
    ///
    /// # Errors
    /// [`Error::Ended`] if there is no such stream.
    pub(super) async fn open(
        connection: &Connection,
        name: &str,
        offset: &str,
    ) -> Result<Self, Error> {
        let channel = connection.create_channel().await?;
        channel.basic_qos(AHEAD_MAX, BasicQosOptions::default()).await?;
        let mut from = FieldTable::default();
        from.insert("x-stream-offset".into(), AMQPValue::LongString(offset.into()));
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(name.into(), "".into(), options, from).await?;
        Ok(Self { channel, consumer, taken: 0 })
    }

    /// Waits for the next record. May be given up while it waits. Whoever has it must take it before he
    /// waits for anything else, or he may be given up in between and miss it.
    ///
    /// # Errors
    /// [`Error::Ended`] when the stream can be read no more.
    pub(super) async fn next(&mut self) -> Result<Entry, Error> {
        let Some(delivery) = self.consumer.next().await else {
            let why = "the stream can be read no more";
            let closed = lapin::ChannelState::Closed;
            return Err(Error::Ended(lapin::ErrorKind::InvalidChannelState(closed, why).into()));
        };
        let lapin::message::Delivery { properties, data, acker, .. } = delivery?;
        let headers = properties.headers().as_ref();
        let offset = match headers.and_then(|headers| headers.inner().get("x-stream-offset")) {
            Some(AMQPValue::LongLongInt(offset)) => *offset,
            Some(_) | None => 0,
        };
        self.taken += 1;
        let is_time = self.taken >= MORE_AFTER;
        if is_time {
            self.taken = 0;
        }
        Ok(Entry { offset, data, acker: is_time.then_some(acker) })
    }
}
