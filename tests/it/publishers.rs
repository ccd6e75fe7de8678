//! The examples for publishers, in their own languages and with their own client libraries.

use std::process::Stdio;

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties, ExchangeKind};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::daemon::PATIENCE;
use crate::skip::{UNAVAILABLE, skipped};
use crate::stage::Stage;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/local/publish.sh");
const CONTRACT: &str = include_str!("../../docs/asyncapi.yaml");

/// How an example ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Said {
    /// What stands behind this word.
    fn after(&self, word: &str) -> &str {
        let found = self.stdout.lines().find_map(|line| line.strip_prefix(word));
        found.unwrap_or_else(|| panic!("no {word}: {self:?}")).trim()
    }

    /// The notice, which is as the contract says.
    fn outcome(&self) -> Value {
        let notice: Value = serde_json::from_str(self.after("outcome")).unwrap();
        let contract: Value = serde_saphyr::from_str(CONTRACT).unwrap();
        let schema = &contract["components"]["schemas"]["OutcomeNotice"];
        let errors = jsonschema::validator_for(schema).unwrap();
        let errors: Vec<_> = errors.iter_errors(&notice).map(|it| it.to_string()).collect();
        assert!(errors.is_empty(), "{notice}: {errors:?}");
        notice
    }
}

/// Runs one, with an exchange and the seconds that it waits for the outcome.
async fn publish(
    language: &str,
    broker: &str,
    (exchange, outcome_within): (&str, &str),
    arguments: [&str; 3],
) -> Said {
    let mut command = Command::new("bash");
    command.arg(SCRIPT).arg(language).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    // Java takes its arguments by the locale; a bare machine has none that knows more than ASCII.
    command.env("LC_ALL", "C.UTF-8");
    command.env("AMQP_URL", broker).env("EXCHANGE", exchange).env("OUTCOME_WITHIN", outcome_within);
    let output = timeout(PATIENCE, command.output()).await.expect("the example to end").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The broker's address without its virtual host where that is the default one: clients spell that differently.
fn plain(url: &str) -> &str {
    url.trim_end_matches("/%2f").trim_end_matches("/%2F")
}

/// An exchange of our own with a queue for one key, which takes one message and refuses the second.
async fn narrow(url: &str, name: &str, key: &str) -> (Connection, lapin::Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let declared =
        ExchangeDeclareOptions { auto_delete: true, ..ExchangeDeclareOptions::default() };
    let none = FieldTable::default;
    channel.exchange_declare(name.into(), ExchangeKind::Direct, declared, none()).await.unwrap();
    let mut limit = FieldTable::default();
    limit.insert("x-max-length".into(), AMQPValue::LongInt(1));
    limit.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), exclusive, limit).await.unwrap();
    let bound = channel.queue_bind(
        name.into(),
        name.into(),
        key.into(),
        QueueBindOptions::default(),
        none(),
    );
    bound.await.unwrap();
    (connection, channel)
}

/// `false` where this machine has not what the example needs.
async fn can_be_run(language: &str, broker: &str) -> bool {
    let said = publish(language, broker, ("amq.direct", "0"), ["USMF", "SO-1", "{}"]).await;
    if said.code == Some(UNAVAILABLE) {
        skipped(&format!("the {language} example for publishers"), &said.stderr);
    }
    said.code != Some(UNAVAILABLE)
}

/// That an update arrives by the right key and is told of, and what comes of one that has no queue, and of one that
/// the broker refuses.
async fn example_keeps_the_contract(language: &str) {
    let stage = Stage::new(&format!("publisher-{language}"), &["--orders", "3"]).await;
    let url = stage.url().await;
    if !can_be_run(language, plain(&url)).await {
        return;
    }
    let daemon = stage.daemon(&[]).await;
    let updates = format!("{}.updates", stage.prefix());
    let entry = (updates.as_str(), "60");
    let change = r#"{"DeliveryDate":"2025-02-08"}"#;
    let applied = publish(language, plain(&url), entry, ["USMF", "SO-000001", change]).await;
    assert_eq!(applied.code, Some(0), "{applied:?}");
    let notice = applied.outcome();
    assert_eq!(
        (&notice["outcome"], &notice["order"]),
        (&"applied".into(), &"USMF/SO-000001".into())
    );
    assert_eq!(notice["message_id"], applied.after("confirmed"));
    // Another spelling, which the service does not know. It would be another routing key if the example did not fold it.
    let dead = publish(language, plain(&url), entry, ["usmf", "SO-000001", change]).await;
    let notice = dead.outcome();
    assert_eq!(
        (&notice["outcome"], &notice["order"]),
        (&"dead_lettered".into(), &applied.outcome()["order"])
    );
    assert_eq!(notice["reason"], "not_found");
    let summary = daemon.stop().await.summary.unwrap();
    assert_eq!(summary["misplaced_by_key"], 0, "{summary}");

    // The key as the contract writes it, and nothing else.
    let name = format!("{}.narrow", stage.prefix());
    let (_connection, channel) = narrow(&url, &name, "USMF/SO%2F1 %25Ä").await;
    let own = (name.as_str(), "0");
    let unroutable = publish(language, plain(&url), own, ["USMF", "SO/1 %ä", change]).await;
    assert_eq!(unroutable.code, Some(1), "{unroutable:?}");
    assert!(unroutable.stderr.contains("returned"), "{unroutable:?}");
    let confirmed = publish(language, plain(&url), own, ["usmf", "SO/1 %Ä", change]).await;
    assert_eq!(confirmed.code, Some(0), "{confirmed:?}");
    // Its queue is full now.
    let refused = publish(language, plain(&url), own, ["usmf", "SO/1 %Ä", change]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("refused"), "{refused:?}");

    let consume = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consumer =
        channel.basic_consume(name.as_str().into(), "".into(), consume, FieldTable::default());
    let message =
        timeout(PATIENCE, consumer.await.unwrap().next()).await.unwrap().unwrap().unwrap();
    let properties = &message.properties;
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), confirmed.after("confirmed"));
    assert!(properties.timestamp().is_some() && properties.reply_to().is_none());
    let body: Value = serde_json::from_slice(&message.data).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "key": {"dataAreaId": "usmf", "SalesOrderNumber": "SO/1 %Ä"},
            "changes": {"DeliveryDate": "2025-02-08"},
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn python_example_publishes_by_the_contract_and_hears_of_returns_refusals_and_outcomes() {
    example_keeps_the_contract("python").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_example_publishes_by_the_contract_and_hears_of_returns_refusals_and_outcomes() {
    example_keeps_the_contract("node").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn java_example_publishes_by_the_contract_and_hears_of_returns_refusals_and_outcomes() {
    example_keeps_the_contract("java").await;
}
