//! Replays by the tool, against a daemon at work.

use std::time::Duration;

use orderwright::app::replay::{Allowed, Candidate, Checker, Hold, Report, Run};
use orderwright::broker::{Ahead, Browser, Held, Link, Publisher, Topology, connect};
use orderwright::config;
use orderwright::dead_letter::{End, Fate, Found, Letter, Manner};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::daemon::{PATIENCE, orderwright};
use crate::stage::{Stage, message, update};

/// Runs a command on dead letters; its exit code and its output.
async fn dlq(stage: &Stage, words: &[&str]) -> (Option<i32>, String, String) {
    let settings = stage.settings(&[]).await;
    let mut command = orderwright(&settings);
    command.arg("dlq").args(words).env("ORDERWRIGHT_OPERATOR", "kim@desk");
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

async fn depth(stage: &Stage) -> u32 {
    stage.channel().await.depth("dead-letters").await
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_applies_what_is_as_good_as_ever_in_order_and_leaves_what_is_superseded() {
    let stage = Stage::new("replay-run", &["--orders", "5"]).await;
    let refused = json!({"on": "patch", "do": "status", "status": 400});
    stage.simulator.faults(&json!({"next": vec![refused; 4]})).await.unwrap();
    let daemon = stage.daemon(&[]).await;

    // Both letters of order 1 see the same state, so the first one to be written changes the ETag.
    for (order, sequence) in [(1, 1), (1, 2), (2, 1), (3, 1)] {
        stage.publish(&[update(order, sequence)]).await;
    }
    daemon.logs_times("\"dead-lettered\"", 4).await;
    stage.publish(&[update(3, 2)]).await;
    stage.applied(1).await;

    let (code, plan, _) = dlq(&stage, &["replay", "--output", "json"]).await;
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(code, Some(0), "{plan}");
    assert_eq!(plan["prospects"], json!({"would_apply": 3, "superseded": 1}), "{plan}");
    assert_eq!((&plan["letters"], &plan["orders"]), (&json!(4), &json!(3)));
    let moved = plan["plan"].as_array().unwrap().iter().find(|it| it["prospect"] == "superseded");
    let change = &moved.unwrap()["changed"][0];
    assert_eq!(change["property"], "DeliveryDate", "{change}");
    assert_eq!(depth(&stage).await, 4, "a plan takes nothing away");

    let (code, done, errors) = dlq(&stage, &["replay", "--run", "--output", "json"]).await;
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!(code, Some(0), "{done} {errors}");
    assert_eq!(done["counts"], json!({"applied": 3, "superseded": 1}), "{errors}");
    assert_eq!(depth(&stage).await, 1, "what is superseded stays");
    let ledger = stage.simulator.read(0).await.unwrap();
    assert_eq!((ledger.applied_distinct, ledger.applied_twice, ledger.out_of_order), (4, 0, 0));
    for (number, sequence) in [("SO-000001", 2), ("SO-000002", 1), ("SO-000003", 2)] {
        let order = stage.simulator.order("USMF", number).await.unwrap();
        assert_eq!(order["properties"]["UpdateSequence"], sequence, "{order}");
    }

    let replay = done["replay"].as_str().unwrap();
    let (code, report, _) = dlq(&stage, &["report", replay]).await;
    assert_eq!(code, Some(0));
    for part in ["begun by kim@desk", ": done", "- applied: 3", "- left: 1", "| USMF/SO-000003 |"] {
        assert!(report.contains(part), "{part} in {report}");
    }
    let (_, history, _) = dlq(&stage, &["history", "--output", "ndjson"]).await;
    assert_eq!(history.lines().count(), 6, "begun, four letters, ended: {history}");

    let forced =
        ["replay", "--run", "--force-superseded", "--because", "a test", "--output", "json"];
    let (code, done, errors) = dlq(&stage, &forced).await;
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!((code, &done["counts"]), (Some(0), &json!({"applied": 1})), "{errors}");
    assert_eq!(depth(&stage).await, 0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_stops_after_a_canary_that_dies_again_and_its_letter_says_where_it_comes_from() {
    let stage = Stage::new("replay-canary", &["--orders", "5"]).await;
    let refused = json!({"on": "patch", "do": "status", "status": 400});
    stage.simulator.faults(&json!({"next": vec![refused; 5]})).await.unwrap();
    let daemon = stage.daemon(&[]).await;
    for order in 1..=4 {
        stage.publish(&[update(order, 1)]).await;
    }
    daemon.logs_times("\"dead-lettered\"", 4).await;

    let (code, done, errors) = dlq(&stage, &["replay", "--run", "--output", "json"]).await;
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!((code, &done["end"]), (Some(75), &json!("canary_failed")), "{errors}");
    assert_eq!(done["counts"], json!({"failed": 1, "left": 3}));
    assert_eq!(depth(&stage).await, 4, "nothing is lost, and nothing is there twice");

    let again = ["replay", "--run", "--min-replays", "1", "--output", "json"];
    let (code, done, errors) = dlq(&stage, &again).await;
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!((code, &done["counts"]), (Some(0), &json!({"applied": 1})), "{errors}");
    let mut letters = stage.letters().await;
    for _ in 0..3 {
        assert_eq!(letters.next().await.reason(), "business_rule");
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_replay_waits_for_what_is_on_its_way_and_at_the_second_time_for_nothing() {
    let stage = Stage::new("replay-interrupt", &["--orders", "5"]).await;
    let refused = json!({"on": "patch", "do": "status", "status": 400});
    stage.simulator.faults(&json!({"next": vec![refused; 2]})).await.unwrap();
    let daemon = stage.daemon(&[]).await;
    stage.publish(&[update(1, 1), update(2, 1)]).await;
    daemon.logs_times("\"dead-lettered\"", 2).await;
    daemon.stop().await;

    // Nobody is at work: the outcome of what is sent does not come.
    let mut command = orderwright(&stage.settings(&[]).await);
    let mut child = command.args(["dlq", "replay", "--run"]).spawn().unwrap();
    let sent = async { while stage.waiting().await == 0 {} };
    timeout(PATIENCE, sent).await.expect("the canary is sent");
    let pid = child.id().unwrap().to_string();
    // The shell's own: a bare Debian has no program of that name.
    let kill = format!("kill -INT {pid}");
    let interrupt = || std::process::Command::new("bash").args(["-c", &kill]).status().unwrap();
    assert!(interrupt().success());
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    let heard = async {
        while let Some(line) = errors.next_line().await.unwrap() {
            if line.contains("ending in good order") {
                return;
            }
        }
        panic!("it ended before it was told to");
    };
    timeout(PATIENCE, heard).await.expect("it is heard while an outcome is awaited");
    assert!(interrupt().success());
    // Far less than it would wait for the outcome.
    let ended = timeout(Duration::from_secs(20), child.wait()).await.expect("it ends at once");
    assert_eq!(ended.unwrap().code(), Some(75));

    let daemon = stage.daemon(&[]).await;
    stage.applied(1).await;
    let (code, done, errors) = dlq(&stage, &["replay", "--run", "--output", "json"]).await;
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(done["counts"], json!({"applied": 1, "already_applied": 1}), "{errors}");
    assert_eq!((stage.applied(2).await.applied_twice, depth(&stage).await), (0, 0));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_that_ends_within_an_order_leaves_what_the_next_one_goes_on_by() {
    let stage = Stage::new("replay-goes-on", &["--orders", "1"]).await;
    let refused = json!({"on": "patch", "do": "status", "status": 400});
    stage.simulator.faults(&json!({"next": vec![refused; 3]})).await.unwrap();
    let daemon = stage.daemon(&[]).await;
    let renamed = json!({"UpdateSequence": 2, "DeliveryModeCode": "Truck"});
    stage.publish(&[update(1, 1), message("SO-000001", &renamed), update(1, 3)]).await;
    daemon.logs_times("\"dead-lettered\"", 3).await;

    // The second one dies again. The first one is written, and stands in the queue for those behind it.
    stage.simulator.rename("DeliveryModeCode", "DeliveryMode").await.unwrap();
    let (code, done, errors) = dlq(&stage, &["replay", "--run", "--output", "json"]).await;
    let done: Value = serde_json::from_str(&done).unwrap();
    let counts = json!({"applied": 1, "failed": 1, "left": 1});
    assert_eq!((code, &done["counts"]), (Some(1), &counts), "{errors}");
    assert_eq!(depth(&stage).await, 3);

    stage.simulator.rename("DeliveryMode", "DeliveryModeCode").await.unwrap();
    let (code, done, errors) = dlq(&stage, &["replay", "--run", "--output", "json"]).await;
    let done: Value = serde_json::from_str(&done).unwrap();
    let counts = json!({"already_applied": 1, "applied": 2});
    assert_eq!((code, &done["counts"]), (Some(0), &counts), "{errors}");
    let ledger = stage.applied(3).await;
    assert_eq!((ledger.applied_twice, ledger.out_of_order, depth(&stage).await), (0, 0, 0));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_takes_an_order_whole_and_where_there_is_no_room_for_it_the_next_replay_goes_on() {
    let stage = Stage::new("replay-limit", &["--orders", "3"]).await;
    let refused = json!({"on": "patch", "do": "status", "status": 400});
    stage.simulator.faults(&json!({"next": vec![refused.clone(); 4]})).await.unwrap();
    let daemon = stage.daemon(&[]).await;
    for (letters, body) in
        [update(1, 1), update(2, 1), update(1, 2), update(1, 3)].iter().enumerate()
    {
        stage.publish(std::slice::from_ref(body)).await;
        daemon.logs_times("\"dead-lettered\"", letters + 1).await;
    }
    let (code, done, errors) =
        dlq(&stage, &["replay", "--run", "--limit", "1", "--output", "json"]).await;
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!((code, &done["counts"]), (Some(0), &json!({"applied": 3})), "{errors}");
    assert_eq!((&done["left_over"], depth(&stage).await), (&json!(1), 1));
    let (code, ..) = dlq(&stage, &["replay", "--run"]).await;
    assert_eq!((code, depth(&stage).await), (Some(0), 0));

    // Memory for one of two: the first one stays until the next one of its order is written as well.
    stage.simulator.faults(&json!({"next": [refused.clone(), refused]})).await.unwrap();
    for (letters, body) in [update(3, 1), update(3, 2)].iter().enumerate() {
        stage.publish(std::slice::from_ref(body)).await;
        daemon.logs_times("\"dead-lettered\"", letters + 5).await;
    }
    let what = (1, &["USMF/SO-000003"][..]);
    let report = replayed_of(&stage, what, Manner::steady(), (PATIENCE, PATIENCE)).await;
    assert_eq!((report.counts, depth(&stage).await), ([(Fate::Applied, 1)].into(), 2));
    let (code, done, errors) = dlq(&stage, &["replay", "--run", "--output", "json"]).await;
    let done: Value = serde_json::from_str(&done).unwrap();
    let counts = json!({"already_applied": 1, "applied": 1});
    assert_eq!((code, &done["counts"]), (Some(0), &counts), "{errors}");
    let ledger = stage.applied(6).await;
    assert_eq!((ledger.applied_twice, ledger.out_of_order, depth(&stage).await), (0, 0, 0));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_goes_on_when_the_broker_would_take_its_letters_back() {
    let stage = Stage::new("replay-renew", &["--orders", "5"]).await;
    let refused = json!({"on": "patch", "do": "status", "status": 400});
    stage.simulator.faults(&json!({"next": vec![refused; 4]})).await.unwrap();
    let daemon = stage.daemon(&[]).await;
    stage.publish(&[update(1, 1), update(2, 1), update(3, 1), update(4, 1)]).await;
    daemon.logs_times("\"dead-lettered\"", 4).await;
    // One is sent a second, so it is given back and taken anew between two of them.
    let manner = Manner { rate: Some(1), ..Manner::steady() };
    let report = replayed(&stage, manner, Duration::from_millis(1_500), PATIENCE).await;
    assert_eq!((report.end, report.counts), (End::Done, [(Fate::Applied, 4)].into()));
    assert_eq!((stage.applied(4).await.applied_twice, depth(&stage).await), (0, 0));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_whose_outcome_does_not_come_finds_at_the_service_that_it_is_done() {
    let stage = Stage::new("replay-silent", &["--orders", "5"]).await;
    let refused = json!({"on": "patch", "do": "status", "status": 400});
    stage.simulator.faults(&json!({"next": [refused]})).await.unwrap();
    let daemon = stage.daemon(&[]).await;
    stage.publish(&[update(1, 1)]).await;
    daemon.logs("\"dead-lettered\"").await;
    stage.publish(&[update(1, 1)]).await;
    stage.applied(1).await;
    daemon.stop().await;

    // As if the daemon had been killed between its ack and its notice: nobody answers.
    let ask_after = Duration::from_millis(200);
    let report = replayed(&stage, Manner::steady(), PATIENCE, ask_after).await;
    assert_eq!((report.end, report.counts), (End::Done, [(Fate::AlreadyApplied, 1)].into()));
    assert_eq!(depth(&stage).await, 0);
    let daemon = stage.daemon(&[]).await;
    let (ledger, ended) = (stage.applied(1).await, daemon.stop().await);
    assert_eq!((ledger.applied_twice, ended.status.code()), (0, Some(0)));
}

/// Replays all dead letters of the stage, with the limits that a command does not let one set.
async fn replayed(
    stage: &Stage,
    manner: Manner,
    held_max: Duration,
    ask_after: Duration,
) -> Report {
    replayed_of(stage, (usize::MAX, &[]), manner, (held_max, ask_after)).await
}

/// The same with so many letters, the first ones, where others of these orders have no room.
async fn replayed_of(
    stage: &Stage,
    (letters, cut): (usize, &[&str]),
    manner: Manner,
    (held_max, ask_after): (Duration, Duration),
) -> Report {
    let settings = config::Settings {
        broker: config::Broker {
            url: stage.url().await.parse().unwrap(),
            ..config::Broker::default()
        },
        target: config::Target {
            url: format!("{}/data", stage.simulator_url()).parse().unwrap(),
            ..config::Target::default()
        },
        ..config::Settings::default()
    };
    let topology = Topology::new(&config::Topology {
        prefix: stage.prefix().to_owned(),
        ..config::Topology::default()
    });
    let link = Link::new(&settings.broker, "replay").unwrap();
    let (connection, publisher) =
        (connect(&link).await.unwrap(), Publisher::new(link, settings.broker.publish_timeout));
    let queue = topology.dead_letters();
    let mut browser =
        Browser::open(&connection, &topology, &queue, Ahead::default()).await.unwrap();
    let (mut candidates, mut tickets) = (Vec::new(), Vec::new());
    while let Some(held) = browser.next().await.unwrap() {
        let (candidate, ticket) = Candidate::new(letter(&held), held);
        candidates.push(candidate);
        tickets.push(ticket);
    }
    candidates.truncate(letters);
    tickets.truncate(letters);
    let cut = cut.iter().map(ToString::to_string).collect();
    let run = Run {
        replay: uuid::Uuid::from_u128(7),
        by: "kim@desk",
        selection: "all",
        because: None,
        allowed: Allowed::Seen,
        cut: &cut,
        left_over: 0,
        connection: &connection,
        publisher: &publisher,
        topology: &topology,
        checker: &Checker::new(&settings, "replay").unwrap(),
        held_max,
        ask_after,
    };
    let what = (candidates.as_slice(), Vec::new());
    let (hold, never) = (Hold::new(browser, tickets), CancellationToken::new());
    let report = run.perform(hold, what, manner, &never, |_| {});
    let report = timeout(PATIENCE, report).await.unwrap().unwrap();
    publisher.close().await;
    report
}

fn letter(held: &Held) -> Letter {
    Letter::read(Found {
        properties: &held.properties,
        exchange: held.exchange.as_str(),
        routing_key: held.routing_key.as_str(),
        body: &held.body,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_of_more_letters_at_once_than_can_be_published_at_once_comes_to_an_end() {
    const LETTERS: u64 = 80;
    // So that outcomes come in while other letters are about to be published.
    let latency = ["--orders", "80", "--get-latency", "5ms..100ms", "--patch-latency", "1ms..20ms"];
    let stage = Stage::new("replay-many", &latency).await;
    let refused = json!({"on": "patch", "do": "status", "status": 400});
    stage.simulator.faults(&json!({"next": vec![refused; 80]})).await.unwrap();
    let daemon = stage.daemon(&[]).await;
    stage.publish(&(1..=LETTERS).map(|order| update(order, 1)).collect::<Vec<_>>()).await;
    daemon.logs_times("\"dead-lettered\"", 80).await;
    let manner = ["--canary", "0", "--rate", "10000", "--max-in-flight", "200"];
    let (code, done, errors) =
        dlq(&stage, &[&["replay", "--run", "--output", "json"][..], &manner].concat()).await;
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!((code, &done["counts"]), (Some(0), &json!({"applied": LETTERS})), "{errors}");
    assert_eq!(depth(&stage).await, 0);
}
