//! A service that refuses for now is left alone for as long as it says.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::config;

/// When it may be asked again.
#[derive(Debug)]
pub(super) struct Calm {
    until: Mutex<Option<Instant>>,
    told: [Duration; 2],
    untold: Duration,
}

impl Calm {
    pub(super) const fn new(settings: &config::Throttle) -> Self {
        let told = [settings.told_wait_min, settings.told_wait_max];
        Self { until: Mutex::new(None), told, untold: settings.untold_wait_min }
    }

    /// It refused, and said for how long, or did not.
    pub(super) fn refused(&self, retry_after: Option<Duration>) {
        let [least, most] = self.told;
        let wait = retry_after.map_or(self.untold, |told| told.clamp(least, most.max(least)));
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (*until).max(Some(Instant::now() + wait));
    }

    /// For how long it is still left alone.
    pub(super) fn left(&self) -> Option<Duration> {
        let until = (*self.until.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// Waits until it may be asked.
    pub(super) async fn over(&self) {
        while let Some(left) = self.left() {
            sleep_until(Instant::now() + left).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn service_is_left_alone_for_as_long_as_it_says_within_the_settings() {
        let settings = config::Throttle::default();
        for (told, waited) in [
            (Some(Duration::from_secs(20)), Duration::from_secs(20)),
            (Some(Duration::ZERO), settings.told_wait_min),
            (Some(Duration::from_hours(9)), settings.told_wait_max),
            (None, settings.untold_wait_min),
        ] {
            let (calm, begun) = (Calm::new(&settings), Instant::now());
            calm.over().await;
            assert_eq!(begun.elapsed(), Duration::ZERO);
            calm.refused(told);
            calm.refused(Some(Duration::ZERO));
            assert_eq!(calm.left(), Some(waited));
            calm.over().await;
            assert_eq!(begun.elapsed(), waited, "{told:?}");
        }
    }
}
