//! Another number of shards while messages flow.

use std::process::Stdio;

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use orderwright::shard::shard_of;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::actions::{LISTEN, TOKEN, post};
use crate::daemon::{PATIENCE, orderwright};
use crate::stage::{SHARDS, Stage, update, updates};

const ORDERS: u64 = 100;

const LATENCY: [&str; 6] =
    ["--orders", "100", "--get-latency", "1ms..5ms", "--patch-latency", "2ms..10ms"];

/// A `topology reshard` under way.
pub(crate) struct Reshard {
    child: Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Reshard {
    pub(crate) async fn start(stage: &Stage, shards: &str, more: &[&str]) -> Self {
        let base = ["topology", "reshard", "--shards", shards, "--output", "json"];
        let mut command = orderwright(&stage.settings(&[]).await);
        let mut child = command.args(base).args(more).stderr(Stdio::inherit()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id().unwrap());
        let sent = Command::new("bash").args(["-c", &kill]).status().await;
        assert!(sent.unwrap().success());
    }

    /// The next line, or nothing at its end.
    async fn line(&mut self) -> Option<Value> {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("progress").unwrap();
        line.map(|line| serde_json::from_str(&line).unwrap())
    }

    /// Reads until this step is told.
    async fn until(&mut self, step: &str) {
        while let Some(line) = self.line().await {
            if line["step"] == step {
                return;
            }
        }
        panic!("ended before {step}");
    }

    pub(crate) async fn done(mut self) {
        self.until("done").await;
        assert!(self.child.wait().await.unwrap().success());
    }
}

async fn nothing_went_wrong(stage: &Stage) {
    let ledger = stage.simulator.read(0).await.unwrap();
    let wrong = (ledger.overlaps, ledger.out_of_order, ledger.applied_twice);
    assert_eq!(wrong, (0, 0, 0), "{}", stage.simulator.bad_orders().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn reshard_under_load_there_and_back_loses_nothing_and_keeps_the_order() {
    let stage = Stage::new("reshard", &LATENCY).await;
    let first = stage.daemon(&[]).await;
    let second = stage.daemon(&[]).await;
    let all = updates(ORDERS, 30);
    let (before, rest) = all.split_at(1_000);
    let (between, after) = rest.split_at(1_000);
    stage.publish(before).await;
    let there = Reshard::start(&stage, "16", &["--linger", "1s"]).await;
    // The entry is switched under the publisher's hands.
    tokio::join!(stage.publish(between), there.done());
    let back = Reshard::start(&stage, "1", &["--linger", "1s"]).await;
    tokio::join!(stage.publish(after), back.done());
    stage.applied(3_000).await;

    // A pod that starts with the old setting works on what there is now.
    let third = stage.daemon(&[]).await;
    stage.last_word(ORDERS, 31, 3_100).await;
    let ended = [first.stop().await, second.stop().await, third.stop().await];
    nothing_went_wrong(&stage).await;
    for ended in &ended {
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(ended.count("forwarded"), 0, "each message found its shard: {ended:?}");
    }
    let applied: u64 = ended.iter().map(|ended| ended.count("applied")).sum();
    assert_eq!(applied, 3_100);
    assert!(ended[2].log.contains("topology.shards counts at the first start only"));
    let raw = stage.channel().await;
    assert_eq!((raw.depth("unroutable").await, raw.depth("dead-letters").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn reshard_that_is_killed_at_any_step_goes_on_where_it_stopped() {
    let stage = Stage::new("resume", &LATENCY).await;
    let daemon = stage.daemon(&[]).await;
    let all = updates(ORDERS, 20);
    for (part, step) in all.chunks(400).zip(["open", "switch", "drain", "start", "retire"]) {
        stage.publish(part).await;
        let mut killed = Reshard::start(&stage, "8", &["--linger", "1s", "--new-ring"]).await;
        killed.until(step).await;
        killed.child.kill().await.unwrap();
        // What comes in meanwhile waits, or is worked on, but finds its way. What was begun goes on, as
        // if there were not so many shards already.
        let one_more = Reshard::start(&stage, "8", &["--linger", "1s"]).await;
        one_more.done().await;
    }
    stage.applied(2_000).await;
    stage.last_word(ORDERS, 21, 2_100).await;
    let ended = daemon.stop().await;
    nothing_went_wrong(&stage).await;
    assert_eq!((ended.count("applied"), ended.count("forwarded")), (2_100, 0), "{ended:?}");
    let raw = stage.channel().await;
    assert_eq!((raw.depth("unroutable").await, raw.depth("dead-letters").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn reshard_waits_for_what_is_at_work_and_is_not_begun_twice() {
    // A GET takes longer than all the steps before the new generation is worked on.
    let latency = ["--orders", "100", "--get-latency", "8s", "--patch-latency", "1ms"];
    let stage = Stage::new("wait", &latency).await;
    let daemon = stage.daemon(&[("LOG__LEVEL", "debug"), ("TARGET__GET_TIMEOUT", "20s")]).await;
    stage.publish(&updates(1, 1)).await;
    daemon.logs("received").await;
    let mut waits = Reshard::start(&stage, "2", &["--linger", "0s"]).await;
    waits.until("drain").await;
    // Another number is another reshard.
    let mut other = Reshard::start(&stage, "32", &["--dry-run"]).await;
    assert_eq!(other.line().await, None);
    assert_eq!(other.child.wait().await.unwrap().code(), Some(78));
    waits.until("start").await;
    assert_eq!(stage.simulator.read(0).await.unwrap().applied_distinct, 1);
    waits.done().await;

    // Nothing is left to do, and nothing is done.
    for more in [&["--dry-run"][..], &[]] {
        let mut again = Reshard::start(&stage, "2", more).await;
        let line = again.line().await.unwrap();
        assert_eq!((&line["step"], &line["generation"]["number"]), (&"already".into(), &2.into()));
        assert!(again.child.wait().await.unwrap().success());
    }
    let mut plan = Reshard::start(&stage, "2", &["--dry-run", "--new-ring"]).await;
    let line = plan.line().await.unwrap();
    assert_eq!((&line["step"], &line["generation"]["number"]), (&"open".into(), &3.into()));
    daemon.stop().await;
}

/// A message by a way that publishers do not have, straight into a shard queue of the first generation.
async fn strays(stage: &Stage, (shard, order): (u16, u64)) {
    let raw = stage.channel().await;
    let queue = format!("{}.shard.g1.{shard:03}", stage.prefix());
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (properties, body) = (BasicProperties::default(), update(order, 1));
    let sent = raw.channel.basic_publish(
        "".into(),
        queue.as_str().into(),
        options,
        body.as_bytes(),
        properties,
    );
    let confirm = sent.await.unwrap().await.unwrap();
    assert!(confirm.is_ack() && confirm.take_message().is_none());
}

/// Orders of one shard, and one order of another shard.
fn orders_of_two_shards() -> (u16, Vec<u64>, (u16, u64)) {
    let shard = |order: &u64| shard_of(&format!("USMF/SO-{order:06}"), SHARDS);
    let first = shard(&1);
    let (of_first, others): (Vec<u64>, Vec<u64>) = (1..=50).partition(|it| shard(it) == first);
    let other = others[0];
    (first, of_first, (shard(&other), other))
}

#[tokio::test(flavor = "multi_thread")]
async fn stray_in_a_drained_shard_is_sent_on_by_the_next_lease_too() {
    let latency = ["--orders", "50", "--get-latency", "4s", "--patch-latency", "1ms"];
    let stage = Stage::new("stray", &latency).await;
    let settings = [LISTEN, ("ADMIN__ACTIONS__TOKEN", TOKEN), ("LOG__LEVEL", "debug")];
    let daemon = stage.daemon(&settings).await;
    let (busy, orders, (idle, order)) = orders_of_two_shards();
    // One shard is held at the first markers, and the command stands still meanwhile.
    stage.publish(&[update(orders[0], 1)]).await;
    daemon.logs("received").await;
    let reshard = Reshard::start(&stage, "2", &["--linger", "10s"]).await;
    daemon.logs_times("\"drained\"", usize::from(SHARDS) - 1).await;
    reshard.signal("STOP").await;
    // It is held at the second ones as well, and the others are through with them.
    strays(&stage, (busy, orders[1])).await;
    daemon.logs_times("\"drained\"", usize::from(SHARDS)).await;
    reshard.signal("CONT").await;
    daemon.logs_times("\"drained\"", 2 * usize::from(SHARDS) - 1).await;
    let (code, _) = post(&daemon, &format!("/shards/{idle}/hand-back")).await;
    assert_eq!(code, StatusCode::ACCEPTED);
    daemon.logs("gave the shard back").await;
    strays(&stage, (idle, order)).await;
    stage.applied(3).await;
    reshard.done().await;
    let ended = daemon.stop().await;
    nothing_went_wrong(&stage).await;
    assert_eq!((ended.count("applied"), ended.count("forwarded")), (3, 1), "{}", ended.log);
}
