//! The settings of the breaker: when the target is taken for down.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When the service is taken for down. Everything for it waits then, nothing is dead-lettered for a
/// failure, and no attempt is spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// Different orders that must have failed since the last sign of life: an answer that shows that the
    /// service works on orders, be it a refusal.
    ///
    /// One bad order is no outage, however often it fails. As many orders that are bad by themselves, with
    /// nothing else going on, are taken for one.
    #[schemars(range(min = 2, max = 100))]
    pub orders_min: usize,
    /// How long there must have been no sign of life, unless an update has no retry left.
    ///
    /// So that a handful of requests that fail at the same moment stop nobody.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "0s", "x-maximum" = "1m"))]
    pub silence_min: Duration,
    /// How often one update is let through to find out whether the service works again.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "10ms", "x-maximum" = "10m"))]
    pub probe_interval: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        let (silence_min, probe_interval) = (Duration::from_secs(1), Duration::from_secs(5));
        Self { orders_min: 3, silence_min, probe_interval }
    }
}
