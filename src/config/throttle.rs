//! The settings of throttling: how a target that refuses is treated.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is waited for when the service answers 429, or 503 with `Retry-After`. Everything for the
/// service waits then, and no attempt is spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Throttle {
    /// Least that is waited on the service's word (`Retry-After`), whatever it says.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "10ms", "x-maximum" = "1m"))]
    pub told_wait_min: Duration,
    /// Most that is waited on the service's word. Then it is asked again.
    ///
    /// Up to a fifth is added to every wait, so that pods do not come back together.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "1s", "x-maximum" = "1h"))]
    pub told_wait_max: Duration,
    /// First wait after a 429 without `Retry-After`. Doubles as long as nothing is accepted.
    ///
    /// Finance & Operations that runs out of resources often says no time, and stays so for minutes.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "10ms", "x-maximum" = "10m"))]
    pub untold_wait_min: Duration,
    /// Longest wait after a 429 without `Retry-After`. At least `untold_wait_min`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "10ms", "x-maximum" = "1h"))]
    pub untold_wait_max: Duration,
    /// Requests that all pods together send in any `quota_window`; 0 is no limit.
    ///
    /// Dataverse allows 6000 in 5 minutes for a user on a web server. Every attempt is counted as two
    /// requests; where they are sent in batches, `target.batch.counts_as` says what counts. Leave some
    /// room: a pod that starts knows nothing of what was sent before it, and sign-in, looks at the
    /// service and what is repeated after a refused token are not counted.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub quota_requests: u32,
    /// The window of `quota_requests`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "1s", "x-maximum" = "24h"))]
    pub quota_window: Duration,
    /// Pods that share `quota_requests`, evenly: at least ten requests for each.
    ///
    /// If a pod hears of more by their hints, they share it; so it is never fewer than this, and a pod that
    /// has just started and heard of nobody takes no more than this share.
    #[schemars(range(min = 1, max = 1024))]
    pub quota_pods: u32,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            told_wait_min: Duration::from_secs(1),
            told_wait_max: Duration::from_mins(10),
            untold_wait_min: Duration::from_secs(10),
            untold_wait_max: Duration::from_mins(3),
            quota_requests: 0,
            quota_window: Duration::from_mins(5),
            quota_pods: 1,
        }
    }
}

impl Throttle {
    /// Requests of one pod in a window, if there is such a limit, and no more pods than these.
    pub(super) fn quota_share(&self) -> Option<f64> {
        let share = f64::from(self.quota_requests) / f64::from(self.quota_pods.max(1));
        (self.quota_requests > 0).then_some(share)
    }
}
