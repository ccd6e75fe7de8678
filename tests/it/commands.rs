//! The tools: topology and publish.

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::broker;
use crate::daemon::{Daemon, orderwright};
use crate::stage::{SHARDS, Stage, update};

pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) async fn run(settings: &[(String, String)], arguments: &[&str]) -> Ran {
    let output = orderwright(settings).args(arguments).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[tokio::test(flavor = "multi_thread")]
async fn topology_check_names_what_is_missing_and_declare_brings_it_about() {
    let stage = Stage::new("topology", &[]).await;
    let settings = stage.settings(&[]).await;
    let missing = run(&settings, &["topology", "check"]).await;
    assert_eq!(missing.code, Some(78), "{}", missing.stderr);
    let queue = format!("queue {}.shard.g1.003: missing", stage.prefix());
    assert!(missing.stdout.contains(&queue), "{}", missing.stdout);
    assert!(missing.stdout.contains("orderwright topology declare"), "{}", missing.stdout);
    let again = run(&settings, &["topology", "check"]).await;
    assert_eq!(again.stdout, missing.stdout, "a check makes nothing");

    // Without leave to declare, a start is refused with the same words.
    let refused = [&settings[..], &[("ORDERWRIGHT__TOPOLOGY__DECLARE".into(), "false".into())]];
    let refused = Daemon::spawn(&refused.concat()).ended().await;
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    assert!(refused.log.contains("missing: run `orderwright topology declare`"), "{refused:?}");

    for _ in 0..2 {
        let declared = run(&settings, &["topology", "declare"]).await;
        assert_eq!(declared.code, Some(0), "{}{}", declared.stdout, declared.stderr);
    }
    let fine = run(&settings, &["topology", "check", "--output", "json"]).await;
    assert_eq!(fine.code, Some(0), "{}", fine.stdout);
    let objects: Vec<Value> =
        fine.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Entry, spread, forward, peers, dead letters and unroutable; five queues and the shards.
    let (last, objects) = objects.split_last().unwrap();
    assert_eq!(objects.len(), 6 + 5 + usize::from(SHARDS));
    assert!(objects.iter().all(|object| object["state"] == "fine"), "{objects:?}");
    // And that no more was looked at.
    assert_eq!((&last["severity"], &last["state"]), (&json!("warn"), &json!("not_configured")));
}

#[tokio::test(flavor = "multi_thread")]
async fn simulator_says_whether_another_one_is_there_for_containers_without_a_shell() {
    let stage = Stage::new("sim-health", &[]).await;
    let address = stage.simulator_url().trim_start_matches("http://").to_owned();
    let ask = async |address: &str| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_orderwright-sim"));
        let status = command.args(["--healthcheck", "--listen", address]).status().await;
        status.unwrap().code()
    };
    assert_eq!(ask(&address).await, Some(0));
    // By the port alone, where a container listens on every address.
    let port = address.rsplit_once(':').unwrap().1;
    assert_eq!(ask(&format!("0.0.0.0:{port}")).await, Some(0));
    drop(stage);
    assert_eq!(ask(&address).await, Some(69));
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_definitions_are_the_topology() {
    let Some(management) = broker::shared().await.management() else {
        eprintln!("skipped: this broker has no management API to import by");
        return;
    };
    let stage = Stage::new("definitions", &[]).await;
    let settings = stage.settings(&[]).await;
    let printed = run(&settings, &["topology", "print", "--format", "definitions"]).await;
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let import = client
        .post(format!("{management}/api/definitions"))
        .basic_auth("guest", Some("guest"))
        .header("content-type", "application/json")
        .body(printed.stdout);
    let answer = import.send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());

    let mut settings = settings;
    settings.push(("ORDERWRIGHT__BROKER__MANAGEMENT_URL".into(), management.to_owned()));
    let checked = run(&settings, &["topology", "check", "--output", "json"]).await;
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
    let states: Vec<Value> =
        checked.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // The broker before 4.3 tells of policies only after some seconds, and may scramble its ring.
    let known = ["fine", "policies_unseen", "version"];
    let is_known = |object: &Value| known.iter().any(|state| object["state"] == *state);
    assert!(states.iter().all(is_known), "{states:?}");
    let bound = |object: &&Value| object["object"] == "binding" && object["state"] == "fine";
    assert!(states.iter().any(|object| bound(&object)), "{states:?}");
    // And a message shows that they lead somewhere.
    let flags = ["publish", "--key", "USMF/SO-000001", "--set", "A=1"];
    let published = run(&settings, &flags).await;
    assert_eq!(published.code, Some(0), "{}{}", published.stdout, published.stderr);
    assert_eq!(stage.waiting().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_explained_and_refuses_the_start() {
    let stage = Stage::new("drift", &[]).await;
    let raw = stage.channel().await;
    let queue = format!("{}.shard.g1.001", stage.prefix());
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    raw.channel.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();

    let settings = stage.settings(&[]).await;
    let checked = run(&settings, &["topology", "check"]).await;
    assert_eq!(checked.code, Some(78));
    let line = checked.stdout.lines().find(|line| line.contains(&queue)).unwrap();
    assert!(line.contains("has another shape") && line.contains("inequivalent arg"), "{line}");

    let refused = Daemon::spawn(&settings).ended().await;
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    assert!(refused.log.contains(&queue) && refused.log.contains("inequivalent"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_update_is_published_from_flags() {
    let stage = Stage::new("flags", &["--orders", "1"]).await;
    let daemon = stage.daemon(&[]).await;
    let settings = stage.settings(&[]).await;
    let flags = ["--set", "DeliveryDate=2025-02-08", "--set", "UpdateSequence=7"];
    let key = ["publish", "--key", "usmf/SO-000001"];
    let wrong_case = run(&settings, &[&key[..], &flags].concat()).await;
    assert_eq!(wrong_case.code, Some(0), "{}", wrong_case.stderr);
    let mut letters = stage.letters().await;
    // The key's values go into the URL as they were sent, and this service minds the case.
    assert_eq!(letters.next().await.header("order"), "USMF/SO-000001");

    let arguments = [&["publish", "--key", "USMF/SO-000001"][..], &flags].concat();
    let published = run(&settings, &arguments).await;
    assert!(published.stdout.starts_with("1 confirmed"), "{}", published.stdout);
    stage.applied(1).await;
    daemon.stop().await;
    let order = stage.simulator.order("USMF", "SO-000001").await.unwrap();
    assert_eq!(order["properties"]["DeliveryDate"], "2025-02-08T12:00:00Z");
    assert_eq!(order["properties"]["UpdateSequence"], 7);

    let short = run(&settings, &["publish", "--key", "USMF", "--set", "A=1"]).await;
    assert_eq!(short.code, Some(64), "{}", short.stderr);
    assert!(short.stderr.contains("dataAreaId/SalesOrderNumber"), "{}", short.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_no_updates_are_named_and_not_sent() {
    let stage = Stage::new("lines", &["--orders", "2"]).await;
    let settings = stage.settings(&[]).await;
    assert_eq!(run(&settings, &["topology", "declare"]).await.code, Some(0));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("updates.ndjson");
    let lines = [update(1, 1), String::new(), "{\"key\":1}".to_owned(), update(2, 1)];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let file = file.to_str().unwrap();
    let arguments = ["publish", "--file", file, "--rate", "1000", "--output", "json"];
    let ran = run(&settings, &arguments).await;
    assert_eq!(ran.code, Some(65), "{}", ran.stderr);
    let summary: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&summary["confirmed"], &summary["refused"]), (&json!(2), &json!(1)), "{summary}");
    let complaint = summary["complaints"][0].as_str().unwrap();
    assert!(complaint.starts_with("line 3: "), "{complaint}");
    assert_eq!(stage.waiting().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_no_queue_takes_are_counted_as_returned() {
    let stage = Stage::new("unbound", &[]).await;
    let settings = stage.settings(&[]).await;
    let missing = run(&settings, &["publish", "--key", "USMF/1", "--set", "A=1"]).await;
    assert_eq!(missing.code, Some(69), "no exchange: {}", missing.stderr);

    let exchange = format!("{}.updates", stage.prefix());
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let (kind, none) = (lapin::ExchangeKind::Fanout, FieldTable::default());
    let raw = stage.channel().await;
    raw.channel.exchange_declare(exchange.as_str().into(), kind, options, none).await.unwrap();
    let arguments = ["publish", "--key", "USMF/1", "--set", "A=1", "--output", "json"];
    let returned = run(&settings, &arguments).await;
    assert_eq!(returned.code, Some(69), "{}", returned.stderr);
    let summary: Value = serde_json::from_str(&returned.stdout).unwrap();
    assert_eq!((&summary["confirmed"], &summary["returned"]), (&json!(0), &json!(1)), "{summary}");
}
