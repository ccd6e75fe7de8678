//! What the log tells of an update: its whole story at `info`, in fields whose names are fixed.

use lapin::BasicProperties;
use serde_json::{Value, json};

use crate::admin::shows;
use crate::daemon::{Ended, orderwright};
use crate::stage::{Stage, message, update};
use crate::wire::wired;

/// All lines with this value of a field, in their order.
fn lines(ended: &Ended, field: &str, value: &str) -> Vec<Value> {
    let lines = ended.log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line[field] == value).collect()
}

fn named(message_id: &str) -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_message_id(message_id.into())
}

/// What each line says, and with which outcome.
fn told(lines: &[Value]) -> Vec<(&str, &str)> {
    let told = lines.iter().map(|line| (line["message"].as_str(), line["outcome"].as_str()));
    told.map(|(message, outcome)| (message.unwrap(), outcome.unwrap_or_default())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn update_is_told_attempt_by_attempt_with_the_etags_that_it_saw_and_sent() {
    let stage = Stage::new("log-attempts", &["--orders", "1"]).await;
    let somebody = json!({"f11_conflict_storm": {"next": 1}});
    stage.simulator.faults(&somebody).await.unwrap();
    let daemon = stage.daemon(&[]).await;
    stage.channel().await.publish(named("m-1"), update(1, 1).as_bytes()).await;
    stage.applied(1).await;
    let ended = daemon.stop().await;
    let story = lines(&ended, "message_id", "m-1");
    assert_eq!(
        told(&story),
        [("attempt", "etag_conflict"), ("attempt", "applied")],
        "{}",
        ended.log
    );
    for (index, attempt) in story.iter().enumerate() {
        assert_eq!(attempt["attempt"], json!(index + 1), "{attempt}");
        let order = json!("USMF/SO-000001");
        assert_eq!((&attempt["level"], &attempt["order"]), (&json!("INFO"), &order));
        assert!(attempt["queue"].as_str().unwrap().contains(".shard.g1.00"), "{attempt}");
        assert!(attempt["held_milliseconds"].as_u64() >= attempt["milliseconds"].as_u64());
        let etag = attempt["etag_seen"].as_str().unwrap();
        assert!(etag.starts_with("W/\""), "{attempt}");
        assert_eq!(attempt["etag_sent"], etag, "what was seen is what was sent: {attempt}");
    }
    let [first, second] = [&story[0], &story[1]];
    assert_ne!(first["etag_seen"], second["etag_seen"], "somebody else came between");
    assert_eq!((&first["patch_status"], &second["patch_status"]), (&json!(412), &json!(204)));
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_is_given_up_with_its_channel_is_told_and_measured() {
    let stage = Stage::new("log-aborted", &["--orders", "1", "--patch-latency", "2s"]).await;
    let (proxy, daemon) = wired(&stage, &[("DISPATCH__SETTLE_WINDOW", "4s")]).await;
    let root = daemon.admin().await;
    stage.channel().await.publish(named("m-1"), update(1, 1).as_bytes()).await;
    shows(&root, |status| status["orders"][0]["state"] == "patch").await;
    proxy.cut();
    shows(&root, |status| status["counts"]["already_applied"] == 1).await;
    let metrics = reqwest::get(format!("{root}/metrics")).await.unwrap().text().await.unwrap();
    let is_aborted = |line: &&str| {
        let parts = ["_duration_seconds_count{", "error_type=\"aborted\"", "method=\"PATCH\""];
        parts.iter().all(|part| line.contains(part)) && line.ends_with(" 1")
    };
    assert!(metrics.lines().any(|line| is_aborted(&line)), "{metrics}");
    let ended = daemon.stop().await;
    let story = lines(&ended, "message_id", "m-1");
    let wanted = [
        ("attempt", "aborted"),
        ("given back; it comes again", ""),
        // That PATCH came about.
        ("attempt", "already_applied"),
    ];
    assert_eq!(told(&story), wanted, "{}", ended.log);
    let aborted = &story[0];
    assert_eq!((&aborted["get_status"], &aborted["patch_status"]), (&json!(200), &Value::Null));
    assert_eq!(aborted["etag_sent"], aborted["etag_seen"], "{aborted}");
    assert!(aborted["request_id"].is_string() && aborted["etag_sent"].is_string(), "{aborted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn update_that_a_drain_gives_back_is_told() {
    let stage = Stage::new("log-given-back", &["--orders", "1"]).await;
    let down = json!({"on": "patch", "do": "status", "status": 503});
    stage.simulator.faults(&json!({"next": [down]})).await.unwrap();
    let waits = [("RETRY__FAILURES__WAIT_MIN", "1m"), ("RETRY__FAILURES__WAIT_MAX", "1m")];
    let daemon = stage.daemon(&waits).await;
    let root = daemon.admin().await;
    stage.channel().await.publish(named("m-1"), update(1, 1).as_bytes()).await;
    shows(&root, |status| status["orders"][0]["state"] == "backoff").await;
    let ended = daemon.stop().await;
    let story = lines(&ended, "message_id", "m-1");
    assert_eq!(story.len(), 2, "{}", ended.log);
    assert_eq!(story[1]["message"], "given back; it comes again");
    assert_eq!(story[1]["order"], "USMF/SO-000001");
    assert_eq!(ended.count("released"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn settlement_that_is_lost_is_told_of_every_message_that_comes_again_for_it() {
    let stage = Stage::new("log-lost", &["--orders", "1"]).await;
    let declared = orderwright(&stage.settings(&[]).await).args(["topology", "declare"]).output();
    assert!(declared.await.unwrap().status.success());
    let settings = [("TOPOLOGY__DECLARE", "false"), ("DEAD_LETTER__PUBLISH_RETRIES_MAX", "0")];
    let daemon = stage.daemon(&settings).await;
    let raw = stage.channel().await;
    raw.delete_queue("dead-letters").await;
    raw.publish(named("m-1"), b"not JSON").await;
    let none = message("SO-999999", &json!({"DeliveryDate": "2025-01-01"}));
    raw.publish(named("m-2"), none.as_bytes()).await;
    for message in ["m-1", "m-2"] {
        daemon.logs_both("finished, but not settled", message).await;
    }
    let ended = daemon.stop().await;
    for (message, order) in [("m-1", Value::Null), ("m-2", json!("USMF/SO-999999"))] {
        let story = lines(&ended, "message_id", message);
        let lost = story.iter().find(|line| line["outcome"] == "dead_lettered").unwrap();
        assert_eq!((&lost["order"], &lost["level"]), (&order, &json!("INFO")), "{lost}");
        assert!(lost["queue"].as_str().unwrap().contains(".shard.g1.00"), "{lost}");
    }
    assert!(ended.count("settlements_lost") >= 2);
}
