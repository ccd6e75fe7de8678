//! Requests of pods that are gone: the service goes on with them, and the next owner of the shard keeps
//! away from their orders until they must be over.

use std::time::Duration;

use tokio::time::Instant;

use crate::admin::shows;
use crate::daemon::Daemon;
use crate::stage::{Stage, update, updates};
use crate::wire::patches;

const ORDERS: u64 = 12;

/// A write goes on for so long, whether or not its client is there, and the window covers it.
const SLOW: [&str; 4] = ["--orders", "24", "--patch-latency", "2s"];
const WINDOW: (&str, &str) = ("DISPATCH__SETTLE_WINDOW", "4s");

/// Nobody evens the shards out meanwhile: they go from one to the next as the broker has them in line.
const REST: (&str, &str) = ("BALANCE__INTERVAL", "20s");

/// Pods in the order in which they stand in line. The first one has all the shards, and hears of all.
async fn in_line<const PODS: usize>(stage: &Stage, more: &[(&str, &str)]) -> [Daemon; PODS] {
    let settings = [&[REST, ("LOG__LEVEL", "debug")][..], more].concat();
    let mut pods = Vec::new();
    while pods.len() < PODS {
        pods.push(stage.daemon(&settings).await);
    }
    let root = pods.first().unwrap().admin().await;
    shows(&root, |status| status["broker"]["pods"] == PODS).await;
    pods.try_into().unwrap()
}

async fn nobody_met(stage: &Stage) {
    let ledger = stage.simulator.read(0).await.unwrap();
    assert_eq!(ledger.overlaps, 0, "{}", stage.simulator.bad_orders().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn owner_of_a_moment_does_not_vouch_for_the_one_that_died_before_it() {
    let stage = Stage::new("ghost", &SLOW).await;
    let [killed, between, last] = in_line(&stage, &[WINDOW]).await;
    stage.publish(&updates(ORDERS, 1)).await;
    patches(&stage, ORDERS).await;
    killed.signal("KILL").await;
    // It has what the dead one was writing, waits, and goes in good order, with nothing on the wire.
    between.logs_times("\"received\"", 12).await;
    let between = between.stop().await;
    assert!(between.status.success(), "{between:?}");
    assert_eq!((between.count("attempts"), between.count("released")), (0, ORDERS), "{between:?}");
    stage.last_word(ORDERS, 2, 2 * ORDERS).await;
    assert!(last.stop().await.status.success());
    nobody_met(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn word_of_an_earlier_owner_is_void_for_what_a_later_one_was_writing() {
    let stage = Stage::new("void", &SLOW).await;
    let [first, killed, last] = in_line(&stage, &[WINDOW]).await;
    // One of each order is at work and one waits when the first one goes, in good order.
    stage.publish(&updates(ORDERS, 2)).await;
    patches(&stage, ORDERS).await;
    assert!(first.stop().await.status.success());
    // The next one goes on with what waited, and with orders that nobody had before.
    let fresh: Vec<_> = (1..=ORDERS).map(|order| update(ORDERS + order, 1)).collect();
    stage.publish(&fresh).await;
    patches(&stage, 2 * ORDERS).await;
    killed.signal("KILL").await;
    stage.last_word(2 * ORDERS, 3, 5 * ORDERS).await;
    assert!(last.stop().await.status.success());
    nobody_met(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn next_owner_goes_on_at_once_when_the_former_one_has_finished() {
    let window = Duration::from_mins(1);
    let stage = Stage::new("at-once", &["--orders", "12", "--patch-latency", "700ms"]).await;
    let [first, second] = in_line(&stage, &[("DISPATCH__SETTLE_WINDOW", "60s")]).await;
    stage.publish(&updates(ORDERS, 3)).await;
    patches(&stage, ORDERS).await;
    let gone = Instant::now();
    let first = first.stop().await;
    assert!(first.count("released") + first.count("applied") < 3 * ORDERS, "{first:?}");
    // One shard is enough: on a busy machine the word may come too late for another one.
    stage.applied(first.count("applied") + 1).await;
    assert!(gone.elapsed() < window, "{:?}", gone.elapsed());
    second.signal("KILL").await;
    nobody_met(&stage).await;
}
