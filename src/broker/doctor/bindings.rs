//! Bindings: those that are missing, and those that lead a message twice or astray.

use std::collections::BTreeSet;

use super::{Binding, Diagnosis, Expected, Observed, Severity, unseen};
use crate::broker::{self, Kind};

const RESHARD: &str = "unbind it, then run `orderwright topology reshard --shards N --new-ring`: it \
                       makes a ring in order";

type Ends = (String, String, String, String);

pub(super) fn bindings(expected: &Expected<'_>, observed: &Observed) -> Vec<Diagnosis> {
    let seen = match &observed.bindings {
        Ok(seen) => seen,
        Err(why) => return vec![unseen("binding", "all", why)],
    };
    let wanted = expected.topology.bindings();
    let has: BTreeSet<Ends> = seen.iter().map(ends).collect();
    let wants: BTreeSet<Ends> = wanted.iter().map(wanted_ends).collect();
    let topology = expected.topology;
    // Whoever reshards moves these two.
    let moving = |it: &broker::Binding| *it == topology.entry() || *it == topology.catch();
    let missing = wanted
        .iter()
        .filter(|it| !(has.contains(&wanted_ends(it)) || expected.resharding && moving(it)));
    let look = Look::new(expected, seen);
    let missing = missing.map(|binding| look.missing(binding));
    // Every queue is bound to the default exchange, whose name is empty.
    let extra = seen.iter().filter(|it| !it.source.is_empty() && !wants.contains(&ends(it)));
    missing.chain(extra.filter_map(|binding| look.extra(binding))).collect()
}

fn ends(it: &Binding) -> Ends {
    let Binding { source, destination, destination_type, routing_key } = it.clone();
    (source, destination, destination_type, routing_key)
}

fn wanted_ends(it: &broker::Binding) -> Ends {
    let kind = it.leads_to.name().to_owned();
    (it.source.clone(), it.destination.clone(), kind, it.routing_key.clone())
}

/// The names that a binding is judged by.
struct Look<'a> {
    expected: &'a Expected<'a>,
    seen: &'a [Binding],
    updates: String,
    forward: String,
    /// The exchanges that go by a ring.
    rings: BTreeSet<String>,
    shards: BTreeSet<String>,
    intake: BTreeSet<String>,
}

impl<'a> Look<'a> {
    fn new(expected: &'a Expected<'a>, seen: &'a [Binding]) -> Self {
        let topology = expected.topology;
        let ring = |it: broker::Exchange| (it.kind == Kind::ConsistentHash).then_some(it.name);
        Self {
            expected,
            seen,
            updates: topology.updates(),
            forward: topology.forward(),
            rings: topology.exchanges().into_iter().filter_map(ring).collect(),
            shards: topology.shard_queues().collect(),
            intake: topology.intake().map(|(name, _)| name.to_owned()).collect(),
        }
    }

    fn missing(&self, binding: &broker::Binding) -> Diagnosis {
        let name = text(&binding.source, &binding.destination);
        let finding = |severity, what: &str, fix: &str| {
            Diagnosis::new(severity, "binding_missing", ("binding", &name), what, fix)
        };
        let declare = "run `orderwright topology declare`";
        let topology = self.expected.topology;
        let caught = [topology.dead_letters(), topology.unroutable()].contains(&binding.source);
        let elsewhere =
            |it: &&Binding| it.source == binding.source && it.destination_type == "queue";
        if let Some(other) = self.seen.iter().find(elsewhere).filter(|_| caught) {
            let what = format!("missing, but queue {} is bound there", other.destination);
            return finding(Severity::Warn, &what, declare);
        }
        if self.rings.contains(&binding.source) {
            let fix = "run `orderwright topology declare`; it binds last, and the ring goes by the \
                       order of its bindings: unless this was the last one, run `orderwright \
                       topology reshard --shards N --new-ring` then";
            return finding(Severity::Refuse, "missing: this shard gets nothing by itself", fix);
        }
        finding(Severity::Refuse, "missing: messages go nowhere", declare)
    }

    fn extra(&self, binding: &Binding) -> Option<Diagnosis> {
        let name = text(&binding.source, &binding.destination);
        let finding = |severity, state, what: &str, fix: &str| {
            Some(Diagnosis::new(severity, state, ("binding", &name), what, fix))
        };
        let (to, is_queue) = (&binding.destination, binding.destination_type == "queue");
        let is_ours = self.expected.topology.is_of_a_generation(to) || self.intake.contains(to);
        if binding.source == self.updates || binding.source == self.forward {
            if is_ours && self.expected.resharding {
                return None;
            }
            if is_ours {
                let what = "leads messages to our queues a second time: each is applied twice, or \
                            waits where nobody consumes";
                return finding(Severity::Refuse, "doubles", what, "remove this binding");
            }
            let what = "somebody else gets a copy of every message; if that queue is full and \
                        rejects, publishers are refused";
            return finding(Severity::Warn, "copied", what, "remove it if it is not wanted");
        }
        if self.rings.contains(&binding.source) {
            if is_queue && self.shards.contains(to) {
                let what = "a second place on the ring: orders go to other queues than their own \
                            first, and are forwarded";
                return finding(Severity::Warn, "ring", what, RESHARD);
            }
            let what = "leads part of the orders to where nobody consumes";
            return finding(Severity::Refuse, "led_away", what, RESHARD);
        }
        let inside = (is_queue && self.shards.contains(to))
            || (!is_queue && (self.rings.contains(to) || *to == self.forward));
        if inside {
            let what = "somebody else's way past the entry: what comes here as well as by the entry is \
                        applied twice";
            let fix = format!("bind exchange {} instead", self.updates);
            return finding(Severity::Warn, "past_the_entry", what, &fix);
        }
        None
    }
}

fn text(source: &str, destination: &str) -> String {
    format!("{source} -> {destination}")
}
