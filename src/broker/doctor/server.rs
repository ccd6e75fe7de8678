//! The server's version, who else consumes, and what our user may do.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::queues::timeout;
use super::{Diagnosis, Expected, Observed, Permission, Severity, unseen};

/// Dead letters at least once on quorum queues came with this.
const OLDEST: Version = (3, 10, 0);
/// The issue names these as affected; 4.2 and earlier have no timeout in the queue itself.
const DEADLOCK: std::ops::RangeInclusive<Version> = (4, 3, 0)..=(4, 3, 5);
/// From here on the ring is kept in the metadata store that survives a restart.
const KHEPRI: Version = (4, 3, 0);

pub(super) type Version = (u32, u32, u32);

/// Such as `4.3.0-rc.1`; what is missing counts as zero.
pub(super) fn parse(text: &str) -> Option<Version> {
    let plain = text.split(['-', '+']).next().unwrap_or_default();
    let mut parts = plain.split('.').map(str::parse);
    let mut part = || parts.next().unwrap_or(Ok(0)).ok();
    Some((part()?, part()?, part()?))
}

/// The broker's, if it was told and can be read.
pub(super) fn known(observed: &Observed) -> Option<Version> {
    parse(&observed.overview.as_ref().ok()?.rabbitmq_version)
}

pub(super) fn version(expected: &Expected<'_>, observed: &Observed) -> Vec<Diagnosis> {
    let text = match &observed.overview {
        Ok(overview) => &overview.rabbitmq_version,
        Err(why) => return vec![unseen("broker", "version", why)],
    };
    let about = ("broker", "version");
    let Some(version) = parse(text) else {
        let what = format!("{text:?} is no version that we can read");
        return vec![Diagnosis::new(Severity::Warn, "version", about, what, "")];
    };
    let mut findings = Vec::new();
    if version < OLDEST {
        let what = format!("{text} cannot dead-letter at least once from a quorum queue");
        let fix = "upgrade to 3.10 at least";
        findings.push(Diagnosis::new(Severity::Refuse, "version", about, what, fix));
    }
    if DEADLOCK.contains(&version) {
        let what = format!(
            "with {text} a queue with a single active consumer can stand still for good once its \
             consumers have run into the consumer timeout (rabbitmq-server#17317); nothing is lost"
        );
        let fix = "upgrade to 4.3.6";
        findings.push(Diagnosis::new(Severity::Warn, "version", about, what, fix));
    }
    if expected.topology.generation().shards > 1 && version < KHEPRI && !has_khepri(observed) {
        let what = format!(
            "{text} without Khepri may scramble the hash ring when it restarts (measured on 3.10.8 \
             and 4.0.5): then messages take one hop more, and over a backlog an order's updates can \
             change places"
        );
        let fix = "run `orderwright topology reshard --shards N --new-ring` after a restart, \
                   or upgrade to 4.3, or set topology.shards = 1";
        findings.push(Diagnosis::new(Severity::Warn, "version", about, what, fix));
    }
    findings
}

fn has_khepri(observed: &Observed) -> bool {
    let features = observed.features.as_deref().unwrap_or_default();
    features.iter().any(|it| it.name == "khepri_db" && it.state == "enabled")
}

/// A warning only: the list lags behind, and shows consumers for some time after they have gone.
pub(super) fn consumers(expected: &Expected<'_>, observed: &Observed) -> Vec<Diagnosis> {
    let seen = match &observed.consumers {
        Ok(seen) => seen,
        Err(why) => return vec![unseen("consumer", "all", why)],
    };
    let connections = observed.connections.as_deref().unwrap_or_default();
    let names: BTreeMap<&str, &str> = connections
        .iter()
        .map(|it| (it.name.as_str(), it.user_provided_name.as_deref().unwrap_or_default()))
        .collect();
    let shards: BTreeSet<String> = expected.topology.shard_queues().collect();
    let mut findings = Vec::new();
    for consumer in seen.iter().filter(|it| shards.contains(&it.queue.name)) {
        let channel = &consumer.channel_details;
        let foreign = match names.get(channel.connection_name.as_str()) {
            Some(name) => !name.starts_with("orderwright "),
            // Not shown to us: then the user must do.
            None => !channel.user.is_empty() && channel.user != expected.user,
        };
        let about = ("queue", consumer.queue.name.as_str());
        if foreign {
            let what = format!(
                "consumed by somebody else: user {:?}, connection {:?}. What it takes is not applied",
                channel.user, channel.connection_name
            );
            let fix = "stop that consumer";
            findings.push(Diagnosis::new(Severity::Warn, "foreign_consumer", about, what, fix));
        } else if let Some(milliseconds) = consumer.timeout.as_u64() {
            let wanted = expected.consumer_timeout;
            findings.extend(timeout(about, "as its consumer shows", milliseconds, wanted));
        }
    }
    findings
}

pub(super) fn permissions(expected: &Expected<'_>, observed: &Observed) -> Vec<Diagnosis> {
    let seen = match &observed.permissions {
        Ok(seen) => seen,
        Err(why) => return vec![unseen("permission", expected.user, why)],
    };
    let Some(granted) = seen.iter().find(|it| it.vhost == observed.vhost) else {
        // Granted by something else than the broker's own database: the AMQP connection stands.
        return Vec::new();
    };
    let Permission { configure, write, read, .. } = granted;
    let peers = if expected.balance { vec![expected.topology.peers()] } else { Vec::new() };
    [
        (Severity::Refuse, "configure", configure, to_configure(expected)),
        (Severity::Refuse, "write", write, to_write(expected)),
        (Severity::Refuse, "read", read, to_read(expected)),
        // Without hints between pods the first one holds all shards, and nothing worse.
        (Severity::Warn, "write", write, peers.clone()),
        (Severity::Warn, "read", read, peers),
    ]
    .into_iter()
    .filter_map(|(severity, verb, pattern, names)| {
        denied(severity, expected.user, (verb, pattern), &names)
    })
    .collect()
}

fn to_configure(expected: &Expected<'_>) -> Vec<String> {
    let topology = expected.topology;
    if !expected.declare {
        return Vec::new();
    }
    let exchanges = topology.exchanges().into_iter().map(|it| it.name);
    let queues = topology.queues().into_iter().map(|it| it.name);
    exchanges.chain(queues).chain([topology.lock()]).collect()
}

/// Dead letters and forwarded messages are published; what is declared is bound.
fn to_write(expected: &Expected<'_>) -> Vec<String> {
    let topology = expected.topology;
    let mut names = vec![topology.dead_letters(), topology.forward()];
    if expected.declare {
        names.extend(topology.bindings().into_iter().map(|it| it.destination));
    }
    names
}

fn to_read(expected: &Expected<'_>) -> Vec<String> {
    let topology = expected.topology;
    let mut names: Vec<_> = topology.shard_queues().collect();
    names.extend(topology.intake().map(|(name, _)| name.to_owned()));
    names.extend(topology.streams());
    if expected.declare {
        names.extend(topology.bindings().into_iter().map(|it| it.source));
    }
    names
}

/// Which of the names a pattern does not cover. The broker searches anywhere in the name; an empty
/// pattern grants nothing.
fn denied(
    severity: Severity,
    user: &str,
    (verb, pattern): (&str, &str),
    names: &[String],
) -> Option<Diagnosis> {
    let about = ("permission", user);
    let searched = if pattern.is_empty() { "^$" } else { pattern };
    let Ok(regex) = Regex::new(searched) else {
        let what = format!("to {verb} goes by {pattern:?}, which we cannot judge");
        return Some(Diagnosis::new(Severity::Warn, "permission", about, what, ""));
    };
    let denied: Vec<_> = names.iter().filter(|name| !regex.is_match(name)).collect();
    let first = denied.first()?;
    let others = match denied.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let what = format!("may not {verb} {first}{others}: the pattern is {pattern:?}");
    let fix = format!("`rabbitmqctl set_permissions` with a {verb} pattern that matches them");
    Some(Diagnosis::new(severity, "permission", about, what, fix))
}
