//! How a replay goes: as an operator wants it. Pure.

use std::time::Duration;

/// Messages a second: a service that others work with as well notices nothing of it.
const RATE_DEFAULT: u32 = 20;
/// Few enough that a live update hardly waits behind them.
const IN_FLIGHT_DEFAULT: usize = 8;
/// Longer than the retries of one update take.
const OUTCOME_DEFAULT: Duration = Duration::from_mins(15);

/// Percent of the outcomes: more than the odd letter that is bad by itself.
const FAILED_DEFAULT: f64 = 10.0;

/// How a replay goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Manner {
    /// So many first, and every one of them must be written, or be there already.
    pub canary: usize,
    /// So many after that, step by step; each step is over before the next begins.
    pub ramp: Vec<usize>,
    /// Messages a second, at most.
    pub rate: Option<u32>,
    /// Messages whose outcome is awaited, at most.
    pub in_flight_max: usize,
    /// When to give the replay up.
    pub stop_if: Option<StopIf>,
    /// A message whose outcome has not come within this, while others' come, is not waited for.
    pub outcome_max: Duration,
}

impl Manner {
    /// One after the other begins, at the pace of the flags' defaults, until all are done.
    #[must_use]
    pub const fn steady() -> Self {
        Self {
            canary: 0,
            ramp: Vec::new(),
            rate: Some(RATE_DEFAULT),
            in_flight_max: IN_FLIGHT_DEFAULT,
            stop_if: Some(StopIf::Percent(FAILED_DEFAULT)),
            outcome_max: OUTCOME_DEFAULT,
        }
    }
}

impl Manner {
    /// About how long a replay takes. `orders` holds how many letters each has; `each` is what one letter takes from the
    /// look at its order to its outcome, where that is known.
    #[must_use]
    pub fn estimate(&self, orders: &[usize], each: Duration) -> Duration {
        let count = |many: usize| u32::try_from(many).unwrap_or(u32::MAX);
        let letters: usize = orders.iter().sum();
        let longest = orders.iter().copied().max().unwrap_or(0);
        let apart = self.rate.filter(|rate| *rate > 0).map(|rate| Duration::from_secs(1) / rate);
        let apart = apart.unwrap_or_default();
        // What goes side by side: no two letters of one order.
        let abreast = self.in_flight_max.min(orders.len()).max(1);
        let spent = |many: usize| {
            let rounds = count(many.div_ceil(abreast));
            apart.saturating_mul(count(many)).max(each.saturating_mul(rounds))
        };
        let mut left = letters;
        let mut time = Duration::ZERO;
        // Each step is over before the next begins.
        for step in std::iter::once(self.canary).chain(self.ramp.iter().copied()) {
            let step = step.min(left);
            left -= step;
            time = time.saturating_add(spent(step));
        }
        time = time.saturating_add(spent(left));
        // Letters of one order go one after the other.
        time.max(each.saturating_mul(count(longest)))
    }
}

/// More failures than this.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StopIf {
    /// So many.
    Count(usize),
    /// Such a share of the outcomes, in percent.
    Percent(f64),
}

impl std::str::FromStr for StopIf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is none: write failed>5% or failed>10");
        let compact: String = text.chars().filter(|it| !it.is_whitespace()).collect();
        let limit = compact.strip_prefix("failed>").ok_or_else(wrong)?;
        match limit.strip_suffix('%') {
            Some(percent) => {
                let percent: f64 = percent.parse().map_err(|_no_number| wrong())?;
                (0.0..100.0).contains(&percent).then_some(Self::Percent(percent)).ok_or_else(wrong)
            }
            None => limit.parse().map(Self::Count).map_err(|_no_number| wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn manner() -> Manner {
        Manner { rate: Some(20), in_flight_max: 8, ..Manner::steady() }
    }

    #[test]
    fn estimate_is_what_takes_longest_the_rate_the_service_or_one_long_order() {
        let singles = [1; 200];
        assert_eq!(manner().estimate(&[], SECOND), Duration::ZERO);
        assert_eq!(manner().estimate(&singles, Duration::ZERO), 10 * SECOND, "20 a second");
        assert_eq!(manner().estimate(&singles, SECOND), 25 * SECOND, "eight at once");
        assert_eq!(manner().estimate(&[100, 1], SECOND), 100 * SECOND, "one after the other");
        // One, then 5, then 25 at once, then the rest: 1 + 1 + 4 + 22.
        let steps = Manner { canary: 1, ramp: vec![5, 25], ..manner() };
        assert_eq!(steps.estimate(&singles, SECOND), 28 * SECOND);
        assert_eq!(steps.estimate(&[1, 1], SECOND), 2 * SECOND, "there are no more");
    }
}
