//! A queue that is consumed from, and what is known of the leases on it.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Generation;
use super::lease::Lease;

/// Whether the messages of a queue of somebody else's keep their order on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// One pod at a time takes from it: it has a single active consumer.
    Kept,
    /// Any number of pods does.
    Any,
}

/// Where a delivery comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A shard queue of the generation that is worked on.
    Shard {
        /// Which shard.
        number: u16,
        /// Of which generation.
        of: Generation,
    },
    /// A queue of somebody else's: all is forwarded.
    Intake {
        /// Whether its messages keep their order.
        order: Order,
    },
    /// A shard queue of a generation that was left: what strays into it is forwarded.
    Left {
        /// Which shard.
        number: u16,
        /// Of which generation.
        of: Generation,
    },
}

impl Source {
    /// Its generation and its number there, if it is a shard queue.
    pub(super) fn shard(self) -> Option<(Generation, u16)> {
        match self {
            Self::Shard { number, of } | Self::Left { number, of } => Some((of, number)),
            Self::Intake { .. } => None,
        }
    }
}

/// A queue that is consumed from, with the lease that is held on it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) source: Source,
    pub(super) queue: Arc<str>,
    pub(super) lease: watch::Sender<Option<Arc<Lease>>>,
    /// When a lease on it last ended with something on the wire.
    broken: Mutex<Option<Instant>>,
    /// How often it stood still and was subscribed to again.
    pub(super) stood_still: AtomicU64,
}

impl Slot {
    pub(super) fn new(source: Source, queue: Arc<str>) -> Self {
        let lease = watch::Sender::new(None);
        let (broken, stood_still) = (Mutex::new(None), AtomicU64::new(0));
        Self { source, queue, lease, broken, stood_still }
    }

    /// Notes that a lease ended with something on the wire.
    pub(super) fn broke(&self, now: Instant) {
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Whether one did, not longer ago than this.
    pub(super) fn broke_within(&self, window: Duration) -> bool {
        let broken = *self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.is_some_and(|at| at.elapsed() < window)
    }
}
