//! The answer is not what it should be.

use serde_json::json;

use super::{ALL, MODES, ORDERS, condemn, finish, on, overcome, stage, with};
use crate::stage::{Stage, update, updates};

#[tokio::test(flavor = "multi_thread")]
async fn f05_page_of_a_gateway_is_looked_up_whether_the_write_was_carried_out_or_not() {
    let page = |request, order, status: u16, applied: bool| {
        with(with(on(request, order, 1), "status", status), "applied", applied)
    };
    let faults = json!({"f5_gateway_page": [
        page("patch", 1, 502, true),
        page("patch", 2, 503, true),
        page("patch", 3, 504, true),
        page("patch", 4, 502, false),
        page("patch", 5, 504, false),
        page("get", 6, 503, false),
    ]});
    let outcome = overcome(&stage("f05").await, faults, &[]).await;
    assert_eq!((outcome.ended.count("failures"), outcome.ended.count("already_applied")), (6, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn f05_exhausted_failures_are_dead_lettered_with_all_attempts_and_others_go_on() {
    let stage = Stage::new("failures", &["--orders", "5"]).await;
    let down = json!({"on": "patch", "order": "USMF/SO-000001", "do": "status", "status": 503});
    stage.simulator.faults(&json!({"next": vec![down; 4]})).await.unwrap();
    let daemon = stage.daemon(&[]).await;
    let mut letters = stage.letters().await;

    stage.publish(&[update(1, 1), update(1, 2), update(2, 1)]).await;
    let letter = letters.next().await;
    stage.applied(2).await;
    daemon.stop().await;

    let attempts = letter.attempts();
    assert_eq!((letter.reason().as_str(), attempts.len()), ("gateway", 5), "and one last look");
    assert!(attempts[4].get("patch_status").is_none(), "{attempts:?}");
    let order = stage.simulator.order("USMF", "SO-000001").await.unwrap();
    assert_eq!(order["properties"]["UpdateSequence"], 2, "the next update of the order went on");
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_login_page_is_no_success() {
    let faults = json!({"f10_login_page": [on("get", 1, 1), on("patch", 2, 1)]});
    let outcome = overcome(&stage("f10").await, faults, &[]).await;
    assert_eq!(outcome.ended.count("applied"), ALL, "what was not written was written again");
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_business_rule_is_dead_lettered_at_once_as_400_and_after_two_retries_as_500() {
    let faults = json!({"f13_business_error": [
        on("patch", 1, 3),
        with(on("patch", 2, 1), "status", 400),
    ]});
    let codes = json!({"business_rule": 2});
    for mode in MODES {
        let stage = stage("f13").await;
        let (letters, outcome) = condemn(&stage, faults.clone(), mode, codes.clone()).await;
        let attempts = |order| {
            let body = update(order, 1);
            let letter = letters.iter().find(|letter| letter.body == body.as_bytes()).unwrap();
            letter.attempts().len()
        };
        assert_eq!((attempts(1), attempts(2)), (4, 1), "the fourth is a last look: {mode:?}");
        assert_eq!(outcome.ended.count("outages"), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f14_write_that_the_service_ignores_is_taken_at_its_word() {
    for mode in MODES {
        let stage = stage("f14").await;
        let faults = json!({"f14_ignored_write": on("patch", 1, 1)});
        stage.simulator.faults(&faults).await.unwrap();
        let daemon = stage.daemon(mode).await;
        stage.publish(&updates(ORDERS, 2)).await;
        // Nothing tells it from one that was carried out; the order's next update is written.
        stage.applied(ALL - 1).await;
        let outcome = finish(&stage, daemon, &json!({})).await;
        let counts = (outcome.ended.count("applied"), outcome.ended.count("retries"));
        assert_eq!(counts, (ALL, 0), "{mode:?}");
        let order = stage.simulator.order("USMF", "SO-000001").await.unwrap();
        assert_eq!(order["properties"]["UpdateSequence"], 2, "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_etag_is_read_from_header_or_body_and_without_one_nothing_is_written() {
    let faults = json!({
        "f15_no_etag_header": on("get", 1, 2),
        "f15_no_etag_in_body": on("get", 2, 2),
        "f15_no_etag": on("get", 3, 1),
    });
    for mode in MODES {
        let outcome = overcome(&stage("f15").await, faults.clone(), mode).await;
        assert_eq!(outcome.ledger.patches, ALL, "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f16_json_that_is_cut_invalid_or_huge_is_no_answer_to_a_get_nor_a_success_of_a_patch() {
    let faults = json!({
        "f16_truncated_json": [on("get", 1, 1), on("patch", 2, 1)],
        "f16_invalid_json": [on("get", 3, 1), on("patch", 4, 1)],
        "f16_huge_json": [on("get", 5, 1), on("patch", 6, 1)],
    });
    let outcome = overcome(&stage("f16").await, faults, &[]).await;
    assert_eq!((outcome.ended.count("applied"), outcome.ended.count("failures")), (ALL, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_compressed_answer_is_asked_for_again() {
    let faults = json!({"f17_gzip": [on("get", 1, 2), on("patch", 2, 1)]});
    let outcome = overcome(&stage("f17").await, faults, &[]).await;
    assert_eq!(outcome.ended.count("failures"), 2, "a PATCH is answered without a body");
}

#[tokio::test(flavor = "multi_thread")]
async fn f23_body_where_none_was_expected_is_a_success() {
    let faults = json!({"f23_body_for_no_content": [on("patch", 1, 2), on("patch", 2, 2)]});
    for mode in MODES {
        let outcome = overcome(&stage("f23").await, faults.clone(), mode).await;
        let counts = (outcome.ended.count("applied"), outcome.ended.count("failures"));
        assert_eq!(counts, (ALL, 0), "{mode:?}");
    }
}
