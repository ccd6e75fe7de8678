//! Replays and discards of orders that stand still, against a daemon at work.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::commands::{Ran, run};
use crate::daemon::{Daemon, PATIENCE, orderwright, signal};
use crate::stage::{Stage, message, update};

const PARK: (&str, &str) = ("DEAD_LETTER__ON_DEAD_LETTER", "park");

async fn settings(stage: &Stage) -> Vec<(String, String)> {
    let mut settings = stage.settings(&[PARK]).await;
    settings.push(("ORDERWRIGHT_OPERATOR".to_owned(), "kim@desk".to_owned()));
    settings
}

async fn dlq(stage: &Stage, words: &[&str]) -> Ran {
    run(&settings(stage).await, &[&["dlq"], words].concat()).await
}

fn parsed(ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

fn key(order: u64) -> String {
    format!("USMF/SO-{order:06}")
}

async fn sequence_of(stage: &Stage, order: u64) -> Value {
    let found = stage.simulator.order("USMF", &format!("SO-{order:06}")).await.unwrap();
    found["properties"]["UpdateSequence"].clone()
}

async fn depth(stage: &Stage) -> u32 {
    stage.channel().await.depth("dead-letters").await
}

/// The service refuses the first update of each of these orders; `each` updates of all are published.
async fn parked(name: &str, orders: u64, each: u64) -> (Stage, Daemon) {
    let stage = Stage::new(name, &["--orders", "5"]).await;
    let refused = json!({"on": "patch", "do": "status", "status": 400});
    let all = vec![refused; usize::try_from(orders).unwrap()];
    stage.simulator.faults(&json!({"next": all})).await.unwrap();
    let daemon = stage.daemon(&[PARK]).await;
    let firsts: Vec<_> = (1..=orders).map(|order| update(order, 1)).collect();
    stage.publish(&firsts).await;
    daemon.logs_times("\"dead-lettered\"", firsts.len()).await;
    let behind: Vec<_> =
        (2..=each).flat_map(|it| (1..=orders).map(move |order| update(order, it))).collect();
    stage.publish(&behind).await;
    daemon.logs_times("\"dead-lettered\"", firsts.len() + behind.len()).await;
    (stage, daemon)
}

/// A replay is killed when its first update is sent, and then that is written. Its letter is edited, and all is
/// replayed; what that prints.
async fn edited_behind_a_killed_replay(
    stage: &Stage,
    settings: &[(String, String)],
    daemon: Daemon,
    parks: &[(&str, &str)],
) -> (Value, Daemon) {
    // Nobody is at work, so what is sent is there and not written yet.
    daemon.stop().await;
    let mut replay = orderwright(settings);
    let mut replay = replay.args(["dlq", "replay", "--run"]).spawn().unwrap();
    let sent = async { while stage.waiting().await == 0 {} };
    timeout(PATIENCE, sent).await.expect("the canary is sent");
    replay.kill().await.unwrap();
    let daemon = stage.daemon(parks).await;
    stage.applied(1).await;

    let letters = run(settings, &["dlq", "ls", "--output", "json"]).await;
    let id = parsed(&letters)[0]["id"].as_str().unwrap().to_owned();
    let edit = ["dlq", "edit", &id, "--set", "/changes/UpdateSequence=7", "--output", "json"];
    parsed(&run(settings, &edit).await);
    let done = run(settings, &["dlq", "replay", "--run", "--output", "json"]).await;
    (parsed(&done), daemon)
}

#[tokio::test(flavor = "multi_thread")]
async fn letter_that_a_killed_replay_has_written_can_be_edited_and_its_order_goes_on() {
    let (stage, daemon) = parked("edit-parked", 1, 2).await;
    let (done, daemon) =
        edited_behind_a_killed_replay(&stage, &settings(&stage).await, daemon, &[PARK]).await;
    assert_eq!((&done["counts"], &done["orders_released"]), (&json!({"applied": 2}), &json!(1)));
    assert_eq!((sequence_of(&stage, 1).await, depth(&stage).await), (json!(2), 0));
    daemon.stop().await;

    // So it is where dead letters do not park, with what is behind it and saw the same state.
    let stage = Stage::new("edit-free", &["--orders", "5"]).await;
    let refused = json!({"on": "patch", "do": "status", "status": 400});
    stage.simulator.faults(&json!({"next": [refused, refused]})).await.unwrap();
    let daemon = stage.daemon(&[]).await;
    stage.publish(&[update(1, 1), update(1, 2)]).await;
    daemon.logs_times("\"dead-lettered\"", 2).await;
    let settings = stage.settings(&[]).await;
    let (done, daemon) = edited_behind_a_killed_replay(&stage, &settings, daemon, &[]).await;
    assert_eq!(done["counts"], json!({"applied": 2}), "{done}");
    assert_eq!((sequence_of(&stage, 1).await, depth(&stage).await), (json!(2), 0));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_order_is_replayed_in_order_with_what_comes_meanwhile_and_goes_on() {
    let (stage, daemon) = parked("replay-parked", 1, 5).await;
    // What stands behind goes with the first one, and never before it.
    let plan =
        parsed(&dlq(&stage, &["plan", "--reason", "parked_behind", "--output", "json"]).await);
    assert_eq!(plan["prospects"], json!({"held": 4}), "{plan}");
    let plan =
        parsed(&dlq(&stage, &["plan", "--reason", "business_rule", "--output", "json"]).await);
    assert_eq!(plan["prospects"], json!({"would_apply": 5}), "{plan}");
    let alone = ["replay", "--reason", "parked_behind", "--run", "--output", "json"];
    let alone = parsed(&dlq(&stage, &alone).await);
    assert_eq!((&alone["counts"], depth(&stage).await), (&json!({"left": 4}), 5));

    let mut replay = orderwright(&settings(&stage).await);
    let flags = ["--reason", "business_rule", "--run", "--rate", "1", "--output", "ndjson"];
    let mut replay = replay.args(["dlq", "replay"]).args(flags).spawn().unwrap();
    let mut lines = BufReader::new(replay.stdout.take().unwrap()).lines();
    let (pid, mut said) = (replay.id().unwrap(), Vec::new());
    while let Some(line) = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap() {
        said.push(serde_json::from_str::<Value>(&line).unwrap());
        if said.len() == 1 {
            // Four more are to be sent, one a second. It stands still while one more comes behind them.
            signal(pid, "STOP").await;
            stage.publish(&[update(1, 6)]).await;
            daemon.logs_times("\"dead-lettered\"", 6).await;
            signal(pid, "CONT").await;
        }
    }
    let sum = said.last().unwrap();
    assert_eq!((&sum["end"], &sum["counts"]), (&json!("done"), &json!({"applied": 6})), "{sum}");
    assert_eq!((&sum["orders_released"], &sum["orders_standing"]), (&json!(1), &json!([])));
    assert_eq!(sum["orders_parked"], json!([]), "{sum}");
    stage.publish(&[update(1, 7)]).await;
    let ledger = stage.applied(7).await;
    assert_eq!((ledger.applied_twice, ledger.out_of_order, ledger.overlaps), (0, 0, 0));
    assert_eq!((sequence_of(&stage, 1).await, depth(&stage).await), (json!(7), 0));

    let history = dlq(&stage, &["history", "--output", "ndjson"]).await;
    let event = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let released: Vec<_> =
        history.stdout.lines().map(event).filter(|it| it["event"] == "released").collect();
    // The first one was overtaken by the update that came meanwhile.
    assert_eq!((released.len(), &released[1]["letters"]), (2, &json!(6)), "{released:?}");
    assert_eq!((&released[0]["order"], &released[0]["by"]), (&json!(key(1)), &json!("kim@desk")));
    let ended = daemon.stop().await;
    assert_eq!(ended.count("parked_orders"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn head_that_dies_again_leaves_what_stands_behind_and_is_replayed_as_the_head() {
    let (stage, daemon) = parked("replay-again", 1, 3).await;
    let refused = json!({"on": "patch", "do": "status", "status": 400});
    stage.simulator.faults(&json!({"next": [refused]})).await.unwrap();
    let replay = ["replay", "--order", &key(1), "--run", "--output", "json"];
    let failed = dlq(&stage, &replay).await;
    let sum: Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!((failed.code, &sum["counts"]), (Some(75), &json!({"failed": 1, "left": 2})));
    assert_eq!((depth(&stage).await, sequence_of(&stage, 1).await), (3, json!(0)));
    // It stands at the end of the queue by now, and is the first all the same.
    let again = parsed(&dlq(&stage, &replay).await);
    assert_eq!(again["counts"], json!({"applied": 3}), "{again}");
    stage.publish(&[update(1, 4)]).await;
    let ledger = stage.applied(4).await;
    assert_eq!((ledger.out_of_order, depth(&stage).await), (0, 0));
    assert_eq!(daemon.stop().await.count("parked_orders"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn head_that_never_saw_its_order_is_written_once_that_is_there() {
    let stage = Stage::new("replay-created", &["--orders", "1"]).await;
    let daemon = stage.daemon(&[PARK]).await;
    let changes = |number| message("SO-900001", &json!({"UpdateSequence": number}));
    stage.publish(&[changes(1), changes(2), changes(3)]).await;
    daemon.logs_times("\"dead-lettered\"", 3).await;
    let replay = ["replay", "--order", "USMF/SO-900001", "--run", "--output", "json"];
    let missing = dlq(&stage, &replay).await;
    let sum: Value = serde_json::from_str(&missing.stdout).unwrap();
    assert_eq!(sum["counts"], json!({"left": 3}), "{}", missing.stderr);
    assert_eq!(sum["orders_parked"], json!(["USMF/SO-900001"]), "{sum}");
    assert!(missing.stderr.contains("USMF/SO-900001 stays parked"), "{}", missing.stderr);
    // Nothing of it was begun since the first one died, so nothing newer can be there.
    stage.simulator.create("USMF", "SO-900001").await.unwrap();
    assert_eq!(parsed(&dlq(&stage, &replay).await)["counts"], json!({"applied": 3}));
    stage.publish(&[changes(4)]).await;
    let ledger = stage.applied(4).await;
    assert_eq!((ledger.out_of_order, depth(&stage).await), (0, 0));
    assert_eq!(daemon.stop().await.count("parked_orders"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn discarded_head_lets_nothing_pass_until_what_stands_behind_is_written_in_order() {
    let (stage, daemon) = parked("discard-parked", 2, 3).await;
    let head = async |order: u64| {
        let list = ["ls", "--reason", "business_rule", "--order", &key(order), "--output", "json"];
        let letters = parsed(&dlq(&stage, &list).await);
        letters[0]["id"].as_str().unwrap().to_owned()
    };
    let discard = ["discard", "--because", "TICKET-7", "--yes", "--output", "json"];
    let first = dlq(&stage, &[&discard[..], &["--id", &head(1).await]].concat()).await;
    assert_eq!(parsed(&first)["done"], 1);
    assert!(first.stderr.contains("stands still all the same"), "{}", first.stderr);
    stage.publish(&[update(1, 4)]).await;
    daemon.logs_times("\"dead-lettered\"", 7).await;
    let replay = ["replay", "--order", &key(1), "--run", "--output", "json"];
    assert_eq!(parsed(&dlq(&stage, &replay).await)["counts"], json!({"applied": 3}));

    let head = head(2).await;
    let second = dlq(&stage, &[&discard[..], &["--id", &head, "--release"]].concat()).await;
    assert_eq!(second.code, Some(0), "{}", second.stderr);
    assert!(second.stdout.contains("\"orders_released\":1"), "{}", second.stdout);
    stage.publish(&[update(1, 5), update(2, 4)]).await;
    let ledger = stage.applied(7).await;
    assert_eq!((ledger.applied_twice, ledger.out_of_order), (0, 0));
    assert_eq!((sequence_of(&stage, 1).await, sequence_of(&stage, 2).await), (json!(5), json!(4)));
    assert_eq!(depth(&stage).await, 0);

    let history = dlq(&stage, &["history"]).await.stdout;
    let told = |what: &str| history.lines().filter(|line| line.contains(what)).count();
    // Two discards; the replay of what stood behind one, and its release.
    assert_eq!((told("kim@desk  discarded"), told("because=TICKET-7")), (2, 4), "{history}");
    assert_eq!((told("kim@desk  released"), daemon.stop().await.count("parked_orders")), (2, 0));
}
