//! One order: its row, its dice, and what happened to it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::entity::{Changes, DELIVERY_MODE, Entity, SEQUENCE, Schema, Value};
use super::etag::{Source, Version};
use super::faults::On;
use super::key::Key;
use super::ledger::{ChangeView, Ledger};
use super::spans::Spans;

/// Applied changes that are remembered for one order.
const CHANGES_MAX: usize = 1_000;
/// Overlaps that are remembered for one order, the latest.
const OVERLAPS_MAX: usize = 16;
/// What the outside actor sets `DeliveryModeCode` to.
const DELIVERY_MODES: [&str; 4] = ["Air", "Rail", "Ship", "Truck"];

/// What happened to one order.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Tally {
    pub(super) gets: u64,
    pub(super) patches: u64,
    pub(super) applied: u64,
    pub(super) conflicts: u64,
    pub(super) actor_changes: u64,
    pub(super) overlaps: u64,
    pub(super) out_of_order: u64,
    pub(super) applied_twice: u64,
}

/// Two writers at work on one order, seen when the first of them arrived.
#[derive(Debug, Clone, Serialize)]
struct Overlap {
    time: Timestamp,
    writer: String,
    other: String,
}

/// How an applied PATCH relates to those before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judgement {
    pub(super) distinct: bool,
    pub(super) out_of_order: bool,
    pub(super) twice: bool,
}

/// One order.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) name: Arc<str>,
    pub(super) key: Key,
    pub(super) version: Version,
    pub(super) values: Vec<Value>,
    /// Every decision about this order is drawn from here, so that a seed repeats what happens to
    /// it whatever happens to the others.
    pub(super) rng: fastrand::Rng,
    pub(super) tally: Tally,
    spans: Spans,
    overlaps: VecDeque<Overlap>,
    sequences: BTreeSet<i64>,
    changes: VecDeque<u64>,
}

/// One order, as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct RecordView<'a> {
    order: &'a str,
    etag: String,
    #[serde(flatten)]
    tally: &'a Tally,
    latest_overlaps: &'a VecDeque<Overlap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Entity<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<ChangeView<'a>>>,
}

impl Record {
    pub(super) fn new(key: Key, rec_id: i64, values: Vec<Value>, seed: u64) -> Self {
        Self {
            name: key.to_string().into(),
            version: Version::new(rec_id),
            values,
            rng: fastrand::Rng::with_seed(seed ^ key.stable_hash()),
            key,
            tally: Tally::default(),
            spans: Spans::default(),
            overlaps: VecDeque::new(),
            sequences: BTreeSet::new(),
            changes: VecDeque::new(),
        }
    }

    /// Notes an arrival; `true` if another writer is at work.
    pub(super) fn arrive(&mut self, on: On, writer: &Arc<str>, visit: u64, now: Timestamp) -> bool {
        match on {
            On::Get => self.tally.gets += 1,
            On::Patch => self.tally.patches += 1,
        }
        let Some(other) = self.spans.arrive(on, writer, visit) else { return false };
        self.tally.overlaps += 1;
        if self.overlaps.len() == OVERLAPS_MAX {
            self.overlaps.pop_front();
        }
        let (writer, other) = (writer.to_string(), other.to_string());
        self.overlaps.push_back(Overlap { time: now, writer, other });
        true
    }

    /// Notes that a request has ended.
    pub(super) fn leave(&mut self, visit: u64) {
        self.spans.leave(visit);
    }

    /// Somebody else changes the order; half of the times where only the ETag shows it.
    pub(super) fn outside_change(&mut self, rng: &mut fastrand::Rng) {
        self.tally.actor_changes += 1;
        let mode = rng.choice(DELIVERY_MODES).unwrap_or_default();
        if rng.bool() {
            self.version = self.version.changed(Source::Invisible, rng);
            return;
        }
        self.version = self.version.changed(Source::Visible, rng);
        if let Some(value) = self.values.get_mut(DELIVERY_MODE) {
            *value = Value::Text(mode.into());
        }
    }

    /// Writes the order. Every accepted PATCH is a write, even of the values that are there.
    pub(super) fn write(&mut self, changes: &Changes, rng: &mut fastrand::Rng) -> Judgement {
        self.version = self.version.changed(Source::Visible, rng);
        for (position, value) in changes {
            if let Some(slot) = self.values.get_mut(*position) {
                *slot = value.clone();
            }
        }
        self.tally.applied += 1;
        let judgement = self.judge(changes);
        self.tally.out_of_order += u64::from(judgement.out_of_order);
        self.tally.applied_twice += u64::from(judgement.twice);
        judgement
    }

    /// Remembers the number of an applied change.
    pub(super) fn remember(&mut self, seq: u64) {
        if self.changes.len() == CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back(seq);
    }

    /// A PATCH without sequence is not judged: nothing tells which update it belongs to.
    fn judge(&mut self, changes: &Changes) -> Judgement {
        let sequence = changes.iter().find_map(|(position, value)| match value {
            Value::Integer(sequence) if *position == SEQUENCE => Some(*sequence),
            Value::Integer(_)
            | Value::Enum(_)
            | Value::Text(_)
            | Value::Date(_)
            | Value::Decimal(_) => None,
        });
        let Some(sequence) = sequence else {
            return Judgement { distinct: false, out_of_order: false, twice: false };
        };
        let out_of_order = self.sequences.last().is_some_and(|highest| sequence < *highest);
        let distinct = self.sequences.insert(sequence);
        Judgement { distinct, out_of_order, twice: !distinct }
    }

    /// Whether a rule was broken on this order.
    pub(super) fn is_bad(&self) -> bool {
        self.tally.overlaps + self.tally.out_of_order + self.tally.applied_twice > 0
    }

    /// Forgets what happened, but not what is under way.
    pub(super) fn reset(&mut self) {
        self.tally = Tally::default();
        self.overlaps.clear();
        self.sequences.clear();
        self.changes.clear();
        self.spans.reset();
    }

    /// The order in one line.
    pub(super) fn summary(&self) -> RecordView<'_> {
        RecordView {
            order: &self.name,
            etag: self.version.tag(),
            tally: &self.tally,
            latest_overlaps: &self.overlaps,
            properties: None,
            changes: None,
        }
    }

    /// The order with its properties and its latest changes.
    pub(super) fn view<'a>(&'a self, schema: &'a Schema, ledger: &'a Ledger) -> RecordView<'a> {
        RecordView {
            properties: Some(self.entity(schema, None, None)),
            changes: Some(
                self.changes.iter().filter_map(|seq| ledger.view(schema, *seq)).collect(),
            ),
            ..self.summary()
        }
    }

    /// The order as OData shows it.
    pub(super) fn entity<'a>(
        &'a self,
        schema: &'a Schema,
        etag: Option<&'a str>,
        select: Option<&'a [String]>,
    ) -> Entity<'a> {
        Entity { schema, key: &self.key, values: &self.values, etag, select }
    }
}
