//! Order within an order, and parallelism between orders.

use crate::stage::{Stage, updates};

#[tokio::test(flavor = "multi_thread")]
async fn order_is_kept_within_each_order_under_conflicts_503s_and_resets() {
    kept_under_trouble(&[], 500).await;
}

/// At least so many faults must have struck.
pub(crate) async fn kept_under_trouble(more: &[(&str, &str)], faults_min: u64) {
    let faults = ["--conflict-rate", "0.2", "--error-rate", "0.05", "--reset-rate", "0.02"];
    let latency = ["--orders", "250", "--get-latency", "1ms..5ms", "--patch-latency", "1ms..5ms"];
    let stage = Stage::new("order", &[&faults[..], &latency].concat()).await;
    // Enough retries that none is exhausted: every update must arrive.
    let retries = [("RETRY__CONFLICTS__RETRIES_MAX", "16"), ("RETRY__FAILURES__RETRIES_MAX", "16")];
    let daemon = stage.daemon(&[&retries[..], more].concat()).await;

    stage.publish(&updates(250, 20)).await;
    let ledger = stage.applied(5_000).await;
    let ended = daemon.stop().await;

    assert!(ended.status.success(), "{ended:?}");
    let bad = stage.simulator.bad_orders().await.unwrap();
    let wrong = (ledger.overlaps, ledger.out_of_order, ledger.applied_twice);
    assert_eq!(wrong, (0, 0, 0), "{bad}");
    assert!(ledger.conflicts > 500, "only {} conflicts", ledger.conflicts);
    assert!(ledger.faults.total() > faults_min, "only {:?}", ledger.faults);
    assert!(ledger.faults.lost_reply > faults_min / 50, "only {:?}", ledger.faults);
    // One whose last reply was lost may have been given back before it could look again.
    let settled = ended.count("applied") + ended.count("already_applied");
    stage.still_waiting(5_000 - settled).await;
    assert!(settled > 4_950, "{settled}");
    assert!(ended.count("conflicts_overcome") > 0 && ended.count("retries") > 500, "{ended:?}");
    for order in [1, 125, 250] {
        let found = stage.simulator.order("USMF", &format!("SO-{order:06}")).await.unwrap();
        assert_eq!(found["properties"]["UpdateSequence"], 20, "{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn different_orders_run_in_parallel_up_to_the_limit() {
    let latency = ["--orders", "60", "--get-latency", "30ms", "--patch-latency", "60ms"];
    let stage = Stage::new("parallel", &latency).await;
    let daemon = stage.daemon(&[("DISPATCH__CONCURRENCY_MAX", "12")]).await;

    stage.publish(&updates(60, 3)).await;
    let ledger = stage.applied(180).await;
    daemon.stop().await;

    assert_eq!(ledger.in_flight_max, 12);
    assert_eq!((ledger.overlaps, ledger.out_of_order), (0, 0));
}
