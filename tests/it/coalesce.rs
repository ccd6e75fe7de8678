//! Updates of one order that wait behind each other, written as one.

use serde_json::json;
use tokio::time::timeout;

use crate::daemon::PATIENCE;
use crate::stage::{Stage, updates};

const MERGE: [(&str, &str); 2] = [("DISPATCH__COALESCE", "merge"), ("BROKER__PREFETCH", "256")];

/// Waits until every order ends in this update.
async fn all_end_in(stage: &Stage, orders: u64, sequence: u64) {
    for order in 1..=orders {
        let number = format!("SO-{order:06}");
        let reached = async {
            while stage.simulator.order("USMF", &number).await.unwrap()["properties"]["UpdateSequence"]
                != sequence
            {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(PATIENCE, reached).await.is_ok(), "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_order_is_written_as_one_and_each_of_its_messages_is_settled() {
    let slow = ["--orders", "1", "--get-latency", "40ms", "--patch-latency", "80ms"];
    let stage = Stage::new("hot", &slow).await;
    // All wait when it starts: how fast they are published must not matter.
    stage.daemon(&MERGE).await.stop().await;
    stage.publish(&updates(1, 200)).await;
    let daemon = stage.daemon(&MERGE).await;
    all_end_in(&stage, 1, 200).await;
    let ended = daemon.stop().await;
    let ledger = stage.simulator.read(0).await.unwrap();
    assert_eq!(ended.count("applied") + ended.count("already_applied"), 200, "{ended:?}");
    assert!(ledger.patches <= 20, "200 are written by {} PATCHes", ledger.patches);
    assert_eq!(ledger.overlaps, 0, "{}", stage.simulator.bad_orders().await.unwrap());
    stage.still_waiting(0).await;
    assert_eq!(ended.summary.unwrap()["dead_lettered"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn daemon_that_is_killed_while_it_writes_several_as_one_loses_nothing() {
    let latency = ["--orders", "20", "--get-latency", "5ms..20ms", "--patch-latency", "5ms..20ms"];
    let stage = Stage::new("hot-kill", &latency).await;
    let first = stage.daemon(&MERGE).await;
    stage.publish(&updates(20, 30)).await;
    while stage.simulator.read(0).await.unwrap().patches < 10 {
        tokio::task::yield_now().await;
    }
    first.signal("KILL").await;
    assert!(!first.ended().await.status.success());
    let second = stage.daemon(&MERGE).await;
    all_end_in(&stage, 20, 30).await;
    let ended = second.stop().await;
    stage.still_waiting(0).await;
    assert_eq!(ended.summary.unwrap()["dead_lettered"], json!({}));
}
