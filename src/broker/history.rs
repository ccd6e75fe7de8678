//! The stream that tells of the generations: read from the first record on by everybody.

use std::future::pending;
use std::time::Duration;

use lapin::{BasicProperties, Connection};
use tokio::time::timeout;

use super::generation::Record;
use super::stream::Stream;
use super::{Error, Generation, Generations, Outgoing, Publisher, Topology};

/// What is left of the last chunk comes within this.
const QUIET: Duration = Duration::from_secs(1);

/// A stream that does not show its last chunk within this is empty.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How long a record may take to be written and read back before it is taken for stuck.
const WRITTEN_MAX: Duration = Duration::from_secs(15);

/// A reader of the stream, and what it has read.
#[derive(Debug)]
pub(super) struct History {
    stream: Stream,
    generations: Option<Generations>,
}

impl History {
    /// Begins to read.
    ///
    /// # Errors
    /// [`Error::Ended`] if there is no such stream.
    pub(super) async fn open(connection: &Connection, topology: &Topology) -> Result<Self, Error> {
        Self::from(connection, topology, "first").await
    }

    async fn from(
        connection: &Connection,
        topology: &Topology,
        offset: &str,
    ) -> Result<Self, Error> {
        let stream = Stream::open(connection, &topology.generations(), offset).await?;
        Ok(Self { stream, generations: None })
    }

    /// What is so as far as was read; nothing if nobody has begun yet.
    pub(super) fn generations(&self) -> Option<&Generations> {
        self.generations.as_ref()
    }

    /// Waits for the next record. True if it changed anything.
    ///
    /// # Errors
    /// [`Error::Ended`] when the stream can be read no more.
    pub(super) async fn next(&mut self) -> Result<bool, Error> {
        self.numbered().await.map(|(_, _, changed)| changed)
    }

    fn take(&mut self, record: Option<&Record>) -> bool {
        match (&mut self.generations, record) {
            (_, None) => false,
            (Some(generations), Some(record)) => generations.apply(record),
            (None, Some(record)) => {
                self.generations = Generations::begin(record);
                self.generations.is_some()
            }
        }
    }

    /// A record with its offset, and whether it changed anything. It is taken before anything else is
    /// waited for: a reader that is given up in between has missed none.
    async fn numbered(&mut self) -> Result<(i64, Option<Record>, bool), Error> {
        let entry = self.stream.next().await?;
        let record = match serde_json::from_slice(&entry.data) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::warn!(%error, "a record of the generations that makes no sense; passed over");
                None
            }
        };
        let (offset, changed) = (entry.offset, self.take(record.as_ref()));
        entry.done().await?;
        Ok((offset, record, changed))
    }

    /// Reads everything that was written before this call. Where nobody has begun yet, `first` is begun.
    ///
    /// # Errors
    /// As [`append`], and [`Error::Ended`].
    pub(super) async fn catch_up(
        &mut self,
        publisher: &Publisher,
        topology: &Topology,
        first: Generation,
    ) -> Result<Generations, Error> {
        loop {
            let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid();
            let own = Record::Read { id };
            append(publisher, topology, &own).await?;
            loop {
                let (_, record, _) = self.numbered().await?;
                if record.as_ref() == Some(&own) {
                    break;
                }
            }
            if let Some(generations) = &self.generations {
                return Ok(generations.clone());
            }
            // Another pod may do the same at the same time: the first of the two counts.
            append(publisher, topology, &Record::Begun(first)).await?;
        }
    }

    /// As [`Self::catch_up`]. Under an alarm the broker takes no record from anybody: then what is there
    /// must do, or no pod could start before the alarm is over.
    ///
    /// # Errors
    /// As [`Self::catch_up`], if the stream is empty.
    pub(super) async fn read(
        mut self,
        connection: &Connection,
        publisher: &Publisher,
        topology: &Topology,
        first: Generation,
    ) -> Result<(Self, Generations), Error> {
        if let Ok(read) = timeout(WRITTEN_MAX, self.catch_up(publisher, topology, first)).await {
            return read.map(|now| (self, now));
        }
        // Not this one again: what it has read was cut short at some place.
        let (history, now) = Self::look(connection, topology).await?;
        now.map(|now| (history, now)).ok_or(Error::Alarm)
    }

    /// Reads everything that is there, and writes nothing: up to the last chunk of records, and on until
    /// nothing comes for a moment.
    ///
    /// # Errors
    /// [`Error::Ended`].
    pub(super) async fn look(
        connection: &Connection,
        topology: &Topology,
    ) -> Result<(Self, Option<Generations>), Error> {
        let mut last = Self::from(connection, topology, "last").await?;
        let mut history = Self::open(connection, topology).await?;
        let Ok(newest) = timeout(ANSWER_MAX, last.numbered()).await else {
            return Ok((history, None));
        };
        let (newest, _, _) = newest?;
        let mut read = None;
        while read < Some(newest) {
            let (offset, _, _) = history.numbered().await?;
            read = Some(offset);
        }
        while let Ok(more) = timeout(QUIET, history.next()).await {
            more?;
        }
        let now = history.generations.clone();
        Ok((history, now))
    }
}

/// Writes a record, and waits until the broker has it.
///
/// # Errors
/// As [`Publisher::publish`]. The record may be there all the same, which does no harm.
pub(super) async fn append(
    publisher: &Publisher,
    topology: &Topology,
    record: &Record,
) -> Result<(), Error> {
    let Some(lane) = publisher.lane().await else { return Err(Error::Withdrawn) };
    let message = Outgoing {
        exchange: topology.forward(),
        routing_key: topology.generations().as_str().into(),
        properties: BasicProperties::default().with_content_type("application/json".into()),
        body: serde_json::to_vec(record).unwrap_or_default(),
    };
    publisher.publish(lane, &message, || true, pending()).await
}
