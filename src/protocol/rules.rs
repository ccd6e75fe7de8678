//! What an update may spend.

use super::backoff::Retry;

/// How often and how long an update may try, and what comes of one that is superseded. Conflicts and
/// failures are counted apart: somebody else being quicker says nothing of the service's health.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// After a stale ETag.
    pub conflicts: Retry,
    /// After an answer that tells of trouble, or none at all.
    pub failures: Retry,
    /// After an answer that the order does not exist: it may be new.
    pub not_found: Retry,
    /// Each wait is multiplied by `1 ± jitter`, so that orders that failed together do not come
    /// back together.
    pub jitter: f64,
    /// How an update ends whose order holds a higher sequence.
    pub superseded: Superseded,
}

/// How an update ends whose order holds the sequence of a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Superseded {
    /// It is done: acked and counted.
    #[default]
    Settle,
    /// It is dead-lettered.
    DeadLetter,
}
