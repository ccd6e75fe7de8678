//! What happens to an update when the service misbehaves.

use serde_json::json;

use crate::stage::{Stage, WAITS_MIN, message, update};

#[tokio::test(flavor = "multi_thread")]
async fn lost_patch_reply_is_not_applied_twice() {
    let stage = Stage::new("lost-reply", &["--orders", "5"]).await;
    let lost = json!({"on": "patch", "do": "lost_reply"});
    stage.simulator.faults(&json!({"next": [lost, lost]})).await.unwrap();
    let daemon = stage.daemon(&[]).await;

    // The second update of an order is written only after the first has been looked at again.
    stage.publish(&[update(1, 1), update(2, 1), update(1, 2), update(2, 2)]).await;
    let ledger = stage.applied(4).await;
    let ended = daemon.stop().await;

    assert_eq!((ledger.faults.lost_reply, ledger.applied_twice, ledger.patches), (2, 0, 4));
    assert_eq!(ended.count("already_applied"), 2, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exhausted_conflicts_are_dead_lettered_with_all_attempts() {
    let stage = Stage::new("conflicts", &["--orders", "5", "--conflict-rate", "1"]).await;
    let daemon = stage.daemon(&[]).await;
    let mut letters = stage.letters().await;

    stage.publish(&[update(1, 1)]).await;
    let letter = letters.next().await;
    let ended = daemon.stop().await;

    assert_eq!(letter.reason(), "conflict_exhausted");
    assert_eq!(letter.header("order"), "USMF/SO-000001");
    assert_eq!(letter.header("original-exchange"), format!("{}.updates", stage.prefix()));
    assert_eq!(letter.header("original-routing-key"), "USMF/SO-000001");
    assert_eq!(letter.body, update(1, 1).into_bytes());
    let attempts = letter.attempts();
    assert_eq!(attempts.len(), 4, "the first and three retries: {attempts:?}");
    let mut etags = Vec::new();
    for (index, attempt) in attempts.iter().enumerate() {
        assert_eq!(attempt["number"], index + 1);
        assert_eq!((&attempt["get_status"], &attempt["patch_status"]), (&json!(200), &json!(412)));
        assert_eq!(attempt["outcome"], "etag_conflict");
        assert_eq!(attempt["etag_seen"], attempt["etag_sent"], "sent back byte for byte");
        assert!(attempt["service_request_id"].is_string(), "{attempt}");
        etags.push(attempt["etag_seen"].as_str().unwrap().to_owned());
    }
    etags.dedup();
    assert_eq!(etags.len(), 4, "each attempt fetched a fresh ETag");
    let at = |index: usize| attempts[index]["at"].as_str().unwrap().parse().unwrap();
    let (first, second): (jiff::Timestamp, jiff::Timestamp) = (at(0), at(1));
    assert!(second.duration_since(first).unsigned_abs() >= WAITS_MIN, "it waited between them");
    assert_eq!(ended.summary.unwrap()["dead_lettered"], json!({"conflict_exhausted": 1}));
    assert_eq!(stage.waiting().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn exhausted_failures_are_dead_lettered_with_all_attempts_and_others_go_on() {
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
async fn write_whose_last_reply_was_lost_is_no_dead_letter() {
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
async fn late_write_of_a_dead_lettered_update_does_not_overwrite_the_next_one() {
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
async fn refused_updates_are_dead_lettered_at_once() {
    let stage = Stage::new("refused", &["--orders", "5"]).await;
    let daemon = stage.daemon(&[]).await;
    let mut letters = stage.letters().await;

    let bodies = [
        ("not_found", message("SO-404", &json!({"DeliveryDate": "2025-02-08"}))),
        ("rejected", message("SO-000001", &json!({"ColourOfTheBox": "green"}))),
        ("rejected", message("SO-000002", &json!({"SalesStatus": "Fine"}))),
        ("business_rule", message("SO-000003", &json!({"SalesStatus": "Invoiced"}))),
    ];
    stage.publish(&bodies.clone().map(|(_, body)| body)).await;
    let mut got = Vec::new();
    for letter in letters.take(bodies.len()).await {
        assert_eq!(letter.attempts().len(), 1, "{letter:?}");
        got.push((letter.reason(), String::from_utf8(letter.body).unwrap()));
    }
    daemon.stop().await;
    let mut wanted = bodies.map(|(reason, body)| (reason.to_owned(), body)).to_vec();
    got.sort();
    wanted.sort();
    assert_eq!(got, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn update_whose_expectation_fails_is_dead_lettered_and_writes_nothing() {
    let stage = Stage::new("expect", &["--orders", "5"]).await;
    let daemon = stage.daemon(&[]).await;
    let mut letters = stage.letters().await;

    let expecting = |order: &str, status: &str| {
        json!({
            "key": {"dataAreaId": "USMF", "SalesOrderNumber": order},
            "changes": {"SalesStatus": "Canceled", "UpdateSequence": 1},
            "expect": {"SalesStatus": [status]},
        })
        .to_string()
    };
    stage
        .publish(&[expecting("SO-000001", "Delivered"), expecting("SO-000002", "Backorder")])
        .await;
    assert_eq!(letters.next().await.reason(), "expectation_failed");
    let ledger = stage.applied(1).await;
    daemon.stop().await;
    assert_eq!(ledger.patches, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn etag_is_read_from_the_body_where_the_header_is_missing() {
    let stage = Stage::new("etag", &["--orders", "5"]).await;
    let next = json!([{"on": "get", "order": "USMF/SO-000001", "do": "no_etag_header"}]);
    stage.simulator.faults(&json!({"next": next})).await.unwrap();
    let daemon = stage.daemon(&[]).await;
    stage.publish(&[update(1, 1), update(2, 1)]).await;
    stage.applied(2).await;
    let ended = daemon.stop().await;
    assert_eq!(ended.summary.unwrap()["failures"], json!(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_found_whatever_their_key_holds() {
    let stage = Stage::new("keys", &[]).await;
    let numbers = [
        "O'Neill", "100%", "a/b", "#1", "1+1", "a b", "?x=1&y", "Größe", "訂單-7", "''", "%27",
        "..",
    ];
    for number in numbers {
        stage.simulator.create("USMF", number).await.unwrap();
    }
    let daemon = stage.daemon(&[]).await;
    let bodies = numbers.map(|number| message(number, &json!({"UpdateSequence": 1})));
    stage.publish(&bodies).await;
    stage.applied(numbers.len() as u64).await;
    let ended = daemon.stop().await;
    assert_eq!(ended.summary.unwrap()["dead_lettered"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn static_bearer_token_is_sent_and_never_shown() {
    let stage = Stage::new("token", &["--orders", "1", "--bearer-token", "s3cr3t-t0ken"]).await;
    let daemon = stage.daemon(&[("TARGET__BEARER_TOKEN", "s3cr3t-t0ken"), ("LOG__LEVEL", "trace")]);
    let daemon = daemon.await;
    stage.publish(&[update(1, 1)]).await;
    stage.applied(1).await;
    let ended = daemon.stop().await;
    assert!(!ended.log.contains("s3cr3t-t0ken"), "{}", ended.log);
}
