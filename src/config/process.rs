//! The settings of the process itself: how much at once, how it ends, and what it says.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much is done at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dispatch {
    /// Updates that have a request on the wire at the same time, in this process.
    ///
    /// 52 is the limit of concurrent requests per user that Dataverse documents; beyond a service's
    /// limit come only answers of 429. With several pods, divide it by their number.
    #[schemars(range(min = 1, max = 4096))]
    pub concurrency_max: usize,
}

impl Default for Dispatch {
    fn default() -> Self {
        Self { concurrency_max: 52 }
    }
}

/// What happens to an update that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_field_names, reason = "limits end in max")]
pub struct DeadLetter {
    /// How often publishing a dead letter is tried again before the delivery is released.
    ///
    /// A released delivery stays with the broker and comes again: nothing is lost, but the shard
    /// starts over.
    #[schemars(range(min = 0, max = 100))]
    pub publish_retries_max: u32,
    /// Largest header that lists the attempts, in bytes. Attempts that do not fit are left out.
    ///
    /// All headers of a message must fit into one AMQP frame of 131064 bytes, or the broker closes
    /// the connection. With the bounds here and below, 49144 bytes are left for all others.
    #[schemars(range(min = 1024, max = 65_536))]
    pub attempts_bytes_max: usize,
    /// Largest header with the detail, such as the service's error text, in bytes. Cut beyond it.
    #[schemars(range(min = 64, max = 16_384))]
    pub detail_bytes_max: usize,
}

impl Default for DeadLetter {
    fn default() -> Self {
        Self { publish_retries_max: 5, attempts_bytes_max: 16_384, detail_bytes_max: 2_048 }
    }
}

/// The end of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// How long requests on the wire may take to finish after SIGTERM.
    ///
    /// Shorter than the pod's own grace period, which ends with SIGKILL: 30 s in Kubernetes unless
    /// set otherwise. What does not finish is delivered again.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "1s", "x-maximum" = "10m"))]
    pub grace: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { grace: Duration::from_secs(20) }
    }
}

/// The log, which goes to standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace` or `off`, also per module, as in
    /// `info,orderwright::broker=debug`.
    pub level: String,
    /// How a line looks: `json` for machines, `human` for people, `auto` for `human` on a terminal
    /// and `json` elsewhere.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people on a terminal, for machines elsewhere.
    Auto,
    /// One JSON object per line.
    Json,
    /// Coloured text.
    Human,
}

/// Who this process says it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Instance {
    /// Name of this process in logs, dead letters and the broker's list of connections: at most 64
    /// printable ASCII characters without spaces. Empty takes the host name.
    ///
    /// Must differ between pods, as their host names do.
    pub name: String,
}
