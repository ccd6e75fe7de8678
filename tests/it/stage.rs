//! What a test plays on: the shared broker with names of its own, a simulator, and the settings of a
//! daemon that joins the two.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, Queue};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::broker::{self, Broker};
use crate::daemon::{Daemon, PATIENCE, orderwright};
use crate::ledger::{Ledger, Reader};
use crate::program::Program;

pub(crate) const SHARDS: u16 = 4;

/// Where a test's broker comes from.
pub(crate) enum On {
    /// All tests' broker.
    Shared,
    /// One of its own, which it may restart.
    Own(Broker),
}

pub(crate) struct Stage {
    pub(crate) broker: On,
    pub(crate) simulator: Reader,
    simulator_url: String,
    prefix: String,
    _simulator: Program,
    _folder: TempDir,
}

/// Two tests with one name must not meet on the broker that they share.
fn count() -> u32 {
    static STAGES: AtomicU32 = AtomicU32::new(0);
    STAGES.fetch_add(1, Ordering::Relaxed)
}

impl Stage {
    /// `name` keeps tests that share a broker apart; `arguments` are the simulator's.
    pub(crate) async fn new(name: &str, arguments: &[&str]) -> Self {
        broker::shared().await;
        Self::on(On::Shared, name, arguments).await
    }

    pub(crate) async fn on(broker: On, name: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = ["--listen", "127.0.0.1:0", "--exit-with-stdin", "--seed", "11"];
        let all = [&base, arguments].concat();
        let log = folder.path().join("simulator.log");
        let mut simulator = Program::start("orderwright-sim", &all, &[], &log).unwrap();
        let line = simulator.line_with("listening").await.unwrap();
        let url = line["listening"].as_str().unwrap().to_owned();
        Self {
            broker,
            simulator: Reader::new(line["admin"].as_str().unwrap_or(&url)).unwrap(),
            simulator_url: url,
            prefix: format!("it-{name}-{}-{}", std::process::id(), count()),
            _simulator: simulator,
            _folder: folder,
        }
    }

    pub(crate) async fn url(&self) -> String {
        match &self.broker {
            On::Shared => broker::shared().await.url().to_owned(),
            On::Own(broker) => broker.url().to_owned(),
        }
    }

    /// Short waits and few shards; `more` wins.
    pub(crate) async fn settings(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let (broker, target) = (self.url().await, format!("{}/data", self.simulator_url));
        let shards = SHARDS.to_string();
        let base = [
            ("BROKER__URL", broker.as_str()),
            ("BROKER__RECONNECT_WAIT_MIN", "100ms"),
            ("BROKER__RECONNECT_WAIT_MAX", "1s"),
            ("TARGET__URL", &target),
            ("TARGET__GET_TIMEOUT", "5s"),
            ("TARGET__PATCH_TIMEOUT", "5s"),
            ("TOPOLOGY__PREFIX", &self.prefix),
            ("TOPOLOGY__SHARDS", &shards),
            ("BALANCE__INTERVAL", "200ms"),
            ("DISPATCH__SETTLE_WINDOW", "1s"),
            ("RETRY__CONFLICTS__WAIT_MIN", "10ms"),
            ("RETRY__CONFLICTS__WAIT_MAX", "40ms"),
            ("RETRY__FAILURES__WAIT_MIN", "10ms"),
            ("RETRY__FAILURES__WAIT_MAX", "40ms"),
        ];
        let all = base.iter().chain(more);
        let mut settings: Vec<(String, String)> = Vec::new();
        for (name, value) in all {
            let name = format!("ORDERWRIGHT__{name}");
            settings.retain(|(known, _)| *known != name);
            settings.push((name, (*value).to_owned()));
        }
        settings
    }

    /// A daemon that consumes.
    pub(crate) async fn daemon(&self, more: &[(&str, &str)]) -> Daemon {
        Daemon::start(&self.settings(more).await).await
    }

    /// Publishes bodies in order, as a publisher would, and asserts that each was confirmed.
    pub(crate) async fn publish(&self, bodies: &[String]) {
        let arguments = ["publish", "--file", "-", "--unchecked", "--output", "json"];
        let mut command = orderwright(&self.settings(&[]).await);
        let mut child =
            command.args(arguments).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all((bodies.join("\n") + "\n").as_bytes()).await.unwrap();
        drop(stdin);
        let output = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["confirmed"], json!(bodies.len()), "{summary}");
    }

    /// A channel with confirms, for what no well-behaved publisher does.
    pub(crate) async fn channel(&self) -> Raw {
        let properties = ConnectionProperties::default();
        let connection = Connection::connect(&self.url().await, properties).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Raw { _connection: connection, channel, prefix: self.prefix.clone() }
    }

    /// Takes dead letters out of their queue, one by one.
    pub(crate) async fn letters(&self) -> Letters {
        let raw = self.channel().await;
        let queue = format!("{}.dead-letters", self.prefix);
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = raw.channel.basic_consume(queue.as_str().into(), "".into(), options, none);
        Letters { consumer: consumer.await.unwrap(), _raw: raw }
    }

    /// Waits until so many distinct updates are written.
    pub(crate) async fn applied(&self, distinct: u64) -> Ledger {
        let reached = async {
            loop {
                let ledger = self.simulator.read(distinct).await.unwrap();
                if ledger.applied_distinct >= distinct {
                    return ledger;
                }
            }
        };
        match timeout(PATIENCE, reached).await {
            Ok(ledger) => ledger,
            Err(_elapsed) => {
                panic!("{distinct} wanted: {:?}", self.simulator.read(0).await.unwrap())
            }
        }
    }

    /// Publishes update `sequence` of every order behind all others, waits until `distinct` updates are
    /// written, and asserts that every order has ended with it. What came again by then was worked
    /// on before, because it stood before.
    pub(crate) async fn last_word(&self, orders: u64, sequence: u64, distinct: u64) -> Ledger {
        let bodies: Vec<_> = (1..=orders).map(|order| update(order, sequence)).collect();
        self.publish(&bodies).await;
        let ledger = self.applied(distinct).await;
        for order in 1..=orders {
            let found = self.simulator.order("USMF", &format!("SO-{order:06}")).await.unwrap();
            assert_eq!(found["properties"]["UpdateSequence"], sequence, "{found}");
        }
        ledger
    }

    /// Messages that wait in the shard queues. Exact only when nobody consumes.
    pub(crate) async fn waiting(&self) -> u32 {
        self.waiting_in(SHARDS).await
    }

    /// That so many messages wait once all is with the broker again: what a channel held is put back a
    /// moment after the channel has ended.
    pub(crate) async fn still_waiting(&self, messages: u64) {
        let mut last = 0;
        let back = async {
            loop {
                last = u64::from(self.waiting().await);
                if last == messages {
                    return;
                }
            }
        };
        let back = timeout(PATIENCE, back).await;
        assert!(back.is_ok(), "{last} messages wait in place of {messages}");
    }

    /// The same with another number of shards.
    pub(crate) async fn waiting_in(&self, shards: u16) -> u32 {
        let raw = self.channel().await;
        let mut waiting = 0;
        for shard in 0..shards {
            waiting += raw.depth(&format!("shard.g1.{shard:03}")).await;
        }
        waiting
    }

    pub(crate) fn simulator_url(&self) -> &str {
        &self.simulator_url
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// A channel for the test itself.
pub(crate) struct Raw {
    _connection: Connection,
    pub(crate) channel: Channel,
    prefix: String,
}

impl Raw {
    /// Publishes to the entry exchange and waits for the confirm.
    pub(crate) async fn publish(&self, properties: BasicProperties, body: &[u8]) {
        let exchange = format!("{}.updates", self.prefix);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let key = "USMF/any".into();
        let published =
            self.channel.basic_publish(exchange.as_str().into(), key, options, body, properties);
        let confirm = published.await.unwrap().await.unwrap();
        assert!(confirm.is_ack() && confirm.take_message().is_none());
    }

    pub(crate) async fn depth(&self, queue: &str) -> u32 {
        self.look(queue).await.message_count()
    }

    pub(crate) async fn is_consumed(&self, queue: &str) -> bool {
        self.look(queue).await.consumer_count() > 0
    }

    async fn look(&self, queue: &str) -> Queue {
        let queue = format!("{}.{queue}", self.prefix);
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let none = FieldTable::default();
        let declared = self.channel.queue_declare(queue.as_str().into(), options, none).await;
        declared.unwrap()
    }

    pub(crate) async fn delete_queue(&self, queue: &str) {
        let queue = format!("{}.{queue}", self.prefix);
        let options = QueueDeleteOptions::default();
        self.channel.queue_delete(queue.as_str().into(), options).await.unwrap();
    }
}

/// The dead-letter queue.
pub(crate) struct Letters {
    consumer: Consumer,
    _raw: Raw,
}

/// A dead letter.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) body: Vec<u8>,
    pub(crate) properties: BasicProperties,
}

impl Letters {
    /// The next one.
    pub(crate) async fn next(&mut self) -> Letter {
        let next = timeout(PATIENCE, self.consumer.next()).await.expect("a dead letter");
        let delivery = next.unwrap().unwrap();
        delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
        Letter { body: delivery.data, properties: delivery.properties }
    }

    /// So many of them.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<Letter> {
        let mut letters = Vec::new();
        while letters.len() < count {
            letters.push(self.next().await);
        }
        letters
    }
}

impl Letter {
    pub(crate) fn header(&self, name: &str) -> String {
        let headers = self.properties.headers().as_ref().unwrap();
        let value = headers.inner().get(format!("orderwright-{name}").as_str());
        let Some(AMQPValue::LongString(text)) = value else { panic!("{name}: {value:?}") };
        text.to_string()
    }

    pub(crate) fn reason(&self) -> String {
        self.header("reason")
    }

    pub(crate) fn attempts(&self) -> Vec<Value> {
        serde_json::from_str(&self.header("attempts")).unwrap()
    }
}

/// Update `sequence` of order `order`.
pub(crate) fn update(order: u64, sequence: u64) -> String {
    let day = 1 + (order + sequence * 7) % 28;
    message(
        &format!("SO-{order:06}"),
        &json!({"DeliveryDate": format!("2025-02-{day:02}"), "UpdateSequence": sequence}),
    )
}

pub(crate) fn message(number: &str, changes: &Value) -> String {
    json!({"key": {"dataAreaId": "USMF", "SalesOrderNumber": number}, "changes": changes})
        .to_string()
}

/// Updates 1..=`each` of orders 1..=`orders`, the orders interleaved.
pub(crate) fn updates(orders: u64, each: u64) -> Vec<String> {
    let of = |sequence| (1..=orders).map(move |order| update(order, sequence));
    (1..=each).flat_map(of).collect()
}

/// How long the daemon's longest wait is in these tests, with its jitter.
pub(crate) const WAITS_MIN: Duration = Duration::from_millis(8);
