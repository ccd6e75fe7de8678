//! Replayed messages at the daemon, and what publishers are told who ask what became of an update.

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Consumer};
use orderwright::dead_letter::Found;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::daemon::PATIENCE;
use crate::stage::{Raw, Stage, message, update};

const NUMBER: &str = "SO-000001";

/// A queue for answers, and what came to it.
struct Answers {
    queue: ShortString,
    consumer: Consumer,
}

impl Answers {
    async fn open(raw: &Raw) -> Self {
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let none = FieldTable::default();
        let declared = raw.channel.queue_declare("".into(), options, none.clone()).await.unwrap();
        let queue = declared.name().clone();
        let options = BasicConsumeOptions::default();
        let consuming = raw.channel.basic_consume(queue.clone(), "".into(), options, none);
        Self { consumer: consuming.await.unwrap(), queue }
    }

    /// Correlation id and body of the next one.
    async fn next(&mut self) -> (String, Value) {
        let next = timeout(PATIENCE, self.consumer.next()).await.expect("a notice");
        let delivery = next.unwrap().unwrap();
        delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
        let id = delivery.properties.correlation_id().clone().unwrap().to_string();
        (id, serde_json::from_slice(&delivery.data).unwrap())
    }
}

fn dated(day: u64) -> String {
    message(NUMBER, &json!({"DeliveryDate": format!("2025-02-{day:02}")}))
}

/// Publishes, and returns the notice that comes of it.
async fn ask(
    raw: &Raw,
    answers: &mut Answers,
    headers: &[(&str, &str)],
    id: &str,
    body: &str,
) -> Value {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        let name = format!("orderwright-{name}");
        table.insert(name.as_str().into(), AMQPValue::LongString((*value).into()));
    }
    let properties = BasicProperties::default()
        .with_message_id(id.into())
        .with_correlation_id(format!("asked {id}").as_str().into())
        .with_reply_to(answers.queue.clone())
        .with_headers(table);
    raw.publish(properties, body.as_bytes()).await;
    let (correlation, told) = answers.next().await;
    assert_eq!(correlation, format!("asked {id}"), "{told}");
    assert_eq!(told["message_id"], id, "{told}");
    told
}

async fn date(stage: &Stage) -> Value {
    stage.simulator.order("USMF", NUMBER).await.unwrap()["properties"]["DeliveryDate"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_of_an_order_that_has_moved_on_writes_nothing_and_is_dead_lettered_again() {
    let stage = Stage::new("replayed", &["--orders", "5"]).await;
    let daemon = stage.daemon(&[]).await;
    let mut letters = stage.letters().await;
    let raw = stage.channel().await;
    let mut answers = Answers::open(&raw).await;

    let key = json!({"dataAreaId": "USMF", "SalesOrderNumber": NUMBER});
    let doomed = json!({"key": key, "changes": {"DeliveryDate": "2025-02-01"},
        "expect": {"SalesStatus": ["Nowhere"]}});
    let told = ask(&raw, &mut answers, &[], "doomed", &doomed.to_string()).await;
    assert_eq!(
        (&told["outcome"], &told["reason"]),
        (&json!("dead_lettered"), &json!("expectation_failed"))
    );
    let letter = letters.next().await;
    let saw = letter.attempts()[0]["etag_seen"].as_str().unwrap().to_owned();
    assert_eq!(told["etag"], saw);
    let seen: Value = serde_json::from_str(&letter.header("seen")).unwrap();
    assert_eq!(seen, json!({"DeliveryDate": date(&stage).await}));

    let told = ask(&raw, &mut answers, &[], "newer", &dated(2)).await;
    assert_eq!((&told["outcome"], &told["order"]), (&json!("applied"), &json!("USMF/SO-000001")));

    let replay = |etag| [("replay-id", "r-1"), ("replay-of", "l-1"), ("replay-etag", etag)];
    let told = ask(&raw, &mut answers, &replay(&saw), "old", &dated(1)).await;
    assert_eq!(
        (&told["outcome"], &told["reason"]),
        (&json!("dead_lettered"), &json!("superseded"))
    );
    assert_eq!(told["replay_id"], "r-1");
    let letter = letters.next().await;
    assert_eq!((letter.reason(), letter.header("replay-of")), ("superseded".into(), "l-1".into()));
    assert_eq!(date(&stage).await, "2025-02-02T12:00:00Z", "what is newer stays");
    let now = letter.attempts()[0]["etag_seen"].as_str().unwrap().to_owned();
    let (properties, body) = (&letter.properties, &letter.body[..]);
    let again = Found { properties, exchange: "e", routing_key: "k", body };
    let base = orderwright::dead_letter::Letter::read(again).base;
    assert_eq!((base.as_deref(), now != saw), (Some(&*saw), true), "not what it has lost against");
    let told = ask(&raw, &mut answers, &replay(&saw), "older", &dated(1)).await;
    assert_eq!(told["reason"], "superseded", "however often");

    let told = ask(&raw, &mut answers, &replay(&now), "fresh", &dated(1)).await;
    assert_eq!(told["outcome"], "applied", "of a letter that saw what is newer");
    let told = ask(&raw, &mut answers, &replay(&now), "again", &dated(1)).await;
    assert_eq!(told["outcome"], "already_applied", "though the ETag is another one");

    let told = ask(&raw, &mut answers, &[], "newest", &dated(3)).await;
    assert_eq!(told["outcome"], "applied");
    let forced = [("replay-id", "r-2"), ("replay-of", "l-1"), ("replay-forced", "1")];
    let told = ask(&raw, &mut answers, &forced, "forced", &dated(1)).await;
    assert_eq!(told["outcome"], "applied");
    assert_eq!(date(&stage).await, "2025-02-01T12:00:00Z", "an operator said so");

    let ended = daemon.stop().await;
    assert_eq!(stage.simulator.read(0).await.unwrap().patches, 4);
    assert_eq!((ended.count("notices_sent"), ended.count("notices_lost")), (8, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn notice_that_nobody_takes_or_that_would_go_to_our_own_queues_holds_up_nothing() {
    let stage = Stage::new("notices", &["--orders", "9"]).await;
    let daemon = stage.daemon(&[]).await;
    let raw = stage.channel().await;

    let own = format!("{}.shard.g1.000", stage.prefix());
    let to = ["no.such.queue", own.as_str()];
    for order in 1..=9 {
        let body = update(order, 1);
        let to = to[usize::from(order % 3 == 0)];
        let properties = BasicProperties::default().with_reply_to(to.into());
        raw.publish(properties, body.as_bytes()).await;
    }
    stage.applied(9).await;
    let ended = daemon.stop().await;
    assert_eq!(stage.waiting().await, 0, "all are settled, and none was told to a shard queue");
    assert_eq!((ended.count("notices_sent"), ended.count("notices_lost")), (6, 3));
}
