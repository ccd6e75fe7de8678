//! A test for each fault of the simulator, by its number: what becomes of the message, of the others, and
//! of the dead-letter queue. `tests/tidy` sees to it that none is missing.

mod answers;
mod batches;
mod conflicts;
mod connections;
mod target;
mod tokens;

use serde_json::{Value, json};

use crate::daemon::{Daemon, Ended};
use crate::ledger::Ledger;
use crate::stage::{Letter, Stage, updates};

/// Orders, each with two updates: what is struck is the first one of an order, so the second shows that
/// it goes on.
const ORDERS: u64 = 6;
const ALL: u64 = 2 * ORDERS;

/// One by one, and several orders in one request: the same must come of it.
const MODES: [&[(&str, &str)]; 2] = [&[], &crate::batch::BATCH];

/// A connection for each request, and one for all of them: the same must come of it.
const WIRES: [(&str, &str); 2] =
    [("TARGET__HTTP_VERSION", "http1"), ("TARGET__HTTP_VERSION", "http2")];

/// What is retried at once, and probed often.
const QUICK: (&str, &str) = ("BREAKER__PROBE_INTERVAL", "100ms");

/// What came of a trial in which nothing was dead-lettered, if not said otherwise.
struct Outcome {
    ended: Ended,
    ledger: Ledger,
}

async fn stage(name: &str) -> Stage {
    Stage::new(name, &["--orders", "6", "--listen-admin", "127.0.0.1:0"]).await
}

/// A switch that strikes these requests for an order, so many times.
fn on(request: &str, order: u64, next: u64) -> Value {
    json!({"on": request, "order": format!("USMF/SO-{order:06}"), "next": next})
}

/// The same with a choice that the fault leaves.
fn with(mut switch: Value, name: &str, value: impl Into<Value>) -> Value {
    switch[name] = value.into();
    switch
}

/// How often a fault is to strike; `None` without end.
fn wanted(setting: &Value) -> Option<u64> {
    match setting.as_array() {
        Some(switches) => switches.iter().map(wanted).sum(),
        None => setting["next"].as_u64(),
    }
}

/// While these faults strike, every update is written: once, in the order of its order, and after each
/// fault has struck as often as it was to. No dead letter, nothing is left.
async fn overcome(stage: &Stage, faults: Value, settings: &[(&str, &str)]) -> Outcome {
    stage.simulator.faults(&faults).await.unwrap();
    let daemon = stage.daemon(&[&[QUICK], settings].concat()).await;
    stage.publish(&updates(ORDERS, 2)).await;
    stage.applied(ALL).await;
    let struck = stage.simulator.struck().await.unwrap();
    for (name, setting) in faults.as_object().unwrap() {
        let times = struck[name].as_u64().unwrap_or_default();
        assert_eq!(times, wanted(setting).unwrap(), "{name}: {struck}");
    }
    finish(stage, daemon, &json!({})).await
}

/// A fault that strikes everything is waited out: nothing is dead-lettered or lost, and all is written
/// when it is over.
async fn outlast(stage: &Stage, fault: &str, settings: &[(&str, &str)]) -> Outcome {
    stage.simulator.faults(&json!({fault: 1})).await.unwrap();
    let daemon = stage.daemon(&[&[QUICK], settings].concat()).await;
    stage.publish(&updates(ORDERS, 2)).await;
    daemon.logs("the target does not work").await;
    let struck = stage.simulator.struck().await.unwrap();
    assert!(struck[fault].as_u64() >= Some(1), "{fault}: {struck}");
    let before = stage.simulator.read(0).await.unwrap();
    assert_eq!(before.applied_distinct, 0, "{fault}");
    stage.simulator.faults(&json!({fault: 0})).await.unwrap();
    stage.applied(ALL).await;
    let outcome = finish(stage, daemon, &json!({})).await;
    assert_eq!(outcome.ended.count("outages"), 1, "{fault}: {}", outcome.ended.log);
    outcome
}

/// These faults make dead letters, counted by their codes; all other updates are written, those of the
/// same orders too.
async fn condemn(
    stage: &Stage,
    faults: Value,
    settings: &[(&str, &str)],
    codes: Value,
) -> (Vec<Letter>, Outcome) {
    let count: u64 = codes.as_object().unwrap().values().filter_map(Value::as_u64).sum();
    stage.simulator.faults(&faults).await.unwrap();
    let daemon = stage.daemon(&[&[QUICK], settings].concat()).await;
    let mut letters = stage.letters().await;
    stage.publish(&updates(ORDERS, 2)).await;
    let letters = letters.take(usize::try_from(count).unwrap()).await;
    stage.applied(ALL - count).await;
    (letters, finish(stage, daemon, &codes).await)
}

/// What holds in every trial.
async fn finish(stage: &Stage, daemon: Daemon, codes: &Value) -> Outcome {
    let ended = daemon.stop().await;
    let ledger = stage.simulator.read(0).await.unwrap();
    let wrong = (ledger.overlaps, ledger.out_of_order, ledger.applied_twice);
    assert_eq!(wrong, (0, 0, 0), "{}", stage.simulator.bad_orders().await.unwrap());
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.summary.as_ref().unwrap()["dead_lettered"], *codes, "{}", ended.log);
    assert_eq!(stage.waiting().await, 0, "nothing is left in the queues");
    Outcome { ended, ledger }
}
