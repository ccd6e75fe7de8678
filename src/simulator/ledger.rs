//! Counts and records what was asked and what was changed, so that a test can prove that no update
//! was lost, doubled, reordered, or worked on by two at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::entity::{Changes, Properties, Schema};
use super::etag::Version;
use super::faults::{Fault, On};
use super::record::Judgement;

/// All counters since the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Requests under `/data/`.
    pub requests: u64,
    /// GETs, by themselves or in a `$batch`.
    pub gets: u64,
    /// PATCHes, by themselves or in a `$batch`.
    pub patches: u64,
    /// PATCHes that wrote an order.
    pub applied: u64,
    /// Different values of the sequence property that were written, summed over the orders.
    pub applied_distinct: u64,
    /// PATCHes that found the entity tag stale, however that was said.
    pub conflicts: u64,
    /// Requests refused for another reason.
    pub rejected: u64,
    /// What went wrong on purpose.
    pub faults: FaultTotals,
    /// Changes made by the outside actor.
    pub actor_changes: u64,
    /// Requests that found another writer at work on the order.
    pub overlaps: u64,
    /// PATCHes that wrote a lower sequence than the order had had.
    pub out_of_order: u64,
    /// PATCHes that wrote a sequence that the order had had.
    pub applied_twice: u64,
    /// Orders that exist.
    pub orders: u64,
    /// Most requests under way at the same time: proves parallelism. Without latency it stays 1,
    /// since a request that takes no time is over before the next one is looked at.
    pub in_flight_max: u64,
    /// Requests refused for being too many.
    pub throttled: u64,
}

/// Faults by what the client saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FaultTotals {
    /// Answered 5xx.
    pub unavailable: u64,
    /// Connection cut, and nothing applied, or in the middle of a body.
    pub cut: u64,
    /// Carried out, then cut.
    pub lost_reply: u64,
    /// Any other.
    pub other: u64,
}

/// One applied PATCH.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) time: Timestamp,
    pub(super) order: Arc<str>,
    pub(super) client: Arc<str>,
    pub(super) request_id: Option<Arc<str>>,
    pub(super) before: Version,
    pub(super) after: Version,
    pub(super) changed: Changes,
}

/// One applied PATCH, as it is shown.
#[derive(Debug, Serialize)]
pub struct ChangeView<'a> {
    seq: u64,
    time: Timestamp,
    order: &'a str,
    client: &'a str,
    request_id: Option<&'a str>,
    etag_before: String,
    etag_after: String,
    changed: Properties<'a>,
}

/// A page of applied PATCHes.
#[derive(Debug, Serialize)]
pub struct ChangesView<'a> {
    changes: Vec<ChangeView<'a>>,
    /// Whether changes were asked for that are not kept any more.
    truncated: bool,
    /// Number of the newest change of all; 0 if there is none.
    last: u64,
}

/// The book that is kept.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) totals: Totals,
    in_flight: u64,
    changes: VecDeque<Change>,
    changes_max: usize,
    /// Number of the newest change. Changes are numbered from 1 without gaps.
    last: u64,
}

impl Ledger {
    pub(super) fn new(changes_max: usize) -> Self {
        Self {
            totals: Totals::default(),
            in_flight: 0,
            changes: VecDeque::new(),
            changes_max,
            last: 0,
        }
    }

    /// Requests under way.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    pub(super) fn arrive(&mut self, on: Option<On>) {
        self.in_flight += 1;
        self.totals.in_flight_max = self.totals.in_flight_max.max(self.in_flight);
        self.totals.requests += 1;
        self.arrive_part(on);
    }

    /// A request inside a batch, which is a request too.
    pub(super) fn arrive_part(&mut self, on: Option<On>) {
        match on {
            Some(On::Get) => self.totals.gets += 1,
            Some(On::Patch) => self.totals.patches += 1,
            None => {}
        }
    }

    pub(super) fn leave(&mut self) {
        self.in_flight -= 1;
    }

    /// Counts a fault. A conflict is none: it is counted as what it is.
    pub(super) fn strike(&mut self, fault: &Fault) {
        let faults = &mut self.totals.faults;
        match fault {
            Fault::Conflict {} => {}
            Fault::Cut {} | Fault::CutBody {} => faults.cut += 1,
            Fault::LostReply {} => faults.lost_reply += 1,
            Fault::Status { status: 500.., .. } => faults.unavailable += 1,
            Fault::Status { .. }
            | Fault::Stall { .. }
            | Fault::Html {}
            | Fault::BadJson {}
            | Fault::NoEtag {}
            | Fault::NoEtagHeader {}
            | Fault::NoEtagInBody {}
            | Fault::Ignore {}
            | Fault::Delete {}
            | Fault::RevokeTokens {}
            | Fault::InvalidJson {}
            | Fault::HugeJson {}
            | Fault::Gzip {}
            | Fault::CloseIdle { .. }
            | Fault::SlowDrip { .. }
            | Fault::BodyForNoContent {}
            | Fault::MissingParts {}
            | Fault::WrongContentId {}
            | Fault::OkInFailedGroup {} => faults.other += 1,
        }
    }

    /// Enters an applied PATCH and returns its number.
    pub(super) fn enter(&mut self, judgement: Judgement, change: Change) -> u64 {
        self.totals.applied += 1;
        self.totals.applied_distinct += u64::from(judgement.distinct);
        self.totals.out_of_order += u64::from(judgement.out_of_order);
        self.totals.applied_twice += u64::from(judgement.twice);
        self.last += 1;
        if self.changes.len() >= self.changes_max {
            self.changes.pop_front();
        }
        if self.changes_max > 0 {
            self.changes.push_back(change);
        }
        self.last
    }

    /// The changes after number `after`, at most `limit`.
    pub(super) fn page<'a>(
        &'a self,
        schema: &'a Schema,
        after: u64,
        limit: usize,
    ) -> ChangesView<'a> {
        let seqs = after.max(self.dropped()).saturating_add(1)..=self.last;
        ChangesView {
            changes: seqs.take(limit).filter_map(|seq| self.view(schema, seq)).collect(),
            truncated: after < self.dropped(),
            last: self.last,
        }
    }

    /// One change, if it is still kept.
    pub(super) fn view<'a>(&'a self, schema: &'a Schema, seq: u64) -> Option<ChangeView<'a>> {
        let index = seq.checked_sub(self.dropped() + 1)?;
        let change = self.changes.get(usize::try_from(index).ok()?)?;
        let values = change.changed.iter().map(|(position, value)| (*position, value)).collect();
        Some(ChangeView {
            seq,
            time: change.time,
            order: &change.order,
            client: &change.client,
            request_id: change.request_id.as_deref(),
            etag_before: change.before.tag(),
            etag_after: change.after.tag(),
            changed: Properties { schema, values },
        })
    }

    /// Begins a new book. What is under way stays under way.
    pub(super) fn reset(&mut self) {
        let in_flight = self.in_flight;
        let orders = self.totals.orders;
        *self = Self::new(self.changes_max);
        self.in_flight = in_flight;
        self.totals = Totals { orders, in_flight_max: in_flight, ..Totals::default() };
    }

    /// How many of the changes are not kept any more: the oldest ones.
    fn dropped(&self) -> u64 {
        self.last - self.changes.len() as u64
    }
}
