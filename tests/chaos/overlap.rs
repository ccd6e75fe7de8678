//! Two writers at work on one order, as the simulator saw them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::fault::Kind;
use crate::stage::Outcome;

/// A request that was begun before SIGSTOP leaves within this time of SIGCONT.
const LATE_MAX: Duration = Duration::from_millis(500);

/// A request for an order while another message's walk was at work on it.
#[derive(Debug)]
pub(crate) struct Overlap {
    pub(crate) time: Timestamp,
    order: String,
    /// The two walks.
    walks: [String; 2],
}

/// The overlaps of a run: of each order the latest that the simulator remembers.
pub(crate) fn all(outcome: &Outcome) -> Vec<Overlap> {
    let orders = outcome.bad_orders.get("orders").and_then(Value::as_array);
    orders.into_iter().flatten().flat_map(of_order).collect()
}

fn of_order(order: &Value) -> Vec<Overlap> {
    let overlaps = order.get("latest_overlaps").and_then(Value::as_array);
    let read = |overlap: &Value| {
        let text = |name: &str| overlap.get(name)?.as_str().map(str::to_owned);
        let time = text("time")?.parse().ok()?;
        let order = order.get("order")?.as_str()?.to_owned();
        Some(Overlap { time, order, walks: [text("writer")?, text("other")?] })
    };
    overlaps.into_iter().flatten().filter_map(read).collect()
}

impl Overlap {
    /// Whether a worker had gone on just before, and one of the two walks has written nothing since:
    /// its request was begun before the stop and refused after it. One that writes is no such thing.
    pub(crate) fn is_late_request(&self, outcome: &Outcome) -> bool {
        let stops = outcome.book.iter().filter(|fault| fault.kind == Kind::Stop);
        let late = SignedDuration::try_from(LATE_MAX).unwrap_or_default();
        stops.map(|stop| stop.ended).any(|woken| {
            let after = self.time.duration_since(woken);
            let wrote = |walk: &String| {
                let last = outcome.history.last_writes.get(walk);
                last.is_some_and(|last| last.duration_since(woken) >= -late)
            };
            after.abs() <= late && self.walks.iter().any(|walk| !wrote(walk))
        })
    }

    /// Who met whom.
    pub(crate) fn in_words(&self, outcome: &Outcome) -> String {
        let [writer, other] = self.walks.each_ref().map(|walk| {
            let worker = outcome.history.walks.get(walk);
            worker.map_or_else(|| format!("walk {walk}"), |it| format!("worker-{it} {walk}"))
        });
        let what = if self.is_late_request(outcome) { "Late request" } else { "Overlap" };
        format!("{what} at {:.3}, {}: {writer} met {other}", self.time, self.order)
    }
}
