//! What waits in a mailbox.

use jiff::Timestamp;
use tokio::time::Instant;

use super::Held;
use super::mailbox::Waiting;
use crate::order::{OrderUpdate, Sequence};

/// One update with the message it came in.
#[derive(Debug)]
pub struct Job<H> {
    /// What to do.
    pub update: OrderUpdate,
    /// The message.
    pub held: H,
    /// When it arrived.
    pub first_seen: Timestamp,
}

/// What waits in a mailbox.
pub(super) enum Item<H> {
    /// Boxed, so that no future on its way has room for it.
    Update(Box<Job<H>>),
    /// Asks that the order goes on, from its place in the queue on.
    Release(H),
}

impl<H: Held> Item<H> {
    pub(super) fn held(&self) -> &H {
        match self {
            Self::Update(job) => &job.held,
            Self::Release(held) => held,
        }
    }

    /// When it arrived. `None` of a copy whose channel is gone: another one of it comes.
    pub(super) fn arrived(&self) -> Option<Instant> {
        let held = self.held();
        held.is_live().then(|| held.arrived())
    }
}

impl<H: Held> Waiting for Item<H> {
    /// A release has none: it passes nothing, and nothing passes it.
    fn sequence(&self) -> Option<Sequence> {
        match self {
            Self::Update(job) => job.update.sequence,
            Self::Release(_) => None,
        }
    }

    fn goes_ahead(&self) {
        self.held().hurry();
    }
}
