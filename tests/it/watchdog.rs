//! A queue that stands still: messages wait, nothing is at work, and nothing is delivered.

use crate::daemon::{Daemon, Ended};
use crate::intake::Theirs;
use crate::proxy::Proxy;
use crate::stage::{Stage, updates};
use crate::wire::frames::{BASIC_DELIVER, CHANNEL_OPEN_OK, Frame, channel_of, leases};
use crate::wire::{judged, wired};

const AGAIN: &str = "messages wait and none is delivered; subscribing again";

/// One delivery at a time: when it is swallowed, the rest of its queue waits for its ack.
const SETTINGS: [(&str, &str); 2] = [("BROKER__PREFETCH", "1"), ("BALANCE__WATCH_INTERVAL", "1s")];
const ALONE: (&str, &str) = ("BALANCE__ENABLED", "false");

/// Swallows the delivery, of those that are meant, that comes behind so many others; and all else on its
/// channel, until the number of the channel has a new life.
fn swallow(proxy: &Proxy, behind: usize, is_meant: impl Fn(&Frame) -> bool + Send + 'static) {
    let (mut swallowed, mut passed): (Option<(usize, u16)>, _) = (None, 0);
    proxy.tamper(move |connection, bytes| {
        let here = (connection, channel_of(bytes));
        if let Some(frame) = Frame::of(bytes) {
            if swallowed.is_none() && is_meant(&frame) {
                passed += 1;
                if passed > behind {
                    swallowed = Some(here);
                }
            } else if swallowed == Some(here) && frame.method == CHANNEL_OPEN_OK {
                // This fault has been.
                swallowed = Some((usize::MAX, 0));
            }
        }
        if swallowed == Some(here) { Vec::new() } else { bytes.to_vec() }
    });
}

/// What came of it: everything is applied in order, and nothing waits.
async fn recovered(stage: &Stage, daemon: Daemon) -> Ended {
    let ledger = stage.applied(36).await;
    let ended = daemon.stop().await;
    assert!(ended.status.success(), "{ended:?}");
    let wrong = (ledger.overlaps, ledger.out_of_order, ledger.applied_twice);
    assert_eq!(wrong, (0, 0, 0), "{}", stage.simulator.bad_orders().await.unwrap());
    assert_eq!(stage.waiting().await, 0);
    ended
}

/// One shard, the one that was `said`, and no other had a second lease.
fn one_had_a_second_lease(proxy: &Proxy, said: &str) {
    let leases = judged(proxy);
    let again: Vec<_> = leases
        .iter()
        .filter(|one| leases.iter().filter(|it| it.queue == one.queue).count() > 1)
        .collect();
    assert_eq!(again.len(), 2, "{leases:?}");
    assert!(again.iter().all(|lease| said.contains(&lease.queue)), "{said} {leases:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shard_that_stands_still_is_subscribed_to_again_and_nothing_is_lost() {
    let stage = Stage::new("watchdog", &["--orders", "12"]).await;
    let (proxy, daemon) = wired(&stage, &SETTINGS).await;
    swallow(&proxy, 0, Frame::delivers_an_update);
    stage.publish(&updates(12, 3)).await;
    let said = daemon.logs(AGAIN).await;
    recovered(&stage, daemon).await;
    one_had_a_second_lease(&proxy, &said);
}

#[tokio::test(flavor = "multi_thread")]
async fn shard_that_was_served_and_stands_still_needs_no_hints_to_be_noticed() {
    let stage = Stage::new("watchdog-alone", &["--orders", "12"]).await;
    let (proxy, daemon) = wired(&stage, &[&SETTINGS[..], &[ALONE]].concat()).await;
    // More than there are shards: the one that is hit was served before.
    let shards = usize::from(crate::stage::SHARDS);
    swallow(&proxy, 2 * shards, Frame::delivers_an_update);
    stage.publish(&updates(12, 3)).await;
    let said = daemon.logs(AGAIN).await;
    recovered(&stage, daemon).await;
    one_had_a_second_lease(&proxy, &said);
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_of_somebody_elses_that_stands_still_is_subscribed_to_again() {
    let stage = Stage::new("watchdog-intake", &["--orders", "12"]).await;
    let theirs = Theirs::single(&stage).await;
    let intake = ("TOPOLOGY__INTAKE", theirs.queue.as_str());
    let (proxy, daemon) = wired(&stage, &[&SETTINGS[..], &[intake]].concat()).await;
    let tag = leases(&proxy.recorded()).into_iter().find(|it| it.queue == theirs.queue);
    assert!(tag.is_some(), "it is consumed from");
    let queue = theirs.queue.clone();
    swallow(&proxy, 3, move |frame| {
        let published = frame.arguments.windows(queue.len()).any(|it| it == queue.as_bytes());
        frame.method == BASIC_DELIVER && published
    });
    theirs.publish(&updates(12, 3)).await;
    let said = daemon.logs(AGAIN).await;
    assert!(said.contains(&theirs.queue), "{said}");
    let ended = recovered(&stage, daemon).await;
    assert!(ended.count("forwarded") >= 36, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_on_which_another_pod_is_active_is_left_alone_whatever_waits_there() {
    let stage =
        Stage::new("watchdog-standby", &["--orders", "12", "--patch-latency", "200ms"]).await;
    let theirs = Theirs::single(&stage).await;
    let intake = ("TOPOLOGY__INTAKE", theirs.queue.as_str());
    let settings = [&SETTINGS[..], &[intake, ALONE]].concat();
    let active = stage.daemon(&settings).await;
    let standby = stage.daemon(&settings).await;
    // For many intervals messages wait everywhere, and the second pod gets none.
    stage.publish(&updates(12, 12)).await;
    theirs.publish(&updates(12, 2)).await;
    stage.applied(144).await;
    let (standby, active) = (standby.stop().await, active.stop().await);
    assert_eq!(standby.count("received"), 0, "{standby:?}");
    for ended in [active, standby] {
        assert!(!ended.log.contains(AGAIN), "{}", ended.log);
    }
}
