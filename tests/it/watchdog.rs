//! A shard that stands still: messages wait, nothing is at work, and nothing is delivered.

use crate::stage::{Stage, updates};
use crate::wire::frames::{CHANNEL_OPEN_OK, Frame, channel_of};
use crate::wire::{judged, wired};

#[tokio::test(flavor = "multi_thread")]
async fn shard_that_stands_still_is_subscribed_to_again_and_nothing_is_lost() {
    let stage = Stage::new("watchdog", &["--orders", "12"]).await;
    // One delivery at a time: when it is swallowed, the rest of its queue waits for its ack.
    let settings = [("BROKER__PREFETCH", "1"), ("BALANCE__WATCH_INTERVAL", "1s")];
    let (proxy, daemon) = wired(&stage, &settings).await;
    let mut swallowed: Option<(usize, u16)> = None;
    proxy.tamper(move |connection, bytes| {
        let here = (connection, channel_of(bytes));
        if let Some(frame) = Frame::of(bytes) {
            if swallowed.is_none() && frame.delivers_an_update() {
                swallowed = Some(here);
            } else if swallowed == Some(here) && frame.method == CHANNEL_OPEN_OK {
                // The number of the channel has a new life; this fault has been.
                swallowed = Some((usize::MAX, 0));
            }
        }
        if swallowed == Some(here) { Vec::new() } else { bytes.to_vec() }
    });
    stage.publish(&updates(12, 3)).await;
    let said = daemon.logs("messages wait and none is delivered; subscribing again").await;
    let ledger = stage.applied(36).await;
    let ended = daemon.stop().await;

    assert!(ended.status.success(), "{ended:?}");
    let wrong = (ledger.overlaps, ledger.out_of_order, ledger.applied_twice);
    assert_eq!(wrong, (0, 0, 0), "{}", stage.simulator.bad_orders().await.unwrap());
    assert_eq!(stage.waiting().await, 0);
    // One shard, and no other, had a second lease.
    let leases = judged(&proxy);
    let again: Vec<_> = leases
        .iter()
        .filter(|one| leases.iter().filter(|it| it.queue == one.queue).count() > 1)
        .collect();
    assert_eq!(again.len(), 2, "{leases:?}");
    assert!(again.iter().all(|lease| said.contains(&lease.queue)), "{said} {leases:?}");
}
