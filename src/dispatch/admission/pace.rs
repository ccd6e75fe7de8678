//! How fast requests may follow one another: at a rate that is looked for.

use std::time::Duration;

/// How far below the rate that was found the search begins, as a share of it.
const CUT: f64 = 0.08;
/// After this time it is back at the rate that was found; from then on it rises ever faster.
const BACK: Duration = Duration::from_secs(20);
/// And after so many requests at least: each search ends in a refusal, and that costs a slow pace most.
const BACK_REQUESTS: f64 = 60.0;
/// However slow.
const BACK_MAX: Duration = Duration::from_mins(2);
/// A guess doubles in this time.
const DOUBLED: Duration = Duration::from_secs(3);
/// After this time without a refusal nobody is slowed down any more: by then the rate has grown more
/// than a hundredfold.
const FORGOTTEN: Duration = Duration::from_mins(5);
/// Slowest rate, in requests a second: slower, and nothing could be learnt for minutes.
const RATE_MIN: f64 = 0.2;
/// A timer that fires late by this much costs no rate. Short beside what a service allows at once.
const SLACK: Duration = Duration::from_millis(50);

/// Spaces requests evenly, at a rate that rises slowly around the one that was found and fast far
/// from it. The curve is TCP CUBIC's (RFC 9438, section 4.2), over the rate.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pace {
    /// Requests a second that the target took when it last refused one.
    found: f64,
    /// That is a guess: the rate doubles until the next refusal.
    is_guess: bool,
    since: Duration,
    next: Duration,
}

impl Pace {
    /// Begins at `since`, with the first request at a place of its own after that: `dice` from
    /// `0.0..1.0`, so that pods that were refused together do not come back together.
    pub(super) fn new(found: f64, since: Duration, dice: f64) -> Self {
        let found = found.max(RATE_MIN);
        let spread = Duration::from_secs_f64(dice.clamp(0.0, 1.0) / found);
        Self { found, is_guess: false, since, next: since + spread }
    }

    /// The same where nothing is known yet.
    pub(super) fn guess(rate: f64, since: Duration, dice: f64) -> Self {
        Self { is_guess: true, ..Self::new(rate, since, dice) }
    }

    /// Requests a second.
    pub(super) fn rate(&self, now: Duration) -> f64 {
        let age = now.saturating_sub(self.since);
        if self.is_guess {
            return self.found
                * 2.0_f64.powf((age.as_secs_f64() / DOUBLED.as_secs_f64()).min(40.0));
        }
        let back = (BACK_REQUESTS / self.found).clamp(BACK.as_secs_f64(), BACK_MAX.as_secs_f64());
        let age = age.as_secs_f64() / back;
        (self.found * (1.0 + CUT * (age - 1.0).powi(3))).max(RATE_MIN)
    }

    /// What it began around.
    pub(super) const fn found(&self) -> f64 {
        self.found
    }

    pub(super) const fn is_guess(&self) -> bool {
        self.is_guess
    }

    /// When the next request may begin.
    pub(super) const fn due(&self) -> Duration {
        self.next
    }

    /// Takes the next place, and says when it is.
    pub(super) fn take(&mut self, now: Duration) -> Duration {
        let at = self.next.max(now.saturating_sub(SLACK));
        self.next = at + Duration::from_secs_f64(1.0 / self.rate(now));
        at
    }

    /// Nothing may begin before this; the search starts there.
    pub(super) fn postpone(&mut self, until: Duration) {
        self.since = self.since.max(until);
        self.next = self.next.max(until);
    }

    /// Whether there is nothing left to slow down for.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.since) >= FORGOTTEN
    }
}

/// Counts what was accepted lately.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Accepted {
    /// Since when there is no pause.
    since: Duration,
    last: Duration,
    /// For each slice of time its number and what was accepted in it.
    slices: [(u64, u32); SLICES],
    /// When the latest were accepted, each written over the one so many before it.
    latest: [Duration; LATEST],
    count: usize,
}

const SLICES: usize = 20;
/// Where the slices hold fewer than these, so many are counted over the time that they took.
const LATEST: usize = 10;
/// Fewer say nothing.
const LATEST_MIN: usize = 3;
const SLICE: Duration = Duration::from_millis(100);
/// A pause after which the rate before it says nothing of the one now; and so many times the gap that is
/// usual.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_GAPS: u32 = 4;
/// Shortest time that is counted over: shorter, and what a service allows at once would be taken for a rate.
const COUNTED_MIN: Duration = Duration::from_secs(1);

impl Accepted {
    pub(super) const fn new() -> Self {
        Self::begun(Duration::ZERO)
    }

    const fn begun(at: Duration) -> Self {
        let (slices, latest) = ([(0, 0); SLICES], [Duration::ZERO; LATEST]);
        Self { since: at, last: at, slices, latest, count: 0 }
    }

    /// One more, where one is to be expected every `gap`.
    pub(super) fn add(&mut self, now: Duration, gap: Duration) {
        // Sent before the restart, and answered late.
        if now < self.since {
            return;
        }
        if now.saturating_sub(self.last) > PAUSE.max(gap * PAUSE_GAPS) {
            self.restart(now);
        }
        self.last = now;
        if let Some(at) = self.latest.get_mut(self.count % LATEST) {
            *at = now;
            self.count += 1;
        }
        let (number, index) = slice(now);
        let Some((at, count)) = self.slices.get_mut(index) else { return };
        if *at != number {
            (*at, *count) = (number, 0);
        }
        *count += 1;
    }

    /// Whether they are too few to say anything, however long they took.
    pub(super) const fn are_few(&self) -> bool {
        self.count < LATEST_MIN
    }

    /// What comes from now on is counted alone.
    pub(super) fn restart(&mut self, now: Duration) {
        *self = Self::begun(now);
    }

    /// Requests a second, over two seconds, or over the latest ten where those took longer. `None` where
    /// they are too few, or the time was too short to tell.
    pub(super) fn rate(&self, now: Duration) -> Option<f64> {
        let (newest, _) = slice(now);
        let oldest = newest.saturating_sub(SLICES as u64 - 1);
        let lately = self.slices.iter().filter(|(number, _)| (oldest..=newest).contains(number));
        let count: u32 = lately.map(|(_, count)| count).sum();
        if usize::try_from(count).unwrap_or(usize::MAX) < LATEST {
            return self.slow_rate(now);
        }
        let begun = self.since.max(SLICE * u32::try_from(oldest).unwrap_or(u32::MAX));
        let time = now.saturating_sub(begun);
        (count > 0 && time >= COUNTED_MIN).then(|| f64::from(count) / time.as_secs_f64())
    }
}

impl Accepted {
    /// From the oldest of the latest until now: the one that was not accepted came about a gap after the
    /// last.
    fn slow_rate(&self, now: Duration) -> Option<f64> {
        let known = self.count.min(LATEST);
        let oldest = if self.count > LATEST { self.count % LATEST } else { 0 };
        let time = now.saturating_sub(*self.latest.get(oldest)?);
        let known = u32::try_from(known).ok()?;
        let gap = time / known.max(1);
        let goes_on = now.saturating_sub(self.last) <= PAUSE.max(gap * PAUSE_GAPS);
        let is_enough = !self.are_few() && time >= COUNTED_MIN && goes_on;
        is_enough.then(|| f64::from(known) / time.as_secs_f64())
    }
}

/// The number of the slice of time that this falls into, and where it is counted.
fn slice(now: Duration) -> (u64, usize) {
    let number = u64::try_from(now.as_millis() / SLICE.as_millis()).unwrap_or(u64::MAX);
    (number, usize::try_from(number % SLICES as u64).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn rate_begins_below_the_one_found_lingers_there_and_then_rises_fast() {
        let pace = Pace::new(100.0, 10 * SECOND, 0.0);
        let is = |seconds: u32, rate: f64| (pace.rate((10 + seconds) * SECOND) - rate).abs() < 0.5;
        assert!(is(0, 92.0) && is(10, 99.0) && is(20, 100.0) && is(30, 101.0));
        assert!(is(60, 164.0) && is(120, 1_100.0));
        let guess = Pace::guess(10.0, 10 * SECOND, 0.0);
        let rates = [10, 13, 16].map(|at| guess.rate(at * SECOND).round().to_string());
        assert_eq!(rates, ["10", "20", "40"]);
        assert!(!pace.is_over(300 * SECOND) && pace.is_over(310 * SECOND));
    }

    #[test]
    fn requests_are_spaced_and_a_late_timer_costs_no_rate() {
        let mut pace = Pace::new(100.0, SECOND, 0.5);
        assert_eq!(pace.due(), SECOND + Duration::from_millis(5), "not all at once");
        let mut now = pace.due();
        let mut taken = 0;
        while now < 11 * SECOND {
            // Looks every 7 ms only, as slow timers do.
            now += Duration::from_millis(7);
            while pace.due() <= now {
                pace.take(now);
                taken += 1;
            }
        }
        // 92 a second at first, 99 at last.
        assert!((955..=985).contains(&taken), "{taken}");
    }

    #[test]
    fn accepted_requests_are_counted_since_the_last_pause() {
        let mut accepted = Accepted::new();
        for tenth in 0..=300 {
            accepted.add(SECOND * tenth / 10, SECOND / 10);
        }
        let about = |at, least| (least..least + 2.0).contains(&accepted.rate(at).unwrap());
        assert!(about(30 * SECOND, 9.5));
        for twentieth in 0..=20 {
            accepted.add(60 * SECOND + SECOND * twentieth / 20, SECOND / 10);
        }
        assert_eq!(accepted.rate(60 * SECOND + SECOND / 2), None, "too early to tell");
        assert_eq!(accepted.rate(90 * SECOND), None, "nothing lately");
        let rate = accepted.rate(61 * SECOND).unwrap();
        assert!((rate - 21.0).abs() < 0.1, "{rate}: nothing of what was before the pause");
    }
}
