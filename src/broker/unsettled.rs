//! What came by a channel and is not settled yet.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

/// Deliveries by their tag, which rises, with the time at which each arrived. Bounded by the prefetch.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    arrived: Mutex<BTreeMap<u64, Instant>>,
    changed: Notify,
}

impl Unsettled {
    /// Notes a delivery.
    pub(super) fn add(&self, tag: u64, arrived: Instant) {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).insert(tag, arrived);
    }

    /// Notes that it is settled.
    pub(super) fn remove(&self, tag: u64) {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).remove(&tag);
        self.changed.notify_waiters();
    }

    /// When the oldest one arrived.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        arrived.first_key_value().map(|(_, at)| *at)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn is_first(&self, tag: u64) -> bool {
        let arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        arrived.first_key_value().is_none_or(|(first, _)| *first >= tag)
    }

    /// Completes when everything that was delivered before this one is settled.
    pub(super) async fn first(&self, tag: u64) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, or a settlement in between would be missed.
            changed.as_mut().enable();
            if self.is_first(tag) {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn delivery_is_first_when_all_before_it_are_settled_in_whatever_order() {
        let (unsettled, now) = (Unsettled::default(), Instant::now());
        for tag in 1..=4 {
            unsettled.add(tag, now);
        }
        let first = unsettled.first(3);
        tokio::pin!(first);
        assert!(first.as_mut().now_or_never().is_none());
        unsettled.remove(2);
        unsettled.remove(4);
        assert!(first.as_mut().now_or_never().is_none(), "1 is not settled");
        unsettled.remove(1);
        assert!(first.as_mut().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn oldest_is_the_one_that_arrived_first_and_is_not_settled() {
        let (unsettled, now) = (Unsettled::default(), Instant::now());
        let second = std::time::Duration::from_secs(1);
        unsettled.add(1, now);
        unsettled.add(2, now + second);
        assert_eq!(unsettled.oldest(), Some(now));
        unsettled.remove(1);
        assert_eq!(unsettled.oldest(), Some(now + second));
        unsettled.remove(2);
        assert_eq!(unsettled.oldest(), None);
    }
}
