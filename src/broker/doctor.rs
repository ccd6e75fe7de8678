//! What is wrong with the broker's objects, and how to mend it. Pure: what was seen goes in, sentences
//! come out.
//!
//! ```text
//! Topology (what should be) ─┐
//! settings that the broker   ├─▶ diagnose ─▶ Diagnosis { severity, what, fix } …
//!   must agree with ─────────┤
//! Observed (what is) ────────┘
//! ```
//!
//! Over AMQP a queue's arguments can be compared, but not its policies, and bindings cannot be seen
//! at all. A policy can drop what waits, and a second binding can double every message, while all
//! that AMQP shows is as it should be.

mod bindings;
mod intake;
mod observed;
mod queues;
mod server;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Serialize;

use super::Topology;
pub(super) use intake::returns_max;
pub use intake::{MANY, MANY_FIX, NOT_SINGLE_ACTIVE};
pub use observed::{
    Binding, Connection, Consumer, Exchange, Feature, Observed, Overview, Part, Permission, Queue,
    Unseen,
};

/// The words for what kind of finding it is, for scripts. They never change their meaning.
pub const STATES: [(&str, &str); 36] = [
    ("fine", "Looked at, and as it should be."),
    ("missing", "Not there."),
    ("drifted", "There, with another type or other arguments: the broker says so over AMQP."),
    ("unverified", "There; its shape could be compared neither over AMQP nor otherwise."),
    ("denied", "Our user may not look at it, or not declare it."),
    ("no_plugin", "The broker does not know the exchange type."),
    (
        "not_configured",
        "No more was looked at than AMQP shows: `broker.management_url` is not set.",
    ),
    ("unreachable", "The management API does not answer."),
    ("not_looked_at", "The management API does not show this part to its user."),
    ("unlisted", "The management API does not know the object: perhaps another broker's."),
    ("policies_unseen", "The broker has not told yet which policies apply to the queue."),
    ("not_quorum", "A shard queue or a queue of dead letters is no quorum queue."),
    ("not_a_stream", "The queue that tells of the generations is no stream."),
    ("not_single_active", "A shard queue without a single active consumer."),
    ("not_dead_lettered", "Another dead-letter exchange or strategy than ours, or none."),
    ("overflow", "A shard queue that would drop instead of refusing."),
    ("no_delivery_limit", "A queue without a delivery limit of its own."),
    ("delivery_limit", "Another delivery limit is in force than ours; below 20 it is refused."),
    ("loses_messages", "A length, an age or an expiry by which what waits is lost or skipped."),
    ("bounded", "A length at which publishers are refused."),
    ("delayed_retry", "Messages that come back are held aside, and later ones overtake them."),
    (
        "consumer_timeout",
        "The broker's consumer timeout is shorter than `broker.consumer_timeout`.",
    ),
    ("other_type", "An exchange of another type than ours."),
    ("not_caught", "An exchange without our alternate exchange."),
    ("binding_missing", "A binding of ours is missing."),
    ("doubles", "A second way by which every message reaches our queues once more."),
    ("copied", "Somebody else gets a copy of every message."),
    ("led_away", "Part of the orders goes to a queue that nobody here consumes."),
    ("ring", "A shard queue stands on the hash ring twice."),
    ("past_the_entry", "Somebody else's binding into a shard queue."),
    ("intake_missing", "A queue of somebody else's that is taken from is not there."),
    ("intake_not_single_active", "A queue of `topology.intake` has no single active consumer."),
    (
        "intake_delivery_limit",
        "A queue that is taken from gives a message up after so many vain attempts to forward it.",
    ),
    ("foreign_consumer", "Somebody else consumes a shard queue."),
    ("permission", "Our user lacks a permission, or its pattern cannot be judged."),
    ("version", "A broker's version with a known fault, or one that we cannot read."),
];

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Looked at, and as it should be.
    Fine,
    /// No message is lost, doubled or worked on twice over it; or we cannot be sure of it.
    Warn,
    /// Messages would be lost, doubled, stuck or worked on twice: no start with this.
    Refuse,
}

/// One finding, of one object or of several alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of finding it is: a word that never changes, for scripts.
    pub state: &'static str,
    /// What kind of object it is of.
    pub object: &'static str,
    /// The objects of this kind. At least one.
    pub names: Vec<String>,
    /// What was found, as the end of a sentence that begins with the object.
    pub what: String,
    /// What to do. Empty where nothing is to be done.
    pub fix: String,
}

impl Diagnosis {
    fn new(
        severity: Severity,
        state: &'static str,
        (object, name): (&'static str, &str),
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let (names, what, fix) = (vec![name.to_owned()], what.into(), fix.into());
        Self { severity, state, object, names, what, fix }
    }

    /// The objects, shortened where they are many.
    pub fn subject(&self) -> String {
        match self.names.as_slice() {
            [] => self.object.to_owned(),
            [name] => format!("{} {name}", self.object),
            [name, more @ ..] => format!("{} {name} and {} more", self.object, more.len()),
        }
    }
}

impl std::fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.subject(), self.what)?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, ": {}", self.fix) }
    }
}

/// What should be: the objects, and what the broker must agree with us on.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The objects.
    pub topology: &'a Topology,
    /// Whether another generation is bound, or was, by a reshard that is not finished.
    pub resharding: bool,
    /// Whether we declare them ourselves, and so need the permission.
    pub declare: bool,
    /// Whether pods tell each other over the broker that they are there.
    pub balance: bool,
    /// The `broker.consumer_timeout` that our own waits are measured by.
    pub consumer_timeout: Duration,
    /// The user of the AMQP connection.
    pub user: &'a str,
}

/// Says what is wrong, the worst first, and of each part that is not, that it was looked at.
pub fn diagnose(expected: &Expected<'_>, observed: &Observed) -> Vec<Diagnosis> {
    let mut all = Vec::new();
    let parts = [
        (("broker", "version"), server::version(expected, observed)),
        (("queue", "all"), queues::queues(expected, observed)),
        (("exchange", "all"), queues::exchanges(expected, observed)),
        (("binding", "all"), bindings::bindings(expected, observed)),
        (("consumer", "all"), server::consumers(expected, observed)),
        (("permission", expected.user), server::permissions(expected, observed)),
    ];
    for (part, findings) in parts {
        if findings.is_empty() {
            all.push(Diagnosis::new(Severity::Fine, "fine", part, "as it should be", ""));
        }
        for finding in findings {
            add(&mut all, finding);
        }
    }
    // Stable: within a severity, the order of the parts.
    all.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    all
}

/// A thousand shards under one policy are one finding.
fn add(all: &mut Vec<Diagnosis>, finding: Diagnosis) {
    let alike = |other: &&mut Diagnosis| {
        (other.severity, other.state, other.object)
            == (finding.severity, finding.state, finding.object)
            && other.what == finding.what
            && other.fix == finding.fix
    };
    match all.iter_mut().find(alike) {
        Some(other) => other.names.extend(finding.names),
        None => all.push(finding),
    }
}

/// A part that could not be looked at.
fn unseen(object: &'static str, name: &str, why: &Unseen) -> Diagnosis {
    let what = format!("not looked at: {why}");
    let fix = "let broker.management_url name a user with the tag `monitoring` (for permissions \
               `administrator`) who may see this virtual host";
    Diagnosis::new(Severity::Warn, "not_looked_at", (object, name), what, fix)
}
