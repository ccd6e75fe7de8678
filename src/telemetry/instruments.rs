//! Every instrument, as one table. `docs/TELEMETRY.md` is held against it.
//!
//! Names follow the semantic conventions of OpenTelemetry where they have one. An attribute takes few
//! values, all of them known here or told by the protocol: an order key is never one.

/// What an instrument measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Counts since the start.
    Counter,
    /// As it is at the moment.
    Gauge,
    /// How often it took how long.
    Histogram,
}

impl Kind {
    /// Its name in documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One instrument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instrument {
    /// Its name over OTLP. Prometheus gets it with underscores, its unit, and `_total` for a counter.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// In which unit; one in braces says only what is counted.
    pub unit: &'static str,
    /// What its values are told apart by.
    pub attributes: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

/// Names of attributes.
pub mod attribute {
    /// `rabbitmq`.
    pub const SYSTEM: &str = "messaging.system";
    /// What is done with a message.
    pub const OPERATION: &str = "messaging.operation.name";
    /// `GET` or `PATCH`.
    pub const METHOD: &str = "http.request.method";
    /// HTTP status of an answer.
    pub const STATUS: &str = "http.response.status_code";
    /// Host of the service.
    pub const SERVER: &str = "server.address";
    /// Port of the service.
    pub const PORT: &str = "server.port";
    /// Why there was no success.
    pub const ERROR: &str = "error.type";
    /// What became of an update.
    pub const OUTCOME: &str = "outcome";
    /// Reason code of a dead letter.
    pub const REASON: &str = "reason";
    /// Which kind of trouble a dead letter is of.
    pub const FINGERPRINT: &str = "fingerprint";
    /// Number of a shard.
    pub const SHARD: &str = "shard";
    /// Whose doing it is.
    pub const CAUSE: &str = "cause";
    /// How a lease on a shard ended.
    pub const END: &str = "end";
    /// What is done for an order.
    pub const STATE: &str = "state";
    /// Version of this program.
    pub const VERSION: &str = "version";
}

use attribute as a;

const fn counter(name: &'static str, unit: &'static str, help: &'static str) -> Instrument {
    Instrument { name, kind: Kind::Counter, unit, attributes: &[], help }
}

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Instrument {
    Instrument { name, kind: Kind::Gauge, unit, attributes: &[], help }
}

const fn seconds(name: &'static str, help: &'static str) -> Instrument {
    Instrument { name, kind: Kind::Histogram, unit: "s", attributes: &[], help }
}

impl Instrument {
    const fn by(self, attributes: &'static [&'static str]) -> Self {
        Self { attributes, ..self }
    }
}

macro_rules! instruments {
    ($($(#[$meta:meta])* $name:ident = $value:expr;)*) => {
        $(
            /// See its help.
            pub const $name: Instrument = $value;
        )*
        /// All of them.
        pub const INSTRUMENTS: &[Instrument] = &[$($name),*];
    };
}

instruments! {
    CONSUMED = counter("messaging.client.consumed.messages", "{message}", "Deliveries, those that came again included.").by(&[a::SYSTEM, a::OPERATION]);
    PROCESS = seconds("messaging.process.duration", "Time from the beginning of work on an update to its settlement.").by(&[a::SYSTEM, a::OPERATION, a::OUTCOME]);
    REQUEST = seconds("http.client.request.duration", "Time of a GET or PATCH of an order, sign-in included.").by(&[a::METHOD, a::STATUS, a::ERROR, a::SERVER, a::PORT]);
    SETTLED = counter("orderwright.updates.settled", "{message}", "Updates that were acked, by what became of them.").by(&[a::OUTCOME]);
    DEAD_LETTERED = counter("orderwright.dead_letters", "{message}", "Dead letters that were confirmed and their messages acked.").by(&[a::REASON]);
    KINDS = counter("orderwright.dead_letters.by_fingerprint", "{message}", "The same by their fingerprint; beyond 100 different ones they count as other.").by(&[a::FINGERPRINT]);
    AGE = seconds("orderwright.update.age", "Time from the publisher's timestamp, in whole seconds, to the settlement.").by(&[a::OUTCOME]);
    HELD = seconds("orderwright.update.held", "Time from the arrival of a delivery to its settlement.").by(&[a::OUTCOME]);
    RELEASED = counter("orderwright.updates.released", "{message}", "Updates that were begun and given back to the broker.");
    LOST = counter("orderwright.settlements.lost", "{message}", "Updates that were finished and could not be settled: they come again.");
    FORWARDED = counter("orderwright.forwarded", "{message}", "Messages sent on to their order's own queue.");
    MISPLACED = counter("orderwright.misplaced", "{message}", "Deliveries in another shard queue than their order's own.").by(&[a::CAUSE]);
    ATTEMPTS = counter("orderwright.attempts", "{attempt}", "Attempts: a GET, with or without a PATCH.");
    RETRIES = counter("orderwright.retries", "{attempt}", "Attempts after the first of an update.");
    CONFLICTS = counter("orderwright.conflicts", "{attempt}", "Attempts that ended with a stale ETag.");
    OVERCOME = counter("orderwright.conflicts.overcome", "{message}", "Updates that met a conflict and were applied, or found applied.");
    FAILURES = counter("orderwright.failures", "{attempt}", "Attempts that ended with trouble that may pass.");
    THROTTLED = counter("orderwright.throttled", "{response}", "Answers that asked for less.");
    OUTAGES = counter("orderwright.outages", "{outage}", "Times that the service was taken for down.");
    ORDERS = gauge("orderwright.orders.busy", "{order}", "Orders that are worked on or wait, by what is done for them.").by(&[a::STATE]);
    MAILBOX_LONGEST = gauge("orderwright.mailbox.longest", "{message}", "Updates in the longest mailbox of an order.");
    MAILBOX_WAITING = gauge("orderwright.mailbox.waiting", "{message}", "Updates that wait behind another one of their order.");
    IN_FLIGHT = gauge("orderwright.attempts.in_flight", "{attempt}", "Attempts under way.");
    WAITING = gauge("orderwright.attempts.waiting", "{attempt}", "Attempts that wait until they may begin.");
    LIMIT = gauge("orderwright.attempts.limit", "{attempt}", "Attempts that may be under way at the same time.");
    SHUT = gauge("orderwright.throttle.shut", "s", "For how long nothing begins, because the service refused; 0 if it does not.");
    BREAKER = gauge("orderwright.breaker.open", "{breaker}", "1 while the service is taken for down.");
    TOKEN = gauge("orderwright.token.left", "s", "How long the token may still be used; nothing where it is never renewed.");
    CONNECTED = gauge("orderwright.broker.connected", "{connection}", "1 while there is a connection to the broker that is consumed from.");
    ALARM = gauge("orderwright.broker.alarm", "{alarm}", "1 while the broker takes no messages.");
    RECONNECTS = counter("orderwright.broker.reconnects", "{connection}", "Connections to consume from after the first.");
    SUBSCRIBED = gauge("orderwright.shards.subscribed", "{shard}", "Shards that this pod has subscribed to.");
    OWNED = gauge("orderwright.shards.owned", "{shard}", "Shards of this pod by its share; the broker decides who is active.");
    SHARD = gauge("orderwright.shard.subscribed", "{subscription}", "1 for each shard that this pod has subscribed to, 0 for each other one.").by(&[a::SHARD]);
    LEASES = counter("orderwright.leases.ended", "{lease}", "Subscriptions to shards that ended.").by(&[a::END]);
    WATCHDOG = counter("orderwright.watchdog.fired", "{shard}", "Shards that stood still and were subscribed to again.");
    PODS = gauge("orderwright.pods", "{pod}", "Pods that are heard of, this one included.");
    OLDEST = gauge("orderwright.update.oldest", "s", "Age, since its arrival here, of the oldest update that is not settled; 0 without one.");
    PARKED = gauge("orderwright.parked.orders", "{order}", "Orders that stand still behind a dead letter, as this pod has read of all pods.");
    PARKED_LETTERS = gauge("orderwright.parked.letters", "{message}", "Dead letters of those orders.");
    PARKED_OLDEST = gauge("orderwright.parked.oldest", "s", "For how long the first of them has stood still; 0 without one.");
    PARKED_LIMIT = gauge("orderwright.parked.limit", "{order}", "Orders that may stand still; 0 where dead letters park none.");
    SETTLE_WAITS = counter("orderwright.settle_window.waits", "{message}", "Updates that came again and waited for the settle window.");
    BUILD = gauge("orderwright.build", "{build}", "1, with the version of this program.").by(&[a::VERSION]);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_told_apart_and_nothing_is_told_apart_by_an_order() {
        let names: BTreeSet<_> = INSTRUMENTS.iter().map(|it| it.name).collect();
        assert_eq!(names.len(), INSTRUMENTS.len());
        for Instrument { name, attributes, .. } in INSTRUMENTS {
            let grows = |it: &&str| it.contains("order") || it.contains("key");
            assert!(!attributes.iter().any(grows), "{name} grows without end");
        }
    }
}
