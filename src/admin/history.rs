//! The last minutes in numbers: what the page draws. Bounded, and fed from counters that there are anyway.

use std::collections::VecDeque;
use std::time::Duration;

/// How often a sample is taken.
pub(super) const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// Samples that are closer together tell no rate.
const APART_MIN: Duration = Duration::from_secs(1);
/// Samples that are kept: ten minutes of them.
const SAMPLES_MAX: usize = 121;

/// Counts since the start at one moment, and how much is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Deliveries handed to us.
    pub received: u64,
    /// Messages that were acked, dead letters included.
    pub settled: u64,
    /// Attempts that ended with a stale ETag.
    pub conflicts: u64,
    /// Attempts that ended with trouble that may pass, and answers that asked for less.
    pub failures: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Attempts under way. No count: it falls as well.
    pub in_flight: u64,
}

/// Samples, the oldest first, each with its time since the start of the process.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<(Duration, Sample)>,
}

impl History {
    pub(super) fn add(&mut self, at: Duration, sample: Sample) {
        let last = self.samples.back().map(|(last, _)| *last);
        if last.is_some_and(|last| at.saturating_sub(last) < APART_MIN) {
            return;
        }
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((at, sample));
    }

    /// How much of a count came in a second, from one sample to the next.
    pub(super) fn rates(&self, of: impl Fn(&Sample) -> u64) -> Vec<f64> {
        let next = self.samples.iter().skip(1);
        self.samples
            .iter()
            .zip(next)
            .map(|((before, first), (at, second))| {
                let seconds = at.saturating_sub(*before).as_secs_f64();
                let came = number(of(second).saturating_sub(of(first)));
                if seconds > 0.0 { came / seconds } else { 0.0 }
            })
            .collect()
    }

    /// A number as it was.
    pub(super) fn values(&self, of: impl Fn(&Sample) -> u64) -> Vec<f64> {
        self.samples.iter().map(|(_, sample)| number(of(sample))).collect()
    }

    /// The time that the samples span.
    pub(super) fn span(&self) -> Duration {
        match (self.samples.front(), self.samples.back()) {
            (Some((first, _)), Some((last, _))) => last.saturating_sub(*first),
            (_, _) => Duration::ZERO,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "drawn with two digits")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn rates_are_what_came_in_a_second_and_old_samples_go() {
        let mut history = History::default();
        assert!(history.rates(|it| it.settled).is_empty());
        for (at, settled) in [(0, 0), (5, 10), (10, 10), (20, 110)] {
            history.add(seconds(at), Sample { settled, ..Sample::default() });
        }
        assert_eq!(history.rates(|it| it.settled), [2.0, 0.0, 10.0]);
        assert_eq!(history.values(|it| it.settled), [0.0, 10.0, 10.0, 110.0]);
        history.add(Duration::from_millis(20_001), Sample { settled: 200, ..Sample::default() });
        assert_eq!(history.rates(|it| it.settled), [2.0, 0.0, 10.0], "too soon after the last");
        for at in 0..1000 {
            history.add(seconds(100 + at), Sample::default());
        }
        assert_eq!(history.samples.len(), SAMPLES_MAX);
        assert_eq!(history.span(), seconds(120));
    }
}
