//! What came of a message that needs no dead letter.

use std::sync::Arc;

use crate::order::ETag;
use crate::protocol::Settlement;

/// How an update ended, for whoever wants to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How.
    pub settlement: Settlement,
    /// Canonical order key.
    pub order: Arc<str>,
    /// The ETag of the order after it, where the service said it: many tell none after a write.
    pub etag: Option<ETag>,
}

impl Outcome {
    /// A stable name, the same as in logs and in dead letters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.settlement {
            Settlement::Applied => "applied",
            Settlement::AlreadyApplied => "already_applied",
            Settlement::Superseded => "superseded",
            Settlement::DeadLetter(_) => "dead_lettered",
        }
    }
}
