//! How long the stand-in takes to answer: log-normal, the shape of most services, from two numbers
//! that an operator can read off a graph.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_874_040_841;
/// No sample is longer than this many times p99: one in many billions, but a test has to end.
const TAIL_MAX: u32 = 10;

/// Median and 99th percentile of the time an answer takes. Written `80ms`, or `80ms..600ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Latency {
    p50: Duration,
    p99: Duration,
}

/// Why a text is no latency.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of the two is no duration with a unit.
    #[error("not a duration such as 80ms, nor two such as 80ms..600ms")]
    Duration(#[from] humantime::DurationError),
    /// A 99th percentile cannot lie below the median.
    #[error("the second duration (p99) is shorter than the first (p50)")]
    Order,
}

impl Latency {
    /// Answers at once: no timer is even set.
    pub const NONE: Self = Self { p50: Duration::ZERO, p99: Duration::ZERO };

    /// Draws one duration. Constant when both percentiles are the same.
    pub fn sample(&self, rng: &mut fastrand::Rng) -> Duration {
        if self.p50.is_zero() || self.p50 == self.p99 {
            return self.p50;
        }
        let sigma = (self.p99.as_secs_f64() / self.p50.as_secs_f64()).ln() / Z99;
        // Box-Muller. `1 - f64()` lies in (0, 1], so the logarithm is finite.
        let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * rng.f64()).cos();
        let longest = self.p99.saturating_mul(TAIL_MAX);
        let seconds = self.p50.as_secs_f64() * (sigma * normal).exp();
        Duration::try_from_secs_f64(seconds).unwrap_or(longest).min(longest)
    }
}

impl FromStr for Latency {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (p50, p99) = text.split_once("..").unwrap_or((text, text));
        let p50 = humantime::parse_duration(p50.trim())?;
        let p99 = humantime::parse_duration(p99.trim())?;
        if p99 < p50 { Err(Error::Order) } else { Ok(Self { p50, p99 }) }
    }
}

impl TryFrom<String> for Latency {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Latency> for String {
    fn from(latency: Latency) -> Self {
        latency.to_string()
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.p50).fmt(f)?;
        if self.p50 != self.p99 {
            write!(f, "..{}", humantime::format_duration(self.p99))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_the_given_percentiles() {
        let latency: Latency = "80ms..600ms".parse().unwrap();
        let mut rng = fastrand::Rng::with_seed(42);
        let mut samples: Vec<_> = (0..100_000).map(|_| latency.sample(&mut rng)).collect();
        samples.sort_unstable();
        let near = |at: usize, expected: f64| (samples[at].as_secs_f64() / expected - 1.0).abs();
        assert!(near(50_000, 0.080) < 0.03, "{:?}", samples[50_000]);
        assert!(near(99_000, 0.600) < 0.05, "{:?}", samples[99_000]);
        assert!(samples[99_999] <= Duration::from_secs(6));
    }

    #[test]
    fn one_duration_is_constant_and_none_is_zero() {
        let mut rng = fastrand::Rng::with_seed(1);
        let constant: Latency = "7ms".parse().unwrap();
        assert_eq!(constant.sample(&mut rng), Duration::from_millis(7));
        assert_eq!(Latency::NONE.sample(&mut rng), Duration::ZERO);
        assert_eq!("0s".parse::<Latency>().unwrap(), Latency::NONE);
    }

    #[test]
    fn text_form_is_read_back_and_nonsense_is_refused() {
        for text in ["80ms", "80ms..600ms", "1s..1m"] {
            assert_eq!(text.parse::<Latency>().unwrap().to_string(), text);
        }
        for bad in ["", "80", "600ms..80ms", "80ms..", "-1s"] {
            assert!(bad.parse::<Latency>().is_err(), "{bad}");
        }
    }
}
