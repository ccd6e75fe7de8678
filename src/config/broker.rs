//! The settings of the broker's side: the connection, and what is declared over it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::list;
use super::secret::SecretUrl;

/// The connection to RabbitMQ.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Broker {
    /// The broker's address: `amqp://user:password@host:port/vhost`, or `amqps://` for TLS.
    ///
    /// User, password and virtual host are percent-encoded, so the virtual host named `/` is
    /// written `%2f`. Without a user it is `guest`. `heartbeat` and `connect_timeout` are
    /// keys of their own and not taken from the address.
    #[schemars(with = "String", extend("writeOnly" = true, "format" = "uri"))]
    #[schemars(extend("default" = SecretUrl::DEFAULT))]
    pub url: SecretUrl,
    /// The broker's management API, such as `http://rabbit:15672`: where `topology check`, and each
    /// start, look at policies, bindings, consumers, permissions and the version. Without, they do not.
    ///
    /// Its user needs the tag `monitoring` and a permission on the virtual host; with
    /// `administrator`, permissions are looked at as well. Without a user in it, those of `url`
    /// are taken. Nothing is changed over it, and a start goes on when it does not answer.
    #[schemars(with = "Option<String>", extend("writeOnly" = true, "format" = "uri"))]
    pub management_url: Option<SecretUrl>,
    /// Interval between heartbeats, in whole seconds, because AMQP counts it so.
    ///
    /// A lost connection is noticed after twice this. Shorter aborts work on a busy network; longer
    /// leaves a shard without a worker for longer.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "5s", "x-maximum" = "60s"))]
    pub heartbeat: Duration,
    /// How long one attempt to connect may take, from the name lookup to the opened virtual host;
    /// and how long the broker may take to answer when a channel is opened or closed.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "100ms", "x-maximum" = "2m"))]
    pub connect_timeout: Duration,
    /// How long the first connection may take, over all attempts and the waits between them, before
    /// the process exits with 69. No attempt is begun that would come later; one that was begun may
    /// take its `connect_timeout`. The check of the broker's objects may then take as long again.
    ///
    /// Long enough for a broker that starts beside us; not for ever, so that a wrong address is
    /// seen as a failed start instead of a quiet pod.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "100ms", "x-maximum" = "1h"))]
    pub start_timeout: Duration,
    /// First wait before a lost connection is opened again. Doubles with each failed attempt.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "10ms", "x-maximum" = "1m"))]
    pub reconnect_wait_min: Duration,
    /// Longest wait between two attempts to connect. At least `reconnect_wait_min`.
    ///
    /// Bounds how late a recovered broker is noticed.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "10ms", "x-maximum" = "10m"))]
    pub reconnect_wait_max: Duration,
    /// How long the broker may take to confirm a message we published: a dead letter or a forward.
    ///
    /// After this the outcome is unknown, and the message may be published twice. A quorum queue
    /// that elects a leader answers within seconds, so shorter makes duplicates of every election.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "1s", "x-maximum" = "5m"))]
    pub publish_timeout: Duration,
    /// Deliveries that the broker hands out per shard before it waits for an ack.
    ///
    /// Bodies in memory are bounded by this times the number of shards times `order.body_bytes_max`.
    /// Must be equal on all pods: when a pod dies, and then one with a smaller prefetch that took over,
    /// what comes back is out of order. Pods that differ say so in their logs, once.
    #[schemars(range(min = 1, max = 1024))]
    pub prefetch: u16,
    /// The broker's own `consumer_timeout`: how long it leaves a delivery without an ack.
    ///
    /// This does not set it, it tells us: the longest hold of one delivery must stay below half of
    /// it. The default is the broker's own. Tell the smallest one if a policy differs per queue.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "1m", "x-maximum" = "24h"))]
    pub consumer_timeout: Duration,
    /// Outcome notices, for publishers who set `reply_to`, that wait to be sent. 0 sends none.
    ///
    /// No update waits for its notice: beyond this they are dropped and counted. Each takes about a
    /// kilobyte.
    #[schemars(range(min = 0, max = 65_536))]
    pub notices_max: usize,
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            url: SecretUrl::default(),
            management_url: None,
            heartbeat: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            start_timeout: Duration::from_mins(1),
            reconnect_wait_min: Duration::from_millis(500),
            reconnect_wait_max: Duration::from_secs(30),
            publish_timeout: Duration::from_secs(15),
            prefetch: 32,
            consumer_timeout: Duration::from_mins(30),
            notices_max: 1_024,
        }
    }
}

/// The exchanges and queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Topology {
    /// First part of the name of every exchange and queue: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    ///
    /// Two installations on one virtual host need two prefixes. Another prefix is another set of
    /// queues: what waits in the old ones stays there. Must be equal on all pods.
    pub prefix: String,
    /// Shard queues at the first start. One pod works on a shard at a time, so this is also the most
    /// pods of use.
    ///
    /// The broker remembers it, and from then on only `orderwright topology reshard` changes it: a
    /// value that differs later is told and not used.
    #[schemars(range(min = 1, max = 1024))]
    pub shards: u16,
    /// Queues of somebody else's that updates are taken from as well, such as one that upstream
    /// cannot change. Each message is checked and forwarded to its order's shard.
    ///
    /// The order of the messages of such a queue is kept, which takes one pod at a time: the queue must
    /// have a single active consumer. Where the broker shows that it has none, no pod starts.
    #[serde(deserialize_with = "list::text")]
    #[schemars(length(max = 32))]
    pub intake: Vec<String>,
    /// The same, for queues that any number of pods takes from at the same time: updates of an order
    /// that wait there together may change places.
    ///
    /// For messages whose order does not matter, because they carry a `sequence` or change different
    /// properties, and for queues that cannot have a single active consumer. None of `intake`.
    #[serde(deserialize_with = "list::text")]
    #[schemars(length(max = 32))]
    pub intake_unordered: Vec<String>,
    /// Whether the exchanges and queues are declared at start.
    ///
    /// `false` where the broker's operators declare them; a missing one then fails the start.
    pub declare: bool,
    /// How often a running daemon looks whether the broker's objects are still as they should be.
    ///
    /// As a start does: over AMQP, and what that does not show, such as bindings, over
    /// `broker.management_url`. Each look takes a connection of its own and some requests, of every pod.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "1s", "x-maximum" = "1day"))]
    pub check_interval: Duration,
    /// How often the broker delivers one message before it dead-letters it by itself.
    ///
    /// The net for a message that kills its worker. Everything prefetched counts when its pod dies,
    /// started or not, hence the lower bound: a few crashes must not dead-letter what only waited.
    #[schemars(range(min = Self::DELIVERY_LIMIT_MIN, max = 100_000))]
    pub delivery_limit: u32,
    /// How long the journal of what operators did with dead letters is kept.
    ///
    /// Counts when the stream is declared: another value needs it deleted and declared anew.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "1day", "x-maximum" = "100years"))]
    pub journal_age_max: Duration,
    /// How many bytes of the journal are kept. An event takes about 300.
    ///
    /// As above: counts when the stream is declared.
    #[schemars(range(min = 8_000_000, max = 1_000_000_000_000_u64))]
    pub journal_bytes_max: u64,
}

impl Topology {
    /// The least `delivery_limit`: below it a few crashes dead-letter what only waited.
    pub const DELIVERY_LIMIT_MIN: u32 = 20;
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            prefix: "orderwright".to_owned(),
            shards: 64,
            intake: Vec::new(),
            intake_unordered: Vec::new(),
            declare: true,
            check_interval: Duration::from_mins(5),
            delivery_limit: 100,
            // Ten years: an auditor's time, and little space.
            journal_age_max: Duration::from_hours(87_660),
            journal_bytes_max: 1_000_000_000,
        }
    }
}
