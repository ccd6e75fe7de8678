//! What the hands do: publish, look into queues, run the tool, and kill it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use orderwright::broker::{Ahead, Browser, Error, Topology};
use orderwright::config;
use orderwright::dead_letter::{Found, Letter};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::Result;

/// Nothing takes this long, unless it hangs.
pub(super) const LONGEST: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(50);

/// Which update: its order and its number.
pub(super) type Update = (u64, u64);

/// A write of an update: as it was published, or as its letter was edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Written {
    pub(super) update: Update,
    pub(super) is_edited: bool,
}

/// A letter in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lying {
    pub(super) update: Update,
    /// It died before it saw its order.
    pub(super) is_unseen: bool,
}

/// A connection of our own.
pub(super) struct Hands {
    connection: Connection,
    channel: Channel,
    topology: Topology,
    prefix: String,
}

/// How a tool ended.
pub(super) struct Ended {
    /// Nothing if it was killed.
    pub(super) code: Option<i32>,
    pub(super) said: String,
}

impl Hands {
    pub(super) async fn new(amqp: &str, prefix: &str) -> Result<Self> {
        let text = |error: lapin::Error| error.to_string();
        let connecting = Connection::connect(amqp, ConnectionProperties::default());
        let connection = connecting.await.map_err(text)?;
        let channel = connection.create_channel().await.map_err(text)?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(text)?;
        let prefix = prefix.to_owned();
        let of = config::Topology { prefix: prefix.clone(), ..config::Topology::default() };
        Ok(Self { connection, channel, topology: Topology::new(&of), prefix })
    }

    /// Publishes an update, and waits for its confirm.
    pub(super) async fn publish(&self, (order, number): Update, more: &Value) -> Result<()> {
        let mut changes = more.clone();
        if let Some(changes) = changes.as_object_mut() {
            changes.insert("UpdateSequence".to_owned(), number.into());
        }
        let key = json!({"dataAreaId": "USMF", "SalesOrderNumber": format!("SO-{order:06}")});
        let body = json!({"key": key, "changes": changes}).to_string();
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = BasicProperties::default().with_delivery_mode(2);
        let (exchange, key) = (self.topology.updates(), name(order));
        let (exchange, key) = (exchange.as_str().into(), key.as_str().into());
        let sent = self.channel.basic_publish(exchange, key, options, body.as_bytes(), properties);
        let confirm = async { sent.await?.await }.await.map_err(|error| error.to_string())?;
        let is_taken = confirm.is_ack() && confirm.take_message().is_none();
        if is_taken { Ok(()) } else { Err("an update was not taken".to_owned()) }
    }

    /// Messages that are ready.
    async fn ready(&self, queue: &str) -> Result<u32> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let asked = self.channel.queue_declare(queue.into(), options, FieldTable::default());
        Ok(asked.await.map_err(|error| error.to_string())?.message_count())
    }

    /// Messages that are ready in the shard queues.
    pub(super) async fn waiting(&self, shards: u32) -> Result<u32> {
        let mut waiting = 0;
        for shard in 0..shards {
            waiting += self.ready(&format!("{}.shard.g1.{shard:03}", self.prefix)).await?;
        }
        Ok(waiting)
    }

    /// What is in a queue of dead letters, in its order.
    pub(super) async fn letters(&self, archived: bool) -> Result<Vec<Lying>> {
        let topology = &self.topology;
        let queue = if archived { topology.archive() } else { topology.dead_letters() };
        let looking = async {
            loop {
                match Browser::open(&self.connection, topology, &queue, Ahead::default()).await {
                    Ok(browser) => return Ok(browser),
                    // Of a tool that was killed: its connection is about to end.
                    Err(Error::OperatorAtWork) => sleep(LOOK).await,
                    Err(error) => return Err(error.to_string()),
                }
            }
        };
        let mut browser =
            timeout(LONGEST, looking).await.map_err(|_elapsed| "the lock stays")??;
        let mut letters = Vec::new();
        while let Some(held) = browser.next().await.map_err(|error| error.to_string())? {
            let letter = Letter::read(Found {
                properties: &held.properties,
                exchange: held.exchange.as_str(),
                routing_key: held.routing_key.as_str(),
                body: &held.body,
            });
            let update = read(&held.body).ok_or("a letter is no update")?;
            letters.push(Lying { update, is_unseen: letter.is_unseen() });
        }
        browser.close().await.map_err(|error| error.to_string())?;
        Ok(letters)
    }
}

fn read(body: &[u8]) -> Option<Update> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let order = body.pointer("/key/SalesOrderNumber")?.as_str()?.strip_prefix("SO-")?;
    Some((order.parse().ok()?, body.pointer("/changes/UpdateSequence")?.as_u64()?))
}

/// What an edit makes of the property that the updates died of.
pub(super) const EDITED: &str = "Lorry";

/// The name of an order in keys and filters.
pub(super) fn name(order: u64) -> String {
    format!("USMF/SO-{order:06}")
}

/// Runs the tool to its end, or kills it after `life`.
pub(super) async fn tool(
    program: &Path,
    settings: &[(String, String)],
    words: &[&str],
    life: Option<Duration>,
) -> Result<Ended> {
    let mut command = Command::new(program);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("ORDERWRIGHT") {
            command.env_remove(key);
        }
    }
    command.envs(settings.iter().map(|(key, value)| (key, value))).arg("dlq").args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().map_err(|error| format!("cannot start the tool: {error}"))?;
    // What is dropped is killed with SIGKILL.
    match timeout(life.unwrap_or(LONGEST), child.wait_with_output()).await {
        Ok(output) => {
            let output = output.map_err(|error| error.to_string())?;
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            Ok(Ended { code: output.status.code(), said })
        }
        Err(_elapsed) if life.is_none() => Err(format!("dlq {} does not end", words.join(" "))),
        Err(_elapsed) => Ok(Ended { code: None, said: String::new() }),
    }
}
