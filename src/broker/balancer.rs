//! Brings each shard to the pod that should hold it.
//!
//! One shard at a time, idle ones first, so that the others go on. See [`super::balance`] for who
//! should hold what.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::balance::{Peer, Yields, assign};
use super::lease::Lease;
use super::peers::Peers;
use super::slot::{Slot, Source};
use crate::config;
use crate::telemetry::field;

/// Intervals after which a view is acted on though it keeps changing: one pod that flaps must not keep
/// the shards of all others where they are.
const POSTPONED_MAX: u32 = 5;

/// When a view of the pods is acted on: once it has stood for an interval, and after a few intervals
/// in any case.
struct Pace {
    interval: Duration,
    changed: Instant,
    acted: Instant,
}

impl Pace {
    fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, changed: now, acted: now }
    }

    fn due(&self) -> Instant {
        let rested = self.acted.max(self.changed) + self.interval;
        rested.min(self.acted + self.interval.saturating_mul(POSTPONED_MAX))
    }

    async fn wait(&mut self, view: &mut watch::Receiver<Vec<Peer>>) {
        loop {
            tokio::select! { biased; // The time that is due wins over one more change.
                () = sleep_until(self.due()) => break,
                Ok(()) = view.changed() => self.changed = Instant::now(),
            }
        }
        self.acted = Instant::now();
    }
}

pub(super) struct Balancer<'a> {
    slots: &'a [Arc<Slot>],
    peers: &'a Peers,
    settings: &'a config::Balance,
    answer_max: Duration,
    shards: u16,
    yields: Yields,
}

impl<'a> Balancer<'a> {
    pub(super) fn new(
        slots: &'a [Arc<Slot>],
        peers: &'a Peers,
        settings: &'a config::Balance,
        answer_max: Duration,
        shards: u16,
    ) -> Self {
        Self { slots, peers, settings, answer_max, shards, yields: Yields::default() }
    }

    /// Runs until it is dropped, with its session.
    pub(super) async fn run(mut self) {
        let mut view = self.peers.view();
        let mut pace = Pace::new(self.settings.interval, Instant::now());
        loop {
            pace.wait(&mut view).await;
            let owners = assign(self.shards, &view.borrow_and_update().clone());
            self.hand_over(&owners, &mut view).await;
        }
    }

    async fn hand_over(&mut self, owners: &[Peer], view: &mut watch::Receiver<Vec<Peer>>) {
        let mut due: Vec<_> = self
            .yields
            .due(owners, self.peers.me())
            .into_iter()
            .filter_map(|shard| Some((shard, self.slot(shard)?, *owners.get(usize::from(shard))?)))
            .collect();
        due.sort_by_key(|(_, slot, _)| {
            slot.lease.borrow().as_ref().map(|lease| lease.working.len())
        });
        for (shard, slot, owner) in due {
            give_back(slot, self.answer_max).await;
            self.yields.done(shard, owner);
            // Asked behind the first one: under a view that never rests each look moves a shard.
            if view.has_changed().unwrap_or(true) {
                return;
            }
        }
    }

    fn slot(&self, shard: u16) -> Option<&'a Slot> {
        let is_it = |slot: &&Arc<Slot>| matches!(slot.source, Source::Shard { number, .. } if number == shard);
        self.slots.iter().find(is_it).map(Arc::as_ref)
    }
}

/// Gives the channel back and waits until the next one stands in line.
async fn give_back(slot: &Slot, answer_max: Duration) {
    let mut leases = slot.lease.subscribe();
    let Some(lease) = leases.borrow_and_update().clone() else { return };
    lease.ending.cancel();
    let newer = |now: &Arc<Lease>| now.generation > lease.generation;
    // Bounded by the deadlines of what is on the wire.
    drop(leases.wait_for(|now| now.as_ref().is_none_or(newer)).await);
    // A queue that cannot be subscribed to must not keep the others from moving.
    let next = leases.wait_for(|now| now.as_ref().is_some_and(newer));
    if timeout(answer_max.saturating_mul(2), next).await.is_err() {
        tracing::debug!({ field::QUEUE } = %slot.queue, "not subscribed to again yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    const INTERVAL: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn view_is_acted_on_when_it_has_stood_for_an_interval() {
        let (view, mut seen) = watch::channel(Vec::new());
        let begun = Instant::now();
        let mut pace = Pace::new(INTERVAL, begun);
        let flaps = async {
            sleep(Duration::from_secs(1)).await;
            view.send_replace(Vec::new());
        };
        tokio::join!(flaps, pace.wait(&mut seen));
        assert_eq!(begun.elapsed(), Duration::from_secs(3));
        pace.wait(&mut seen).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(5), "and each interval from then on");
    }

    #[tokio::test(start_paused = true)]
    async fn view_that_never_rests_is_acted_on_every_few_intervals() {
        let (view, mut seen) = watch::channel(Vec::new());
        let begun = Instant::now();
        let mut pace = Pace::new(INTERVAL, begun);
        let flaps = async {
            loop {
                sleep(Duration::from_millis(300)).await;
                view.send_replace(Vec::new());
            }
        };
        let acts = async {
            for act in 1..=3 {
                pace.wait(&mut seen).await;
                assert_eq!(begun.elapsed(), INTERVAL * POSTPONED_MAX * act);
            }
        };
        tokio::select! { biased;
            () = flaps => {}
            () = acts => {}
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(30));
    }
}
