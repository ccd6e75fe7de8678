//! How long a delivery is held.

use crate::stage::{Stage, updates};

#[tokio::test(flavor = "multi_thread")]
async fn shard_is_given_back_before_a_message_has_waited_longer_than_the_broker_allows() {
    // A minute is the broker's limit, as far as the daemon knows: half of it is ours.
    let slow = ["--orders", "1", "--get-latency", "2s", "--patch-latency", "2s"];
    let stage = Stage::new("hold", &slow).await;
    let limit = [
        ("BROKER__CONSUMER_TIMEOUT", "1m"),
        ("TARGET__GET_TIMEOUT", "3s"),
        ("TARGET__PATCH_TIMEOUT", "3s"),
        ("RETRY__CONFLICTS__RETRIES_MAX", "1"),
        ("RETRY__FAILURES__RETRIES_MAX", "1"),
    ];
    let daemon = stage.daemon(&limit).await;
    stage.publish(&updates(1, 11)).await;
    daemon.logs("giving the shard back").await;
    let ledger = stage.applied(11).await;
    assert!(daemon.stop().await.status.success());
    assert_eq!((ledger.overlaps, ledger.out_of_order, ledger.applied_twice), (0, 0, 0));
}
