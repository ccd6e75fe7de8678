//! Replays while things go wrong: the service is down or refuses, notices are lost, letters die again.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::{Instant, timeout};

use crate::commands::{Ran, run};
use crate::daemon::{Daemon, PATIENCE, orderwright};
use crate::stage::{Stage, message, update};

/// Notices are not told.
const MUTE: (&str, &str) = ("BROKER__NOTICES_MAX", "0");

pub(crate) async fn dlq(stage: &Stage, words: &[&str]) -> Ran {
    let mut settings = stage.settings(&[]).await;
    settings.push(("ORDERWRIGHT_OPERATOR".to_owned(), "kim@desk".to_owned()));
    run(&settings, &[&["dlq"], words].concat()).await
}

pub(crate) fn parsed(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}{}", ran.stdout, ran.stderr))
}

async fn depth(stage: &Stage) -> u32 {
    stage.channel().await.depth("dead-letters").await
}

fn refusals(count: usize) -> Value {
    json!({"next": vec![json!({"on": "patch", "do": "status", "status": 400}); count]})
}

/// A daemon, and one letter of each of so many orders.
async fn refused(name: &str, orders: u64, more: &[(&str, &str)]) -> (Stage, Daemon) {
    let count = usize::try_from(orders).unwrap();
    let stage = Stage::new(name, &["--orders", &orders.to_string()]).await;
    stage.simulator.faults(&refusals(count)).await.unwrap();
    let daemon = stage.daemon(more).await;
    stage.publish(&(1..=orders).map(|order| update(order, 1)).collect::<Vec<_>>()).await;
    daemon.logs_times("\"dead-lettered\"", count).await;
    (stage, daemon)
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_whose_letters_die_again_is_given_up_and_every_letter_is_accounted_for() {
    let (stage, daemon) = refused("replay-stop", 60, &[]).await;
    stage.simulator.faults(&refusals(60)).await.unwrap();
    let replay = ["replay", "--run", "--canary", "0", "--rate", "1000", "--output", "json"];
    let ran = dlq(&stage, &replay).await;
    let sum = parsed(&ran);
    assert_eq!((ran.code, &sum["end"]), (Some(75), &json!("stopped")), "{}", ran.stderr);
    let count = |name: &str| sum["counts"][name].as_u64().unwrap_or(0);
    let (failed, left) = (count("failed"), count("left"));
    // From 20 outcomes on, and what was on its way by then.
    assert!((20..=28).contains(&failed) && failed + left == 60, "{sum}");
    assert_eq!(depth(&stage).await, 60, "nothing is lost");

    let report = ["report", sum["replay"].as_str().unwrap(), "--output", "json"];
    let report = parsed(&dlq(&stage, &report).await);
    let account = &report["account"];
    assert_eq!(account["counts"], json!({"dead_lettered": failed, "left": left}), "{account}");
    assert_eq!((&account["letters"], &account["unaccounted"]), (&json!(60), &json!(0)));
    let unsent: Vec<&Value> = report["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["event"] == "unsent")
        .flat_map(|it| it["letters"].as_array().unwrap())
        .collect();
    assert_eq!(unsent.len(), usize::try_from(left).unwrap());
    assert!(unsent.iter().all(|it| it["order"].as_str().unwrap().starts_with("USMF/SO-")));
    let text = dlq(&stage, &["report", sum["replay"].as_str().unwrap(), "--output", "table"]).await;
    assert!(text.stdout.contains("not begun: stopped"), "{}", text.stdout);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_that_comes_to_its_end_says_by_its_exit_code_that_letters_died_again() {
    let (stage, daemon) = refused("replay-failed", 3, &[]).await;
    stage.simulator.faults(&refusals(1)).await.unwrap();
    let ran = dlq(&stage, &["replay", "--run", "--canary", "0", "--output", "json"]).await;
    let sum = parsed(&ran);
    assert_eq!((ran.code, &sum["end"]), (Some(1), &json!("done")), "{sum}");
    assert_eq!(sum["counts"], json!({"applied": 2, "failed": 1}));

    // The letter tells what it died of before, and the journal what was done with it.
    let letter = parsed(&dlq(&stage, &["ls", "--output", "json"]).await)[0].clone();
    let show = ["show", letter["id"].as_str().unwrap(), "--output", "json"];
    let shown = parsed(&dlq(&stage, &show).await);
    let before = &shown["earlier"];
    assert_eq!(before.as_array().unwrap().len(), 1, "{before}");
    let first = &shown["replays"]["first_dead_letter"];
    assert_eq!((&before[0]["id"], &before[0]["reason"]), (first, &json!("business_rule")));
    let history = shown["history"].as_array().unwrap();
    assert_eq!(history.len(), 1, "{history:?}");
    assert_eq!(
        (&history[0]["event"], &history[0]["letter"], &history[0]["new_letter"]),
        (&json!("replayed"), first, &letter["id"])
    );
    let again = dlq(&stage, &["replay", "--run"]).await;
    assert_eq!((again.code, depth(&stage).await), (Some(0), 0), "{}", again.stderr);
    let history = ["history", "--letter", first.as_str().unwrap(), "--output", "ndjson"];
    assert_eq!(dlq(&stage, &history).await.stdout.lines().count(), 1, "the first time");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_an_order_go_in_the_order_in_which_they_died_first_however_often_they_come_back()
{
    let stage = Stage::new("replay-order", &["--orders", "1"]).await;
    stage.simulator.faults(&refusals(3)).await.unwrap();
    let daemon = stage.daemon(&[]).await;
    stage.publish(&[update(1, 1), update(1, 2), update(1, 3)]).await;
    daemon.logs_times("\"dead-lettered\"", 3).await;
    // The first one dies again, and stands behind the others from then on.
    stage.simulator.faults(&refusals(1)).await.unwrap();
    let failed = dlq(&stage, &["replay", "--run", "--output", "json"]).await;
    assert_eq!(parsed(&failed)["counts"], json!({"failed": 1, "left": 2}), "{}", failed.stderr);
    let all = dlq(&stage, &["replay", "--run", "--output", "json"]).await;
    assert_eq!(parsed(&all)["counts"], json!({"applied": 3}), "{}", all.stderr);
    let ledger = stage.applied(3).await;
    assert_eq!((ledger.out_of_order, ledger.applied_twice), (0, 0));
    let order = stage.simulator.order("USMF", "SO-000001").await.unwrap();
    assert_eq!(order["properties"]["UpdateSequence"], 3);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_waits_while_the_service_is_down_and_goes_on_by_itself() {
    let quick = [("BREAKER__PROBE_INTERVAL", "500ms")];
    let own_port = ["--orders", "20", "--listen-admin", "127.0.0.1:0"];
    let stage = Stage::new("replay-outage", &own_port).await;
    stage.simulator.faults(&refusals(20)).await.unwrap();
    let daemon = stage.daemon(&quick).await;
    stage.publish(&(1..=20).map(|order| update(order, 1)).collect::<Vec<_>>()).await;
    daemon.logs_times("\"dead-lettered\"", 20).await;

    let mut command = orderwright(&stage.settings(&[]).await);
    let flags = ["--canary", "0", "--rate", "10", "--output", "ndjson", "--ask-after", "1s"];
    let mut replay = command.args(["dlq", "replay", "--run"]).args(flags).spawn().unwrap();
    let mut lines = BufReader::new(replay.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    while let Some(line) = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap() {
        said.push(serde_json::from_str::<Value>(&line).unwrap());
        if said.len() == 2 {
            stage.simulator.faults(&json!({"f18_maintenance": 1})).await.unwrap();
            // What was on its way waits; nothing of it dies.
            daemon.logs("the target does not work").await;
            stage.simulator.faults(&json!({"f18_maintenance": 0})).await.unwrap();
        }
    }
    let sum = said.pop().unwrap();
    assert_eq!((&sum["end"], &sum["counts"]), (&json!("done"), &json!({"applied": 20})), "{sum}");
    assert!(said.iter().all(|it| it["outcome"] == "applied"), "{said:?}");
    assert_eq!((stage.applied(20).await.applied_twice, depth(&stage).await), (0, 0));
    let ended = daemon.stop().await;
    assert_eq!(ended.count("outages"), 1, "{}", ended.log);
    assert_eq!(ended.summary.unwrap()["dead_lettered"], json!({"business_rule": 20}));
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_without_notices_finds_out_by_itself_what_was_written_and_what_died_again() {
    let (stage, daemon) = refused("replay-mute", 12, &[MUTE]).await;
    stage.simulator.faults(&refusals(1)).await.unwrap();
    let flags = ["--canary", "0", "--ask-after", "500ms", "--output", "json"];
    let ran = dlq(&stage, &[&["replay", "--run"][..], &flags].concat()).await;
    let sum = parsed(&ran);
    assert_eq!(ran.code, Some(1), "{sum}{}", ran.stderr);
    assert_eq!(sum["counts"], json!({"already_applied": 11, "failed": 1}), "{}", ran.stderr);
    assert_eq!((stage.applied(11).await.applied_twice, depth(&stage).await), (0, 1));
    let letter = parsed(&dlq(&stage, &["ls", "--output", "json"]).await)[0].clone();
    assert_eq!(letter["replays"]["replay_id"], sum["replay"], "the old one is gone");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_gives_up_what_nobody_tells_of_and_the_service_says_is_not_written() {
    let (stage, daemon) = refused("replay-unknown", 2, &[]).await;
    daemon.stop().await;
    // Nobody is at work, and the service answers.
    let flags =
        ["--canary", "0", "--ask-after", "200ms", "--outcome-max", "1s", "--output", "json"];
    let ran = dlq(&stage, &[&["replay", "--run"][..], &flags].concat()).await;
    let sum = parsed(&ran);
    assert_eq!((ran.code, &sum["counts"]), (Some(1), &json!({"unknown": 2})), "{}", ran.stderr);
    assert_eq!((depth(&stage).await, stage.waiting().await), (2, 2), "they stay");
    let history = ["history", "--event", "replayed", "--output", "ndjson"];
    let history = dlq(&stage, &history).await.stdout;
    let outcome = |line: &str| serde_json::from_str::<Value>(line).unwrap()["outcome"].clone();
    assert_eq!(history.lines().map(outcome).collect::<Vec<_>>(), ["unknown", "unknown"]);

    let daemon = stage.daemon(&[]).await;
    stage.applied(2).await;
    let again = dlq(&stage, &["replay", "--run", "--output", "json"]).await;
    assert_eq!(parsed(&again)["counts"], json!({"already_applied": 2}), "{}", again.stderr);
    assert_eq!((stage.applied(2).await.applied_twice, depth(&stage).await), (0, 0));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_tells_what_is_missing_never_seen_and_refused_and_asks_nobody_where_it_is_offline() {
    let stage = Stage::new("plan-kinds", &["--orders", "1"]).await;
    let daemon = stage.daemon(&[]).await;
    let changes = json!({"UpdateSequence": 1});
    stage.publish(&[message("SO-900001", &changes), message("SO-900002", &changes)]).await;
    let key = json!({"dataAreaId": "USMF", "SalesOrderNumber": "SO-000001"});
    let guarded = json!({"key": key, "changes": {"UpdateSequence": 1},
        "expect": {"SalesStatus": ["Nowhere"]}});
    stage.publish(&[guarded.to_string()]).await;
    daemon.logs_times("\"dead-lettered\"", 3).await;

    let plan = ["plan", "--output", "json"];
    let asked = parsed(&dlq(&stage, &plan).await);
    assert_eq!(asked["prospects"], json!({"order_missing": 2, "refused": 1}), "{asked}");
    assert!(asked["get_milliseconds"].is_number() && asked["seconds"].is_number(), "{asked}");
    let gets = stage.simulator.read(0).await.unwrap().gets;
    let offline = parsed(&dlq(&stage, &["plan", "--offline", "--output", "json"]).await);
    assert_eq!((&offline["letters"], &offline["orders"]), (&json!(3), &json!(3)));
    assert_eq!((&offline["prospects"], &offline["plan"]), (&json!({}), &json!([])));
    assert_eq!((&offline["get_milliseconds"], &offline["seconds"]), (&Value::Null, &json!(0.15)));
    assert_eq!(stage.simulator.read(0).await.unwrap().gets, gets, "nobody was asked");

    // Somebody creates an order. Whether something newer was written since, only a person can know.
    stage.simulator.create("USMF", "SO-900001").await.unwrap();
    let asked = parsed(&dlq(&stage, &plan).await);
    let kinds = json!({"never_seen": 1, "order_missing": 1, "refused": 1});
    assert_eq!(asked["prospects"], kinds, "{asked}");
    let unseen = asked["plan"].as_array().unwrap().iter().find(|it| it["prospect"] == "never_seen");
    let change = &unseen.unwrap()["changed"][0];
    assert_eq!((&change["property"], &change["wanted"]), (&json!("UpdateSequence"), &json!(1)));
    let group = &parsed(
        &dlq(&stage, &["groups", "--reason", "not_found", "--output", "json"]).await,
    )["groups"][0];
    assert!(group["advice"].as_str().unwrap().contains("--never-seen"), "{group}");
    let replay = ["replay", "--run", "--reason", "not_found", "--output", "json"];
    let left = dlq(&stage, &replay).await;
    assert_eq!(parsed(&left)["counts"], json!({"left": 2}), "{}", left.stderr);
    let known = ["--never-seen", "--because", "TICKET-8: it is created now"];
    let written = dlq(&stage, &[&replay[..], &known].concat()).await;
    assert_eq!(parsed(&written)["counts"], json!({"applied": 1, "left": 1}), "{}", written.stderr);
    let order = stage.simulator.order("USMF", "SO-900001").await.unwrap();
    assert_eq!(order["properties"]["UpdateSequence"], 1, "without any force");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letter_that_never_saw_its_order_stops_those_behind_it_until_somebody_knows_better() {
    let stage = Stage::new("replay-unseen", &["--orders", "1"]).await;
    let daemon = stage.daemon(&[]).await;
    let changes = |sequence| message("SO-900001", &json!({"UpdateSequence": sequence}));
    stage.publish(&[changes(1)]).await;
    daemon.logs("\"dead-lettered\"").await;
    stage.simulator.create("USMF", "SO-900001").await.unwrap();
    stage.simulator.faults(&refusals(1)).await.unwrap();
    stage.publish(&[changes(2)]).await;
    daemon.logs_times("\"dead-lettered\"", 2).await;
    // Were the second one written, the first would go over it the next time.
    let replay = ["replay", "--run", "--output", "json"];
    let left = dlq(&stage, &replay).await;
    assert_eq!(parsed(&left)["counts"], json!({"left": 2}), "{}", left.stderr);
    let both = [&replay[..], &["--never-seen", "--because", "TICKET-9"]].concat();
    let both = dlq(&stage, &both).await;
    // What the first one is written over is what the second one saw: nobody else has written.
    assert_eq!(parsed(&both)["counts"], json!({"applied": 2}), "{}", both.stderr);
    assert_eq!(stage.applied(2).await.out_of_order, 0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_that_wants_rest_is_left_alone_and_the_plan_is_whole_all_the_same() {
    let (stage, daemon) = refused("plan-throttled", 12, &[]).await;
    daemon.stop().await;
    let later = json!({"on": "get", "do": "status", "status": 429, "retry_after": "2"});
    stage.simulator.faults(&json!({"next": vec![later; 3]})).await.unwrap();
    let begun = Instant::now();
    let plan = parsed(&dlq(&stage, &["plan", "--rate", "100", "--output", "json"]).await);
    assert_eq!(plan["prospects"], json!({"would_apply": 12}), "{plan}");
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    let ledger = stage.simulator.read(0).await.unwrap();
    assert!(ledger.in_flight_max <= 8, "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_and_replay_show_on_a_terminal_how_far_they_are() {
    let script = std::process::Command::new("script").arg("--version").output();
    if !script.is_ok_and(|it| it.status.success()) {
        eprintln!("skipped: no program that gives a terminal (script)");
        return;
    }
    let (stage, daemon) = refused("replay-terminal", 8, &[]).await;
    let settings = stage.settings(&[]).await;
    for (words, doing) in
        [("plan", "orders asked for"), ("replay --run --canary 0 --output json", "letters seen to")]
    {
        let words = format!("{} dlq {words} --rate 4", env!("CARGO_BIN_EXE_orderwright"));
        let mut command = tokio::process::Command::new("script");
        command.args(["--quiet", "--return", "--command", &words, "/dev/null"]);
        command.envs(settings.clone()).env("TERM", "xterm").stdin(std::process::Stdio::null());
        let shown = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&shown.stdout);
        assert!(shown.status.success() && text.contains(&format!("of 8 {doing}")), "{text}");
    }
    assert_eq!(depth(&stage).await, 0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_asks_for_several_orders_at_once_and_never_faster_than_it_may() {
    let slow = ["--orders", "24", "--get-latency", "300ms"];
    let stage = Stage::new("plan-wide", &slow).await;
    stage.simulator.faults(&refusals(24)).await.unwrap();
    let daemon = stage.daemon(&[]).await;
    stage.publish(&(1..=24).map(|order| update(order, 1)).collect::<Vec<_>>()).await;
    daemon.logs_times("\"dead-lettered\"", 24).await;
    daemon.stop().await;
    // One after the other they would take more than 7 s; at 10 a second, 2.3 s at least.
    let begun = Instant::now();
    let wide = ["plan", "--rate", "10", "--max-in-flight", "6", "--output", "json"];
    let plan = parsed(&dlq(&stage, &wide).await);
    let took = begun.elapsed();
    assert_eq!(plan["prospects"], json!({"would_apply": 24}), "{plan}");
    assert!(took >= Duration::from_millis(2_300), "{took:?}");
    // A letter takes three requests: 24 of them, six at once, four times.
    let seconds = plan["seconds"].as_f64().unwrap();
    assert!((3.6..60.0).contains(&seconds), "{plan}");
    let ledger = stage.simulator.read(0).await.unwrap();
    assert!(ledger.in_flight_max > 1, "{ledger:?}");
}
