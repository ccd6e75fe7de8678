//! How a replay goes: as an operator wants it. Pure.

use std::time::Duration;

/// Messages a second: a service that others work with as well notices nothing of it.
const RATE_DEFAULT: u32 = 20;
/// Few enough that a live update hardly waits behind them.
const IN_FLIGHT_DEFAULT: usize = 8;
/// Longer than the retries of one update take.
const OUTCOME_DEFAULT: Duration = Duration::from_mins(15);

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
            stop_if: None,
            outcome_max: OUTCOME_DEFAULT,
        }
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
