//! Refuses what is too much: by a rate, by a quota, by the load.
//!
//! What a request is charged is known when it arrives, since its latency is drawn then. What is
//! refused is charged nothing.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest time that a client is told to wait, in seconds.
const RETRY_AFTER_MAX: u64 = 180;

/// What is too much. Nothing is, by default.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests a second over the whole service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
    /// Requests that may come at once after a pause, under `per_second`; a tenth of a second's
    /// worth if absent, and never less than 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<f64>,
    /// Requests in one `window`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Time that the requests of one `window` may take together.
    #[serde(skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub execution: Option<Duration>,
    /// How long `requests` and `execution` are counted, then from 0 again; 300 s if absent. The
    /// real ones slide.
    #[serde(skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub window: Option<Duration>,
    /// Requests at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u64>,
    /// Requests at the same time that are a full load; above it, the more the likelier refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<f64>,
    /// How long it is busy at a time. While it is, the capacity is a quarter, and everything takes
    /// three times as long.
    #[serde(skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub busy_for: Option<Duration>,
    /// How long it is not busy in between. Without it, it is busy from now on, for `busy_for`.
    #[serde(skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub busy_every: Option<Duration>,
    /// Share of refusals without Retry-After.
    pub without_retry_after: f64,
}

/// Why limits are refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// Nothing could ever be answered.
    #[error("throttle: {name} must be more than 0")]
    NotPositive {
        /// The limit.
        name: &'static str,
    },
    /// A share lies between 0 and 1.
    #[error("throttle: without_retry_after is not between 0 and 1")]
    Share,
}

/// Which limit was met. The three of Dataverse have numbers of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Of requests in a window.
    Requests(u64),
    /// Of time that they take together, in milliseconds.
    Execution(u128),
    /// Of requests at the same time.
    Concurrent(u64),
    /// Of a rate, or of the load.
    Load,
}

/// A request that is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Which limit it met.
    pub limit: Limit,
    /// When to come again, in seconds; the client is not told if absent.
    pub retry_after: Option<u64>,
}

/// What is counted against the limits.
#[derive(Debug, Clone)]
pub(super) struct Throttle {
    limits: Limits,
    /// When the first request came.
    since: Option<Timestamp>,
    /// Requests that the rate would allow at `filled`.
    tokens: f64,
    filled: Timestamp,
    window_began: Timestamp,
    requests: u64,
    execution: Duration,
    /// What the last one was told who met the load, in seconds, and when.
    told: Option<(u64, Timestamp)>,
}

impl Limits {
    /// Nothing is too much.
    pub const NONE: Self = Self {
        per_second: None,
        burst: None,
        requests: None,
        execution: None,
        window: None,
        concurrent: None,
        capacity: None,
        busy_for: None,
        busy_every: None,
        without_retry_after: 0.0,
    };

    /// Refuses what would let nothing through.
    pub fn check(&self) -> Result<(), Error> {
        let zero = |time: Option<Duration>| time.is_some_and(|time| time.is_zero());
        let low =
            |number: Option<f64>, least: f64| number.is_some_and(|it| it.is_nan() || it < least);
        for (name, is_bad) in [
            ("per_second", low(self.per_second, 0.001)),
            ("burst", low(self.burst, 1.0)),
            ("requests", self.requests == Some(0)),
            ("execution", zero(self.execution)),
            ("window", zero(self.window)),
            ("concurrent", self.concurrent == Some(0)),
            ("capacity", low(self.capacity, 0.001)),
            ("busy_for", zero(self.busy_for)),
            ("busy_every", zero(self.busy_every)),
        ] {
            if is_bad {
                return Err(Error::NotPositive { name });
            }
        }
        if (0.0..=1.0).contains(&self.without_retry_after) { Ok(()) } else { Err(Error::Share) }
    }

    fn burst(&self, per_second: f64) -> f64 {
        self.burst.unwrap_or(per_second / 10.0).max(1.0)
    }

    fn window(&self) -> Duration {
        self.window.unwrap_or(Duration::from_mins(5))
    }
}

impl Throttle {
    /// Counts from the first request on, with a full bucket.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            tokens: limits.per_second.map_or(0.0, |rate| limits.burst(rate)),
            limits,
            since: None,
            filled: Timestamp::UNIX_EPOCH,
            window_began: Timestamp::UNIX_EPOCH,
            requests: 0,
            execution: Duration::ZERO,
            told: None,
        }
    }

    pub(super) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many times as long as usual everything takes.
    pub(super) fn slowdown(&mut self, now: Timestamp) -> u32 {
        self.since.get_or_insert(now);
        if self.is_busy(now) { 3 } else { 1 }
    }

    /// Lets a request in, or not. `in_flight` counts it too; `takes` is its latency.
    pub(super) fn admit(
        &mut self,
        in_flight: u64,
        takes: Duration,
        now: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> Result<(), Refused> {
        if self.limits == Limits::NONE {
            return Ok(());
        }
        self.turn(now);
        let Some((limit, seconds)) = self.met(in_flight, now, rng) else {
            self.requests += 1;
            self.execution = self.execution.saturating_add(takes);
            self.tokens -= 1.0;
            return Ok(());
        };
        let is_told = rng.f64() >= self.limits.without_retry_after;
        Err(Refused { limit, retry_after: is_told.then_some(seconds.clamp(1, RETRY_AFTER_MAX)) })
    }

    /// The limit that one more request meets, and the seconds until it may come.
    fn met(
        &mut self,
        in_flight: u64,
        now: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> Option<(Limit, u64)> {
        let limits = self.limits;
        let left = limits.window().saturating_sub(elapsed(self.window_began, now));
        if let Some(max) = limits.requests.filter(|max| self.requests >= *max) {
            return Some((Limit::Requests(max), whole_seconds(left)));
        }
        if let Some(max) = limits.execution.filter(|max| self.execution >= *max) {
            return Some((Limit::Execution(max.as_millis()), whole_seconds(left)));
        }
        if let Some(max) = limits.concurrent.filter(|max| in_flight > *max) {
            return Some((Limit::Concurrent(max), 1));
        }
        if let Some(rate) = limits.per_second.filter(|_| self.tokens < 1.0) {
            let missing = Duration::try_from_secs_f64((1.0 - self.tokens) / rate);
            return Some((Limit::Load, whole_seconds(missing.unwrap_or(Duration::MAX))));
        }
        let capacity = limits.capacity? / if self.is_busy(now) { 4.0 } else { 1.0 };
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 requests")]
        let excess = in_flight as f64 / capacity - 1.0;
        (rng.f64() < excess).then(|| (Limit::Load, self.longer(now)))
    }

    /// Twice what was said last, to those who did not wait for it.
    fn longer(&mut self, now: Timestamp) -> u64 {
        let seconds = match self.told {
            Some((seconds, at)) if elapsed(at, now) < Duration::from_secs(seconds) => {
                (seconds * 2).min(RETRY_AFTER_MAX)
            }
            Some(_) | None => 1,
        };
        self.told = Some((seconds, now));
        seconds
    }

    /// Fills the bucket, and begins a new window when one is over.
    fn turn(&mut self, now: Timestamp) {
        self.since.get_or_insert(now);
        if let Some(rate) = self.limits.per_second {
            let filled = elapsed(self.filled, now).as_secs_f64() * rate;
            self.tokens = (self.tokens + filled).min(self.limits.burst(rate));
            self.filled = self.filled.max(now);
        }
        if elapsed(self.window_began, now) >= self.limits.window() {
            self.window_began = now;
            self.requests = 0;
            self.execution = Duration::ZERO;
        }
    }

    /// It is busy first, then not, and so on.
    fn is_busy(&self, now: Timestamp) -> bool {
        let Some(busy) = self.limits.busy_for else { return false };
        let at = elapsed(self.since.unwrap_or(now), now).as_nanos();
        let cycle = self.limits.busy_every.map(|pause| busy.saturating_add(pause).as_nanos());
        cycle.map_or(at, |cycle| at % cycle) < busy.as_nanos()
    }
}

fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn at(millis: u64) -> Timestamp {
        START + Duration::from_millis(millis)
    }

    struct Bench {
        throttle: Throttle,
        rng: fastrand::Rng,
    }

    fn bench(limits: Limits) -> Bench {
        Bench { throttle: Throttle::new(limits), rng: fastrand::Rng::with_seed(1) }
    }

    impl Bench {
        fn admit(&mut self, in_flight: u64, now: Timestamp) -> Result<(), Refused> {
            self.throttle.admit(in_flight, Duration::from_millis(100), now, &mut self.rng)
        }
    }

    #[test]
    fn rate_lets_through_what_it_says_and_a_burst() {
        let mut it = bench(Limits { per_second: Some(50.0), ..Limits::NONE });
        // Asked every millisecond for 10 s: 5 at once, then one each 20 ms.
        let let_in = (0..10_000).filter(|millis| it.admit(1, at(*millis)).is_ok()).count();
        assert!((503..=505).contains(&let_in), "{let_in}");
        let refused = it.admit(1, at(9_999)).unwrap_err();
        assert_eq!(refused, Refused { limit: Limit::Load, retry_after: Some(1) });
        let mut slow = bench(Limits { per_second: Some(0.1), ..Limits::NONE });
        assert!(slow.admit(1, START).is_ok());
        assert_eq!(slow.admit(1, START).unwrap_err().retry_after, Some(10));
    }

    #[test]
    fn quota_is_refilled_when_its_window_is_over() {
        let window = Some(Duration::from_mins(5));
        let mut it = bench(Limits { requests: Some(3), window, ..Limits::NONE });
        assert!((0..3).all(|_| it.admit(1, at(0)).is_ok()));
        let refused = it.admit(1, at(100_500)).unwrap_err();
        assert_eq!(refused, Refused { limit: Limit::Requests(3), retry_after: Some(180) });
        assert_eq!(it.admit(1, at(200_500)).unwrap_err().retry_after, Some(100));
        assert!((0..3).all(|_| it.admit(1, at(300_000)).is_ok()));
        assert!(it.admit(1, at(300_000)).is_err());
    }

    #[test]
    fn time_together_and_requests_together_are_limits_too() {
        let execution = Some(Duration::from_millis(250));
        let mut it = bench(Limits { execution, ..Limits::NONE });
        assert!((0..3).all(|_| it.admit(1, START).is_ok()));
        assert_eq!(it.admit(1, START).unwrap_err().limit, Limit::Execution(250));
        let mut it = bench(Limits { concurrent: Some(52), ..Limits::NONE });
        assert!(it.admit(52, START).is_ok());
        assert_eq!(it.admit(53, START).unwrap_err().limit, Limit::Concurrent(52));
    }

    #[test]
    fn load_refuses_the_more_the_higher_it_is_and_says_longer_to_who_goes_on() {
        let mut it = bench(Limits { capacity: Some(40.0), ..Limits::NONE });
        let mut refused = |in_flight| {
            (0..1_000).filter(|second| it.admit(in_flight, at(second * 999_000)).is_err()).count()
        };
        assert_eq!((refused(40), refused(80)), (0, 1_000));
        assert!((400..600).contains(&refused(60)));
        let mut it = bench(Limits { capacity: Some(1.0), ..Limits::NONE });
        let mut told = |now| it.admit(9, now).unwrap_err().retry_after.unwrap();
        let seconds: Vec<_> = [0, 500, 1_500, 2_500].into_iter().map(|ms| told(at(ms))).collect();
        assert_eq!(seconds, [1, 2, 4, 8]);
        assert_eq!(told(at(20_000)), 1);
        assert_eq!((0..20).map(|_| told(at(20_000))).last(), Some(180));
    }

    #[test]
    fn busy_spells_come_and_go() {
        let minutes = |minutes| Some(Duration::from_mins(minutes));
        let spells = Limits { busy_for: minutes(1), busy_every: minutes(4), ..Limits::NONE };
        let mut it = bench(spells).throttle;
        let mut slow = |minute: u64| it.slowdown(at(minute * 60_000));
        assert_eq!([slow(0), slow(1), slow(4), slow(5), slow(6)], [3, 1, 1, 3, 1]);
        let mut once = bench(Limits { busy_for: minutes(1), ..Limits::NONE }).throttle;
        let seen = [0, 59_999, 60_000, 600_000].map(|millis| once.slowdown(at(millis)));
        assert_eq!(seen, [3, 3, 1, 1]);
    }

    #[test]
    fn limits_that_let_nothing_through_are_refused() {
        let bad = |limits: Limits| assert!(limits.check().is_err(), "{limits:?}");
        bad(Limits { per_second: Some(0.0), ..Limits::NONE });
        bad(Limits { per_second: Some(f64::NAN), ..Limits::NONE });
        bad(Limits { burst: Some(0.5), ..Limits::NONE });
        bad(Limits { concurrent: Some(0), ..Limits::NONE });
        bad(Limits { window: Some(Duration::ZERO), ..Limits::NONE });
        bad(Limits { without_retry_after: 1.5, ..Limits::NONE });
        assert_eq!(Limits::NONE.check(), Ok(()));
        assert_eq!(Limits::NONE, Limits::default());
    }
}
