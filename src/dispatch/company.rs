//! Updates that wait behind the one at work, and may be written together with it.
//!
//! ```text
//! mailbox ──▶ waiting ──begun──▶ aboard ──▶ one PATCH for all ──applied──▶ settled, each by itself
//!                ▲                  │
//!                └── left behind ◀──┘   refused, or the first one came to another end
//! ```
//!
//! Together or not, each is judged and settled in its turn: who is left behind goes through all of it by
//! itself.

use std::collections::VecDeque;

use futures_util::FutureExt;

use super::card::Card;
use super::{Effects, Gate, Held, Item, Job, Shared};
use crate::order::OrderUpdate;
use crate::protocol::merge::{Merged, UPDATES_MAX};

/// What one runner has taken out of its mailbox.
pub(super) struct Company<H: Held> {
    /// To be worked on, in their order, before anything else of the mailbox.
    waiting: VecDeque<Item<H>>,
    /// So many of them go by themselves: they were part of a write that was refused.
    alone: usize,
    /// Whether the one at work goes by itself.
    is_alone: bool,
    /// Written together with the one at work.
    aboard: Vec<(Job<H>, H::Begun)>,
    /// What they and the one at work come to.
    merged: Option<OrderUpdate>,
    /// Such a write was refused, or nobody knows what became of it.
    is_broken: bool,
    /// Whether the card says that some are here.
    is_told: bool,
}

impl<H: Held> Default for Company<H> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            alone: 0,
            is_alone: false,
            aboard: Vec::new(),
            merged: None,
            is_broken: false,
            is_told: false,
        }
    }
}

impl<H: Held> Company<H> {
    /// The next one that was taken and left behind. It is worked on like any other.
    pub(super) fn next(
        &mut self,
        may_begin: impl Fn(&Item<H>) -> bool,
        card: &Card,
    ) -> Option<Item<H>> {
        self.leave();
        self.is_alone = false;
        let mut next = None;
        while next.is_none() && !self.waiting.is_empty() {
            self.is_alone = self.alone > 0;
            self.alone = self.alone.saturating_sub(1);
            next = self.waiting.pop_front().filter(&may_begin);
        }
        if std::mem::replace(&mut self.is_told, !self.waiting.is_empty()) {
            card.aside(self.waiting.len());
        }
        next
    }

    /// What the one at work and those behind it come to as one write, just before it is sent. `None` if
    /// it goes by itself.
    pub(super) fn form<E: Effects<Held = H>>(
        &mut self,
        shared: &Shared<E>,
        first: (&OrderUpdate, &H),
        card: &Card,
    ) -> Option<&OrderUpdate> {
        let bytes_max = shared.limits.merged_bytes_max?;
        if self.is_alone || self.is_broken {
            return None;
        }
        if self.merged.is_some() && !self.aboard.iter().all(|(job, _)| job.held.is_live()) {
            self.leave();
        }
        if self.merged.is_none() {
            self.merged = self.gather(shared, first, bytes_max);
        }
        if self.merged.is_none() {
            // Nobody came, or only those who could not.
            self.leave();
        }
        self.is_told = true;
        card.aside(self.waiting.len() + self.aboard.len());
        self.merged.as_ref()
    }

    fn gather<E: Effects<Held = H>>(
        &mut self,
        shared: &Shared<E>,
        (first, held): (&OrderUpdate, &H),
        bytes_max: usize,
    ) -> Option<OrderUpdate> {
        let mut merged = Merged::begin(first, &shared.guard, bytes_max)?;
        let key = first.key.canonical();
        if self.waiting.is_empty() {
            let mut room = 0..UPDATES_MAX;
            let take = |_: &Item<H>| room.next().is_some();
            self.waiting.extend(shared.router.take_while(key, take));
        }
        while let Some(Item::Update(job)) = self.waiting.front() {
            let Some(begun) = join(job, shared, held, &mut merged) else { break };
            if let Some(Item::Update(job)) = self.waiting.pop_front() {
                self.aboard.push((job, begun));
            }
        }
        merged.update()
    }

    /// A write for all was refused, or nobody knows what became of it.
    pub(super) fn broken(&mut self) {
        self.is_broken = self.merged.is_some();
    }

    /// What was written for all, where nobody knows what became of that.
    pub(super) fn in_doubt(&self) -> Option<&OrderUpdate> {
        self.merged.as_ref().filter(|_| self.is_broken)
    }

    /// Those who were part of the write, once it came to its good end.
    pub(super) fn settled(&mut self) -> Vec<(Job<H>, H::Begun)> {
        (self.merged, self.is_broken) = (None, false);
        std::mem::take(&mut self.aboard)
    }

    /// A request of unknown outcome may still be at work on behalf of all.
    pub(super) fn doubt(&self) {
        self.aboard.iter().for_each(|(_, begun)| H::doubt(begun));
    }

    /// The one at work goes on without the others, which come after it as they came.
    pub(super) fn leave(&mut self) {
        if self.is_broken {
            self.alone = self.aboard.len();
        }
        for (job, _begun) in self.aboard.drain(..).rev() {
            self.waiting.push_front(Item::Update(job));
        }
        self.is_alone |= self.is_broken;
        (self.merged, self.is_broken) = (None, false);
    }
}

/// Lets one come aboard, if nothing must be waited for before it may be written.
fn join<E: Effects>(
    job: &Job<E::Held>,
    shared: &Shared<E>,
    first: &E::Held,
    merged: &mut Merged,
) -> Option<<E::Held as Held>::Begun> {
    // By one channel: while the first one's lives, so does its own.
    let is_near = job.held.queue() == first.queue() && job.held.losses() == 0;
    if !is_near || job.held.settled().now_or_never().is_none() {
        return None;
    }
    let gate = shared.effects.gate(&job.held, job.update.key.canonical());
    let begun = job.held.begin().filter(|_| gate.now_or_never() == Some(Gate::Open))?;
    merged.add(&job.update, &shared.guard).then_some(begun)
}
