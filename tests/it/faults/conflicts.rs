//! Somebody else is quicker, or the order is gone.

use serde_json::json;

use super::{MODES, condemn, on, overcome, stage, with};
use crate::stage::{Stage, WAITS_MIN, update};

#[tokio::test(flavor = "multi_thread")]
async fn f11_exhausted_conflicts_are_dead_lettered_with_all_attempts() {
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
async fn f11_conflict_storm_on_one_order_dead_letters_its_update_and_stops_no_other() {
    let faults = json!({"f11_conflict_storm": on("patch", 1, 4)});
    let codes = json!({"conflict_exhausted": 1});
    for mode in MODES {
        let stage = stage("f11").await;
        let (letters, outcome) = condemn(&stage, faults.clone(), mode, codes.clone()).await;
        assert_eq!(
            (letters[0].body.as_slice(), letters[0].attempts().len()),
            (update(1, 1).as_bytes(), 4)
        );
        assert_eq!((outcome.ledger.conflicts, outcome.ended.count("outages")), (4, 0), "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_conflict_in_any_spelling_is_fetched_again_and_a_deadlock_is_tried_again() {
    let faults = json!({
        "f12_conflict_as_409": on("patch", 1, 2),
        "f12_update_conflict": [on("patch", 2, 2), with(on("patch", 3, 1), "status", 500)],
        "f12_deadlock": [on("patch", 4, 2), with(on("patch", 5, 1), "status", 400)],
    });
    for mode in MODES {
        let outcome = overcome(&stage("f12").await, faults.clone(), mode).await;
        let counts = (outcome.ended.count("conflicts_overcome"), outcome.ended.count("failures"));
        assert_eq!(counts, (3, 3), "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f24_order_that_is_deleted_between_get_and_patch_is_not_found() {
    let faults = json!({"f24_deleted_between": on("patch", 1, 1)});
    let codes = json!({"not_found": 2});
    for mode in MODES {
        let stage = stage("f24").await;
        let (letters, outcome) = condemn(&stage, faults.clone(), mode, codes.clone()).await;
        // A PATCH cannot tell whether the order is gone; the next GET can, and that of the next update.
        let attempts: Vec<_> = letters.iter().map(|letter| letter.attempts().len()).collect();
        assert_eq!((attempts, outcome.ended.count("outages")), (vec![2, 1], 0), "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn order_that_appears_late_is_looked_for_where_the_settings_say_so() {
    let stage = stage("late-order").await;
    let patient = [
        ("RETRY__NOT_FOUND__RETRIES_MAX", "20"),
        ("RETRY__NOT_FOUND__WAIT_MIN", "100ms"),
        ("RETRY__NOT_FOUND__WAIT_MAX", "100ms"),
    ];
    let daemon = stage.daemon(&patient).await;
    stage.publish(&[update(7, 1), update(7, 2), update(1, 1)]).await;
    // By then it has not been found once at least.
    daemon.logs("not_found").await;
    stage.simulator.create("USMF", "SO-000007").await.unwrap();
    let ledger = stage.applied(3).await;
    let ended = daemon.stop().await;
    assert_eq!((ledger.out_of_order, ended.count("failures"), ended.count("outages")), (0, 0, 0));
    assert_eq!(ended.summary.unwrap()["dead_lettered"], json!({}));
}
