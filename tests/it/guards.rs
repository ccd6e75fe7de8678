//! What is looked at on the fetched order before a write: its sequence, and its status.

use serde_json::{Value, json};

use crate::stage::{Stage, message};

/// One by one, and where orders may go together.
const MODES: [&[(&str, &str)]; 2] = [&[], &crate::batch::BATCH];

const FENCE: (&str, &str) = ("GUARD__SEQUENCE_PROPERTY", "UpdateSequence");

/// An update of the first order that carries a sequence.
fn numbered(sequence: u64, changes: &Value) -> String {
    let key = json!({"dataAreaId": "USMF", "SalesOrderNumber": "SO-000001"});
    json!({"key": key, "changes": changes, "sequence": sequence}).to_string()
}

fn dated(sequence: u64, day: u64) -> String {
    numbered(sequence, &json!({"DeliveryDate": format!("2025-02-{day:02}")}))
}

async fn properties(stage: &Stage) -> Value {
    let mut order = stage.simulator.order("USMF", "SO-000001").await.unwrap();
    order["properties"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn older_update_that_comes_late_is_superseded_and_not_written() {
    for mode in MODES {
        let stage = Stage::new("superseded", &["--orders", "5"]).await;
        let daemon = stage.daemon(&[&[FENCE], mode].concat()).await;

        stage.publish(&[dated(9, 9), dated(7, 7), dated(8, 8)]).await;
        daemon.logs_times("\"outcome\":\"superseded\"", 2).await;
        let ended = daemon.stop().await;

        let ledger = stage.simulator.read(0).await.unwrap();
        assert_eq!((ledger.patches, ledger.applied_distinct), (1, 1));
        let order = properties(&stage).await;
        assert_eq!(order["UpdateSequence"], 9);
        assert_eq!(order["DeliveryDate"], "2025-02-09T12:00:00Z");
        assert_eq!((ended.count("applied"), ended.count("superseded")), (1, 2));
        assert_eq!(stage.waiting().await, 0, "superseded updates are done");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn superseded_update_is_dead_lettered_where_that_is_asked_for() {
    let stage = Stage::new("superseded-letter", &["--orders", "5"]).await;
    let daemon = stage.daemon(&[FENCE, ("GUARD__SUPERSEDED", "dead_letter")]).await;
    let mut letters = stage.letters().await;

    stage.publish(&[dated(9, 9), dated(8, 8)]).await;
    let letter = letters.next().await;
    let ended = daemon.stop().await;

    assert_eq!((letter.reason().as_str(), letter.attempts().len()), ("superseded", 1));
    assert_eq!(letter.header("detail"), "UpdateSequence is 9, and the update's sequence is 8");
    assert_eq!(letter.body, dated(8, 8).into_bytes());
    assert_eq!(ended.summary.unwrap()["dead_lettered"], json!({"superseded": 1}));
    assert_eq!(properties(&stage).await["UpdateSequence"], 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_sequence_is_already_applied_whatever_the_values_are_now() {
    let stage = Stage::new("equal", &["--orders", "5"]).await;
    let daemon = stage.daemon(&[FENCE]).await;

    let by_hand = message("SO-000001", &json!({"DeliveryDate": "2025-02-20"}));
    stage.publish(&[dated(3, 3), by_hand, dated(3, 3)]).await;
    daemon.logs("\"outcome\":\"already_applied\"").await;
    let ended = daemon.stop().await;

    let order = properties(&stage).await;
    assert_eq!(
        (&order["UpdateSequence"], &order["DeliveryDate"]),
        (&json!(3), &json!("2025-02-20T12:00:00Z"))
    );
    assert_eq!((ended.count("applied"), ended.count("already_applied")), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn update_whose_values_are_there_still_raises_the_sequence() {
    let stage = Stage::new("raises", &["--orders", "5"]).await;
    let daemon = stage.daemon(&[FENCE]).await;

    stage.publish(&[dated(1, 1), dated(3, 1)]).await;
    stage.applied(2).await;
    stage.publish(&[dated(2, 2)]).await;
    daemon.logs("\"outcome\":\"superseded\"").await;
    daemon.stop().await;

    let order = properties(&stage).await;
    assert_eq!(
        (&order["UpdateSequence"], &order["DeliveryDate"]),
        (&json!(3), &json!("2025-02-01T12:00:00Z"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_that_wait_are_put_in_the_order_of_their_sequences() {
    for mode in MODES {
        let stage = Stage::new("restored", &["--orders", "5"]).await;
        // The others arrive while the first is at work.
        let stall = json!({"on": "patch", "do": "stall", "for": "3s"});
        stage.simulator.faults(&json!({"next": [stall]})).await.unwrap();
        let daemon = stage.daemon(&[&[FENCE], mode].concat()).await;

        stage.publish(&[dated(1, 1), dated(4, 4), dated(3, 3), dated(2, 2)]).await;
        let ledger = stage.applied(4).await;
        let ended = daemon.stop().await;

        assert_eq!((ledger.out_of_order, ended.count("superseded")), (0, 0));
        assert_eq!(properties(&stage).await["UpdateSequence"], 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn write_whose_reply_was_lost_is_known_by_its_sequence() {
    for mode in MODES {
        let stage = Stage::new("lost-sequence", &["--orders", "5"]).await;
        let next = json!([
            {"on": "patch", "do": "status", "status": 503},
            {"on": "patch", "do": "lost_reply"},
        ]);
        stage.simulator.faults(&json!({"next": next})).await.unwrap();
        // One retry: the last look finds it.
        let daemon =
            stage.daemon(&[&[FENCE, ("RETRY__FAILURES__RETRIES_MAX", "1")], mode].concat()).await;

        stage.publish(&[dated(1, 1), dated(2, 2)]).await;
        let ledger = stage.applied(2).await;
        let ended = daemon.stop().await;

        assert_eq!((ledger.applied_twice, ended.count("already_applied")), (0, 1));
        assert_eq!(ended.summary.unwrap()["dead_lettered"], json!({}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_that_would_take_another_way_than_the_allowed_ones_is_dead_lettered() {
    let stage = Stage::new("transitions", &["--orders", "5"]).await;
    let ways = "SalesStatus: Backorder -> Delivered, SalesStatus: Delivered -> Invoiced";
    let daemon = stage.daemon(&[("GUARD__TRANSITIONS", ways)]).await;
    let mut letters = stage.letters().await;

    // The service itself would let an order be cancelled.
    let status = |status: &str| message("SO-000001", &json!({"SalesStatus": status}));
    stage.publish(&[status("Canceled"), status("Delivered"), status("Canceled")]).await;
    let refused = letters.take(2).await;
    let ended = daemon.stop().await;

    for letter in refused {
        assert_eq!(letter.reason(), "transition_refused");
        assert_eq!((letter.attempts().len(), &letter.body[..]), (1, status("Canceled").as_bytes()));
    }
    assert_eq!((ended.count("applied"), ended.count("retries")), (1, 0));
    assert_eq!(properties(&stage).await["SalesStatus"], "Delivered");
    assert_eq!(stage.simulator.read(0).await.unwrap().patches, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn update_whose_expectation_fails_is_dead_lettered_and_writes_nothing() {
    for mode in MODES {
        let stage = Stage::new("expect", &["--orders", "5"]).await;
        let daemon = stage.daemon(mode).await;
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
}
