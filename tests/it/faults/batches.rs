//! The faults that strike a request as a whole, where that is a batch: what becomes of those that are in it.
//! What strikes one part of it is in the other files, which try both.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::target::ten_minutes;
use super::{ALL, ORDERS, Outcome, finish, outlast, overcome, stage, with};
use crate::batch::BATCH;
use crate::stage::updates;

/// Strikes so many batches.
fn batches(next: u64) -> Value {
    json!({"on": "batch", "next": next})
}

/// Batches that wait long enough for all orders to be in them.
const WHOLE: [(&str, &str); 2] = [BATCH[0], ("TARGET__BATCH__WAIT", "100ms")];

async fn struck(fault: &str, switch: Value, settings: &[(&str, &str)]) -> Outcome {
    let stage = stage(&fault[..fault.find('_').unwrap()]).await;
    overcome(&stage, json!({fault: switch}), &[&WHOLE[..], settings].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_that_is_lost_or_answered_with_nonsense_costs_its_orders_one_failure_each_at_most() {
    let page = |applied| with(with(batches(1), "status", 502), "applied", applied);
    let trials = [
        ("f1_lost_reply", batches(2)),
        ("f2_cut", batches(2)),
        ("f3_cut_body", batches(2)),
        ("f5_gateway_page", page(true)),
        ("f5_gateway_page", page(false)),
        ("f16_truncated_json", batches(1)),
        ("f16_invalid_json", batches(1)),
        ("f17_gzip", batches(1)),
    ];
    let trials = trials.map(|(fault, switch)| async move {
        let outcome = struck(fault, switch, &[]).await;
        let (failures, outages) = (outcome.ended.count("failures"), outcome.ended.count("outages"));
        // Of a compressed answer, one part cannot be read.
        assert!((1..=2 * ORDERS).contains(&failures), "{fault}: {failures}");
        assert_eq!(outages, 0, "{fault}: {}", outcome.ended.log);
    });
    join_all(trials).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_that_takes_too_long_is_looked_up_and_what_lands_late_overwrites_nothing() {
    let quick = [("TARGET__GET_TIMEOUT", "1s"), ("TARGET__PATCH_TIMEOUT", "1s")];
    let slow = |fault, time| struck(fault, with(batches(2), "for", time), &quick);
    let (stalled, dripped) =
        tokio::join!(slow("f4_stall_then_apply", "1500ms"), slow("f20_slow_drip", "10s"));
    for outcome in [stalled, dripped] {
        assert!(outcome.ended.count("failures") >= 2, "{}", outcome.ended.log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_that_is_too_much_or_lacks_a_live_token_or_a_connection_costs_no_order_an_attempt() {
    let waits = [("THROTTLE__UNTOLD_WAIT_MIN", "50ms"), ("RETRY__FAILURES__RETRIES_MAX", "0")];
    let trials = [
        ("f6_retry_after_date", with(batches(1), "for", "2s")),
        ("f7_no_retry_after", batches(2)),
        ("f7_absurd_retry_after", with(batches(1), "retry_after", "soon")),
        ("f19_close_idle", batches(2)),
    ];
    let trials = trials.map(|(fault, switch)| async move {
        let outcome = struck(fault, switch, &waits).await;
        assert_eq!(outcome.ended.count("failures"), 0, "{fault}");
    });
    join_all(trials).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_is_no_fault_of_any_order_in_a_batch() {
    let kinds =
        ["f8_unauthorized", "f8_forbidden", "f9_redirect", "f10_login_page", "f18_maintenance"];
    let trials = kinds.map(|kind| async move {
        outlast(&stage(&kind[..kind.find('_').unwrap()]).await, kind, &BATCH).await;
    });
    join_all(trials).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_ten_minutes_of_503s_refusals_and_401s_cost_nothing_in_batches_either() {
    ten_minutes(&BATCH).await;
}

/// GETs are answered, and every PATCH fails: nothing is written, nothing dead-lettered, and all goes on by
/// itself when it is over.
#[tokio::test(flavor = "multi_thread")]
async fn outage_of_writing_alone_is_waited_for_one_by_one_and_in_batches() {
    for mode in super::MODES {
        let stage = stage("read-only").await;
        let read_only = |rate: u64| json!({"f13_business_error": {"on": "patch", "rate": rate}});
        stage.simulator.faults(&read_only(1)).await.unwrap();
        let daemon = stage.daemon(&[&[super::QUICK], mode].concat()).await;
        stage.publish(&updates(ORDERS, 2)).await;
        daemon.logs("writes fail, and none is answered").await;
        assert_eq!(stage.simulator.read(0).await.unwrap().applied_distinct, 0);
        stage.simulator.faults(&read_only(0)).await.unwrap();
        stage.applied(ALL).await;
        let outcome = finish(&stage, daemon, &json!({})).await;
        assert_eq!(outcome.ended.count("applied"), ALL, "{mode:?}");
    }
}
