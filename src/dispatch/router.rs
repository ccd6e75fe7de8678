//! Finds the mailbox of an order. The only file that touches the map and its guards; none of its
//! functions is `async`, so no guard can live across an `.await`.

use std::sync::Arc;

use dashmap::{DashMap, Entry};
use tokio::time::Instant;

use super::card::{Busy, Card};
use super::mailbox::{Mailbox, Waiting};

/// The mailboxes of all orders that have a runner.
pub(super) struct Router<T> {
    mailboxes: DashMap<Arc<str>, Entered<T>>,
}

/// An order that has a runner.
struct Entered<T> {
    mailbox: Mailbox<T>,
    /// What the runner is at.
    card: Arc<Card>,
}

impl<T: Waiting> Entered<T> {
    fn read(&self, key: &Arc<str>, arrived: impl Fn(&T) -> Option<Instant>) -> Busy {
        self.card.read(key.clone(), self.mailbox.len(), self.mailbox.oldest(arrived))
    }
}

/// The mailboxes in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mailboxes {
    /// Orders that are worked on.
    pub orders: usize,
    /// Updates that wait in the longest one.
    pub longest: usize,
    /// Updates that wait in all of them.
    pub waiting: usize,
}

/// What became of an item.
pub(super) enum Routed<T> {
    /// It waits behind the one that the order's runner works on.
    Queued,
    /// The order was at rest: the caller starts a runner with it, which writes on this card.
    Start(T, Arc<Card>),
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self { mailboxes: DashMap::new() }
    }
}

impl<T: Waiting> Router<T> {
    /// Queues an item behind a running one, or claims the order for a new runner. One step under one
    /// guard: an order never gets two runners.
    pub(super) fn push(&self, key: &Arc<str>, item: T, is_live: impl Fn(&T) -> bool) -> Routed<T> {
        match self.mailboxes.entry(key.clone()) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().mailbox.push(item, is_live);
                Routed::Queued
            }
            Entry::Vacant(entry) => {
                let card = Arc::new(Card::new());
                entry.insert(Entered { mailbox: Mailbox::default(), card: card.clone() });
                Routed::Start(item, card)
            }
        }
    }

    /// The next item of a runner's order. `None` puts the order to rest: the mailbox is removed in
    /// the same step that finds it empty, so an item pushed meanwhile finds either a runner or none.
    pub(super) fn next(&self, key: &Arc<str>, is_live: impl Fn(&T) -> bool) -> Option<T> {
        match self.mailboxes.entry(key.clone()) {
            Entry::Occupied(mut entry) => {
                let next = entry.get_mut().mailbox.next(is_live);
                if next.is_none() {
                    entry.remove();
                }
                next
            }
            Entry::Vacant(_) => None,
        }
    }

    /// Takes out what is at the front of a runner's mailbox for as long as `take` says so. The order stays
    /// busy.
    pub(super) fn take_while(&self, key: &Arc<str>, take: impl FnMut(&T) -> bool) -> Vec<T> {
        let entered = self.mailboxes.get_mut(key);
        entered.map(|mut entered| entered.mailbox.take_while(take)).unwrap_or_default()
    }

    /// Puts what was taken out to the front again.
    pub(super) fn put_back(&self, key: &Arc<str>, items: impl Iterator<Item = T>) {
        if let Some(mut entered) = self.mailboxes.get_mut(key) {
            entered.mailbox.put_back(items);
        }
    }

    /// Every busy order. One part of the map after the other: no picture of a single moment. `arrived`
    /// says when an item did, unless it counts no more.
    pub(super) fn busy(&self, arrived: impl Fn(&T) -> Option<Instant>) -> Vec<Busy> {
        self.mailboxes.iter().map(|entry| entry.read(entry.key(), &arrived)).collect()
    }

    /// One order, if it is busy. As [`Self::busy`].
    pub(super) fn one(&self, key: &str, arrived: impl Fn(&T) -> Option<Instant>) -> Option<Busy> {
        let entry = self.mailboxes.get(key)?;
        Some(entry.read(entry.key(), arrived))
    }

    /// How many items wait behind the one that an order's runner works on.
    pub(super) fn behind(&self, key: &str) -> usize {
        self.mailboxes.get(key).map_or(0, |entered| entered.mailbox.len() + entered.card.taken())
    }

    /// How much is held. As [`Self::busy`].
    pub(super) fn mailboxes(&self) -> Mailboxes {
        let mut all = Mailboxes::default();
        for entry in &self.mailboxes {
            let waiting = entry.mailbox.len() + entry.card.taken();
            all.orders += 1;
            all.waiting += waiting;
            all.longest = all.longest.max(waiting);
        }
        all
    }

    /// Whether every order is at rest.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.mailboxes.is_empty()
    }
}
