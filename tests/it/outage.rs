//! The target goes away and comes back: nothing is dead-lettered, nothing is lost, order is kept.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::stage::{Stage, message, update, updates};

/// Refused connections need a port of its own for whoever wants them taken again.
const OWN_PORT: [&str; 6] =
    ["--orders", "40", "--bearer-token", "t0ken", "--listen-admin", "127.0.0.1:0"];

const QUICK: [(&str, &str); 2] =
    [("TARGET__BEARER_TOKEN", "t0ken"), ("BREAKER__PROBE_INTERVAL", "500ms")];

/// The probe interval, and two seconds.
const RECOVERY_MAX: Duration = Duration::from_millis(2_500);

#[tokio::test(flavor = "multi_thread")]
async fn outage_of_several_kinds_dead_letters_nothing_keeps_the_order_and_ends_by_itself() {
    outage_of_several_kinds(&[]).await;
}

pub(crate) async fn outage_of_several_kinds(more: &[(&str, &str)]) {
    let stage = Stage::new("outage", &OWN_PORT).await;
    let daemon = stage.daemon(&[&QUICK[..], more].concat()).await;
    let mut done = 0;
    let mut sequence = 0;
    let kinds = ["f18_maintenance", "f18_refuse_connections", "f8_unauthorized"];
    for (number, kind) in kinds.into_iter().enumerate() {
        // Some are on the wire, and some wait, when it begins.
        let of = |sequence| (1..=40).map(move |order| update(order, sequence));
        let bodies: Vec<_> = (sequence + 1..=sequence + 5).flat_map(of).collect();
        stage.publish(&bodies).await;
        sequence += 5;
        stage.simulator.faults(&json!({kind: 1})).await.unwrap();
        // Messages that come in meanwhile wait as well; all others may have been applied already.
        stage.publish(&of(sequence + 1).collect::<Vec<_>>()).await;
        daemon.logs_times("the target does not work", number + 1).await;
        sequence += 1;
        let before = stage.simulator.read(0).await.unwrap();
        stage.simulator.faults(&json!({kind: 0})).await.unwrap();
        let healed = Instant::now();
        stage.applied(before.applied_distinct + 1).await;
        assert!(healed.elapsed() <= RECOVERY_MAX, "{kind}: {:?}", healed.elapsed());
        done += 6 * 40;
        stage.applied(done).await;
        daemon.logs_times("the target works again", number + 1).await;
    }
    let ended = daemon.stop().await;
    let ledger = stage.simulator.read(0).await.unwrap();
    let wrong = (ledger.overlaps, ledger.out_of_order, ledger.applied_twice);
    assert_eq!(wrong, (0, 0, 0), "{}", stage.simulator.bad_orders().await.unwrap());
    assert_eq!(ended.count("outages"), 3, "{}", ended.log);
    assert_eq!(ended.summary.unwrap()["dead_lettered"], json!({}));
    assert_eq!(stage.waiting().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn service_without_etags_is_waited_for_and_none_of_its_orders_is_dead_lettered() {
    let stage = Stage::new("outage-etags", &OWN_PORT).await;
    stage.simulator.faults(&json!({"f15_no_etag": 1})).await.unwrap();
    let daemon = stage.daemon(&QUICK).await;
    stage.publish(&updates(40, 2)).await;
    // A look at it finds nothing wrong, so it is found out anew each time.
    daemon.logs_times("the target does not work", 3).await;
    stage.simulator.faults(&json!({"f15_no_etag": 0})).await.unwrap();
    let ledger = stage.applied(80).await;
    let ended = daemon.stop().await;
    assert_eq!((ledger.overlaps, ledger.out_of_order), (0, 0));
    assert_eq!(ended.summary.unwrap()["dead_lettered"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_in_an_outage_is_immediate_and_the_next_start_goes_on() {
    let stage = Stage::new("outage-drain", &OWN_PORT).await;
    stage.simulator.faults(&json!({"f18_refuse_connections": 1})).await.unwrap();
    let daemon = stage.daemon(&[QUICK[0], QUICK[1], ("LOG__LEVEL", "debug")]).await;
    stage.publish(&updates(40, 3)).await;
    daemon.logs("the target does not work").await;
    let asked = Instant::now();
    let ended = daemon.stop().await;
    assert!(ended.status.success() && asked.elapsed() < Duration::from_secs(3), "{ended:?}");
    let why = ended.log.lines().find(|line| line.contains("no answer from the target")).unwrap();
    assert!(why.contains("Connection refused"), "{why}");
    assert_eq!(ended.summary.unwrap()["dead_lettered"], json!({}));
    stage.simulator.faults(&json!({"f18_refuse_connections": 0})).await.unwrap();
    let daemon = stage.daemon(&QUICK).await;
    let ledger = stage.applied(120).await;
    daemon.stop().await;
    assert_eq!((ledger.overlaps, ledger.out_of_order, ledger.applied_twice), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn shard_that_is_given_back_in_an_outage_is_not_taken_again_before_its_end() {
    let stage = Stage::new("outage-hold", &OWN_PORT).await;
    stage.simulator.faults(&json!({"f18_maintenance": 1})).await.unwrap();
    // A minute is the broker's limit, as far as the daemon knows: half of it is ours.
    let limit = [
        QUICK[0],
        QUICK[1],
        ("TOPOLOGY__SHARDS", "1"),
        ("BROKER__CONSUMER_TIMEOUT", "1m"),
        ("TARGET__GET_TIMEOUT", "1s"),
        ("TARGET__PATCH_TIMEOUT", "1s"),
        ("LOG__LEVEL", "debug"),
    ];
    let daemon = stage.daemon(&limit).await;
    let one = message("SO-000001", &json!({"UpdateSequence": 1}));
    stage.publish(&[one]).await;
    daemon.logs("gave the shard back").await;
    // Probed without any update: it is found out all the same.
    let gets = stage.simulator.read(0).await.unwrap().gets;
    loop {
        if stage.simulator.read(u64::MAX).await.unwrap().gets >= gets + 4 {
            break;
        }
    }
    assert_eq!(stage.waiting_in(1).await, 1, "it rests with the broker");
    stage.simulator.faults(&json!({"f18_maintenance": 0})).await.unwrap();
    stage.applied(1).await;
    let ended = daemon.stop().await;
    assert_eq!((ended.count("received"), ended.count("outages")), (2, 1), "{}", ended.log);
}
