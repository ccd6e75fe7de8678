//! At most so many requests in any window, for one pod of several.

use std::time::Duration;

/// What all pods together may send in any window, evenly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowance {
    /// Requests; ten at least for each of `pods`.
    pub requests: f64,
    /// In any window of this length.
    pub window: Duration,
    /// Pods that share them at least, however few are heard of.
    pub pods: u32,
}

impl Allowance {
    /// `None` where there is no limit: 0 requests.
    #[must_use]
    pub fn new(requests: u32, window: Duration, pods: u32) -> Option<Self> {
        let allowance = Self { requests: f64::from(requests), window, pods };
        (requests > 0).then_some(allowance)
    }
}

/// The share of one pod: a tenth of it at once, the others evenly spaced (GCRA, ITU-T I.371).
#[derive(Debug, Clone, PartialEq)]
pub struct Quota {
    allowance: Allowance,
    spacing: Duration,
    at_once: Duration,
    full: Duration,
}

impl Quota {
    /// The share while nobody else is heard of.
    #[must_use]
    pub fn new(allowance: Allowance) -> Self {
        let (spacing, at_once, full) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let mut quota = Self { allowance, spacing, at_once, full };
        quota.shared_by(1);
        quota
    }

    /// So many pods are heard of, this one included.
    pub fn shared_by(&mut self, pods: usize) {
        let Allowance { requests, window, pods: least } = self.allowance;
        let pods = u32::try_from(pods).unwrap_or(u32::MAX).max(least).max(1);
        let share = requests / f64::from(pods);
        // In a window: the first one, those at once, and the spaced ones.
        self.spacing = window.div_f64((0.9 * share - 1.0).max(1.0));
        self.at_once = self.spacing.mul_f64(0.1 * share);
    }

    /// When the next request may begin.
    #[must_use]
    pub const fn due(&self) -> Duration {
        self.full.saturating_sub(self.at_once)
    }

    /// How many may begin at once, if one may begin now.
    #[must_use]
    pub fn room(&self, now: Duration) -> usize {
        let free = (now + self.at_once).saturating_sub(self.full.max(now));
        let more = free.as_nanos() / self.spacing.as_nanos().max(1);
        usize::try_from(more).unwrap_or(usize::MAX).saturating_add(1)
    }

    /// How many may ever begin at once.
    #[must_use]
    pub fn room_max(&self) -> usize {
        self.room(self.full)
    }

    /// So many begin now.
    pub fn take(&mut self, requests: u32, now: Duration) {
        self.full = self.full.max(now) + self.spacing * requests;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const ALLOWANCE: Allowance =
        Allowance { requests: 600.0, window: Duration::from_mins(5), pods: 1 };

    #[test]
    fn quota_is_kept_in_every_window_and_used_up() {
        let mut quota = Quota::new(ALLOWANCE);
        let mut begun: Vec<Duration> = Vec::new();
        let mut now = Duration::ZERO;
        while now < 1_200 * SECOND {
            while quota.due() <= now {
                quota.take(1, now);
                begun.push(now);
            }
            now += SECOND / 10;
        }
        let most = begun.iter().enumerate().map(|(index, from)| {
            let within = |at: &&Duration| **at < *from + 300 * SECOND;
            begun[index..].iter().take_while(within).count()
        });
        assert!((580..=600).contains(&most.max().unwrap()));
        assert!(begun.len() > 4 * 530, "{}", begun.len());
    }

    /// Has each pod send whatever it may, each hearing of so many pods from that second on, and returns
    /// the most that all sent in a window that begins after `since`.
    fn most(pods: usize, allowance: Allowance, hears: &[(u32, usize)], since: Duration) -> usize {
        let mut quotas: Vec<_> = (0..pods).map(|_| Quota::new(allowance)).collect();
        let mut begun: Vec<Duration> = Vec::new();
        for tenth in 0..12_000 {
            let now = SECOND * tenth / 10;
            for (_, heard) in hears.iter().filter(|(at, _)| SECOND * *at == now) {
                for quota in &mut quotas {
                    quota.shared_by(*heard);
                }
            }
            for quota in &mut quotas {
                while quota.due() <= now {
                    quota.take(1, now);
                    begun.push(now);
                }
            }
        }
        let within = |from: Duration| {
            begun.iter().filter(|at| (from..from + ALLOWANCE.window).contains(*at)).count()
        };
        let from = begun.iter().filter(|from| **from >= since);
        from.map(|from| within(*from)).max().unwrap()
    }

    #[test]
    fn pods_that_hear_of_each_other_share_the_quota_though_the_settings_name_fewer() {
        for pods in [2, 4, 7] {
            let heard = most(pods, ALLOWANCE, &[(0, pods)], Duration::ZERO);
            assert!((540..=600).contains(&heard), "{pods} pods: {heard}");
        }
        let deaf = most(4, ALLOWANCE, &[], Duration::ZERO);
        assert!(deaf > 2_000, "each has all of it to itself: {deaf}");
        let told = most(4, Allowance { pods: 4, ..ALLOWANCE }, &[(0, 1)], Duration::ZERO);
        assert!((540..=600).contains(&told), "fewer are heard of than the settings name: {told}");
    }

    #[test]
    fn share_is_smaller_from_the_moment_on_in_which_more_pods_are_heard_of() {
        let later = most(4, ALLOWANCE, &[(0, 1), (400, 4)], 400 * SECOND);
        assert!(later <= 600, "{later} in a window after it");
    }

    #[test]
    fn fewer_than_a_request_for_each_pod_is_still_a_quota() {
        let few = Allowance { requests: 20.0, ..ALLOWANCE };
        let most = most(40, few, &[(0, 40)], Duration::ZERO);
        assert!(most <= 80, "no more than about two for each: {most}");
    }
}
