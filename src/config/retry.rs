//! The settings of a retry: how often, and after which wait.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How often, and after which wait, an update is tried again before it is dead-lettered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// How much each wait varies: it is multiplied by a number between 1 - jitter and 1 + jitter.
    ///
    /// Orders that failed together are so spread over time. 0 takes every wait as it is, for tests;
    /// beyond 0.5 the doubling of the waits would be lost in the noise.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub jitter: f64,
    /// After a conflict: the order changed between our GET and our PATCH.
    pub conflicts: Retries,
    /// After a failure: a server error, a timeout or a broken connection.
    pub failures: Retries,
    /// After a 404 to a GET: the order may be new, and not be visible yet. Off by default: an order that
    /// does not exist is dead-lettered at once.
    pub not_found: NotFound,
}

impl Default for Retry {
    fn default() -> Self {
        let (conflicts, failures) = (Retries::default(), Retries::default());
        Self { jitter: 0.2, conflicts, failures, not_found: NotFound::default() }
    }
}

/// How often an order is looked for that the service does not find. Each wait holds up the next updates
/// of its order, and no others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotFound {
    /// Retries before the update is dead-lettered; 0 dead-letters it at once.
    #[schemars(range(min = 0, max = 20))]
    pub retries_max: u32,
    /// First wait. Doubles with each retry, up to `wait_max`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "1ms", "x-maximum" = "10m"))]
    pub wait_min: Duration,
    /// Longest single wait, before jitter. At least `wait_min`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "1ms", "x-maximum" = "10m"))]
    pub wait_max: Duration,
}

impl Default for NotFound {
    fn default() -> Self {
        Self { retries_max: 0, wait_min: Duration::from_secs(1), wait_max: Duration::from_secs(4) }
    }
}

impl NotFound {
    /// The same as any other budget.
    pub fn retries(&self) -> Retries {
        let Self { retries_max, wait_min, wait_max } = *self;
        Retries { retries_max, wait_min, wait_max }
    }
}

/// The budget for one kind of setback. Conflicts and failures are counted apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_field_names, reason = "a limit says what it limits: retries_max")]
pub struct Retries {
    /// Retries before the update is dead-lettered; 0 dead-letters at the first setback.
    #[schemars(range(min = 0, max = 20))]
    pub retries_max: u32,
    /// First wait. Doubles with each retry, up to `wait_max`: 1 s, 2 s, 4 s by default.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "1ms", "x-maximum" = "10m"))]
    pub wait_min: Duration,
    /// Longest single wait, before jitter. At least `wait_min`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "1ms", "x-maximum" = "10m"))]
    pub wait_max: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { retries_max: 3, wait_min: Duration::from_secs(1), wait_max: Duration::from_secs(4) }
    }
}

impl Retries {
    /// All waits together, each as long as jitter can make it.
    pub fn waits_total(&self, jitter: f64) -> Duration {
        let (mut wait, mut total, mut left) = (self.wait_min, Duration::ZERO, self.retries_max);
        while left > 0 && !wait.is_zero() && wait < self.wait_max {
            total = total.saturating_add(wait);
            wait = wait.saturating_mul(2);
            left -= 1;
        }
        total = total.saturating_add(wait.min(self.wait_max).saturating_mul(left));
        Duration::try_from_secs_f64(total.as_secs_f64() * (1.0 + jitter)).unwrap_or(Duration::MAX)
    }
}
