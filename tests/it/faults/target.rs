//! The target as a whole asks for less, lets nobody in, or is down.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{condemn, on, outlast, overcome, stage, with};
use crate::stage::{Stage, update, updates};

/// Nothing may be spent.
const NO_RETRIES: [(&str, &str); 2] =
    [("RETRY__FAILURES__RETRIES_MAX", "0"), ("RETRY__CONFLICTS__RETRIES_MAX", "0")];

#[tokio::test(flavor = "multi_thread")]
async fn f06_date_of_retry_after_is_waited_for_by_all_and_costs_no_attempt() {
    let faults = json!({"f6_retry_after_date": with(on("get", 1, 1), "for", "2s")});
    let begun = Instant::now();
    let outcome = overcome(&stage("f06").await, faults, &NO_RETRIES).await;
    // A date has no fraction of a second.
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!((outcome.ended.count("throttled"), outcome.ended.count("failures")), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn f07_refusals_with_an_absurd_time_or_none_cost_no_attempt_and_are_bounded() {
    let absurd = |request, order, text: &str| with(on(request, order, 1), "retry_after", text);
    let faults = json!({
        "f7_no_retry_after": on("patch", 5, 1),
        "f7_absurd_retry_after": [
            absurd("get", 1, "0"),
            absurd("get", 2, "-1"),
            absurd("patch", 3, "86400"),
            absurd("get", 4, "soon"),
        ],
    });
    let waits = [
        ("THROTTLE__TOLD_WAIT_MIN", "10ms"),
        ("THROTTLE__TOLD_WAIT_MAX", "1s"),
        ("THROTTLE__UNTOLD_WAIT_MIN", "50ms"),
        ("THROTTLE__UNTOLD_WAIT_MAX", "100ms"),
    ];
    let outcome = overcome(&stage("f07").await, faults, &[&waits[..], &NO_RETRIES].concat()).await;
    assert_eq!((outcome.ended.count("throttled"), outcome.ended.count("failures")), (5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn f07_order_that_alone_is_refused_for_ever_is_dead_lettered_and_others_go_on() {
    let slow = ["--get-latency", "5ms..15ms", "--patch-latency", "5ms..15ms"];
    let stage = Stage::new("f07-one", &[&["--orders", "7"], &slow[..]].concat()).await;
    let faults = json!({"f7_no_retry_after": {"on": "patch", "order": "USMF/SO-000007"}});
    stage.simulator.faults(&faults).await.unwrap();
    let waits = [("THROTTLE__UNTOLD_WAIT_MIN", "50ms"), ("THROTTLE__UNTOLD_WAIT_MAX", "100ms")];
    let daemon = stage.daemon(&waits).await;
    let mut letters = stage.letters().await;
    stage.publish(&[update(7, 1), update(7, 2)]).await;
    stage.publish(&updates(6, 200)).await;
    for sequence in 1..=2 {
        let letter = letters.next().await;
        assert_eq!(letter.reason(), "throttled_alone");
        assert_eq!(letter.body, update(7, sequence).as_bytes());
    }
    // The others are not done by then: it is they who tell.
    let ended = daemon.stop().await;
    let dead = &ended.summary.as_ref().unwrap()["dead_lettered"];
    assert_eq!((dead, ended.count("outages")), (&json!({"throttled_alone": 2}), 0));
    assert!(ended.count("applied") > 20, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f08_401_for_ever_is_an_outage_and_no_fault_of_any_order() {
    let outcome = outlast(&stage("f08").await, "f8_unauthorized", &[]).await;
    assert!(outcome.ended.log.contains("\"reason\":\"auth\""), "{}", outcome.ended.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn f08_403_for_all_is_an_outage_and_for_one_order_its_dead_letter() {
    outlast(&stage("f08-all").await, "f8_forbidden", &[]).await;
    let faults = json!({"f8_forbidden": on("patch", 1, 4)});
    let codes = json!({"forbidden": 1});
    let (letters, outcome) = condemn(&stage("f08-one").await, faults, &[], codes).await;
    assert_eq!((letters[0].attempts().len(), outcome.ended.count("outages")), (4, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn f09_redirect_to_a_login_page_is_an_outage() {
    outlast(&stage("f09").await, "f9_redirect", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_login_page_for_all_is_an_outage() {
    outlast(&stage("f10-all").await, "f10_login_page", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_maintenance_is_an_outage_and_a_closed_port_too() {
    outlast(&stage("f18-maintenance").await, "f18_maintenance", &[]).await;
    for wire in super::WIRES {
        let stage = stage("f18-port").await;
        stage.simulator.faults(&json!({"f18_refuse_connections": 1})).await.unwrap();
        let daemon = stage.daemon(&[super::QUICK, wire]).await;
        stage.publish(&updates(super::ORDERS, 2)).await;
        daemon.logs("the target does not work").await;
        stage.simulator.faults(&json!({"f18_refuse_connections": 0})).await.unwrap();
        stage.applied(super::ALL).await;
        super::finish(&stage, daemon, &json!({})).await;
    }
}

/// Ten minutes, sixty times as fast.
const TEN_MINUTES: &str = r#"
    speed = 60
    [[step]]
    at = "1m"
    set = { f18_maintenance = 1 }
    [[step]]
    at = "5m"
    set = { f18_maintenance = 0, f18_refuse_connections = 1 }
    [[step]]
    at = "8m"
    set = { f18_refuse_connections = 0, f8_unauthorized = 1 }
"#;
/// 401s until the tenth minute, by the probes of half a second.
const UNAUTHORIZED: u64 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn f18_ten_minutes_of_503s_refusals_and_401s_cost_nothing_and_a_poisoned_order_is_told_apart()
{
    ten_minutes(&[]).await;
}

pub(super) async fn ten_minutes(mode: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ten-minutes.toml");
    std::fs::write(&file, TEN_MINUTES).unwrap();
    let script = ["--scenario", file.to_str().unwrap(), "--listen-admin", "127.0.0.1:0"];
    // Slow enough that the first batch is not done before the outage begins.
    let slow = ["--orders", "13", "--get-latency", "20ms", "--patch-latency", "40ms"];
    let stage = Stage::new("f18", &[&script[..], &slow].concat()).await;
    let poison = json!({"f13_business_error": {"on": "patch", "order": "USMF/SO-000013"}});
    stage.simulator.faults(&poison).await.unwrap();
    let daemon = stage.daemon(&[&[("BREAKER__PROBE_INTERVAL", "500ms")], mode].concat()).await;
    let mut letters = stage.letters().await;

    // Some are on the wire, some wait, and some come in meanwhile; among them the poisoned one.
    stage.publish(&updates(12, 40)).await;
    daemon.logs("the target does not work").await;
    let round = |sequence| (1..=12).map(move |order| update(order, sequence));
    stage.publish(&round(41).chain([update(13, 1)]).collect::<Vec<_>>()).await;
    while stage.simulator.struck().await.unwrap()["f8_unauthorized"].as_u64() < Some(UNAUTHORIZED) {
        // Answers after a moment.
        stage.simulator.read(u64::MAX).await.unwrap();
    }
    stage.publish(&round(42).collect::<Vec<_>>()).await;
    let before = stage.simulator.read(0).await.unwrap();
    stage.simulator.faults(&json!({"f8_unauthorized": 0})).await.unwrap();
    let healed = Instant::now();
    stage.applied(before.applied_distinct + 1).await;
    assert!(healed.elapsed() <= Duration::from_millis(2_500), "{:?}", healed.elapsed());
    let letter = letters.next().await;
    stage.applied(12 * 42).await;

    let struck = stage.simulator.struck().await.unwrap();
    let outcome = super::finish(&stage, daemon, &json!({"business_rule": 1})).await;
    assert_eq!(letter.body, update(13, 1).as_bytes());
    assert!(struck["f18_maintenance"].as_u64() > Some(3), "{struck}");
    assert_eq!(outcome.ended.count("outages"), 1, "{}", outcome.ended.log);
    for kind in ["gateway", "unreachable", "auth"] {
        assert!(
            outcome.ended.log.contains(&format!("\"{kind}\"")),
            "{kind}: {}",
            outcome.ended.log
        );
    }
}
