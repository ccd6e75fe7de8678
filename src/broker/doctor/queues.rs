//! Queues and exchanges: what they are, and what arguments and policies make of them together.

use std::time::Duration;

use serde_json::{Map, Value};

use super::intake::intake;
use super::{Diagnosis, Exchange, Expected, Observed, Queue, Severity, server, unseen};
use crate::broker;
use crate::broker::topology::arguments;
use crate::config;

/// A queue or exchange cannot be changed in place.
const ANEW: &str = "this cannot be changed in place: choose another topology.prefix, or let it run \
                    empty, delete it and run `orderwright topology declare`";

pub(super) fn queues(expected: &Expected<'_>, observed: &Observed) -> Vec<Diagnosis> {
    let seen = match &observed.queues {
        Ok(seen) => seen,
        Err(why) => return vec![unseen("queue", "all", why)],
    };
    let mut findings = Vec::new();
    for wanted in expected.topology.queues() {
        let Some(queue) = seen.get(&wanted.name) else {
            findings.push(unlisted("queue", &wanted.name));
            continue;
        };
        let look = Look { queue, wanted: arguments(&wanted.arguments) };
        findings.extend(look.at(expected.consumer_timeout));
    }
    let (version, dead_letters) = (server::known(observed), expected.topology.dead_letters());
    for (name, order) in expected.topology.intake() {
        findings.extend(intake((name, order), seen.get(name), version, &dead_letters));
    }
    findings
}

/// AMQP says whether it is there; this says that the API speaks of something else.
fn unlisted(object: &'static str, name: &str) -> Diagnosis {
    let what = "not in the management API's list";
    let fix = "if `orderwright topology check` does not call it missing as well, \
               broker.management_url leads to another broker";
    Diagnosis::new(Severity::Warn, "unlisted", (object, name), what, fix)
}

/// A queue, and what it should be.
pub(super) struct Look<'a> {
    queue: &'a Queue,
    wanted: Map<String, Value>,
}

impl<'a> Look<'a> {
    /// At a queue that is not ours to shape.
    pub(super) fn bare(queue: &'a Queue) -> Self {
        Self { queue, wanted: Map::new() }
    }
}

impl Look<'_> {
    fn at(&self, consumer_timeout: Duration) -> Vec<Diagnosis> {
        let mut findings = Vec::new();
        let wanted = self.wanted("queue-type").unwrap_or("quorum");
        if self.queue.r#type != wanted {
            let what = format!("a {} queue, not a {wanted} queue", self.queue.r#type);
            let state = if wanted == "stream" { "not_a_stream" } else { "not_quorum" };
            findings.push(self.finding(Severity::Refuse, state, what, ANEW));
        }
        let shard = flag(&self.wanted, "x-single-active-consumer");
        if shard && !flag(&self.queue.arguments, "x-single-active-consumer") {
            let what = "without a single active consumer: two pods would work on one order";
            findings.push(self.finding(Severity::Refuse, "not_single_active", what, ANEW));
        }
        if shard {
            findings.extend(self.dead_lettering());
        }
        findings.extend(self.delivery_limit());
        findings.extend(self.lengths(shard));
        findings.extend(self.ages(shard));
        findings.extend(self.delayed_retry(shard));
        findings.extend(self.timeout(consumer_timeout));
        if self.queue.effective_policy_definition.is_none() {
            let what = "its policies are not known: the broker tells of them some seconds after a \
                        queue was made";
            let fix = "run `orderwright topology check` again";
            findings.push(self.finding(Severity::Warn, "policies_unseen", what, fix));
        }
        findings
    }

    fn finding(
        &self,
        severity: Severity,
        state: &'static str,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Diagnosis {
        Diagnosis::new(severity, state, ("queue", &self.queue.name), what, fix)
    }

    fn argument(&self, key: &str) -> Option<&Value> {
        self.queue.arguments.get(&format!("x-{key}"))
    }

    fn policy(&self, key: &str) -> Option<&Value> {
        self.queue.effective_policy_definition.as_ref()?.get(key)
    }

    /// Such as `quorum`.
    pub(super) fn kind(&self) -> &str {
        &self.queue.r#type
    }

    /// A number as the argument has it, and as the policy has it.
    pub(super) fn both(&self, key: &str) -> [Option<i64>; 2] {
        [self.argument(key), self.policy(key)].map(|value| value.and_then(Value::as_i64))
    }

    /// Of limits the smaller one holds, whether argument or policy.
    fn least(&self, key: &str) -> Option<i64> {
        self.both(key).into_iter().flatten().min()
    }

    /// The same, unless it is the limit that we ask for ourselves.
    fn unwanted(&self, key: &str) -> Option<i64> {
        let wanted = self.wanted.get(&format!("x-{key}")).and_then(Value::as_i64);
        self.least(key).filter(|limit| Some(*limit) != wanted)
    }

    /// Of the dead-letter target and strategy, the argument holds.
    pub(super) fn argument_first(&self, key: &str) -> Option<&str> {
        self.argument(key).or_else(|| self.policy(key)).and_then(Value::as_str)
    }

    /// Of the overflow, the policy holds.
    fn overflow(&self) -> &str {
        let set = self.policy("overflow").or_else(|| self.argument("overflow"));
        set.and_then(Value::as_str).unwrap_or("drop-head")
    }

    fn wanted(&self, key: &str) -> Option<&str> {
        self.wanted.get(&format!("x-{key}")).and_then(Value::as_str)
    }

    /// Where a value comes from, and how to be rid of it.
    fn origin(&self, key: &str) -> (String, String) {
        if self.policy(key).is_none() {
            return (format!("its argument x-{key}"), ANEW.to_owned());
        }
        let own = self.queue.policy.as_ref().map(|name| format!("policy {name:?}"));
        let operator =
            self.queue.operator_policy.as_ref().map(|name| format!("operator policy {name:?}"));
        let names: Vec<_> = own.into_iter().chain(operator).collect();
        let names = if names.is_empty() { "a policy".to_owned() } else { names.join(" or ") };
        let fix = format!("take {key} out of {names}, or let it not match this name");
        (names, fix)
    }

    fn dead_lettering(&self) -> Vec<Diagnosis> {
        let mut findings = Vec::new();
        let keys = ["dead-letter-exchange", "dead-letter-strategy"];
        for key in keys {
            let (has, wanted) = (self.argument_first(key), self.wanted(key).unwrap_or_default());
            if has != Some(wanted) {
                let has = has.map_or("none".to_owned(), |has| format!("{has:?}"));
                let what = format!(
                    "{key} is {has}, not {wanted:?}: what the broker dead-letters by itself would be \
                     lost or go astray"
                );
                let state = "not_dead_lettered";
                findings.push(self.finding(Severity::Refuse, state, what, ANEW));
            }
        }
        if self.overflow() != "reject-publish" {
            let (origin, fix) = self.origin("overflow");
            let what = format!(
                "overflow is {:?} by {origin}, not \"reject-publish\": a full queue would drop its \
                 oldest messages, and dead letters are then sent at most once",
                self.overflow()
            );
            findings.push(self.finding(Severity::Refuse, "overflow", what, fix));
        }
        findings
    }

    fn delivery_limit(&self) -> Option<Diagnosis> {
        let wanted = self.wanted.get("x-delivery-limit").and_then(Value::as_i64)?;
        let Some(limit) = self.least("delivery-limit") else {
            let what = "no delivery limit: a message that kills its worker would come back for ever \
                        (3.10), or be dead-lettered at the 20th return (4)";
            return Some(self.finding(Severity::Warn, "no_delivery_limit", what, ANEW));
        };
        if limit == wanted {
            return None;
        }
        let (origin, fix) = self.origin("delivery-limit");
        let what = if limit < 0 {
            format!(
                "the delivery limit is {limit} by {origin}: none at all on 4, and on 3.10 the first \
                 return is dead-lettered"
            )
        } else {
            format!("the delivery limit in force is {limit} by {origin}, not {wanted}")
        };
        // Below this our own settings refuse it: what only waited would be dead-lettered, or dropped.
        let least = i64::from(config::Topology::DELIVERY_LIMIT_MIN);
        let severity = if (0..least).contains(&limit) { Severity::Refuse } else { Severity::Warn };
        Some(self.finding(severity, "delivery_limit", what, fix))
    }

    fn lengths(&self, shard: bool) -> Vec<Diagnosis> {
        let bounded = |key: &&str| self.unwanted(key).is_some();
        let keys = ["max-length", "max-length-bytes"].into_iter().filter(bounded);
        let found = |key| {
            let (origin, fix) = self.origin(key);
            let limit = self.unwanted(key).unwrap_or_default();
            if self.overflow() == "reject-publish" {
                let waits = if shard { "publishers and forwarding" } else { "dead letters" };
                let what = format!("{key} is {limit} by {origin}: when it is full, {waits} wait");
                return self.finding(Severity::Warn, "bounded", what, fix);
            }
            let what =
                format!("{key} is {limit} by {origin}: a full queue loses its oldest messages");
            self.finding(Severity::Refuse, "loses_messages", what, fix)
        };
        keys.map(found).collect()
    }

    fn ages(&self, shard: bool) -> Vec<Diagnosis> {
        let mut findings = Vec::new();
        if let Some(milliseconds) = self.unwanted("message-ttl") {
            let (origin, fix) = self.origin("message-ttl");
            let end = if shard { "leaves unapplied, past its order" } else { "is lost" };
            let what =
                format!("message-ttl is {milliseconds} ms by {origin}: what waits longer {end}");
            findings.push(self.finding(Severity::Refuse, "loses_messages", what, fix));
        }
        let forgets = self.queue.r#type == "stream" && self.wanted("max-age").is_none();
        if let Some(age) = self.policy("max-age").filter(|_| forgets) {
            let (origin, fix) = self.origin("max-age");
            let what = format!(
                "max-age is {age} by {origin}: what it tells from its beginning is forgotten"
            );
            findings.push(self.finding(Severity::Refuse, "loses_messages", what, fix));
        }
        if let Some(milliseconds) = self.least("expires") {
            let (origin, fix) = self.origin("expires");
            let what = format!(
                "expires is {milliseconds} ms by {origin}: while nobody consumes, the queue is \
                 deleted with all that waits in it"
            );
            findings.push(self.finding(Severity::Refuse, "loses_messages", what, fix));
        }
        findings
    }

    fn delayed_retry(&self, shard: bool) -> Option<Diagnosis> {
        let key = "delayed-retry-type";
        let kind = self.policy(key).or_else(|| self.argument(key))?.as_str()?;
        (shard && kind != "disabled").then(|| {
            let (origin, fix) = self.origin(key);
            let what = format!(
                "{key} is {kind:?} by {origin}: a message that comes back is held aside, and later \
                 ones of its order overtake it"
            );
            self.finding(Severity::Refuse, "delayed_retry", what, fix)
        })
    }

    fn timeout(&self, wanted: Duration) -> Option<Diagnosis> {
        let milliseconds = u64::try_from(self.least("consumer-timeout")?).ok()?;
        let (origin, _) = self.origin("consumer-timeout");
        timeout(("queue", &self.queue.name), &format!("by {origin}"), milliseconds, wanted)
    }
}

/// A consumer timeout that is shorter than we were told.
pub(super) fn timeout(
    about: (&'static str, &str),
    origin: &str,
    milliseconds: u64,
    wanted: Duration,
) -> Option<Diagnosis> {
    let has = Duration::from_millis(milliseconds);
    (has < wanted).then(|| {
        let what = format!(
            "the consumer timeout is {} {origin}, and broker.consumer_timeout says {}: a slow update \
             could be taken back while it is worked on, again and again",
            humantime::format_duration(has),
            humantime::format_duration(wanted),
        );
        let fix = format!("set broker.consumer_timeout = \"{}\"", humantime::format_duration(has));
        Diagnosis::new(Severity::Warn, "consumer_timeout", about, what, fix)
    })
}

pub(super) fn exchanges(expected: &Expected<'_>, observed: &Observed) -> Vec<Diagnosis> {
    let seen = match &observed.exchanges {
        Ok(seen) => seen,
        Err(why) => return vec![unseen("exchange", "all", why)],
    };
    let look = |wanted: broker::Exchange| match seen.get(&wanted.name) {
        Some(exchange) => of_exchange(&wanted, exchange),
        None => vec![unlisted("exchange", &wanted.name)],
    };
    expected.topology.exchanges().into_iter().flat_map(look).collect()
}

fn of_exchange(wanted: &broker::Exchange, exchange: &Exchange) -> Vec<Diagnosis> {
    let about = ("exchange", exchange.name.as_str());
    let mut findings = Vec::new();
    if exchange.r#type != wanted.kind.name() {
        let what = format!("of type {:?}, not {:?}", exchange.r#type, wanted.kind.name());
        findings.push(Diagnosis::new(Severity::Refuse, "other_type", about, what, ANEW));
    }
    // Its policy does not matter: the argument wins.
    let key = "alternate-exchange";
    if let Some(caught) = arguments(&wanted.arguments).get(key)
        && exchange.arguments.get(key) != Some(caught)
    {
        let has = exchange.arguments.get(key).map_or("none".to_owned(), ToString::to_string);
        let what = format!(
            "its alternate exchange is {has}, not {caught}: what no shard queue takes would be lost"
        );
        findings.push(Diagnosis::new(Severity::Refuse, "not_caught", about, what, ANEW));
    }
    findings
}

pub(super) fn flag(arguments: &Map<String, Value>, key: &str) -> bool {
    arguments.get(key).and_then(Value::as_bool).unwrap_or(false)
}
