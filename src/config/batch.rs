//! The settings of batches: several orders in one request.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether GETs, and PATCHes, of different orders are sent together as one `$batch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// `off`: every request by itself. `on`: GETs of different orders go together, and PATCHes, as
    /// multipart/mixed, without change sets.
    ///
    /// Most services answer single requests in parallel faster. Batches pay where a quota of requests is
    /// what limits, and the service counts a batch as one.
    pub mode: BatchMode,
    /// Most requests in a batch; no more come together than `dispatch.concurrency_max`.
    ///
    /// Business Central takes 100, Dataverse 1000, Finance & Operations 5000. The service carries them out
    /// one after the other, so a batch takes as long as all of them, and must be done within
    /// `target.get_timeout` or `target.patch_timeout`.
    #[schemars(range(min = 2, max = 1000))]
    pub operations_max: usize,
    /// Most requests on the wire at the same time: batches, and what goes by itself.
    ///
    /// `dispatch.concurrency_max` bounds the updates at work, of which each waits in one of these. With as
    /// many as `operations_max` times this, every batch can be full.
    #[schemars(range(min = 1, max = 4096))]
    pub requests_max: usize,
    /// How long a request waits for others to go with. One that nobody joined goes by itself.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "0s", "x-maximum" = "10s"))]
    pub wait: Duration,
    /// Largest batch that is sent, and largest answer to one that is read, in bytes.
    ///
    /// The answer to every request in it is bounded by `target.body_bytes_max` as well.
    #[schemars(range(min = 65_536, max = 67_108_864))]
    pub body_bytes_max: usize,
    /// How long requests go one by one after the service refused batches, or in smaller ones after it
    /// refused one for its size. Then it is tried again.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "1s", "x-maximum" = "24h"))]
    pub refused_for: Duration,
    /// What counts against `throttle.quota_requests`: `request`, a batch is one, whatever is in it;
    /// `operations`, everything in it is.
    ///
    /// By its documentation, Dataverse counts a batch as one request against its limit of 6000 in 5 minutes,
    /// but all of its time against the limit of time, and every operation against the daily entitlement.
    pub counts_as: BatchCounts,
}

/// Whether requests are gathered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename_all = "lowercase")]
pub enum BatchMode {
    /// Every request by itself.
    #[default]
    Off,
    /// Several in one.
    On,
}

/// What counts against a quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename_all = "lowercase")]
pub enum BatchCounts {
    /// The batch.
    #[default]
    Request,
    /// Everything in it.
    Operations,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            mode: BatchMode::Off,
            operations_max: 50,
            requests_max: 52,
            wait: Duration::from_millis(20),
            body_bytes_max: 16 * 1024 * 1024,
            refused_for: Duration::from_mins(10),
            counts_as: BatchCounts::Request,
        }
    }
}

impl Batch {
    /// What it can add to the time of one request.
    pub(super) fn wait_max(&self) -> Duration {
        match self.mode {
            BatchMode::Off => Duration::ZERO,
            BatchMode::On => self.wait,
        }
    }
}
