//! What can be seen of a daemon from outside, from its start to the end of its drain.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::daemon::{Daemon, PATIENCE, orderwright};
use crate::stage::{Stage, message, update, updates};

/// A page of the admin listener.
async fn get(root: &str, path: &str) -> (StatusCode, String) {
    let answer = reqwest::get(format!("{root}{path}")).await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

pub(crate) async fn json_of(root: &str, path: &str) -> Value {
    serde_json::from_str(&get(root, path).await.1).unwrap()
}

/// Waits until the status shows it.
pub(crate) async fn shows(root: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let waiting = async {
        loop {
            let status = json_of(root, "/status").await;
            if wanted(&status) {
                return status;
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn daemon_that_waits_for_its_broker_lives_and_is_neither_started_nor_ready() {
    let settings = [("BROKER__URL", "amqp://guest:s3cr3t@127.0.0.1:1/%2f")]
        .map(|(name, value)| (format!("ORDERWRIGHT__{name}"), value.to_owned()));
    let daemon = Daemon::spawn(&settings);
    let root = daemon.admin().await;
    assert_eq!(get(&root, "/livez").await.0, StatusCode::OK);
    assert_eq!(get(&root, "/startupz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(&root, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    let (code, status) = get(&root, "/status").await;
    assert_eq!(code, StatusCode::OK);
    assert!(status.contains("\"phase\":\"starting\"") && !status.contains("s3cr3t"), "{status}");
    let (_, metrics) = get(&root, "/metrics").await;
    for sample in ["orderwright_broker_connected 0", "orderwright_build{version="] {
        assert!(metrics.contains(sample), "no {sample} in:\n{metrics}");
    }
    assert!(daemon.stop().await.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_instrument_has_a_sample_and_the_counts_are_those_of_the_summary() {
    use orderwright::telemetry::instruments::{INSTRUMENTS, TOKEN};
    use orderwright::telemetry::metrics::prometheus_name;

    let stage = Stage::new("metrics", &["--orders", "20", "--conflict-rate", "0.3"]).await;
    let retries = ("RETRY__CONFLICTS__RETRIES_MAX", "16");
    let daemon = stage.daemon(&[retries]).await;
    let mut letters = stage.letters().await;
    stage.publish(&updates(20, 3)).await;
    stage.publish(&[message("SO-999999", &json!({"DeliveryDate": "2025-01-01"}))]).await;
    stage.applied(60).await;
    assert_eq!(letters.next().await.reason(), "not_found");
    // Of a publisher that says when it published.
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap();
    let properties = lapin::BasicProperties::default()
        .with_content_type("application/json".into())
        .with_timestamp(now);
    stage.channel().await.publish(properties, update(1, 9).as_bytes()).await;
    let root = daemon.admin().await;
    shows(&root, |status| {
        let counts = &status["counts"];
        counts["applied"].as_u64().unwrap() + counts["already_applied"].as_u64().unwrap() == 61
    })
    .await;
    assert_eq!(get(&root, "/readyz").await.0, StatusCode::OK);

    let (_, text) = get(&root, "/metrics").await;
    for instrument in INSTRUMENTS.iter().filter(|it| **it != TOKEN) {
        let name = prometheus_name(instrument);
        let is_sample = |line: &str| {
            line.strip_prefix(&name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']) || rest.starts_with("_count"))
        };
        assert!(text.lines().any(is_sample), "{name} has no sample in:\n{text}");
    }
    assert!(!text.contains("SO-0"), "no order is a label:\n{text}");
    let sample = |wanted: &str| {
        let line = text.lines().find(|line| line.starts_with(wanted)).unwrap_or_default();
        line.rsplit(' ').next().unwrap().parse::<f64>().ok()
    };
    let ended = daemon.stop().await;
    let exact = |count: &str| Some(f64::from(u32::try_from(ended.count(count)).unwrap()));
    for (name, count) in [
        ("messaging_client_consumed_messages_total", "received"),
        ("orderwright_updates_settled_total{outcome=\"applied\"}", "applied"),
        ("orderwright_attempts_total", "attempts"),
        ("orderwright_conflicts_total", "conflicts"),
        ("orderwright_dead_letters_total{reason=\"not_found\"}", "received"),
    ] {
        let wanted = if name.contains("not_found") { Some(1.0) } else { exact(count) };
        assert_eq!(sample(name), wanted, "{name} in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_is_seen_to_its_end_with_what_it_waits_for() {
    let stage = Stage::new("admin-drain", &["--orders", "1", "--patch-latency", "3s"]).await;
    let daemon = stage.daemon(&[("TARGET__PATCH_TIMEOUT", "60s")]).await;
    let root = daemon.admin().await;
    stage.publish(&updates(1, 2)).await;
    let status = shows(&root, |status| status["orders"][0]["state"] == "patch").await;
    let order = &status["orders"][0];
    assert_eq!(order["order"], "USMF/SO-000001");
    assert_eq!((order["attempt"].as_u64(), order["behind"].as_u64()), (Some(1), Some(1)));
    assert!(order["etag"].as_str().unwrap().starts_with("W/"), "{order}");
    daemon.signal("TERM").await;
    daemon.logs("draining").await;
    let status = json_of(&root, "/status").await;
    assert_eq!(status["phase"], "draining");
    assert_eq!(status["orders"][0]["state"], "patch", "{status}");
    assert_eq!(get(&root, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(&root, "/livez").await.0, StatusCode::OK);
    assert!(daemon.ended().await.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn target_that_is_down_leaves_the_pod_ready_and_orders_can_be_hidden() {
    let own_port = ["--orders", "4", "--listen-admin", "127.0.0.1:0"];
    let stage = Stage::new("admin-down", &own_port).await;
    let hidden = [("ADMIN__SHOW_ORDERS", "false"), ("DEAD_LETTER__ON_DEAD_LETTER", "park")];
    let daemon = stage.daemon(&hidden).await;
    let root = daemon.admin().await;
    stage.publish(&[message("SO-099999", &json!({"DeliveryDate": "2025-01-01"}))]).await;
    shows(&root, |status| status["counts"]["dead_lettered"]["not_found"] == 1).await;
    stage.simulator.faults(&json!({"f18_refuse_connections": 1})).await.unwrap();
    stage.publish(&updates(4, 2)).await;
    daemon.logs("the target does not work").await;
    let status = shows(&root, |status| status["target"]["state"] == "down").await;
    assert_eq!(status["target"]["reason"], "unreachable");
    assert_eq!(status["ready"]["ok"], true, "{status}");
    let degraded =
        ["the service is down: unreachable", "1 order stands still behind a dead letter"];
    assert_eq!(status["ready"]["degraded"], json!(degraded));
    assert_eq!(status["orders_busy"], 4);
    assert!(status["dead_letters"][0]["order"].as_str().unwrap().starts_with('#'), "{status}");
    // Wherever orders could show: those that are worked on, and the one that died and stands still.
    let explain = |order: &str| format!("/explain?order=USMF%2FSO-{order}");
    let (at_work, dead) = (explain("000001"), explain("099999"));
    for path in ["/status", "/", "/livez", "/readyz", &at_work, &dead, "/metrics"] {
        let (_, said) = get(&root, path).await;
        assert!(!said.contains("SO-0"), "{path}: {said}");
    }
    let (at_work, dead) = (json_of(&root, &at_work).await, json_of(&root, &dead).await);
    assert_eq!(at_work["at_work"]["order"], at_work["order"], "{at_work}");
    assert!(at_work["order"].as_str().unwrap().starts_with('#'), "{at_work}");
    assert_eq!((&dead["parked"]["letters"], &dead["at_work"]), (&json!(1), &Value::Null), "{dead}");
    let (_, metrics) = get(&root, "/metrics").await;
    assert!(metrics.contains("orderwright_breaker_open 1"), "{metrics}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_asks_the_listener_and_its_exit_code_says_what_it_said() {
    let settings = [("BROKER__URL", "amqp://guest:guest@127.0.0.1:1/%2f")]
        .map(|(name, value)| (format!("ORDERWRIGHT__{name}"), value.to_owned()));
    let daemon = Daemon::spawn(&settings);
    let listen = daemon.admin().await.replace("http://", "");
    let asked = async |listen: &str, probe: &str| {
        let settings = [("ORDERWRIGHT__ADMIN__LISTEN".to_owned(), listen.to_owned())];
        let mut command = orderwright(&settings);
        command.args(["healthcheck", "--probe", probe]).output().await.unwrap()
    };
    let live = asked(&listen, "livez").await;
    assert_eq!(live.status.code(), Some(0), "{live:?}");
    let ready = asked(&listen, "readyz").await;
    assert_eq!(ready.status.code(), Some(69), "{ready:?}");
    let said = String::from_utf8(ready.stdout).unwrap();
    assert!(said.contains("the broker is not reached yet"), "{said}");
    daemon.stop().await;
    assert_eq!(asked(&listen, "livez").await.status.code(), Some(69));
    assert_eq!(asked("127.0.0.1:0", "livez").await.status.code(), Some(78));
}
