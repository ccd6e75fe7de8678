//! What a busy order is at, for those who ask. Decides nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::order::ETag;

/// What is done for an order at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Waits until a request of a former owner can be at work no more.
    SettleWindow,
    /// Waits until an attempt may begin, or its PATCH be sent.
    Turn,
    /// Waits to be written: for a token, or for others to go with.
    Queue,
    /// Its GET is on the wire.
    Get,
    /// Its PATCH is on the wire.
    Patch,
    /// Waits before it is tried again.
    Backoff,
    /// All that may fail has failed: the target is looked at.
    Asking,
    /// Is acked, or its dead letter published.
    Settling,
    /// Waits out a write of unknown outcome, before the next update of the order.
    Resting,
}

impl Doing {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::SettleWindow,
        Self::Turn,
        Self::Queue,
        Self::Get,
        Self::Patch,
        Self::Backoff,
        Self::Asking,
        Self::Settling,
        Self::Resting,
    ];

    /// Its stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SettleWindow => "settle_window",
            Self::Turn => "turn",
            Self::Queue => "queue",
            Self::Get => "get",
            Self::Patch => "patch",
            Self::Backoff => "backoff",
            Self::Asking => "asking",
            Self::Settling => "settling",
            Self::Resting => "resting",
        }
    }

    /// The same in words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::SettleWindow => "waits until a request of a former owner can be at work no more",
            Self::Turn => "waits until an attempt may begin, or its PATCH be sent",
            Self::Queue => "its request waits to be written, for a token or for others to go with",
            Self::Get => "its GET is on the wire",
            Self::Patch => "its PATCH is on the wire",
            Self::Backoff => "waits before it is tried again",
            Self::Asking => "all that may fail has failed: the service is looked at",
            Self::Settling => "is acked, or its dead letter published",
            Self::Resting => {
                "waits out a write of unknown outcome, before the next update of the order"
            }
        }
    }
}

/// One busy order at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    /// Canonical order key.
    pub order: Arc<str>,
    /// What is done for it.
    pub doing: Doing,
    /// For how long already.
    pub doing_for: Duration,
    /// How long the update at work is held by its runner.
    pub held_for: Duration,
    /// How long ago the oldest of its updates arrived that are not settled, at work or behind it.
    pub oldest_for: Duration,
    /// Attempts at that update.
    pub attempt: u32,
    /// The ETag that its last GET brought.
    pub etag: Option<ETag>,
    /// Updates that wait behind it.
    pub behind: usize,
}

#[derive(Debug)]
struct Now {
    /// When what is at work arrived.
    arrived: Instant,
    begun: Instant,
    doing: Doing,
    since: Instant,
    attempt: u32,
    etag: Option<ETag>,
    /// Updates behind it that the runner has taken out of the mailbox.
    aside: usize,
}

/// Written by a runner, read by whoever asks. The lock is held for a copy.
#[derive(Debug)]
pub(super) struct Card(Mutex<Now>);

impl Card {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let doing = Doing::SettleWindow;
        Self(Mutex::new(Now {
            arrived: now,
            begun: now,
            doing,
            since: now,
            attempt: 0,
            etag: None,
            aside: 0,
        }))
    }

    /// The next update of the order is begun, which arrived then.
    pub(super) fn begin(&self, arrived: Instant) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = Instant::now();
        // Its ETag stays: nobody has looked at the order since.
        *now = Now {
            arrived,
            begun: at,
            doing: Doing::SettleWindow,
            since: at,
            attempt: 0,
            etag: now.etag.take(),
            aside: now.aside,
        };
    }

    /// So many updates are out of the mailbox that are not at work.
    pub(super) fn aside(&self, count: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).aside = count;
    }

    /// As [`Self::aside`] was told last.
    pub(super) fn taken(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).aside
    }

    pub(super) fn doing(&self, doing: Doing) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        now.doing = doing;
        now.since = Instant::now();
    }

    /// A request of this attempt is written.
    pub(super) fn sent(&self, doing: Doing, attempt: u32) {
        self.doing(doing);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).attempt = attempt;
    }

    pub(super) fn saw(&self, etag: &ETag) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).etag = Some(etag.clone());
    }

    /// `waiting` is when the oldest arrived of those that wait, of which there are `behind`.
    pub(super) fn read(&self, order: Arc<str>, behind: usize, waiting: Option<Instant>) -> Busy {
        let now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = waiting.map_or(now.arrived, |waiting| waiting.min(now.arrived));
        Busy {
            order,
            doing: now.doing,
            doing_for: now.since.elapsed(),
            held_for: now.begun.elapsed(),
            oldest_for: oldest.elapsed(),
            attempt: now.attempt,
            etag: now.etag.clone(),
            behind: behind + now.aside,
        }
    }
}
