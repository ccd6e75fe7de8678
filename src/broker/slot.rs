//! A queue that is consumed from, and what is known of the leases on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::delivery::Lease;

/// Where a delivery comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A shard queue.
    Shard(u16),
    /// A queue of somebody else's, by its place in the configuration: all is forwarded.
    Intake(u16),
}

/// A queue that is consumed from, with the lease that is held on it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) source: Source,
    pub(super) queue: Arc<str>,
    pub(super) lease: watch::Sender<Option<Arc<Lease>>>,
    subscribed: AtomicBool,
    /// When a lease on it last ended with something on the wire.
    broken: Mutex<Option<Instant>>,
}

impl Slot {
    pub(super) fn new(source: Source, queue: Arc<str>) -> Self {
        let lease = watch::Sender::new(None);
        Self { source, queue, lease, subscribed: AtomicBool::new(false), broken: Mutex::new(None) }
    }

    /// True when it is asked for the first time in the life of the process.
    pub(super) fn is_first_time(&self) -> bool {
        !self.subscribed.swap(true, Ordering::Relaxed)
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
