//! How long to wait before trying again.

use std::time::Duration;

/// A bounded number of retries with doubling waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Retries after the first attempt. Zero: the first trouble is final.
    pub retries_max: u32,
    /// First wait; doubles with each retry.
    pub wait_min: Duration,
    /// Longest single wait.
    pub wait_max: Duration,
}

impl Retry {
    /// The wait before the next retry when `spent` retries are behind, `None` when none is left.
    #[must_use]
    pub fn wait(&self, spent: u32) -> Option<Duration> {
        (spent < self.retries_max).then(|| exponential(spent, self.wait_min, self.wait_max))
    }
}

/// `min · 2^doublings`, at most `max`.
#[must_use]
pub fn exponential(doublings: u32, min: Duration, max: Duration) -> Duration {
    let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
    min.saturating_mul(factor).min(max)
}

/// `wait · (1 ± jitter)`, where `dice` from `0.0..1.0` chooses the place in that range.
#[must_use]
pub fn jittered(wait: Duration, jitter: f64, dice: f64) -> Duration {
    let factor = 1.0 + jitter * (2.0 * dice.clamp(0.0, 1.0) - 1.0);
    wait.mul_f64(factor.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_are_one_two_four_seconds_and_then_none_is_left() {
        let retry = Retry { retries_max: 3, wait_min: SECOND, wait_max: 4 * SECOND };
        let waits: Vec<_> = (0..5).map(|spent| retry.wait(spent)).collect();
        assert_eq!(waits, [Some(SECOND), Some(2 * SECOND), Some(4 * SECOND), None, None]);
    }

    #[test]
    fn wait_stays_below_its_maximum_however_often_it_doubles() {
        for doublings in [3, 31, 32, 33, u32::MAX] {
            assert_eq!(exponential(doublings, SECOND, 5 * SECOND), 5 * SECOND, "{doublings}");
        }
        assert_eq!(exponential(40, Duration::ZERO, SECOND), Duration::ZERO);
    }

    #[test]
    fn jitter_spreads_a_whole_second_over_its_whole_range() {
        let at = |dice| jittered(SECOND, 0.2, dice).as_millis();
        assert_eq!((at(0.0), at(0.5), at(1.0)), (800, 1000, 1200));
        assert_eq!(jittered(SECOND, 0.0, 0.9), SECOND);
    }
}
