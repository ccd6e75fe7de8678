//! Several pods: shards spread, and an order has one writer whatever comes and goes.

use lapin::options::QueueBindOptions;
use lapin::types::FieldTable;

use crate::admin::shows;
use crate::stage::{Stage, updates};

const LATENCY: [&str; 6] =
    ["--orders", "200", "--get-latency", "2ms..10ms", "--patch-latency", "5ms..20ms"];

/// Enough shards that an even spread is no accident.
const MORE_SHARDS: (&str, &str) = ("TOPOLOGY__SHARDS", "16");

async fn nothing_went_wrong(stage: &Stage) {
    let ledger = stage.simulator.read(0).await.unwrap();
    let wrong = (ledger.overlaps, ledger.out_of_order, ledger.applied_twice);
    assert_eq!(wrong, (0, 0, 0), "{}", stage.simulator.bad_orders().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_that_joins_gets_its_share_with_and_without_traffic() {
    let stage = Stage::new("join", &LATENCY).await;
    let first = stage.daemon(&[MORE_SHARDS, ("LOG__LEVEL", "debug")]).await;
    let second = stage.daemon(&[MORE_SHARDS]).await;
    // Idle shards move too: the eighth is given back before a message is published.
    first.logs_times("gave the shard back", 8).await;
    stage.publish(&updates(200, 5)).await;
    stage.applied(1_000).await;
    let (first, second) = (first.stop().await, second.stop().await);
    nothing_went_wrong(&stage).await;
    let (a, b) = (first.count("applied"), second.count("applied"));
    assert_eq!(a + b, 1_000);
    assert!(a.min(b) > 250, "{a} and {b} of 1,000");
    assert_eq!(first.count("forwarded") + second.count("forwarded"), 0, "the ring is in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_come_and_go_in_good_order_never_overlap_and_keep_the_order() {
    let stage = Stage::new("roll", &LATENCY).await;
    let first = stage.daemon(&[MORE_SHARDS]).await;
    stage.publish(&updates(200, 12)).await;
    stage.applied(300).await;
    let second = stage.daemon(&[MORE_SHARDS]).await;
    stage.applied(900).await;
    let third = stage.daemon(&[MORE_SHARDS]).await;
    assert!(first.stop().await.status.success());
    stage.applied(1_500).await;
    assert!(second.stop().await.status.success());
    stage.applied(2_400).await;
    assert!(third.stop().await.status.success());
    nothing_went_wrong(&stage).await;
    assert_eq!(stage.waiting_in(16).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_pod_is_taken_over_without_two_writers() {
    let stage = Stage::new("takeover", &LATENCY).await;
    let first = stage.daemon(&[MORE_SHARDS]).await;
    let second = stage.daemon(&[MORE_SHARDS]).await;
    stage.publish(&updates(200, 10)).await;
    stage.applied(500).await;
    first.signal("KILL").await;
    let ledger = stage.last_word(200, 11, 2_200).await;
    assert!(second.stop().await.status.success());
    assert_eq!(ledger.overlaps, 0, "{}", stage.simulator.bad_orders().await.unwrap());
    assert_eq!(stage.waiting_in(16).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_are_not_handed_equally_many_messages_at_once_say_so_once() {
    const SAID: &str = "another pod has another broker.prefetch";
    let stage = Stage::new("prefetch", &["--orders", "1"]).await;
    let first = stage.daemon(&[]).await;
    let second = stage.daemon(&[("BROKER__PREFETCH", "7")]).await;
    let line = second.logs(SAID).await;
    assert!(line.contains("(32, ours is 7)"), "{line}");
    first.logs(SAID).await;
    // A third one is heard of, and agrees with the first.
    let third = stage.daemon(&[]).await;
    shows(&first.admin().await, |status| status["broker"]["pods"] == 3).await;
    third.logs(SAID).await;
    for daemon in [first, second, third] {
        let ended = daemon.stop().await;
        assert_eq!(ended.log.matches(SAID).count(), 1, "{}", ended.log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scrambled_ring_is_put_right_by_forwarding() {
    let stage = Stage::new("ring", &LATENCY).await;
    let first = stage.daemon(&[MORE_SHARDS]).await;
    let second = stage.daemon(&[MORE_SHARDS]).await;
    let raw = stage.channel().await;
    let exchange = format!("{}.shards.g1", stage.prefix());
    let queue = format!("{}.shard.g1.004", stage.prefix());
    let (exchange, queue) = (exchange.as_str(), queue.as_str());
    let (channel, none) = (&raw.channel, FieldTable::default);
    channel.queue_unbind(queue.into(), exchange.into(), "1".into(), none()).await.unwrap();
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.into(), exchange.into(), "1".into(), options, none()).await.unwrap();

    stage.publish(&updates(200, 5)).await;
    stage.applied(1_000).await;
    let (first, second) = (first.stop().await, second.stop().await);
    nothing_went_wrong(&stage).await;
    let forwarded = first.count("forwarded") + second.count("forwarded");
    assert!(forwarded > 100, "only {forwarded} of 1,000 were forwarded");
    assert_eq!(first.count("applied") + second.count("applied"), 1_000);
    assert_eq!(stage.waiting_in(16).await, 0);
}
