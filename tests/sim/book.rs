//! What was published, written, dead-lettered and settled, and what of it must not be.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::broker::Id;
use crate::plan::{CHANGED, Plan, changed};
use crate::stage::Message;

/// What is known of one update.
#[derive(Debug, Default, Clone)]
struct Entry {
    order: usize,
    number: u64,
    is_garbage: bool,
    /// Copies in shard queues that are not settled.
    copies: i64,
    was_stored: bool,
    written: u32,
    /// One behind it was written while it was not settled: it may have been part of that.
    is_covered: bool,
    letters: Vec<String>,
    settled: Option<Duration>,
}

/// States that a run can come through: a simulation that misses some is blind there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Redelivered,
    WrittenTwice,
    DeadLettered,
    DeadLetteredTwice,
    Forwarded,
    HandedOver,
    Overtaken,
    NotDrained,
    Drained,
    Conflict,
    LateWrite,
    VoidAck,
    BreakerOpen,
    Throttled,
    Superseded,
    EtagAlone,
    Merged,
    NotSent,
    AckKept,
    AckForgotten,
}

pub(crate) const STATES: [(State, &str); 20] = [
    (State::Redelivered, "redelivered"),
    (State::WrittenTwice, "written again after a lost ack"),
    (State::DeadLettered, "dead-lettered"),
    (State::DeadLetteredTwice, "dead-lettered twice"),
    (State::Forwarded, "forwarded"),
    (State::HandedOver, "shard of another pod"),
    (State::Overtaken, "older written again before its redelivered successor"),
    (State::NotDrained, "drain over its grace"),
    (State::Drained, "drained"),
    (State::Conflict, "conflict"),
    (State::LateWrite, "request carried out after its pod was gone"),
    (State::VoidAck, "ack that arrived nowhere"),
    (State::BreakerOpen, "target taken for down"),
    (State::Throttled, "throttled"),
    (State::Superseded, "superseded"),
    (State::EtagAlone, "reset that its pod did not hear of"),
    (State::Merged, "several written as one"),
    (State::NotSent, "request that was refused leave to be written"),
    (State::AckKept, "ack that the broker's channel kept for a while"),
    (State::AckForgotten, "ack that was forgotten with its channel"),
];

#[derive(Debug)]
pub(crate) struct Book {
    entries: Vec<Entry>,
    /// The number that was written last, by order.
    last: BTreeMap<usize, u64>,
    /// By channel and tag: since when it is held.
    held: BTreeMap<(Id, u64), (Option<usize>, Duration)>,
    hold_max: Duration,
    is_sequenced: bool,
    is_merging: bool,
    /// Order between updates is promised.
    is_ordered: bool,
    pub(crate) complaints: Vec<String>,
    pub(crate) states: BTreeMap<State, u64>,
    /// Dead letters by their reason.
    pub(crate) codes: BTreeMap<String, u64>,
    /// Who had a queue last.
    holders: BTreeMap<String, usize>,
}

/// More say nothing new.
const COMPLAINTS_MAX: usize = 20;

impl Book {
    pub(crate) fn new(plan: &Plan) -> Self {
        let entry = |update: &crate::plan::Update| Entry {
            order: update.order,
            number: update.number,
            is_garbage: update.is_garbage,
            ..Entry::default()
        };
        Self {
            entries: plan.updates.iter().map(entry).collect(),
            last: BTreeMap::new(),
            held: BTreeMap::new(),
            hold_max: plan.settings().broker.consumer_timeout / 2 + Duration::from_mins(1),
            is_sequenced: plan.is_sequenced,
            is_merging: plan.is_merging,
            is_ordered: !plan.is_scrambled,
            complaints: Vec::new(),
            states: BTreeMap::new(),
            codes: BTreeMap::new(),
            holders: BTreeMap::new(),
        }
    }

    pub(crate) fn complain(&mut self, at: Duration, what: impl Into<String>) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(format!("{:.3} s: {}", at.as_secs_f64(), what.into()));
        }
    }

    pub(crate) fn saw(&mut self, state: State) {
        *self.states.entry(state).or_default() += 1;
    }

    /// From here on two may be at work on an order, and the ETag keeps what they write apart.
    pub(crate) fn etag_alone(&mut self) {
        self.saw(State::EtagAlone);
    }

    pub(crate) fn is_etag_alone(&self) -> bool {
        self.states.contains_key(&State::EtagAlone)
    }

    /// A copy is in a shard queue.
    pub(crate) fn stored(&mut self, update: Option<usize>) {
        let Some(entry) = update.and_then(|update| self.entries.get_mut(update)) else { return };
        entry.copies += 1;
        if std::mem::replace(&mut entry.was_stored, true) {
            self.saw(State::Forwarded);
        }
    }

    /// A letter is in the queue of dead letters.
    pub(crate) fn letter(&mut self, update: Option<usize>, code: &str) {
        let Some(entry) = update.and_then(|update| self.entries.get_mut(update)) else { return };
        entry.letters.push(code.to_owned());
        let again = entry.letters.len() > 1;
        self.saw(if again { State::DeadLetteredTwice } else { State::DeadLettered });
        *self.codes.entry(code.to_owned()).or_default() += 1;
    }

    /// A pod gets messages of a queue.
    pub(crate) fn served(&mut self, queue: &str, pod: usize) {
        if self.holders.insert(queue.to_owned(), pod).is_some_and(|before| before != pod) {
            self.saw(State::HandedOver);
        }
    }

    pub(crate) fn handed(&mut self, id: Id, tag: u64, update: Option<usize>, at: Duration) {
        self.held.insert((id, tag), (update, at));
    }

    /// A channel is gone, and its messages with it.
    pub(crate) fn left(&mut self, id: Id) {
        let returned = self.held.range((id, 0)..=((id), u64::MAX)).count();
        self.held.retain(|(holder, _), _| *holder != id);
        for _ in 0..returned {
            self.saw(State::Redelivered);
        }
    }

    /// The broker settles a message because a pod said so.
    pub(crate) fn acked(&mut self, id: Id, tag: u64, message: &Message, at: Duration) {
        let handed = self.held.remove(&(id, tag));
        if let Some((_, since)) = handed
            && at.saturating_sub(since) > self.hold_max
        {
            self.complain(at, format!("a message was held for {:?}", at.saturating_sub(since)));
        }
        self.settled(message.update, at);
        let Some(entry) = message.update.and_then(|it| self.entries.get(it)).cloned() else {
            return;
        };
        let newer = self.is_sequenced
            && self
                .entries
                .iter()
                .any(|it| it.order == entry.order && it.number > entry.number && it.written > 0);
        if newer && entry.written == 0 && entry.letters.is_empty() {
            self.saw(State::Superseded);
        }
        let is_done = entry.written > 0 || entry.is_covered || !entry.letters.is_empty();
        if !is_done && entry.copies <= 0 && !newer {
            let Entry { order, number, .. } = entry;
            self.complain(
                at,
                format!("acked before it was settled: update {number} of order {order}"),
            );
        }
    }

    pub(crate) fn settled(&mut self, update: Option<usize>, at: Duration) {
        let Some(entry) = update.and_then(|update| self.entries.get_mut(update)) else { return };
        entry.copies -= 1;
        if entry.copies <= 0 {
            entry.settled = Some(at);
        }
    }

    /// The target has written an update.
    pub(crate) fn written(&mut self, order: usize, number: u64, at: Duration) {
        let found = self.entries.iter_mut().find(|it| it.order == order && it.number == number);
        let Some(entry) = found else {
            return self.complain(at, format!("nobody published update {number} of order {order}"));
        };
        entry.written += 1;
        if entry.written > 1 {
            self.saw(State::WrittenTwice);
        }
        if self.is_merging {
            self.cover(order, number);
        }
        self.last.insert(order, number);
        let newer = |it: &&Entry| it.order == order && it.number > number && it.written > 0;
        let newer: Vec<Entry> = self.entries.iter().filter(newer).cloned().collect();
        if newer.is_empty() {
            return;
        }
        self.saw(State::Overtaken);
        if self.is_sequenced {
            return self.complain(at, format!("order {order}: {number} over a greater sequence"));
        }
        // One that is not settled comes again, behind this one.
        let settled = newer.iter().find(|it| it.settled.is_some());
        if let Some(Entry { number: newer, .. }) = settled.filter(|_| self.is_ordered) {
            let newer = *newer;
            self.complain(
                at,
                format!("order {order}: {number} was written over {newer}, which is settled"),
            );
        }
    }

    /// Those that wait before one that was written may have been part of it.
    fn cover(&mut self, order: usize, number: u64) {
        // Where the ring is scrambled, one with a greater number may wait before it.
        let is_ordered = self.is_ordered;
        let waits = |it: &&mut Entry| {
            let is_before =
                it.order == order && !(is_ordered && it.number >= number) && !it.is_garbage;
            is_before && it.was_stored && it.settled.is_none()
        };
        let mut is_merged = false;
        for entry in self.entries.iter_mut().filter(waits) {
            is_merged |= entry.written == 0 && !entry.is_covered;
            entry.is_covered = true;
        }
        if is_merged {
            self.saw(State::Merged);
        }
    }

    /// What an order shows at the end: of each property the last value that was written.
    pub(crate) fn shows(&mut self, order: usize, shown: impl Fn(&str) -> u64, at: Duration) {
        if !self.is_ordered {
            return;
        }
        for name in CHANGED {
            let applied = self
                .entries
                .iter()
                .filter(|it| it.order == order && !it.is_garbage && it.letters.is_empty());
            let wanted =
                applied.map(|it| it.number).filter(|number| changed(*number) == name).max();
            let (wanted, shown) = (wanted.unwrap_or_default(), shown(name));
            if shown < wanted {
                let what =
                    format!("lost: order {order} shows {name} of {shown} at the end, not {wanted}");
                self.complain(at, what);
            }
        }
    }

    /// How many updates are not settled.
    pub(crate) fn open(&self) -> usize {
        self.entries.iter().filter(|it| it.settled.is_none()).count()
    }

    /// What must hold when all is over.
    pub(crate) fn finish(&mut self, at: Duration) {
        let entries = self.entries.clone();
        for Entry { order, number, is_garbage, written, is_covered, letters, settled, .. } in
            &entries
        {
            let superseded = self.is_sequenced
                && entries
                    .iter()
                    .any(|it| it.order == *order && it.number > *number && it.written > 0);
            if settled.is_none() {
                self.complain(at, format!("not settled: update {number} of order {order}"));
            } else if *is_garbage && letters.is_empty() {
                self.complain(at, format!("lost: {number} of {order}, which is no update"));
            } else if *written == 0 && !is_covered && letters.is_empty() && !superseded {
                self.complain(at, format!("lost: update {number} of order {order}"));
            }
        }
        if self.is_ordered {
            self.judge_last(&entries, at);
        }
    }

    /// The last update of an order is what the order shows, unless it is a dead letter.
    fn judge_last(&mut self, entries: &[Entry], at: Duration) {
        let orders: Vec<usize> = self.last.keys().copied().collect();
        for order in orders {
            let of = |it: &&Entry| it.order == order && !it.is_garbage;
            let applied = entries.iter().filter(of).filter(|it| it.letters.is_empty());
            let wanted = applied.map(|it| it.number).max().unwrap_or_default();
            let shown = self.last.get(&order).copied().unwrap_or_default();
            if shown < wanted {
                self.complain(at, format!("order {order} shows {shown} at the end, not {wanted}"));
            }
        }
    }
}
