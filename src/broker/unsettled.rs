//! What came by a channel and is not settled yet.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::clean::Handing;

/// Deliveries by their tag, which rises, with what is known of each. Bounded by the prefetch.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    held: Mutex<BTreeMap<u64, (Instant, Handing)>>,
    changed: Notify,
}

impl Unsettled {
    /// Notes a delivery.
    pub(super) fn add(&self, tag: u64, arrived: Instant, handing: Handing) {
        self.lock().insert(tag, (arrived, handing));
    }

    /// Notes that it is settled.
    pub(super) fn remove(&self, tag: u64) {
        self.lock().remove(&tag);
        self.changed.notify_waiters();
    }

    /// When the oldest one arrived.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.lock().first_key_value().map(|(_, (at, _))| *at)
    }

    /// The one that was delivered first.
    pub(super) fn first_handing(&self) -> Option<Handing> {
        self.lock().first_key_value().map(|(_, (_, handing))| *handing)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn is_first(&self, tag: u64) -> bool {
        self.lock().first_key_value().is_none_or(|(first, _)| *first >= tag)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, (Instant, Handing)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn handing(message: u64) -> Handing {
        serde_json::from_value(serde_json::json!({"message": message, "count": 0})).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn delivery_is_first_when_all_before_it_are_settled_in_whatever_order() {
        let (unsettled, now) = (Unsettled::default(), Instant::now());
        for tag in 1..=4 {
            unsettled.add(tag, now, handing(tag));
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
        unsettled.add(1, now, handing(7));
        unsettled.add(2, now + second, handing(8));
        assert_eq!((unsettled.oldest(), unsettled.first_handing()), (Some(now), Some(handing(7))));
        unsettled.remove(1);
        let second = (Some(now + second), Some(handing(8)));
        assert_eq!((unsettled.oldest(), unsettled.first_handing()), second);
        unsettled.remove(2);
        assert_eq!((unsettled.oldest(), unsettled.first_handing()), (None, None));
    }
}
