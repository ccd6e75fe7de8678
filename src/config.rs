//! Typed settings: where they come from, what they may be, and what is wrong with them.
//!
//! ```text
//! defaults ◀─ profile ◀─ TOML file ◀─ environment        later wins, key by key
//!     └──────────┴──────────┴────────────┴──▶ flat keys with origins ──▶ Settings ──▶ check ──▶ Loaded
//!                                        └────── mistakes ───────┴───────────┴─────▶ Errors
//! ```
//!
//! Every mistake is reported at once, each with its key, its origin and the rule, because a daemon
//! that reports one mistake per start takes as many deployments as there are mistakes. A bound is
//! written once, as an attribute of its field: the check, the reference page and the JSON schema
//! all read it there.
//!
//! Secrets ([`SecretUrl`], [`secrecy::SecretString`]) are masked in `Debug`, in `Serialize` and in
//! every message of this module. Unmasked they leave it only through their `expose` functions.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod admin;
mod answers;
mod auth;
mod batch;
mod bounded;
mod breaker;
mod broker;
pub(crate) mod catalogue;
mod check;
mod guard;
pub(crate) mod layer;
mod list;
mod load;
mod mistake;
mod order;
mod otlp;
mod process;
mod profile;
mod retry;
mod secret;
mod suggestion;
mod target;
#[cfg(test)]
mod tests;
mod throttle;

pub use admin::{Actions, Admin};
pub use answers::Answers;
pub use auth::{Auth, AuthEndpoint, AuthKind};
pub use batch::{Batch, BatchCounts, BatchMode};
pub use breaker::Breaker;
pub use broker::{Broker, Topology};
pub(crate) use check::level as mistake_in_level;
pub(crate) use guard::Transition;
pub use guard::{Guard, Superseded};
pub use load::{Loaded, Sources};
pub use mistake::{Errors, Mistake, Origin, Place};
pub use order::Order;
pub use otlp::Otlp;
pub use process::{
    Balance, Coalesce, DeadLetter, Dispatch, Drain, Instance, Log, LogFormat, OnDeadLetter,
};
pub use profile::Profile;
pub use retry::{NotFound, Retries, Retry};
pub use secret::SecretUrl;
pub use target::{HttpVersion, Target};
pub use throttle::Throttle;

/// All settings of the daemon. The defaults are valid as they are: a broker and a simulator on
/// this machine.
///
/// `Serialize` masks the secrets, so what it writes is for people and cannot be loaded back.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The connection to RabbitMQ.
    pub broker: Broker,
    /// The exchanges and queues.
    pub topology: Topology,
    /// What an order update may look like, and what names an order.
    pub order: Order,
    /// The OData service that the updates are applied to.
    pub target: Target,
    /// What is looked at on the fetched order before every write.
    pub guard: Guard,
    /// How often, and after which wait, an update is tried again before it is dead-lettered.
    pub retry: Retry,
    /// What is waited for when the service answers 429, or 503 with `Retry-After`.
    pub throttle: Throttle,
    /// When the service is taken for down.
    pub breaker: Breaker,
    /// Parts of the service's error texts that decide what an answer means.
    pub answers: Answers,
    /// How much is done at once.
    pub dispatch: Dispatch,
    /// How shards find their way to pods.
    pub balance: Balance,
    /// What happens to an update that cannot be applied.
    pub dead_letter: DeadLetter,
    /// The end of the process.
    pub drain: Drain,
    /// The listener for probes, metrics and people: `/livez`, `/readyz`, `/startupz`, `/metrics`, `/status`,
    /// and a page at `/`.
    pub admin: Admin,
    /// The log, which goes to standard error.
    pub log: Log,
    /// Traces and metrics for a collector, by OTLP over HTTP in binary form. Headers, such as a key, are
    /// taken from OpenTelemetry's own variable `OTEL_EXPORTER_OTLP_HEADERS`.
    pub otlp: Otlp,
    /// Who this process says it is.
    pub instance: Instance,
}

/// Most bytes of message bodies that the settings may allow at once: 4 GiB, the size of a generous
/// pod. More is a slip of a digit.
const MEMORY_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

impl Settings {
    /// The most attempts, each a GET and a PATCH, that the budgets allow one delivery.
    pub fn attempts_max(&self) -> u32 {
        let Retry { conflicts, failures, not_found, .. } = &self.retry;
        let retries = [conflicts.retries_max, failures.retries_max, not_found.retries_max];
        retries.into_iter().fold(1, u32::saturating_add)
    }

    /// The longest time that the requests and waits of one delivery can take.
    ///
    /// Every attempt the budgets allow runs into both deadlines, and every wait is as long as jitter
    /// can make it. Waits for a target that throttles or is down are not among them, nor those for a quota,
    /// in line or in a batch's queue: nothing is on the wire then, and where they grow too long, they end and
    /// the shard is given back. Beyond half of
    /// `broker.consumer_timeout` this is refused: past the whole of it, the broker closes the
    /// channel under a delivery that is still being worked on.
    pub fn hold_max(&self) -> Duration {
        let Retry { conflicts, failures, not_found, jitter } = &self.retry;
        let requests = self.target.get_timeout.saturating_add(self.target.patch_timeout);
        let company = self.target.batch.wait_max().saturating_mul(2);
        let requests = requests.saturating_add(company);
        // And the look at the target, and the last one at the order after a PATCH of unknown outcome.
        let looks = self.target.get_timeout.saturating_mul(2);
        let requests = requests.saturating_mul(self.attempts_max()).saturating_add(looks);
        let retries = [conflicts, failures, &not_found.retries()];
        let waits = retries.map(|retries| retries.waits_total(*jitter));
        let waits = waits.into_iter().fold(Duration::ZERO, Duration::saturating_add);
        let settle = self.dispatch.settle_window;
        requests.saturating_add(waits).saturating_add(settle)
    }

    /// The most bytes of message bodies that the broker can have handed to this process at its first
    /// start: `prefetch` deliveries of every shard and every queue that is taken from besides, each as
    /// large as allowed.
    pub fn memory_max(&self) -> u64 {
        let queues = u64::from(self.topology.shards).saturating_add(self.intake());
        queues.saturating_mul(self.queue_memory_max())
    }

    /// The most shards, of two generations together, for which such bodies stay below 4 GiB. The broker
    /// may have other shards than these settings, and two generations of them for a while.
    pub fn shards_max(&self) -> u16 {
        let queues = MEMORY_BYTES_MAX.checked_div(self.queue_memory_max()).unwrap_or(u64::MAX);
        u16::try_from(queues.saturating_sub(self.intake())).unwrap_or(u16::MAX)
    }

    fn intake(&self) -> u64 {
        let Topology { intake, intake_unordered, .. } = &self.topology;
        u64::try_from(intake.len() + intake_unordered.len()).unwrap_or(u64::MAX)
    }

    fn queue_memory_max(&self) -> u64 {
        let body = u64::try_from(self.order.body_bytes_max).unwrap_or(u64::MAX);
        u64::from(self.broker.prefetch).saturating_mul(body)
    }
}
