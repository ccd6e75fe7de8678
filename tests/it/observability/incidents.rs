//! Each alert fires at its cause, and `/status`, the page and `explain` name the cause.
//!
//! The rules are those that ship, with short waits: nobody waits for an hour here. One Prometheus watches
//! all; each incident has a job of its own, so that no other one's alert is taken for its own.

use std::collections::BTreeSet;

use lapin::BasicProperties;
use orderwright::shard::shard_of;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::prometheus::Prometheus;
use super::{get, read};
use crate::commands::run;
use crate::daemon::{Daemon, PATIENCE, orderwright};
use crate::proxy::Proxy;
use crate::stage::{SHARDS, Stage, update, updates};
use crate::wire::frames::{BASIC_ACK, CHANNEL_OPEN_OK, Frame, Method, channel_of};
use crate::wire::wired;

/// `connection.blocked` for want of memory: a method of class 10 on channel 0, with the reason as a short
/// text (section 4.2.3 of AMQP 0-9-1, and RabbitMQ's extension).
const BLOCKED: &[u8] = b"\x01\0\0\0\0\0\x0b\0\x0a\0\x3c\x06memory\xce";

/// What the broker answers to whom it will tell of each message that it has taken.
const CONFIRM_SELECT_OK: Method = Method(85, 11);

/// The rules with waits of a second in the place of minutes and hours.
fn hasty(rules: &str) -> String {
    let mut hasty = String::new();
    for line in rules.lines() {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("for: ") {
            hasty.push_str(&line[..indent]);
            hasty.push_str("for: 1s\n");
        } else {
            hasty.push_str(line);
            hasty.push('\n');
        }
    }
    for (shipped, short) in
        [("[15m])) > 600", "[15m])) > 1"), ("_seconds) > 3600", "_seconds) > 1")]
    {
        assert_eq!(hasty.matches(shipped).count(), 1, "{shipped} in {hasty}");
        hasty = hasty.replace(shipped, short);
    }
    hasty
}

/// A daemon with trouble to come, as a job of its own.
struct Scene<'a> {
    prometheus: &'a Prometheus,
    job: &'static str,
    root: String,
    /// The operator's, who reaches the broker whatever the daemon does.
    settings: Vec<(String, String)>,
}

impl<'a> Scene<'a> {
    async fn of(
        prometheus: &'a Prometheus,
        job: &'static str,
        (stage, daemon): (&Stage, &Daemon),
    ) -> Self {
        let scene = Self::begin(prometheus, job, (stage, daemon)).await;
        // Counters must have been seen at nothing before they can be seen to grow.
        let seen = "count_over_time(orderwright_updates_settled_total";
        prometheus.shows(&format!("{seen}{{job=\"{job}\"}}[1m]) > 1")).await;
        let alerts = prometheus.query(&format!("ALERTS{{job=\"{job}\"}}")).await;
        assert!(alerts.is_empty(), "nothing is amiss yet: {alerts:#?}");
        scene
    }

    /// With the trouble there from the first moment on.
    async fn begin(
        prometheus: &'a Prometheus,
        job: &'static str,
        (stage, daemon): (&Stage, &Daemon),
    ) -> Self {
        let root = daemon.admin().await;
        prometheus.scrape(job, &[(&root, None)]);
        Self { prometheus, job, root, settings: stage.settings(&[]).await }
    }

    async fn fires(&self, alert: &str) -> Value {
        let job = self.job;
        let firing = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\",job=\"{job}\"}}");
        self.prometheus.shows(&firing).await[0]["metric"].clone()
    }

    async fn status(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let shown = async {
            loop {
                let status = get(format!("{}/status", self.root)).await;
                let status: Value = serde_json::from_str(&status).unwrap();
                if wanted(&status) {
                    return status;
                }
            }
        };
        timeout(PATIENCE, shown).await.expect("the status to name it")
    }

    /// The page for people says all of this.
    async fn page(&self, texts: &[&str]) {
        says(texts, async || get(format!("{}/", self.root)).await).await;
    }

    /// `explain` says all of this of the order.
    async fn explain(&self, order: &str, texts: &[&str]) {
        self.explain_with(order, &[], texts).await;
    }

    async fn explain_with(&self, order: &str, more: &[&str], texts: &[&str]) {
        let arguments = [&["explain", order, "--admin", &self.root], more].concat();
        says(texts, async || run(&self.settings, &arguments).await.stdout).await;
    }
}

/// Asks until all of this is said.
async fn says(texts: &[&str], ask: impl AsyncFn() -> String) {
    let mut said = String::new();
    let asking = async {
        while !texts.iter().all(|text| said.contains(text)) {
            said = ask().await;
        }
    };
    let told = timeout(PATIENCE, asking).await;
    assert!(told.is_ok(), "not all of {texts:?} is in:\n{said}");
}

/// An order of this shard.
fn order_of(shard: u16) -> String {
    let keys = (1..).map(|number| format!("USMF/SO-{number:06}"));
    keys.into_iter().find(|key| shard_of(key, SHARDS) == shard).unwrap()
}

async fn service_down(prometheus: &Prometheus) {
    let own_port = ["--orders", "4", "--listen-admin", "127.0.0.1:0"];
    let stage = Stage::new("incident-down", &own_port).await;
    let daemon = stage.daemon(&[]).await;
    let scene = Scene::of(prometheus, "down", (&stage, &daemon)).await;
    stage.simulator.faults(&json!({"f18_refuse_connections": 1})).await.unwrap();
    stage.publish(&updates(4, 2)).await;
    scene.fires("OrderwrightServiceDown").await;
    scene.fires("OrderwrightUpdateTooOld").await;
    let status = scene.status(|status| status["target"]["state"] == "down").await;
    assert_eq!(status["target"]["reason"], "unreachable", "{status}");
    let order = &status["orders"][0];
    assert!(order["oldest_seconds"].as_f64().unwrap() > 1.0, "{status}");
    scene.page(&["<li>the service is down: unreachable</li>", "Oldest update"]).await;
    let order = order["order"].as_str().unwrap();
    let says = [
        "it is at work: ",
        "the oldest of all here for",
        "this pod: the service is down: unreachable",
    ];
    scene.explain(order, &says).await;
    daemon.stop().await;
    // Others go on.
    scene.fires("OrderwrightInstallationGone").await;
    assert!(reqwest::get(format!("{}/", scene.root)).await.is_err(), "there is nobody to ask");
    let gone = run(&scene.settings, &["explain", order, "--admin", &scene.root]).await;
    assert_eq!(gone.code, Some(69), "{}", gone.stderr);
    assert!(
        gone.stdout.contains("no answer") && gone.stdout.contains("0 subscribed"),
        "{}",
        gone.stdout
    );
}

/// Update `sequence` of order `order`, which no state of the order allows.
fn dying(order: u64, sequence: u64) -> String {
    let mut body: Value = serde_json::from_str(&update(order, sequence)).unwrap();
    body["expect"] = json!({"UpdateSequence": [-1]});
    body.to_string()
}

async fn letters(prometheus: &Prometheus) {
    let stage = Stage::new("incident-letters", &["--orders", "4"]).await;
    let park = [("DEAD_LETTER__ON_DEAD_LETTER", "park"), ("DEAD_LETTER__PARKED_ORDERS_MAX", "2")];
    let daemon = stage.daemon(&park).await;
    let mut scene = Scene::of(prometheus, "letters", (&stage, &daemon)).await;
    scene.settings = stage.settings(&park).await;
    let mut bodies = vec![dying(1, 1), dying(2, 1)];
    bodies.extend((2..=15).map(|sequence| update(1, sequence)));
    stage.publish(&bodies).await;
    for alert in [
        "OrderwrightDeadLetters",
        "OrderwrightNewTrouble",
        "OrderwrightSuccessBurnsFast",
        "OrderwrightSuccessBurnsSlowly",
        "OrderwrightOrdersParked",
        "OrderwrightParkingFull",
    ] {
        scene.fires(alert).await;
    }
    let status = scene.status(|status| status["counts"]["parked_orders"] == 2).await;
    let letters = json!({"expectation_failed": 2, "parked_behind": 14});
    assert_eq!(status["counts"]["dead_lettered"], letters, "{status}");
    let news = scene.fires("OrderwrightNewTrouble").await;
    let fingerprint = news["fingerprint"].as_str().unwrap();
    let full = "2 orders stand still behind a dead letter; no more can be parked";
    scene.page(&[full, "<code>expectation_failed</code>", fingerprint]).await;
    let (stands_still, full) =
        ("it stands still behind the dead letter", format!("this pod: {full}"));
    let letters =
        ["dead letters: 15 among 16 of 16 looked at", "expectation_failed", stands_still, &full];
    scene.explain("USMF/SO-000001", &letters).await;
    daemon.stop().await;
}

async fn broker(prometheus: &Prometheus) {
    let stage = Stage::new("incident-broker", &["--orders", "4"]).await;
    let url = stage.url().await;
    let proxy = Proxy::before(&url).await.unwrap();
    let url = proxy.url(&url);
    let declared = orderwright(&stage.settings(&[]).await).args(["topology", "declare"]).output();
    assert!(declared.await.unwrap().status.success());
    let settings = [
        ("BROKER__URL", url.as_str()),
        ("TOPOLOGY__DECLARE", "false"),
        ("TOPOLOGY__CHECK_INTERVAL", "1s"),
        ("DEAD_LETTER__PUBLISH_RETRIES_MAX", "0"),
    ];
    let daemon = stage.daemon(&settings).await;
    let scene = Scene::of(prometheus, "broker", (&stage, &daemon)).await;

    let raw = stage.channel().await;
    raw.delete_queue("shard.g1.003").await;
    let alert = scene.fires("OrderwrightShardWithoutOwner").await;
    assert_eq!(alert["shard"], "3");
    let status = scene.status(|status| status["shards"][3]["is_missing"] == true).await;
    assert_eq!(status["shards"][3]["number"], 3, "{status}");
    let missing = "shard.g1.003 is not subscribed to";
    scene.page(&["Not ready", missing, "shard.g1.003: missing: run"]).await;
    let says = [
        "there is no such queue: run `orderwright topology check`",
        "not subscribed to it",
        missing,
    ];
    scene.explain(&order_of(3), &says).await;

    raw.delete_queue("dead-letters").await;
    raw.publish(BasicProperties::default(), b"not JSON").await;
    scene.fires("OrderwrightSettlementsLost").await;
    scene.status(|status| status["counts"]["settlements_lost"].as_u64() > Some(0)).await;
    scene.page(&["<dt>settlements_lost</dt>", ".dead-letters: missing: run"]).await;
    // Its letters cannot be looked at: their queue is what is missing.
    let order = order_of(0);
    scene.explain_with(&order, &["--no-letters"], &[".dead-letters: missing: run"]).await;

    // As the broker would say it, to the one that publishes and asks for confirms.
    proxy.tamper(move |_connection, bytes| {
        let method = Frame::of(bytes).map(|frame| frame.method);
        let publishes = matches!(method, Some(CONFIRM_SELECT_OK | BASIC_ACK));
        [bytes, if publishes { BLOCKED } else { &[] }].concat()
    });
    scene.fires("OrderwrightBrokerAlarm").await;
    scene.status(|status| status["broker"]["alarm"] == true).await;
    let alarm = "the broker takes no messages";
    scene.page(&[alarm, "Takes no messages (alarm)</dt><dd>yes"]).await;
    scene.explain_with(&order, &["--no-letters"], &[&format!("this pod: {alarm}")]).await;

    proxy.mute();
    proxy.cut();
    scene.fires("OrderwrightBrokerLost").await;
    scene.status(|status| status["broker"]["connected"] == false).await;
    let lost = "there is no connection to the broker";
    scene.page(&["Not ready", lost]).await;
    scene.explain_with(&order, &["--no-letters"], &[&format!("this pod: {lost}")]).await;
    drop(daemon);
}

/// A pod that never has a connection is no quieter than one that loses it.
async fn start_without_a_broker(prometheus: &Prometheus) {
    let stage = Stage::new("incident-start", &["--orders", "1"]).await;
    let declared = orderwright(&stage.settings(&[]).await).args(["topology", "declare"]).output();
    assert!(declared.await.unwrap().status.success());
    let nobody = ("BROKER__URL", "amqp://guest:guest@127.0.0.1:1/%2f");
    let settings = stage.settings(&[nobody, ("BROKER__START_TIMEOUT", "10m")]).await;
    let daemon = Daemon::spawn(&settings);
    let scene = Scene::begin(prometheus, "start", (&stage, &daemon)).await;
    scene.fires("OrderwrightBrokerLost").await;
    let status = scene.status(|status| status["phase"] == "starting").await;
    let because = "the broker is not reached yet";
    assert_eq!(status["ready"]["because"], json!([because]), "{status}");
    scene.page(&["Starting: the broker is not reached yet"]).await;
    scene.explain("USMF/SO-000001", &[because, "0 subscribed"]).await;
    daemon.stop().await;
}

async fn watchdog_and_versions(prometheus: &Prometheus) {
    let stage = Stage::new("incident-still", &["--orders", "12"]).await;
    let settings = [("BROKER__PREFETCH", "1"), ("BALANCE__WATCH_INTERVAL", "1s")];
    let (proxy, daemon) = wired(&stage, &settings).await;
    let scene = Scene::of(prometheus, "still", (&stage, &daemon)).await;
    // One delivery is swallowed, and its queue waits for its ack.
    let mut swallowed: Option<(usize, u16)> = None;
    proxy.tamper(move |connection, bytes| {
        let here = (connection, channel_of(bytes));
        if let Some(frame) = Frame::of(bytes) {
            if swallowed.is_none() && frame.delivers_an_update() {
                swallowed = Some(here);
            } else if swallowed == Some(here) && frame.method == CHANNEL_OPEN_OK {
                swallowed = Some((usize::MAX, 0));
            }
        }
        if swallowed == Some(here) { Vec::new() } else { bytes.to_vec() }
    });
    stage.publish(&updates(12, 3)).await;
    scene.fires("OrderwrightShardStoodStill").await;
    // From here on nothing stands still.
    stage.applied(36).await;
    let status = scene.status(|status| status["broker"]["stood_still"].as_u64() > Some(0)).await;
    let stood = |shard: &&Value| shard["stood_still"].as_u64() > Some(0);
    let shard = status["shards"].as_array().unwrap().iter().find(stood).unwrap();
    let number = u16::try_from(shard["number"].as_u64().unwrap()).unwrap();
    let queue = shard["queue"].as_str().unwrap();
    let times = &status["broker"]["stood_still"];
    scene.page(&[&format!("Shards that stood still</dt><dd>{times}</dd>"), queue]).await;
    let times = &shard["stood_still"];
    scene.explain(&order_of(number), &[&format!("{queue} (which stood still {times} times")]).await;

    let known: &str = &scene.root;
    // Another name for the same address, so that it counts as another pod.
    let other = known.replace("127.0.0.1", "localhost");
    prometheus.scrape("still", &[(known, None), (&other, Some("0.0.0"))]);
    scene.fires("OrderwrightVersionsDiffer").await;
    // Which pod is of which: nobody but they themselves can say.
    let version = env!("CARGO_PKG_VERSION");
    scene.page(&[&format!("Version <span id=\"version\">{version}</span>")]).await;
    let both = [format!("{known}/, version {version}:"), format!("{other}/, version {version}:")];
    scene.explain_with("USMF/SO-000001", &["--admin", &other], &[&both[0], &both[1]]).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alert_fires_at_its_cause_and_status_page_and_explain_name_it() {
    let rules = hasty(&read("rules.yaml"));
    let jobs = ["down", "letters", "broker", "still", "start"];
    let Some(prometheus) = &Prometheus::start(&rules, &jobs).await else { return };
    tokio::join!(
        service_down(prometheus),
        letters(prometheus),
        broker(prometheus),
        watchdog_and_versions(prometheus),
        start_without_a_broker(prometheus),
    );
    // Everybody has gone home.
    let gone = "ALERTS{alertname=\"OrderwrightGone\",alertstate=\"firing\"}";
    prometheus.shows(gone).await;
    // None was forgotten.
    let fired = prometheus
        .query("count by (alertname) (count_over_time(ALERTS{alertstate=\"firing\"}[1h]))");
    let fired: BTreeSet<_> = fired
        .await
        .iter()
        .map(|it| it["metric"]["alertname"].as_str().unwrap().to_owned())
        .collect();
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    assert_eq!(fired, alerts.map(str::to_owned).collect());
}
