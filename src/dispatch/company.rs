//! Updates that wait behind the one at work, and may be written together with it.
//!
//! ```text
//! mailbox ──begun──▶ aboard ──▶ one PATCH for all ──applied──▶ settled, each by itself
//!    ▲                  │
//!    └──────────────────┘   a conflict, a refusal, or the first one came to another end
//! ```
//!
//! Together or not, each is judged and settled in its turn: who goes back to the mailbox goes through all
//! of it by itself.

use futures_util::FutureExt;

use super::card::Card;
use super::{Effects, Gate, Held, Item, Job, Shared};
use crate::order::OrderUpdate;
use crate::protocol::Trouble;
use crate::protocol::merge::{Merged, UPDATES_MAX};

/// A message with the sign that it is worked on.
pub(super) type Aboard<H> = (Box<Job<H>>, <H as Held>::Begun);

/// What one runner has taken out of its mailbox, beside the one at work.
pub(super) struct Company<H: Held> {
    /// Written together with the one at work.
    aboard: Vec<Aboard<H>>,
    /// What they and the one at work come to.
    merged: Option<OrderUpdate>,
    /// Nobody knows what became of that write.
    in_doubt: bool,
    /// Whether the one at work goes by itself.
    is_alone: bool,
    /// So many of those behind it go by themselves as well: they were part of a write that was refused.
    alone: usize,
}

impl<H: Held> Default for Company<H> {
    fn default() -> Self {
        Self { aboard: Vec::new(), merged: None, in_doubt: false, is_alone: false, alone: 0 }
    }
}

impl<H: Held> Company<H> {
    /// The next one is at work.
    pub(super) fn turn(&mut self) {
        self.is_alone = self.alone > 0;
        self.alone = self.alone.saturating_sub(1);
    }

    /// What the one at work and those behind it come to as one write, just before it is sent. `None` if
    /// it goes by itself.
    pub(super) fn form<E: Effects<Held = H>>(
        &mut self,
        shared: &Shared<E>,
        (first, held): (&OrderUpdate, &H),
        card: &Card,
    ) -> Option<&OrderUpdate> {
        let bytes_max = shared.limits.merged_bytes_max?;
        // One that may be what kills its holders takes nobody along.
        let is_suspect = held.losses() >= shared.limits.losses_suspect;
        if self.is_alone || is_suspect || self.merged.is_some() {
            return None;
        }
        let mut merged = Merged::begin(first, &shared.guard, bytes_max)?;
        let key = first.key.canonical();
        let mut room = 0..UPDATES_MAX;
        let taken = shared.router.take_while(key, |_| room.next().is_some());
        let mut taken = taken.into_iter().peekable();
        while let Some(Item::Update(job)) = taken.peek() {
            let Some(begun) = join(job, shared, held, &mut merged) else { break };
            if let Some(Item::Update(job)) = taken.next() {
                self.aboard.push((job, begun));
            }
        }
        shared.router.put_back(key, taken);
        self.merged = merged.update();
        card.aside(self.aboard.len());
        self.merged.as_ref()
    }

    /// The common write met trouble. Where nobody knows what became of it, the next look at the order
    /// tells; else they part.
    pub(super) fn met<E: Effects<Held = H>>(
        &mut self,
        trouble: Trouble,
        (shared, first): (&Shared<E>, &OrderUpdate),
        card: &Card,
    ) {
        if trouble.leaves_doubt() {
            self.in_doubt = true;
            return;
        }
        if !trouble.is_nobodys() {
            (self.is_alone, self.alone) = (true, self.aboard.len());
        }
        self.part(shared, first, card);
    }

    /// What was written for all, where nobody knows what became of that.
    pub(super) fn in_doubt(&self) -> Option<&OrderUpdate> {
        self.merged.as_ref().filter(|_| self.in_doubt)
    }

    /// It did not come about: each goes by itself from now on.
    pub(super) fn refuted<E: Effects<Held = H>>(
        &mut self,
        shared: &Shared<E>,
        first: &OrderUpdate,
        card: &Card,
    ) {
        (self.is_alone, self.alone) = (true, self.aboard.len());
        self.part(shared, first, card);
    }

    /// Those who were part of the write, now that it came to its end.
    pub(super) fn disband(&mut self, card: &Card) -> Vec<Aboard<H>> {
        (self.merged, self.in_doubt) = (None, false);
        if !self.aboard.is_empty() {
            card.aside(0);
        }
        std::mem::take(&mut self.aboard)
    }

    /// A request of unknown outcome may still be at work on behalf of all.
    pub(super) fn doubt(&self) {
        self.aboard.iter().for_each(|(_, begun)| H::doubt(begun));
    }

    /// The one at work goes on without the others, which come after it in their order.
    pub(super) fn part<E: Effects<Held = H>>(
        &mut self,
        shared: &Shared<E>,
        first: &OrderUpdate,
        card: &Card,
    ) {
        let back = self.disband(card).into_iter().map(|(job, _begun)| Item::Update(job));
        shared.router.put_back(first.key.canonical(), back);
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
    let is_near =
        job.held.queue() == first.queue() && job.held.losses() < shared.limits.losses_suspect;
    if !is_near || job.held.settled().now_or_never().is_none() {
        return None;
    }
    let gate = shared.effects.gate(&job.held, job.update.key.canonical());
    let begun = job.held.begin().filter(|_| gate.now_or_never() == Some(Gate::Open))?;
    merged.add(&job.update, &shared.guard).then_some(begun)
}
