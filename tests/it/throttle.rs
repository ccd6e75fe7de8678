//! The target allows a fixed rate: how much of it is used, and how much is refused.

use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::daemon::PATIENCE;
use crate::stage::{Stage, updates};

/// Requests a second that are allowed.
const ALLOWED: f64 = 100.0;
/// Requests that are looked at together.
const WINDOW: u32 = 1_500;
/// Windows within which they must have settled.
const WINDOWS_MAX: usize = 10;

/// Waits until so many requests were sent, and returns how many there were, how many of them refused.
async fn requests(stage: &Stage, least: u32) -> (u32, u32) {
    let reached = async {
        loop {
            // Nobody writes so many: it answers after a moment.
            let ledger = stage.simulator.read(u64::MAX).await.unwrap();
            let sent = u32::try_from(ledger.gets + ledger.patches).unwrap();
            if sent >= least {
                return (sent, u32::try_from(ledger.throttled).unwrap());
            }
        }
    };
    timeout(2 * PATIENCE, reached).await.expect("the pods go on")
}

async fn steady(pods: usize) {
    let latency = ["--get-latency", "10ms..30ms", "--patch-latency", "20ms..60ms"];
    let orders = ["--orders", "500"];
    let stage = Stage::new("throttle", &[&orders[..], &latency].concat()).await;
    let limit = json!({"throttle": {"per_second": ALLOWED}});
    stage.simulator.faults(&limit).await.unwrap();
    let mut daemons = Vec::new();
    for _ in 0..pods {
        daemons.push(stage.daemon(&[("TOPOLOGY__SHARDS", "16")]).await);
    }
    stage.publish(&updates(500, 20)).await;
    let (mut seen, mut windows, mut good) = (requests(&stage, WINDOW).await, Vec::new(), 0);
    // Two in a row, so that it is no accident.
    while good < 2 && windows.len() < WINDOWS_MAX {
        let begun = Instant::now();
        let now = requests(&stage, seen.0 + WINDOW).await;
        let (sent, refused) = (f64::from(now.0 - seen.0), f64::from(now.1 - seen.1));
        let used = (sent - refused) / (ALLOWED * begun.elapsed().as_secs_f64());
        // Within a tenth of the rate, and fewer than one request in twenty refused.
        let settled = (used - 1.0).abs() < 0.1 && refused / sent < 0.05;
        good = if settled { good + 1 } else { 0 };
        windows.push((used, refused / sent));
        seen = now;
    }
    let what = "share of the rate that was used, and of the requests that were refused";
    assert!(good == 2, "{pods} pods do not settle: {what}: {windows:?}");
    for daemon in daemons {
        let ended = daemon.stop().await;
        assert_eq!(ended.summary.unwrap()["dead_lettered"], json!({}));
    }
    let ledger = stage.simulator.read(0).await.unwrap();
    assert_eq!((ledger.overlaps, ledger.out_of_order, ledger.applied_twice), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_pod_settles_just_below_the_rate_that_is_allowed() {
    steady(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_pods_settle_just_below_the_rate_that_is_allowed() {
    steady(4).await;
}
