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
    /// How long a redelivered message waits before its order is touched: a request that its former
    /// owner sent just before it was lost may still be at work in the service.
    ///
    /// No wait where the former owner said that it had finished. For as long, but one second at least, a pod
    /// begins requests without having heard of the broker. The ETag guards the order in any
    /// case; this keeps two requests from being at work on one order. It should cover the time the
    /// service goes on with a request whose client is gone, and every second of it is added to the
    /// recovery of what was in flight at a crash. Fresh messages do not wait.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "0s", "x-maximum" = "2m"))]
    pub settle_window: Duration,
    /// Whether updates of one order that wait behind each other are written as one: `off`, or `merge`.
    ///
    /// With `merge` a hot order takes one PATCH for up to 256 of its waiting updates, wherever the order
    /// ends up as if they had been written one by one: later values win, and each message is settled by
    /// itself. An update goes by itself if it has an `expect`, is a replay, changes a property that
    /// `guard.transitions` names, writes an object or a list, or is out of sequence; and so do all of
    /// those whose common PATCH was refused. What the service does at each write, such as a log,
    /// a workflow or a rule of its own, it then does once for all of them.
    pub coalesce: Coalesce,
}

impl Default for Dispatch {
    fn default() -> Self {
        let settle_window = Duration::from_secs(5);
        Self { concurrency_max: 52, settle_window, coalesce: Coalesce::Off }
    }
}

/// What comes of updates of one order that wait behind each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Coalesce {
    /// Each is written by itself.
    Off,
    /// They are written as one, where that comes to the same.
    Merge,
}

/// How shards find their way to pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Balance {
    /// Whether pods tell each other that they are there, and share the shards evenly.
    ///
    /// Without, the pod that subscribed first holds all shards until it ends. One pod at a time works
    /// on a shard either way: that is the broker's doing.
    pub enabled: bool,
    /// How often a pod tells the others that it is there. One that is not heard of for four times
    /// this is forgotten; a change is acted on once it has stood for this long.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "100ms", "x-maximum" = "1m"))]
    pub interval: Duration,
    /// How long a queue of ours may have messages waiting, none at work and none delivered, before
    /// it is subscribed to again: a shard, or a queue of somebody else's that is taken from. Also where
    /// `enabled` is off; but a shard that was never served is then judged only if no pod is active on it.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "1s", "x-maximum" = "10m"))]
    pub watch_interval: Duration,
}

impl Default for Balance {
    fn default() -> Self {
        let (interval, watch_interval) = (Duration::from_secs(2), Duration::from_secs(30));
        Self { enabled: true, interval, watch_interval }
    }
}

/// What happens to an update that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_field_names, reason = "the key is read together with its values")]
pub struct DeadLetter {
    /// What comes of the later updates of an order once one of it was dead-lettered: `continue` works
    /// on them, `park` dead-letters them behind it, unbegun, with the code `parked_behind`, until an
    /// operator releases the order.
    ///
    /// `park` where an update makes sense only after the ones before it. It needs a stream of its own
    /// on the broker, which must be writable before anything is begun. Must be equal on all pods.
    pub on_dead_letter: OnDeadLetter,
    /// Most orders that stand still at once, where dead letters park.
    ///
    /// All of them are held in memory, by every pod. At the limit, an update that would park one more
    /// order is not dead-lettered: it stands in its queue with its order, and in the end with its
    /// shard, until there is room. It is given back every half of `broker.consumer_timeout`, and after
    /// `topology.delivery_limit` times the broker dead-letters it by itself: then later updates of its order
    /// do pass. With the defaults that is after a day.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub parked_orders_max: usize,
    /// How often publishing a dead letter is tried again before the delivery is released.
    ///
    /// A released delivery stays with the broker and comes again: nothing is lost, but the shard starts
    /// over, and everything that it holds counts as delivered once more. The waits grow to 30 seconds, so
    /// the default is about 13 minutes.
    #[schemars(range(min = 0, max = 100))]
    pub publish_retries_max: u32,
    /// Largest header that lists the attempts, in bytes. Attempts that do not fit are left out.
    ///
    /// All headers of a message must fit into one AMQP frame of 131064 bytes, or the broker closes
    /// the connection. 32768 bytes of it are for the headers that the message brought.
    #[schemars(range(min = 1024, max = 49_152))]
    pub attempts_bytes_max: usize,
    /// Largest header with the detail, such as the service's error text, in bytes. Cut beyond it.
    #[schemars(range(min = 64, max = 8_192))]
    pub detail_bytes_max: usize,
    /// How long a dead letter that was discarded can be restored. Then the broker deletes it.
    ///
    /// Counts for what is discarded from now on. The broker knows no longer time than 49 days.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "1m", "x-maximum" = "49d"))]
    pub archive_retention: Duration,
}

impl Default for DeadLetter {
    fn default() -> Self {
        Self {
            on_dead_letter: OnDeadLetter::Continue,
            parked_orders_max: 10_000,
            publish_retries_max: 30,
            attempts_bytes_max: 16_384,
            detail_bytes_max: 2_048,
            archive_retention: Duration::from_hours(30 * 24),
        }
    }
}

impl DeadLetter {
    /// Whether an order stands still behind its dead letter.
    #[must_use]
    pub fn parks(&self) -> bool {
        match self.on_dead_letter {
            OnDeadLetter::Continue => false,
            OnDeadLetter::Park => true,
        }
    }
}

/// What comes of the later updates of an order once one of it was dead-lettered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename_all = "snake_case")]
pub enum OnDeadLetter {
    /// They are worked on.
    #[default]
    Continue,
    /// They go to the dead-letter queue behind it.
    Park,
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
    /// `info,orderwright::broker=debug`. Commands other than `run` begin at `warn` unless this is given.
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
