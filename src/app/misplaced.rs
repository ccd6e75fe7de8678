//! Why a message stands in another shard queue than its order's own, and how often that is told.
//!
//! The exchange that spreads computes what [`crate::shard::shard_of`] computes, as long as its ring is
//! in order and the routing key is the order key. So with the right key, a wrong queue is the ring's
//! doing. Neither the management API nor AMQP shows the ring: this is the way to know.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A scrambled ring concerns most messages, and one line says it all. Once a minute is often enough
/// to be seen and too rare to hide anything else.
const REMIND: Duration = Duration::from_mins(1);

/// Whose doing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The routing key is the order key: the ring is scrambled, or pods disagree on the number of
    /// shards.
    Ring,
    /// The routing key is another: the publisher's doing.
    Key,
}

impl Cause {
    /// `routing_key` as the message was first published.
    pub(super) fn of(routing_key: &str, canonical_key: &str) -> Self {
        if routing_key == canonical_key { Self::Ring } else { Self::Key }
    }
}

/// Says when to tell of each cause again.
#[derive(Debug, Default)]
pub(super) struct Reminders {
    ring: Mutex<Option<Instant>>,
    key: Mutex<Option<Instant>>,
}

impl Reminders {
    /// True the first time, and then once in [`REMIND`] at most.
    pub(super) fn is_due(&self, cause: Cause, now: Instant) -> bool {
        let last = match cause {
            Cause::Ring => &self.ring,
            Cause::Key => &self.key,
        };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|at| now.saturating_duration_since(at) >= REMIND);
        if due {
            *last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routing_key_that_is_the_order_key_leaves_only_the_ring() {
        for (routing_key, cause) in [
            ("USMF/SO-1", Cause::Ring),
            ("usmf/SO-1", Cause::Key),
            ("USMF/SO-10", Cause::Key),
            ("", Cause::Key),
        ] {
            assert_eq!(Cause::of(routing_key, "USMF/SO-1"), cause, "{routing_key:?}");
        }
    }

    #[test]
    fn each_cause_is_told_at_once_and_then_once_in_a_while() {
        let reminders = Reminders::default();
        let begun = Instant::now();
        let due = |cause, after| reminders.is_due(cause, begun + after);
        assert!(due(Cause::Ring, Duration::ZERO));
        assert!(due(Cause::Key, Duration::ZERO), "one does not silence the other");
        assert!(!due(Cause::Ring, Duration::from_millis(59_999)));
        assert!(due(Cause::Ring, REMIND));
        assert!(!due(Cause::Ring, REMIND + Duration::from_millis(1)));
        assert!(due(Cause::Key, REMIND));
    }
}
