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

mod answers;
mod auth;
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
mod process;
mod profile;
mod retry;
mod secret;
mod suggestion;
mod target;
#[cfg(test)]
mod tests;
mod throttle;

pub use answers::Answers;
pub use auth::{Auth, AuthEndpoint, AuthKind};
pub use breaker::Breaker;
pub use broker::{Broker, Topology};
pub(crate) use guard::Transition;
pub use guard::{Guard, Superseded};
pub use load::{Loaded, Sources};
pub use mistake::{Errors, Mistake, Origin, Place};
pub use order::Order;
pub use process::{Balance, DeadLetter, Dispatch, Drain, Instance, Log, LogFormat, OnDeadLetter};
pub use profile::Profile;
pub use retry::{Retries, Retry};
pub use secret::SecretUrl;
pub use target::Target;
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
    /// The log, which goes to standard error.
    pub log: Log,
    /// Who this process says it is.
    pub instance: Instance,
}

impl Settings {
    /// The most attempts, each a GET and a PATCH, that the budgets allow one delivery.
    pub fn attempts_max(&self) -> u32 {
        let Retry { conflicts, failures, .. } = &self.retry;
        conflicts.retries_max.saturating_add(failures.retries_max).saturating_add(1)
    }

    /// The longest time that the requests and waits of one delivery can take.
    ///
    /// Every attempt the budgets allow runs into both deadlines, and every wait is as long as jitter
    /// can make it. Waits for a target that throttles or is down are not among them: where they grow too
    /// long, the shard is given back. Beyond half of
    /// `broker.consumer_timeout` this is refused: past the whole of it, the broker closes the
    /// channel under a delivery that is still being worked on.
    pub fn hold_max(&self) -> Duration {
        let Retry { conflicts, failures, jitter } = &self.retry;
        let requests = self.target.get_timeout.saturating_add(self.target.patch_timeout);
        // And the look at the target, and the last one at the order after a PATCH of unknown outcome.
        let looks = self.target.get_timeout.saturating_mul(2);
        let requests = requests.saturating_mul(self.attempts_max()).saturating_add(looks);
        let waits = conflicts.waits_total(*jitter).saturating_add(failures.waits_total(*jitter));
        let settle = self.dispatch.settle_window;
        requests.saturating_add(waits).saturating_add(settle)
    }

    /// The most bytes of message bodies that the broker can have handed to this process: `prefetch`
    /// deliveries on every shard, each as large as allowed.
    pub fn memory_max(&self) -> u64 {
        let deliveries = u64::from(self.broker.prefetch) * u64::from(self.topology.shards);
        let body = u64::try_from(self.order.body_bytes_max).unwrap_or(u64::MAX);
        deliveries.saturating_mul(body)
    }
}
