//! What is done when the wire goes silent: nothing arrives, and nobody says that it ended.

use std::time::Duration;

use tokio::time::Instant;

use super::frames::leases;
use super::{SLOW, closed_at_last, judged, patches, wired};
use crate::daemon::Daemon;
use crate::proxy::{Proxy, Way};
use crate::stage::{Stage, update, updates};

/// Twice this is when silence is noticed.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Goes silent in mid-work and waits until the daemon has left the link for dead. What it sends in
/// the meantime is kept for the broker.
async fn abandoned(name: &str) -> (Stage, Proxy, Daemon) {
    let stage = Stage::new(name, &SLOW).await;
    let settings = [("BROKER__HEARTBEAT", "5s"), ("BROKER__CONNECT_TIMEOUT", "1s")];
    let (proxy, daemon) = wired(&stage, &settings).await;
    stage.publish(&updates(12, 20)).await;
    patches(&stage, 20).await;
    proxy.mute();
    let mute = Instant::now();
    daemon.logs("lost the connection").await;
    let noticed = mute.elapsed();
    // The library looks twice a heartbeat; the broker itself waits for nearly three of them.
    assert!(noticed < HEARTBEAT * 2 + HEARTBEAT / 2 + Duration::from_secs(1), "{noticed:?}");
    // It tries again, and the silence of a link that accepts connections does not hold it.
    daemon.logs("cannot connect to the broker").await;
    (stage, proxy, daemon)
}

/// After the link is healed: everything is written in the end, and settled.
async fn recovered(stage: Stage, proxy: Proxy, daemon: Daemon) {
    daemon.logs("connected to the broker again").await;
    // One more update for each order: once it is written, so is what came before it.
    let last: Vec<_> = (1..=12).map(|order| update(order, 21)).collect();
    stage.publish(&last).await;
    stage.applied(252).await;
    let ended = daemon.stop().await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(stage.waiting().await, 0, "{ended:?}");
    for order in 1..=12 {
        let found = stage.simulator.order("USMF", &format!("SO-{order:06}")).await.unwrap();
        assert_eq!(found["properties"]["UpdateSequence"], 21, "{found}");
    }
    let ledger = stage.simulator.read(0).await.unwrap();
    assert_eq!(ledger.overlaps, 0, "{}", stage.simulator.bad_orders().await.unwrap());
    closed_at_last(&judged(&proxy));
}

#[tokio::test(flavor = "multi_thread")]
async fn mute_connection_is_abandoned_after_two_heartbeats_and_nothing_is_lost() {
    let (stage, proxy, daemon) = abandoned("wire-mute").await;
    // The acks of a process that had given up arrive late, before or after the broker did so too.
    proxy.heal();
    recovered(stage, proxy, daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_that_silence_swallowed_cost_no_update() {
    let (stage, proxy, daemon) = abandoned("wire-swallowed").await;
    proxy.cut();
    proxy.heal();
    recovered(stage, proxy, daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscription_that_is_answered_too_late_cancels_nothing_and_holds_no_shard() {
    let stage = Stage::new("wire-late", &["--orders", "12"]).await;
    let (proxy, daemon) = wired(&stage, &[("BROKER__CONNECT_TIMEOUT", "1s")]).await;
    // The next connection's subscriptions reach the broker, and its answers stay on the way.
    let subscribes = |sent: &[u8]| {
        let sent = leases(&[sent.to_vec()]);
        sent.iter().any(|lease| lease.queue.contains(".shard."))
    };
    proxy.pause_when(Way::ToClient, subscribes);
    proxy.cut();
    daemon.logs("the broker does not answer").await;
    proxy.resume(Way::ToClient);
    stage.publish(&updates(12, 1)).await;
    stage.applied(12).await;
    let ended = daemon.stop().await;
    assert!(ended.status.success(), "{ended:?}");
    judged(&proxy);
}
