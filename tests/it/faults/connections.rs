//! The connection breaks, or is slow.

use serde_json::json;

use super::{ALL, WIRES, on, overcome, stage, with};
use crate::stage::{Stage, message, update, updates};

#[tokio::test(flavor = "multi_thread")]
async fn f01_lost_reply_is_looked_up_and_its_update_is_not_written_twice() {
    for wire in WIRES {
        let faults = json!({"f1_lost_reply": [on("patch", 1, 1), on("patch", 2, 1)]});
        let outcome = overcome(&stage("f01").await, faults, &[wire]).await;
        assert_eq!((outcome.ledger.faults.lost_reply, outcome.ledger.patches), (2, ALL));
        assert_eq!(outcome.ended.count("already_applied"), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f01_write_whose_last_reply_was_lost_is_no_dead_letter() {
    let stage = Stage::new("last-look", &["--orders", "5"]).await;
    let next = json!([
        {"on": "patch", "do": "status", "status": 503},
        {"on": "patch", "do": "lost_reply"},
    ]);
    stage.simulator.faults(&json!({"next": next})).await.unwrap();
    let daemon = stage.daemon(&[("RETRY__FAILURES__RETRIES_MAX", "1")]).await;
    stage.publish(&[update(1, 1), update(1, 2)]).await;
    stage.applied(2).await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("already_applied"), 1, "{ended:?}");
    assert_eq!(ended.summary.unwrap()["dead_lettered"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn f02_cut_connection_spends_a_retry_and_nothing_is_written_twice() {
    for wire in WIRES {
        let faults = json!({"f2_cut": [on("get", 1, 2), on("patch", 2, 2)]});
        let outcome = overcome(&stage("f02").await, faults, &[wire]).await;
        assert_eq!((outcome.ended.count("failures"), outcome.ended.count("retries")), (4, 4));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f03_answer_that_breaks_off_is_looked_up() {
    // An answer to a PATCH that has a body.
    let bodies = ("TARGET__PREFER_MINIMAL", "false");
    let args = ["--orders", "6", "--profile", "bc", "--no-csrf"];
    for wire in WIRES {
        let stage = Stage::new("f03", &args).await;
        let faults = json!({"f3_cut_body": [on("get", 1, 2), on("patch", 2, 1)]});
        let ended = overcome(&stage, faults, &[bodies, wire]).await.ended;
        assert_eq!((ended.count("failures"), ended.count("already_applied")), (3, 1), "{wire:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f04_stalled_write_that_lands_late_overwrites_nothing() {
    let stage = stage("f04").await;
    let stalled = |request, order| with(on(request, order, 1), "for", "1500ms");
    let faults = json!({"f4_stall_then_apply": [stalled("get", 1), stalled("patch", 2)]});
    stage.simulator.faults(&faults).await.unwrap();
    let daemon = stage.daemon(&[("TARGET__GET_TIMEOUT", "1s"), ("TARGET__PATCH_TIMEOUT", "1s")]);
    let daemon = daemon.await;
    stage.publish(&updates(6, 2)).await;
    stage.applied(ALL).await;
    // Its ETag is stale by now.
    while stage.simulator.read(u64::MAX).await.unwrap().conflicts == 0 {}
    let ended = daemon.stop().await;
    let ledger = stage.simulator.read(0).await.unwrap();
    assert_eq!((ledger.applied_distinct, ledger.applied_twice, ledger.out_of_order), (ALL, 0, 0));
    assert_eq!((ended.count("failures"), stage.waiting().await), (2, 0));
    assert_eq!(ended.summary.unwrap()["dead_lettered"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn f04_late_write_of_a_dead_lettered_update_does_not_overwrite_the_next_one() {
    let stage = Stage::new("late-write", &["--orders", "5"]).await;
    let stalled = json!({"on": "patch", "do": "stall", "for": "700ms"});
    stage.simulator.faults(&json!({"next": [stalled, stalled]})).await.unwrap();
    let daemon = stage
        .daemon(&[
            ("TARGET__PATCH_TIMEOUT", "200ms"),
            ("RETRY__FAILURES__RETRIES_MAX", "1"),
            ("DISPATCH__SETTLE_WINDOW", "2s"),
        ])
        .await;
    let mut letters = stage.letters().await;
    // The second update wants what is there already, as long as the first has not landed.
    let first = message("SO-000001", &json!({"SalesStatus": "Canceled", "UpdateSequence": 1}));
    let second = message("SO-000001", &json!({"SalesStatus": "Backorder"}));
    stage.publish(&[first, second]).await;
    let mut reasons = vec![letters.next().await.reason(), letters.next().await.reason()];
    daemon.stop().await;
    reasons.sort();
    // By then it has landed, and the service's own rule refuses the way back.
    assert_eq!(reasons, ["business_rule", "timeout"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn f19_connection_that_is_closed_while_idle_costs_no_update() {
    for wire in WIRES {
        let faults = json!({"f19_close_idle": [on("get", 1, 2), on("patch", 2, 2)]});
        overcome(&stage("f19").await, faults, &[wire]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f20_body_that_comes_too_slowly_is_given_up_at_the_deadline() {
    for wire in WIRES {
        let faults = json!({"f20_slow_drip": with(on("get", 1, 2), "for", "1m")});
        let timeout = ("TARGET__GET_TIMEOUT", "1s");
        let outcome = overcome(&stage("f20").await, faults, &[timeout, wire]).await;
        assert_eq!(outcome.ended.count("failures"), 2);
    }
}
