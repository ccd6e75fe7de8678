//! What becomes of an update by what the service plainly says.

use serde_json::json;

use crate::stage::{Stage, message, update};

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
