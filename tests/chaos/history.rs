//! What was written to each order, when, and by which worker.
//!
//! The simulator's ledger tells what and when; it names an attempt by the id that the worker sent,
//! and the worker's log names the same id. A write that its worker did not live to log has no name.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use crate::Result;
use crate::audit::Write;
use crate::fault::Kind;
use crate::ledger::Reader;
use crate::publisher::order_of;
use crate::trouble::Injected;

/// How old the last write of a worker may be, so that it counts as at work when a fault strikes it.
const AT_WORK_SECONDS: i64 = 5;

/// The writes to each order, oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) orders: BTreeMap<u64, Vec<Write>>,
    /// Which worker a walk belongs to: walks are what the simulator calls writers.
    pub(crate) walks: HashMap<String, u64>,
    /// When each walk wrote last.
    pub(crate) last_writes: HashMap<String, Timestamp>,
}

impl History {
    /// Reads the whole ledger, and the logs of the workers 1 to `workers`.
    pub(crate) async fn read(ledger: &Reader, folder: &Path, workers: u64) -> Result<Self> {
        let attempts = attempts(folder, workers);
        let mut history = Self::default();
        let mut after = 0;
        loop {
            let page = ledger.changes(after).await?;
            if page.get("truncated").and_then(Value::as_bool) != Some(false) {
                return Err("the ledger has forgotten changes of this run".to_owned());
            }
            let changes = page.get("changes").and_then(Value::as_array);
            let Some(last) = changes.and_then(|changes| changes.last()) else { return Ok(history) };
            after = last.get("seq").and_then(Value::as_u64).ok_or("a change without number")?;
            for change in changes.into_iter().flatten() {
                history.note(change, &attempts).ok_or_else(|| format!("not read: {change}"))?;
            }
        }
    }

    fn note(&mut self, change: &Value, attempts: &HashMap<String, u64>) -> Option<()> {
        let text = |name: &str| change.get(name).and_then(Value::as_str);
        let order = order_of(text("order")?)?;
        let sequence = change.get("changed")?.get("UpdateSequence")?.as_u64()?;
        let worker = text("request_id").and_then(|id| attempts.get(id)).copied();
        let time = text("time")?.parse().ok()?;
        let walk = text("client")?.to_owned();
        if let Some(worker) = worker {
            self.walks.insert(walk.clone(), worker);
        }
        self.last_writes.insert(walk, time);
        self.orders.entry(order).or_default().push(Write { time, sequence, worker });
        Some(())
    }

    /// How many writes each worker is known to have made since then.
    pub(crate) fn by_worker(&self, since: Timestamp) -> BTreeMap<u64, u64> {
        let mut counts = BTreeMap::new();
        let writes = self.orders.values().flatten().filter(|write| write.time >= since);
        for worker in writes.filter_map(|write| write.worker) {
            *counts.entry(worker).or_default() += 1;
        }
        counts
    }

    /// How the work of the struck worker went on after each fault of a kind. A worker that was not
    /// at work has nothing to be taken over, and is left out.
    pub(crate) fn takeovers(&self, kind: Kind, book: &[Injected]) -> Vec<Takeover> {
        let of_kind = book.iter().filter(|fault| fault.kind == kind);
        of_kind.filter_map(|fault| self.takeover(fault.worker?, fault.begun)).collect()
    }

    fn takeover(&self, worker: u64, struck: Timestamp) -> Option<Takeover> {
        let mut at_work = false;
        let mut all: Vec<f64> = Vec::new();
        for writes in self.orders.values() {
            let (before, after) = writes.split_at(writes.partition_point(|it| it.time <= struck));
            let Some(last) = before.last().filter(|last| last.worker == Some(worker)) else {
                continue;
            };
            at_work |= struck.duration_since(last.time).as_secs() < AT_WORK_SECONDS;
            let mut named = after.iter().filter(|write| write.worker.is_some());
            let first = named.find(|write| write.worker != Some(worker));
            all.extend(first.map(|write| write.time.duration_since(struck).as_secs_f64()));
        }
        all.sort_unstable_by(f64::total_cmp);
        let half = all.get(all.len() / 2).copied();
        at_work.then(|| Takeover { first: all.first().copied(), half })
    }
}

/// Seconds until others wrote to the orders that a worker had written to last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Takeover {
    /// To the first of them.
    pub(crate) first: Option<f64>,
    /// To half of them. Holds the time until an order has a next update at all.
    pub(crate) half: Option<f64>,
}

/// The worker of each attempt, from the logs. What cannot be read is not known.
fn attempts(folder: &Path, workers: u64) -> HashMap<String, u64> {
    let mut attempts = HashMap::new();
    for worker in 1..=workers {
        let log = std::fs::read_to_string(folder.join(format!("worker-{worker}.log")));
        for line in log.unwrap_or_default().lines().filter(|line| line.contains("request_id")) {
            let line: Option<Value> = serde_json::from_str(line).ok();
            let id = line.as_ref().and_then(|line| line.get("request_id")?.as_str());
            attempts.extend(id.map(|id| (id.to_owned(), worker)));
        }
    }
    attempts
}
