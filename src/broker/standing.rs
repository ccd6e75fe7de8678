//! How the daemon stands with the broker, for those who ask. Decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::balance::assign;
use super::session::Consumer;
use super::slot::Source;

/// Counts since the start, and whether there is a connection. Relaxed: each stands for itself.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) connected: AtomicBool,
    pub(super) reconnects: AtomicU64,
    pub(super) given_back: AtomicU64,
    pub(super) abandoned: AtomicU64,
    pub(super) broken: AtomicU64,
    pub(super) watchdog: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// How it stands at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// There is a connection that is consumed from.
    pub connected: bool,
    /// Every queue that should be consumed from.
    pub queues: Vec<Consumed>,
    /// Pods that are heard of, this one included unless it is halted.
    pub pods: usize,
    /// Number of the generation that is worked on.
    pub generation: u64,
    /// Nothing is taken anew, because the target is in trouble.
    pub is_paused: bool,
    /// Nothing is taken, because an operator said so.
    pub is_halted: bool,
    /// Connections after the first.
    pub reconnects: u64,
    /// Subscriptions that were given back with nothing on the wire.
    pub given_back: u64,
    /// Subscriptions that were given back with something on the wire, at the end of the grace.
    pub abandoned: u64,
    /// Subscriptions that the broker took, or that broke.
    pub broken: u64,
    /// Shards that stood still and were subscribed to again.
    pub watchdog: u64,
}

/// A queue that should be consumed from.
#[expect(clippy::struct_excessive_bools, reason = "independent answers to those who ask")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumed {
    /// Its name.
    pub queue: Arc<str>,
    /// Which shard it is, if it is one of the generation that is worked on.
    pub shard: Option<u16>,
    /// It is of a generation that was left: gone in a while.
    pub is_left: bool,
    /// It is ours by our share of the shards; the broker decides who is active.
    pub is_owned: bool,
    /// It is subscribed to.
    pub is_subscribed: bool,
    /// The broker has handed us something of it: then it serves nobody else.
    pub is_served: bool,
    /// Deliveries that are not settled.
    pub unsettled: usize,
    /// Time since the arrival of the oldest of them.
    pub oldest: Option<Duration>,
    /// How often it stood still and was subscribed to again.
    pub stood_still: u64,
}

impl Standing {
    /// Queues that ought to be subscribed to and are not. None while the target is in trouble, or an
    /// operator said so: then the daemon leaves them alone on purpose.
    pub fn missing(&self) -> impl Iterator<Item = &Consumed> {
        let rests =
            |it: &Consumed| it.is_left || self.is_halted || self.is_paused && it.shard.is_some();
        self.queues.iter().filter(move |it| !it.is_subscribed && !rests(it))
    }

    /// Time since the arrival of the oldest delivery that is not settled.
    pub fn oldest(&self) -> Option<Duration> {
        self.queues.iter().filter_map(|queue| queue.oldest).max()
    }
}

impl Consumer {
    /// Tells how many pods are heard of that take their share, this one included, now and whenever that
    /// changes. Never ends.
    pub async fn follow_pods(&self, tell: impl Fn(usize) + Send) {
        let mut view = self.peers.view();
        loop {
            let pods = view.borrow_and_update().len();
            // One that takes nothing any more has still something at work.
            tell(pods.max(1));
            if view.changed().await.is_err() {
                return;
            }
        }
    }

    /// How the daemon stands with the broker now.
    pub fn standing(&self) -> Standing {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let live = self.generations.borrow().live;
        let pods = self.peers.view().borrow().clone();
        let owners = assign(live.shards, &pods);
        let me = self.peers.me().pod;
        let consumed = |slot: Arc<super::slot::Slot>| {
            let (shard, is_left) = match slot.source {
                Source::Shard { number, .. } => (Some(number), false),
                Source::Intake { .. } => (None, false),
                Source::Left { .. } => (None, true),
            };
            let lease = slot.lease.borrow().clone();
            let owner = shard.and_then(|shard| owners.get(usize::from(shard)));
            Consumed {
                queue: slot.queue.clone(),
                shard,
                is_left,
                is_owned: owner.is_some_and(|owner| owner.pod == me),
                is_subscribed: lease.is_some(),
                is_served: lease.as_ref().is_some_and(|lease| lease.was_served()),
                unsettled: lease.as_ref().map_or(0, |lease| lease.unsettled.len()),
                oldest: lease.and_then(|lease| lease.unsettled.oldest()).map(|at| at.elapsed()),
                stood_still: get(&slot.stood_still),
            }
        };
        let Counts { connected, reconnects, given_back, abandoned, broken, watchdog } =
            &self.counts;
        Standing {
            connected: connected.load(Ordering::Relaxed),
            queues: self.consumed().into_iter().map(consumed).collect(),
            pods: pods.len(),
            generation: u64::from(live.number),
            is_paused: *self.paused.borrow(),
            is_halted: self.is_halted(),
            reconnects: get(reconnects),
            given_back: get(given_back),
            abandoned: get(abandoned),
            broken: get(broken),
            watchdog: get(watchdog),
        }
    }
}
