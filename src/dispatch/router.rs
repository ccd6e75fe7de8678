//! Finds the mailbox of an order. The only file that touches the map and its guards; none of its
//! functions is `async`, so no guard can live across an `.await`.

use std::sync::Arc;

use dashmap::{DashMap, Entry};

use super::mailbox::Mailbox;
use crate::order::Sequence;

/// The mailboxes of all orders that have a runner.
pub(super) struct Router<T> {
    mailboxes: DashMap<Arc<str>, Mailbox<T>>,
}

/// What became of an item.
pub(super) enum Routed<T> {
    /// It waits behind the one that the order's runner works on.
    Queued,
    /// The order was at rest: the caller starts a runner with it.
    Start(T),
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self { mailboxes: DashMap::new() }
    }
}

impl<T> Router<T> {
    /// Queues an item behind a running one, or claims the order for a new runner. One step under one
    /// guard: an order never gets two runners.
    pub(super) fn push(
        &self,
        key: &Arc<str>,
        item: T,
        sequence: impl Fn(&T) -> Option<Sequence>,
        is_live: impl Fn(&T) -> bool,
    ) -> Routed<T> {
        match self.mailboxes.entry(key.clone()) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().push(item, sequence, is_live);
                Routed::Queued
            }
            Entry::Vacant(entry) => {
                entry.insert(Mailbox::default());
                Routed::Start(item)
            }
        }
    }

    /// The next item of a runner's order. `None` puts the order to rest: the mailbox is removed in
    /// the same step that finds it empty, so an item pushed meanwhile finds either a runner or none.
    pub(super) fn next(&self, key: &Arc<str>, is_live: impl Fn(&T) -> bool) -> Option<T> {
        match self.mailboxes.entry(key.clone()) {
            Entry::Occupied(mut entry) => {
                let next = entry.get_mut().next(is_live);
                if next.is_none() {
                    entry.remove();
                }
                next
            }
            Entry::Vacant(_) => None,
        }
    }

    /// Whether every order is at rest.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.mailboxes.is_empty()
    }
}
