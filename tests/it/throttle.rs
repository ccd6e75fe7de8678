//! The target allows a fixed rate: how much of it is used, and how much is refused.

use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::daemon::PATIENCE;
use crate::stage::{Stage, updates};

/// Requests a second that are allowed.
const ALLOWED: f64 = 100.0;
/// Requests within which it must have settled: 30 s of what is allowed. Four pods look for their shares at once.
const SETTLING: u32 = 3_000;
/// Requests that are judged together: 40 s, longer than the pace takes to find the rate once more.
const JUDGED: u32 = 4_000;

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

#[expect(clippy::print_stdout, reason = "figures for docs/PERFORMANCE.md")]
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
    let settled = requests(&stage, SETTLING).await;
    let begun = Instant::now();
    let now = requests(&stage, settled.0 + JUDGED).await;
    let took = begun.elapsed().as_secs_f64();
    let (sent, refused) = (f64::from(now.0 - settled.0), f64::from(now.1 - settled.1));
    let (used, share) = ((sent - refused) / (ALLOWED * took), refused / sent);
    println!(
        "{pods} pods: {used:.3} of the rate used, {share:.4} of the requests refused, {took:.1} s"
    );
    assert!((used - 1.0).abs() < 0.1 && share < 0.05, "{pods} pods: {used} used, {share} refused");
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
