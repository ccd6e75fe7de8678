//! What came by a channel and is not settled yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::clean::Handing;

/// Deliveries by their tag, which rises by one from each to the next. Bounded by the prefetch.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    held: Mutex<Held>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Held {
    all: BTreeMap<u64, One>,
    /// What waits for its ack to be sent, in the order in which that was decided. Some may be gone.
    done: VecDeque<(Instant, u64)>,
    /// How many of them are not gone.
    waiting: usize,
}

#[derive(Debug)]
struct One {
    arrived: Instant,
    handing: Handing,
    /// Its ack waits to be sent.
    done: bool,
}

/// An ack, as it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) tag: u64,
    /// It speaks for all before it that are not acked yet.
    pub(super) multiple: bool,
}

impl Unsettled {
    /// Notes a delivery.
    pub(super) fn add(&self, tag: u64, arrived: Instant, handing: Handing) {
        self.lock().all.insert(tag, One { arrived, handing, done: false });
    }

    /// Notes that this one is to be acked. How many wait for that now; `None` if it is not held, or waits already.
    pub(super) fn done(&self, tag: u64, now: Instant) -> Option<usize> {
        let mut held = self.lock();
        let one = held.all.get_mut(&tag).filter(|one| !one.done)?;
        one.done = true;
        held.done.push_back((now, tag));
        held.waiting += 1;
        Some(held.waiting)
    }

    /// The acks that are due: one for all that were delivered first and wait for their acks, and those that have waited
    /// for as long as `patience`. Among those that the first speaks for, none is at work.
    pub(super) fn due(&self, now: Instant, patience: Duration) -> Vec<Ack> {
        let held = self.lock();
        let is_late = |(at, _): &&(Instant, u64)| now.saturating_duration_since(*at) >= patience;
        let late = held.done.iter().take_while(is_late);
        let mut acks = Vec::new();
        let first = held.all.iter().take_while(|(_, one)| one.done);
        let last = first.map(|(tag, _)| *tag).enumerate().last();
        if let Some((before, tag)) = last {
            acks.push(Ack { tag, multiple: before > 0 });
        }
        let last = last.map_or(0, |(_, tag)| tag);
        let alone =
            late.map(|(_, tag)| *tag).filter(|tag| *tag > last && held.all.contains_key(tag));
        acks.extend(alone.map(|tag| Ack { tag, multiple: false }));
        acks
    }

    /// Notes what is settled by this ack.
    pub(super) fn settled(&self, Ack { tag, multiple }: Ack) {
        let mut held = self.lock();
        if multiple {
            let left = held.all.split_off(&(tag.saturating_add(1)));
            let gone = std::mem::replace(&mut held.all, left);
            held.waiting = held.waiting.saturating_sub(gone.len());
        } else if held.all.remove(&tag).is_some() {
            held.waiting = held.waiting.saturating_sub(1);
        }
        while held.done.front().is_some_and(|(_, tag)| !held.all.contains_key(tag)) {
            held.done.pop_front();
        }
        drop(held);
        self.changed.notify_waiters();
    }

    /// How many wait for their ack to be sent.
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// How many are neither settled nor wait for that.
    pub(super) fn undecided(&self) -> usize {
        let held = self.lock();
        held.all.len() - held.waiting
    }

    /// When the oldest one arrived.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.lock().all.first_key_value().map(|(_, one)| one.arrived)
    }

    /// The one that was delivered first.
    pub(super) fn first_handing(&self) -> Option<Handing> {
        self.lock().all.first_key_value().map(|(_, one)| one.handing)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lock().all.len()
    }

    fn is_first(&self, tag: u64) -> bool {
        self.lock().all.first_key_value().is_none_or(|(first, _)| *first >= tag)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
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
    use std::collections::BTreeSet;

    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    fn handing(message: u64) -> Handing {
        serde_json::from_value(serde_json::json!({"message": message, "count": 0})).unwrap()
    }

    fn settle(unsettled: &Unsettled, tag: u64) {
        assert_eq!(unsettled.done(tag, Instant::now()), Some(1));
        unsettled.settled(Ack { tag, multiple: false });
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
        settle(&unsettled, 2);
        settle(&unsettled, 4);
        assert!(first.as_mut().now_or_never().is_none(), "1 is not settled");
        settle(&unsettled, 1);
        assert!(first.as_mut().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn oldest_is_the_one_that_arrived_first_and_is_not_settled() {
        let (unsettled, now) = (Unsettled::default(), Instant::now());
        let second = Duration::from_secs(1);
        unsettled.add(1, now, handing(7));
        unsettled.add(2, now + second, handing(8));
        assert_eq!((unsettled.oldest(), unsettled.first_handing()), (Some(now), Some(handing(7))));
        settle(&unsettled, 1);
        let second = (Some(now + second), Some(handing(8)));
        assert_eq!((unsettled.oldest(), unsettled.first_handing()), second);
        settle(&unsettled, 2);
        assert_eq!((unsettled.oldest(), unsettled.first_handing()), (None, None));
    }

    /// What happens to a channel.
    #[derive(Debug, Clone)]
    enum Event {
        Delivered,
        /// One of those that are at work is to be acked.
        Done(prop::sample::Index),
        Passes(u64),
        /// What is due is sent; if `all`, nothing waits any longer.
        Sent {
            all: bool,
        },
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            3 => Just(Event::Delivered),
            3 => any::<prop::sample::Index>().prop_map(Event::Done),
            1 => (0..30_u64).prop_map(Event::Passes),
            2 => prop::bool::weighted(0.1).prop_map(|all| Event::Sent { all }),
        ]
    }

    /// What the broker and we know of a channel.
    #[derive(Default)]
    struct World {
        delivered: u64,
        at_work: Vec<u64>,
        unacked: BTreeSet<u64>,
        waiting: Vec<(u64, Instant)>,
    }

    impl World {
        /// As the broker takes it.
        fn acked(&mut self, Ack { tag, multiple }: Ack) -> Result<(), TestCaseError> {
            let first = if multiple { 0 } else { tag };
            let told: Vec<_> = self.unacked.range(first..=tag).copied().collect();
            prop_assert!(!told.is_empty(), "an unknown tag ends the channel");
            for tag in told {
                prop_assert!(!self.at_work.contains(&tag), "{tag} is at work");
                self.unacked.remove(&tag);
                self.waiting.retain(|(waiting, _)| *waiting != tag);
            }
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn no_ack_speaks_for_what_is_at_work_and_none_waits_for_too_long(
            events in prop::collection::vec(event(), 0..120),
        ) {
            let (unsettled, mut world) = (Unsettled::default(), World::default());
            let (mut now, patience) = (Instant::now(), Duration::from_millis(20));
            for event in events {
                match event {
                    Event::Delivered => {
                        world.delivered += 1;
                        world.at_work.push(world.delivered);
                        world.unacked.insert(world.delivered);
                        unsettled.add(world.delivered, now, handing(world.delivered));
                    }
                    Event::Done(_) if world.at_work.is_empty() => {}
                    Event::Done(which) => {
                        let tag = world.at_work.remove(which.index(world.at_work.len()));
                        world.waiting.push((tag, now));
                        prop_assert_eq!(unsettled.done(tag, now), Some(world.waiting.len()));
                        prop_assert_eq!(unsettled.done(tag, now), None);
                    }
                    Event::Passes(milliseconds) => now += Duration::from_millis(milliseconds),
                    Event::Sent { all } => {
                        let patience = if all { Duration::ZERO } else { patience };
                        for ack in unsettled.due(now, patience) {
                            world.acked(ack)?;
                            unsettled.settled(ack);
                        }
                        let late = world.waiting.iter().find(|(_, since)| *since + patience <= now);
                        prop_assert_eq!(late, None);
                        let first = world.unacked.first();
                        let is_gap = first.is_none_or(|tag| world.at_work.contains(tag));
                        prop_assert!(is_gap, "a gap that is none");
                    }
                }
                prop_assert_eq!(unsettled.len(), world.unacked.len());
                prop_assert_eq!(unsettled.waiting(), world.waiting.len());
                prop_assert_eq!(unsettled.undecided(), world.at_work.len());
            }
        }
    }
}
