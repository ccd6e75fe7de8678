//! What is shown, as it is written in JSON.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The broker, as we stand with it.
    pub broker: Broker,
    /// What of the broker's objects is not as it should be, as the last look found it: a sentence each.
    pub topology: Vec<String>,
    /// Every queue that should be consumed from.
    pub shards: Vec<Shard>,
    /// The service, as we know it.
    pub target: Target,
    /// The orders that stand still behind a dead letter, where dead letters park. Of all pods.
    pub parking: Option<Parking>,
    /// Orders that are worked on, the one whose oldest update arrived first at the top. At most 200.
    pub orders: Vec<Order>,
    /// How many there are.
    pub orders_busy: usize,
    /// Updates that wait behind another one of their order.
    pub updates_waiting: usize,
    /// What should have moved on by itself long ago: a bug.
    pub stuck: Vec<Stuck>,
    /// The dead letters of this process, by their trouble. At most 101.
    pub dead_letters: Vec<Letters>,
    /// The counts since the start, as in the summary at the end.
    pub counts: Value,
}

/// The broker.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Broker {
    /// There is a connection that is consumed from.
    pub connected: bool,
    /// An operator said that nothing is to be taken.
    pub paused: bool,
    /// It takes no messages, for want of memory or disk.
    pub alarm: bool,
    /// Number of the generation of shard queues.
    pub generation: u64,
    /// Pods that are heard of, this one included.
    pub pods: usize,
    /// Connections after the first.
    pub reconnects: u64,
    /// Shards that stood still and were subscribed to again.
    pub stood_still: u64,
    /// Age of the oldest delivery that is not settled.
    pub oldest_seconds: Option<f64>,
}

/// A queue that should be consumed from.
#[expect(clippy::struct_excessive_bools, reason = "independent answers to those who ask")]
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shard {
    /// Its name.
    pub queue: String,
    /// Number of the shard, if it is one that is worked on.
    pub number: Option<u16>,
    /// It is ours by our share; the broker decides who is active.
    pub owned: bool,
    /// It is subscribed to.
    pub subscribed: bool,
    /// The broker has handed us something of it: then it serves nobody else.
    pub served: bool,
    /// It ought to be, and is not.
    pub is_missing: bool,
    /// Deliveries that are not settled.
    pub unsettled: usize,
    /// Age of the oldest of them.
    pub oldest_seconds: Option<f64>,
    /// How often it stood still and was subscribed to again.
    pub stood_still: u64,
}

/// The service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Target {
    /// `works`, `throttled` or `down`, as far as is known.
    pub state: &'static str,
    /// Why it is taken for down.
    pub reason: Option<&'static str>,
    /// For how long already.
    pub down_seconds: Option<f64>,
    /// For how long nothing begins, because it refused.
    pub shut_seconds: f64,
    /// Attempts under way.
    pub in_flight: usize,
    /// Attempts that wait until they may begin.
    pub waiting: usize,
    /// Attempts that may be under way at the same time.
    pub limit: f64,
    /// Attempts a second, where they are slowed down.
    pub rate: Option<f64>,
    /// How long the token may still be used, where it is renewed.
    pub token_seconds: Option<f64>,
}

/// Orders that stand still.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parking {
    /// How many.
    pub orders: u64,
    /// How many there may be.
    pub orders_max: usize,
    /// For how long the first of them does.
    pub oldest_seconds: Option<f64>,
}

/// An order that is worked on.
#[expect(clippy::struct_field_names, reason = "what the log calls it")]
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Order {
    /// Its canonical key, or a hash of it.
    pub order: String,
    /// What is done for it.
    pub state: &'static str,
    /// The same in words.
    pub meaning: &'static str,
    /// For how long already.
    pub state_seconds: f64,
    /// How long its update is held by the one who works on it.
    pub held_seconds: f64,
    /// How long ago the oldest of its updates arrived that are here, at work or behind it.
    pub oldest_seconds: f64,
    /// Attempts at that update.
    pub attempt: u32,
    /// The ETag that its last GET brought.
    pub etag: Option<String>,
    /// Updates that wait behind it.
    pub behind: usize,
}

/// Dead letters of one trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Letters {
    /// What they have in common; empty for those of too many others.
    pub fingerprint: String,
    /// The reason code of the last one.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
    /// When the last one was written.
    pub last: Timestamp,
    /// Its order, or a hash of it.
    pub order: Option<String>,
}

/// What should have moved on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stuck {
    /// Which order, or a hash of it.
    pub order: String,
    /// What is done for it.
    pub state: &'static str,
    /// For how long already.
    pub state_seconds: f64,
    /// How long that can take at most.
    pub max_seconds: f64,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { order, state, state_seconds, max_seconds } = self;
        write!(
            f,
            "order {order} has been at {state} for {state_seconds:.0} s, and {max_seconds:.0} s is the most"
        )
    }
}

impl Parking {
    fn trouble(&self) -> Option<String> {
        let Self { orders, orders_max, .. } = self;
        let is_full = usize::try_from(*orders).is_ok_and(|orders| orders >= *orders_max);
        let full = if is_full {
            "; no more can be parked, and the next one waits in its shard"
        } else {
            ""
        };
        let noun = if *orders == 1 { "order stands" } else { "orders stand" };
        (*orders > 0).then(|| format!("{orders} {noun} still behind a dead letter{full}"))
    }
}

impl Report {
    /// What is amiss, and no reason to take this pod for broken.
    pub(super) fn degraded(&self) -> Vec<String> {
        let mut degraded = Vec::new();
        match (self.target.state, self.target.reason) {
            ("works", _) => {}
            (state, Some(reason)) => degraded.push(format!("the service is {state}: {reason}")),
            (state, None) => degraded.push(format!("the service is {state}")),
        }
        if self.broker.paused {
            degraded.push("an operator paused it: nothing is taken".to_owned());
        }
        if self.broker.alarm {
            degraded.push("the broker takes no messages".to_owned());
        }
        degraded.extend(self.parking.as_ref().and_then(Parking::trouble));
        degraded
    }
}
