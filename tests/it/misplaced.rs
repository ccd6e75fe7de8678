//! Messages in another shard queue than their order's own, and whose doing that is.

use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, QueueBindOptions};
use lapin::types::FieldTable;

use crate::stage::{Stage, update, updates};

const SCRAMBLED: &str = "the hash ring is scrambled";
const WRONG_KEY: &str = "does not publish with the order key";

#[tokio::test(flavor = "multi_thread")]
async fn scrambled_ring_is_counted_and_told_once_with_its_remedy() {
    let stage = Stage::new("scrambled", &["--orders", "40"]).await;
    let daemon = stage.daemon(&[]).await;
    let raw = stage.channel().await;
    stage.publish(&updates(40, 1)).await;
    stage.applied(40).await;

    let exchange = format!("{}.shards.g1", stage.prefix());
    let queue = format!("{}.shard.g1.000", stage.prefix());
    let (exchange, queue) = (exchange.as_str(), queue.as_str());
    let (options, none) = (QueueBindOptions::default(), FieldTable::default);
    raw.channel.queue_unbind(queue.into(), exchange.into(), "1".into(), none()).await.unwrap();
    raw.channel
        .queue_bind(queue.into(), exchange.into(), "1".into(), options, none())
        .await
        .unwrap();
    let later: Vec<_> = (2..=4).flat_map(|seq| (1..=40).map(move |it| update(it, seq))).collect();
    stage.publish(&later).await;
    stage.applied(160).await;
    let ended = daemon.stop().await;

    let by_ring = ended.count("misplaced_by_ring");
    assert!(by_ring > 40, "only {by_ring} of 120 were misplaced");
    // Each of them, and none of those that came while the ring was in order.
    assert_eq!(by_ring, ended.count("forwarded"));
    assert_eq!(ended.count("misplaced_by_key"), 0);
    assert_eq!(ended.log.matches(SCRAMBLED).count(), 1, "{}", ended.log);
    assert!(ended.log.contains("orderwright topology reshard --shards N"), "{}", ended.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_routing_key_is_the_publishers_doing_and_told_with_an_example() {
    let stage = Stage::new("wrong-key", &["--orders", "40"]).await;
    let daemon = stage.daemon(&[]).await;
    let raw = stage.channel().await;
    let exchange = format!("{}.updates", stage.prefix());
    for order in 1..=40 {
        let (exchange, key) = (exchange.as_str().into(), "always-this".into());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let body = update(order, 1);
        let sent = raw.channel.basic_publish(
            exchange,
            key,
            options,
            body.as_bytes(),
            BasicProperties::default(),
        );
        assert!(sent.await.unwrap().await.unwrap().is_ack());
    }
    stage.applied(40).await;
    let ended = daemon.stop().await;

    let by_key = ended.count("misplaced_by_key");
    assert!(by_key > 10, "only {by_key} of 40 were misplaced");
    assert_eq!(by_key, ended.count("forwarded"));
    assert_eq!(ended.count("misplaced_by_ring"), 0);
    let told: Vec<_> = ended.log.lines().filter(|line| line.contains(WRONG_KEY)).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("always-this"), "{told:?}");
    assert!(!ended.log.contains(SCRAMBLED), "{}", ended.log);
}
