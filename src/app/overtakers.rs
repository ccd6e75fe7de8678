//! Messages that the broker may have handed out before older ones.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The highest priority that a quorum queue of RabbitMQ 4.0 to 4.2 takes for normal. What is above is
/// high, and handed out before older messages.
const NORMAL_MAX: u8 = 4;

/// Between two warnings. A publisher that sets priorities does so with every message.
const TOLD_EVERY: Duration = Duration::from_mins(1);

/// Counts them, and says when it is time to tell.
#[derive(Debug, Default)]
pub(super) struct Overtakers {
    untold: AtomicU64,
    told: Mutex<Option<Instant>>,
}

impl Overtakers {
    /// Notes a message. How many there were since the last time, if it is time to tell.
    pub(super) fn note(&self, priority: Option<u8>, now: Instant) -> Option<u64> {
        priority.filter(|priority| *priority > NORMAL_MAX)?;
        self.untold.fetch_add(1, Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|at| now.saturating_duration_since(at) < TOLD_EVERY) {
            return None;
        }
        *told = Some(now);
        Some(self.untold.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn high_priorities_are_told_of_once_a_minute_with_their_number() {
        let (overtakers, now) = (Overtakers::default(), Instant::now());
        assert_eq!(overtakers.note(None, now), None);
        assert_eq!(overtakers.note(Some(4), now), None);
        assert_eq!(overtakers.note(Some(5), now), Some(1));
        assert_eq!(overtakers.note(Some(9), now + Duration::from_secs(59)), None);
        assert_eq!(overtakers.note(Some(9), now + Duration::from_mins(1)), Some(2));
    }
}
