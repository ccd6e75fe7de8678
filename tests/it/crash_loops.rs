//! Messages that kill whoever works on them.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::options::{
    BasicNackOptions, BasicPublishOptions, BasicRejectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::broker;
use crate::daemon::orderwright;
use crate::doctor::management;
use crate::returns::Holder;
use crate::stage::{Stage, update, updates};

/// The poisoned order: all others are its neighbours.
const POISON: u64 = 1;
const ORDERS: u64 = 12;

/// What was asked about the poisoned order so far, as the service has seen it.
async fn asked(stage: &Stage) -> u64 {
    let number = format!("SO-{POISON:06}");
    stage.simulator.order("USMF", &number).await.unwrap()["gets"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn message_that_kills_its_daemon_again_and_again_is_a_crash_loop_and_its_neighbours_are_applied()
 {
    let stage = Stage::new("poison", &["--orders", "12", "--get-latency", "150ms"]).await;
    // Half of it is ours.
    let limit = 60;
    let text = limit.to_string();
    let settings = [
        ("TOPOLOGY__DELIVERY_LIMIT", text.as_str()),
        ("TOPOLOGY__SHARDS", "1"),
        ("DISPATCH__SETTLE_WINDOW", "0s"),
    ];
    stage.daemon(&settings).await.stop().await;
    stage.publish(&updates(ORDERS, 1)).await;
    // Whoever asks about it does not live to hear the answer.
    let order = format!("USMF/SO-{POISON:06}");
    let stalled = json!({"on": "get", "order": order, "next": 1_000, "for": "2m"});
    stage.simulator.faults(&json!({"f4_stall_then_apply": stalled})).await.unwrap();
    let mut letters = stage.letters().await;
    let (mut kills, mut known) = (0, 0);
    let letter = loop {
        let daemon = stage.daemon(&settings).await;
        let struck = async {
            while asked(&stage).await == known {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! { biased;
            letter = letters.next() => break letter,
            () = struck => {}
        }
        daemon.signal("KILL").await;
        daemon.ended().await;
        (kills, known) = (kills + 1, asked(&stage).await);
    };
    assert_eq!(letter.reason(), "crash_loop");
    assert_eq!(String::from_utf8_lossy(&letter.body), update(POISON, 1));
    assert_eq!(letter.attempts(), Vec::<Value>::new(), "it was not begun any more");
    assert!(kills >= limit / 2, "{kills} kills");
    // The daemon that lives on is through with all that came before.
    let last: Vec<_> = (1..=ORDERS).filter(|it| *it != POISON).map(|it| update(it, 2)).collect();
    let daemon = stage.daemon(&settings).await;
    stage.publish(&last).await;
    stage.applied(2 * (ORDERS - 1)).await;
    assert!(daemon.stop().await.status.success());
    let raw = stage.channel().await;
    assert_eq!((raw.depth("dead-letters").await, raw.depth("shard.g1.000").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn message_that_no_holder_lives_to_look_at_is_dead_lettered_by_the_broker_with_a_reason_of_its_own()
 {
    let stage = Stage::new("unseen", &["--orders", "12"]).await;
    let settings = [("TOPOLOGY__DELIVERY_LIMIT", "20"), ("TOPOLOGY__SHARDS", "1")];
    stage.daemon(&settings).await.stop().await;
    stage.publish(&updates(ORDERS, 1)).await;
    let (url, queue) = (stage.url().await, format!("{}.shard.g1.000", stage.prefix()));
    let (mut held, mut last) = (0, 0);
    loop {
        let mut holder = Holder::of(&url, &queue, 1).await;
        let delivery = holder.next().await;
        let is_poison = delivery.data == update(POISON, 1).as_bytes();
        if is_poison {
            (held, last) = (held + 1, count(&delivery));
        }
        holder.goes("connection lost").await;
        if !is_poison {
            break;
        }
    }
    assert_eq!((held, last), (21, 20), "delivered, and gone back before the last time");
    // The one that was behind it was held once.
    let daemon = stage.daemon(&settings).await;
    stage.applied(ORDERS - 1).await;
    assert!(daemon.stop().await.status.success());

    let all = stage.settings(&settings).await;
    let listed =
        orderwright(&all).args(["dlq", "ls", "--output", "ndjson"]).output().await.unwrap();
    let listed: Vec<Value> = String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let reasons: Vec<_> = listed.iter().map(|letter| letter["reason"].clone()).collect();
    assert_eq!(reasons, ["broker_delivery_limit"], "{listed:?}");
}

fn count(delivery: &Delivery) -> i64 {
    let headers = delivery.properties.headers().as_ref();
    match headers.and_then(|it| it.inner().get("x-delivery-count")) {
        Some(AMQPValue::LongLongInt(count)) => *count,
        None => 0,
        other => panic!("{other:?}"),
    }
}

/// Ways by which a message goes back, as the manual names them.
const WAYS: [&str; 5] = [
    "`channel.close`",
    "`connection.close`",
    "connection lost",
    "`basic.reject` with requeue",
    "`basic.nack` with requeue",
];

/// What the broker has counted after the message went back twice in this way.
async fn counted(url: &str, queue: &str, way: &str) -> i64 {
    let mut holder = Holder::of(url, queue, 1).await;
    let mut delivery = holder.next().await;
    for _ in 0..2 {
        match way {
            // It comes again to the one who let it go.
            "`basic.reject` with requeue" => {
                delivery.acker.reject(BasicRejectOptions { requeue: true }).await.unwrap();
            }
            "`basic.nack` with requeue" => {
                let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
                delivery.acker.nack(options).await.unwrap();
            }
            other => {
                holder.goes(other).await;
                holder = Holder::of(url, queue, 1).await;
            }
        }
        delivery = holder.next().await;
    }
    count(&delivery)
}

/// What the manual says of this version: whether each way counts.
fn in_the_manual(version: &str) -> BTreeMap<String, bool> {
    let manual = include_str!("../../docs/OPERATIONS.md");
    let cells = |line: &str| {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    let mut lines =
        manual.lines().skip_while(|line| !line.starts_with("| a message goes back by |"));
    let versions = cells(lines.next().expect("the table"));
    let parsed =
        |text: &str| text.split('.').take(2).map(|it| it.parse().unwrap()).collect::<Vec<u32>>();
    // The newest that is not newer.
    let column = (1..versions.len()).rfind(|it| parsed(&versions[*it]) <= parsed(version)).unwrap();
    let rows = lines.skip(1).take_while(|line| line.starts_with('|')).map(cells);
    rows.map(|row| (row[0].clone(), row[column] == "counts")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_counts_as_a_delivery_is_as_the_table_says() {
    let Some(management) = management().await else { return };
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(format!("{management}/api/overview"));
    let answer = request.basic_auth("guest", Some("guest")).send().await.unwrap();
    let overview: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let version = overview["rabbitmq_version"].as_str().unwrap();

    let stage = Stage::new("counts", &["--orders", "1"]).await;
    stage.daemon(&[]).await.stop().await;
    let url = broker::shared().await.url();
    let mut found = BTreeMap::new();
    let raw = stage.channel().await;
    for (shard, way) in WAYS.iter().enumerate() {
        let queue = format!("{}-{shard}", stage.prefix());
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        raw.channel.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let sent =
            raw.channel.basic_publish("".into(), queue.as_str().into(), options, b"m", properties);
        assert!(sent.await.unwrap().await.unwrap().is_ack());
        let counted = counted(url, &queue, way).await;
        assert!(counted == 0 || counted == 2, "{way}: {counted}");
        found.insert((*way).to_owned(), counted == 2);
    }
    assert_eq!(found, in_the_manual(version), "{version}");
}
