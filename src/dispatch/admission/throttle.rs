//! How much the target takes: found out from what it accepts and what it refuses.
//!
//! Three things hold requests back. The *gate*: after a refusal nothing begins for as long as the
//! target said. The *limit*: requests at the same time, halved at a refusal and raised by what is
//! accepted. The *pace*: a single request at a time can be more than a target allows in a second, so a
//! rate is looked for as well.

use std::time::Duration;

use super::pace::{Accepted, Pace};
use super::quota::{Allowance, Quota};
use crate::protocol::backoff::exponential;

/// How much longer than told, or than it would be, is waited at most, as a share: pods that were refused together must not
/// come back together.
const LONGER_MAX: f64 = 0.2;
/// The pace at which the target refused is too much by about this: it takes a while to show.
const BEYOND: f64 = 0.985;
/// One at which it refused almost at once is too much by far more.
const FAR_BEYOND: f64 = 0.75;
/// Requests at the same time with which a target that has come back is met.
const FIRST: f64 = 2.0;

/// How long a target that refuses is left alone, and how much is asked of it at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throttling {
    /// Least and most that is waited on the target's word (`Retry-After`).
    pub told: [Duration; 2],
    /// Waits after refusals without a word: the first one, which doubles, and the longest.
    pub untold: [Duration; 2],
    /// How many requests there may be in any window, if there is such a limit.
    pub quota: Option<Allowance>,
}

#[derive(Debug)]
pub(super) struct Throttle {
    settings: Throttling,
    limit_max: f64,
    /// Requests at the same time; at least one.
    limit: f64,
    /// Below this the limit is doubled with every round, as after a start; above, it creeps.
    safe: f64,
    /// Nothing begins before this.
    shut_until: Duration,
    /// Refusals without a word since something was accepted.
    untold: u32,
    pace: Option<Pace>,
    quota: Option<Quota>,
    accepted: Accepted,
}

impl Throttle {
    pub(super) fn new(settings: Throttling, concurrency_max: usize) -> Self {
        let limit = f64::from(u32::try_from(concurrency_max).unwrap_or(u32::MAX)).max(1.0);
        Self {
            settings,
            limit_max: limit,
            limit,
            safe: limit,
            shut_until: Duration::ZERO,
            untold: 0,
            pace: None,
            quota: settings.quota.map(Quota::new),
            accepted: Accepted::new(),
        }
    }

    /// So many pods share the quota.
    pub(super) fn shared_by(&mut self, pods: usize) {
        if let Some(quota) = &mut self.quota {
            quota.shared_by(pods);
        }
    }

    /// Nothing may begin before this.
    pub(super) const fn shut_until(&self) -> Duration {
        self.shut_until
    }

    /// Requests at the same time.
    pub(super) const fn limit(&self) -> f64 {
        self.limit
    }

    /// Requests a second, where they are slowed down.
    pub(super) fn rate(&self, now: Duration) -> Option<f64> {
        self.pace.as_ref().map(|pace| pace.rate(now))
    }

    /// When the next attempt may begin.
    pub(super) fn due(&self) -> Duration {
        let pace = self.pace.as_ref().map_or(Duration::ZERO, Pace::due);
        let quota = self.quota.as_ref().map_or(Duration::ZERO, Quota::due);
        self.shut_until.max(pace).max(quota)
    }

    /// Whether there is room for one more beside so many.
    pub(super) fn has_room(&self, in_flight: usize) -> bool {
        f64::from(u32::try_from(in_flight).unwrap_or(u32::MAX)) < self.limit.floor()
    }

    /// An attempt begins.
    pub(super) fn begin(&mut self, now: Duration) {
        if let Some(pace) = &mut self.pace {
            pace.take(now);
        }
        if let Some(quota) = &mut self.quota {
            // Its PATCH as well: it must not have to wait, with an ETag that grows old.
            quota.take(2, now);
        }
    }

    /// The PATCH of an attempt: its place in the pace, ahead of every attempt that waits.
    pub(super) fn write(&mut self, now: Duration) -> Duration {
        self.pace.as_mut().map_or(now, |pace| pace.take(now))
    }

    /// A request that was sent at `sent`, one of so many at the same time, was taken.
    pub(super) fn accepted(&mut self, sent: Duration, in_flight: usize, now: Duration) {
        let gap = self.rate(now).map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        self.accepted.add(now, gap);
        if sent >= self.shut_until {
            self.untold = 0;
        }
        // A limit that is not made use of proves nothing.
        if f64::from(u32::try_from(in_flight).unwrap_or(u32::MAX)) * 2.0 >= self.limit {
            let more = if self.limit < self.safe { 1.0 } else { 1.0 / self.limit };
            self.limit = (self.limit + more).min(self.limit_max);
        }
        if self.pace.as_ref().is_some_and(|pace| pace.is_over(now)) {
            self.pace = None;
        }
    }

    /// When something may begin again after such a refusal.
    pub(super) fn open_after(
        &self,
        sent: Duration,
        told: Option<Duration>,
        dice: f64,
        now: Duration,
    ) -> Duration {
        let is_news = sent >= self.shut_until;
        let wait = match (told, self.settings.told, self.settings.untold) {
            (Some(told), [min, max], _) => told.clamp(min, max),
            (None, _, [min, max]) if is_news => exponential(self.untold, min, max),
            // Several that were refused together are one refusal.
            (None, _, _) => Duration::ZERO,
        };
        // Never less, be it told or not; and after the longest as well, so that pods do not come back
        // together.
        self.shut_until.max(now + wait.mul_f64(1.0 + LONGER_MAX * dice))
    }

    /// A request that was sent at `sent` was refused. `told` is how long the target wants to be left
    /// alone; `dice` a draw from `0.0..1.0`. Whether that was news.
    pub(super) fn refused(
        &mut self,
        sent: Duration,
        told: Option<Duration>,
        dice: f64,
        now: Duration,
    ) -> bool {
        // What was sent before the last refusal was known tells nothing new.
        let is_news = sent >= self.shut_until;
        self.shut_until = self.open_after(sent, told, dice, now);
        if is_news {
            if told.is_none() {
                self.untold = self.untold.saturating_add(1);
            }
            self.limit = (self.limit / 2.0).max(1.0);
            self.safe = self.limit;
            let (found, since) = (self.found(now), self.shut_until);
            // Where nothing is known yet, each guess is half of the one before.
            let half = self.pace.as_ref().map_or(self.limit, |pace| pace.found() / 2.0);
            self.pace = Some(match found {
                Some(found) => Pace::new(found, since, dice),
                None => Pace::guess(self.limit.min(half), since, dice),
            });
            self.accepted.restart(self.shut_until);
        } else if let Some(pace) = &mut self.pace {
            pace.postpone(self.shut_until);
        }
        is_news
    }

    /// Requests a second that the target takes, as far as is known.
    fn found(&self, now: Duration) -> Option<f64> {
        let accepted = self.accepted.rate(now);
        match self.pace.as_ref().filter(|pace| !pace.is_guess()).map(|pace| pace.rate(now)) {
            Some(pace) if self.accepted.are_few() => Some(pace * FAR_BEYOND),
            // It was made use of, or nobody knows: a little less than it must be right. What was
            // accepted lags behind a rate that rises.
            Some(pace) if accepted.is_none_or(|rate| rate >= 0.9 * pace) => Some(pace * BEYOND),
            Some(_) | None => accepted,
        }
    }

    /// The target has come back: it is not met with everything at once.
    pub(super) fn slow_start(&mut self) {
        self.safe = self.limit.max(FIRST);
        self.limit = FIRST.min(self.limit_max);
    }
}

#[cfg(test)]
mod tests;
