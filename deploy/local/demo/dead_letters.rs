//! The dead-letter queue, looked at without taking anything out of it.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, Consumer};

use crate::Result;

/// Examples are shown in one line of a terminal.
const EXAMPLE_CHARS_MAX: usize = 88;

/// The dead letters of one reason.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// How many.
    pub(crate) count: u64,
    /// The body of the first.
    pub(crate) example: String,
}

/// A consumer that never acknowledges, so every dead letter goes back to its place when it leaves.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    consumer: Consumer,
    connection: Connection,
    groups: BTreeMap<String, Group>,
}

impl DeadLetters {
    /// Watches a queue that exists.
    pub(crate) async fn watch(url: &str, queue: &str) -> Result<Self> {
        let watched = async {
            let connection = Connection::connect(url, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            let consumer = channel
                .basic_consume(
                    queue.into(),
                    "orderwright-demo".into(),
                    BasicConsumeOptions::default(),
                    FieldTable::default(),
                )
                .await?;
            Ok::<_, lapin::Error>((connection, consumer))
        };
        let (connection, consumer) =
            watched.await.map_err(|error| format!("cannot watch the queue {queue}: {error}"))?;
        Ok(Self { consumer, connection, groups: BTreeMap::new() })
    }

    /// Waits for the next dead letter and notes it. Nothing is lost if this future is dropped.
    pub(crate) async fn next(&mut self) -> Result<()> {
        let letter = self.consumer.next().await.ok_or("the broker has closed the connection")?;
        let letter = letter.map_err(|error| format!("the dead-letter queue: {error}"))?;
        let group = self.groups.entry(reason(&letter)).or_default();
        group.count += 1;
        if group.count == 1 {
            group.example = one_line(&letter.data);
        }
        Ok(())
    }

    /// Leaves, and gives what was seen, by reason code.
    pub(crate) async fn leave(self) -> BTreeMap<String, Group> {
        // Whatever becomes of the close, the broker puts back what was not acknowledged.
        drop(self.connection.close(200, "seen".into()).await);
        self.groups
    }

    /// How many were seen.
    pub(crate) fn total(&self) -> u64 {
        self.groups.values().map(|group| group.count).sum()
    }
}

fn reason(letter: &Delivery) -> String {
    let headers = letter.properties.headers().as_ref();
    let reason = headers.and_then(|headers| headers.inner().get("orderwright-reason"));
    let reason = reason.and_then(|value| value.as_long_string());
    reason.map_or_else(|| "(no reason)".to_owned(), ToString::to_string)
}

fn one_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut line: String = text.chars().take(EXAMPLE_CHARS_MAX).collect();
    if line.len() < text.len() {
        line.push('…');
    }
    line.replace(char::is_control, " ")
}
