//! Counts what was done since the start. Read by the summary at the end of a run.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use serde::Serialize;

use crate::protocol::{Settlement, Trouble};

/// The counters. Relaxed: each stands for itself.
#[derive(Debug, Default)]
pub struct Tally {
    received: AtomicU64,
    misplaced_by_ring: AtomicU64,
    misplaced_by_key: AtomicU64,
    attempts: AtomicU64,
    applied: AtomicU64,
    already_applied: AtomicU64,
    superseded: AtomicU64,
    conflicts: AtomicU64,
    conflicts_overcome: AtomicU64,
    failures: AtomicU64,
    throttled: AtomicU64,
    outages: AtomicU64,
    retries: AtomicU64,
    released: AtomicU64,
    settlements_lost: AtomicU64,
    /// By reason code. The codes are a closed set, so the map is bounded.
    dead_lettered: Mutex<BTreeMap<&'static str, u64>>,
}

/// The counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Deliveries handed to us, redelivered ones included.
    pub received: u64,
    /// Attempts: GETs of an order, each with or without a PATCH.
    pub attempts: u64,
    /// Messages acked after a successful PATCH.
    pub applied: u64,
    /// Messages acked because the order already looked as wanted.
    pub already_applied: u64,
    /// Messages acked unwritten because a newer update of the order was written before.
    pub superseded: u64,
    /// Messages acked after their dead letter was confirmed, by reason code.
    pub dead_lettered: BTreeMap<&'static str, u64>,
    /// Attempts that ended with a stale ETag.
    pub conflicts: u64,
    /// Messages that met a conflict and were applied all the same.
    pub conflicts_overcome: u64,
    /// Attempts that ended with trouble that may pass.
    pub failures: u64,
    /// Answers that asked for less.
    pub throttled: u64,
    /// Times that the target was taken for down.
    pub outages: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Messages given back to the broker after work on them had begun.
    pub released: u64,
    /// Messages found in another queue than their order's own, and sent on to it.
    pub forwarded: u64,
    /// Orders that stand still behind a dead letter at the end, all pods together.
    pub parked_orders: u64,
    /// Since when the first of them does.
    pub parked_oldest: Option<Timestamp>,
    /// Publishers who asked and were told what became of their update.
    pub notices_sent: u64,
    /// Publishers who asked and could not be told.
    pub notices_lost: u64,
    /// Deliveries in another shard queue than their order's own, though published with the order key.
    pub misplaced_by_ring: u64,
    /// Deliveries there because they were published with another routing key.
    pub misplaced_by_key: u64,
    /// Messages that were finished, but whose channel was gone: the broker redelivers them.
    pub settlements_lost: u64,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Tally {
    /// A delivery arrived.
    pub fn received(&self) {
        add(&self.received);
    }

    /// A delivery stood in another shard queue than its order's own, by the ring's doing.
    pub fn misplaced_by_ring(&self) {
        add(&self.misplaced_by_ring);
    }

    /// A delivery stood in another shard queue than its order's own, by its routing key.
    pub fn misplaced_by_key(&self) {
        add(&self.misplaced_by_key);
    }

    pub(super) fn attempt(&self) {
        add(&self.attempts);
    }

    pub(super) fn trouble(&self, trouble: Trouble) {
        match trouble {
            Trouble::Conflict(_) => add(&self.conflicts),
            Trouble::Failure(_) | Trouble::Systemic(_) | Trouble::Outage(_) => add(&self.failures),
            Trouble::Throttled { .. } => add(&self.throttled),
            Trouble::Refused(_) => {}
        }
    }

    pub(super) fn outage(&self) {
        add(&self.outages);
    }

    pub(super) fn retry(&self) {
        add(&self.retries);
    }

    pub(super) fn released(&self) {
        add(&self.released);
    }

    pub(super) fn settled(&self, settlement: Settlement, after_conflict: bool, done: bool) {
        match settlement {
            Settlement::DeadLetter(code) => return self.settled_letter(code.as_str(), done),
            Settlement::Applied | Settlement::AlreadyApplied | Settlement::Superseded if !done => {
                return add(&self.settlements_lost);
            }
            Settlement::Superseded => return add(&self.superseded),
            Settlement::Applied => add(&self.applied),
            Settlement::AlreadyApplied => add(&self.already_applied),
        }
        if after_conflict {
            add(&self.conflicts_overcome);
        }
    }

    pub(super) fn settled_letter(&self, code: &'static str, done: bool) {
        if !done {
            return add(&self.settlements_lost);
        }
        let mut letters =
            self.dead_lettered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *letters.entry(code).or_default() += 1;
    }

    /// Reads all counters.
    pub fn snapshot(&self) -> Snapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let letters = self.dead_lettered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Snapshot {
            received: get(&self.received),
            attempts: get(&self.attempts),
            applied: get(&self.applied),
            already_applied: get(&self.already_applied),
            superseded: get(&self.superseded),
            dead_lettered: letters.clone(),
            conflicts: get(&self.conflicts),
            conflicts_overcome: get(&self.conflicts_overcome),
            failures: get(&self.failures),
            throttled: get(&self.throttled),
            outages: get(&self.outages),
            retries: get(&self.retries),
            released: get(&self.released),
            forwarded: 0,
            parked_orders: 0,
            parked_oldest: None,
            notices_sent: 0,
            notices_lost: 0,
            misplaced_by_ring: get(&self.misplaced_by_ring),
            misplaced_by_key: get(&self.misplaced_by_key),
            settlements_lost: get(&self.settlements_lost),
        }
    }
}
