//! Rules, dashboard and metrics against a real Prometheus.

mod incidents;
mod prometheus;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::stage::{Stage, message, update, updates};
use crate::target::{SECRET, signing_in};
use prometheus::{FOLDER, Prometheus, promtool};

fn read(name: &str) -> String {
    std::fs::read_to_string(format!("{FOLDER}/{name}")).unwrap()
}

async fn get(url: String) -> String {
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

/// Names of metrics and of recorded series.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |it: char| it.is_ascii_alphanumeric() || "_:".contains(it);
    let is_ours = |name: &&str| {
        ["orderwright_", "messaging_", "http_client_", "job:orderwright"]
            .iter()
            .any(|it| name.starts_with(it))
    };
    text.split(|it| !is_part(it)).filter(is_ours).map(str::to_owned).collect()
}

/// Every query of the dashboard, with what Grafana puts in the place of its variables.
fn queries(dashboard: &str) -> Vec<String> {
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let filled = |target: &Value| {
        let text = target["expr"].as_str().unwrap();
        let text = text.replace("$__rate_interval", "1m").replace("$__range", "1h");
        text.replace("$job", ".+")
    };
    targets.map(filled).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_sound_and_each_fires_and_rests_as_its_unit_test_says() {
    for arguments in
        [&["check", "rules", "--lint=all", "rules.yaml"][..], &["test", "rules", "rules_test.yaml"]]
    {
        let Some(output) = promtool(arguments, "").await else { return };
        assert!(output.status.success(), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_of_the_playgrounds_prometheus_is_sound_with_the_rules_beside_it() {
    const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/compose/prometheus.yaml");
    let folder = tempfile::tempdir().unwrap();
    // As docker-compose.yml mounts them.
    let file = folder.path().join("prometheus.yml");
    std::fs::copy(SHIPPED, &file).unwrap();
    let check = ["check", "config", file.to_str().unwrap()];
    let Some(output) = promtool(&check, "").await else { return };
    assert!(!output.status.success(), "the rules that are missing are not looked for: {output:?}");
    std::fs::write(folder.path().join("rules.yaml"), read("rules.yaml")).unwrap();
    let output = promtool(&check, "").await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("1 rule files found") && said.contains("rules found"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_rules_and_dashboard_has_samples_in_a_real_prometheus() {
    let Some(prometheus) = Prometheus::start(&read("rules.yaml"), &["shop"]).await else { return };
    let guard = ["--client-id", "app", "--client-secret", SECRET, "--tenant", "contoso.com"];
    let traffic = ["--orders", "20", "--conflict-rate", "0.3"];
    let stage = Stage::new("scraped", &[&guard[..], &traffic].concat()).await;
    let mut settings = signing_in(stage.simulator_url(), SECRET).to_vec();
    settings.push(("RETRY__CONFLICTS__RETRIES_MAX", "16"));
    let daemon = stage.daemon(&settings).await;
    let root = daemon.admin().await;
    prometheus.scrape("shop", &[(&root, None)]);
    let mut letters = stage.letters().await;
    stage.publish(&updates(20, 3)).await;
    stage.publish(&[message("SO-999999", &json!({"DeliveryDate": "2025-01-01"}))]).await;
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap();
    let dated = lapin::BasicProperties::default()
        .with_content_type("application/json".into())
        .with_timestamp(now);
    stage.channel().await.publish(dated, update(1, 9).as_bytes()).await;
    stage.applied(60).await;
    assert_eq!(letters.next().await.reason(), "not_found");

    let text = get(format!("{root}/metrics")).await;
    let checked = promtool(&["check", "metrics"], &text).await.unwrap();
    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");

    let dashboard = queries(&read("dashboard.json"));
    assert!(dashboard.len() > 20, "{dashboard:?}");
    let of_rules = [read("rules.yaml"), read("rules_test.yaml")].map(|text| names(&text));
    let wanted: BTreeSet<_> =
        of_rules.into_iter().flatten().chain(names(&dashboard.join(" "))).collect();
    assert!(wanted.len() > 40, "{wanted:?}");
    for expression in wanted.iter().chain(&dashboard) {
        prometheus.shows(expression).await;
    }
    daemon.stop().await;
}
