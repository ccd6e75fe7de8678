//! A broker on which all is well, and one thing after the other that is not.

use serde_json::{Value, json};

use super::*;
use crate::config;

const SHARD: &str = "p.shard.g1.001";

fn topology(shards: u16) -> Topology {
    let (prefix, intake) = ("p".to_owned(), vec!["erp".to_owned()]);
    Topology::new(&config::Topology { prefix, shards, intake, ..config::Topology::default() })
}

/// As the API of this version would answer if all is well: its shapes are those of the definitions.
fn well(version: &str) -> Observed {
    let definitions = topology(2).definitions("v");
    let of = |kind: &str| definitions[kind].clone();
    let mut queues: Vec<Queue> = serde_json::from_value(of("queues")).unwrap();
    let arguments = json!({"x-queue-type": "quorum", "x-single-active-consumer": true});
    let mut erp = json!({"name": "erp", "arguments": arguments});
    erp["arguments"]["x-dead-letter-exchange"] = json!("erp.refused");
    erp["arguments"]["x-delivery-limit"] = json!(100);
    queues.push(serde_json::from_value(erp).unwrap());
    for queue in &mut queues {
        let kind = queue.arguments.get("x-queue-type").and_then(Value::as_str);
        queue.r#type = kind.unwrap_or_default().to_owned();
        queue.effective_policy_definition = Some(serde_json::Map::new());
    }
    let exchanges: Vec<Exchange> = serde_json::from_value(of("exchanges")).unwrap();
    let mut bindings: Vec<Binding> = serde_json::from_value(of("bindings")).unwrap();
    let to_default = |queue: &Queue| Binding {
        destination: queue.name.clone(),
        destination_type: "queue".to_owned(),
        routing_key: queue.name.clone(),
        ..Binding::default()
    };
    bindings.extend(queues.iter().map(to_default));
    let all = ".*".to_owned();
    Observed {
        overview: Ok(Overview { rabbitmq_version: version.to_owned() }),
        queues: Ok(queues.into_iter().map(|it| (it.name.clone(), it)).collect()),
        exchanges: Ok(exchanges.into_iter().map(|it| (it.name.clone(), it)).collect()),
        bindings: Ok(bindings),
        consumers: Ok(vec![consumer("ours", "ann")]),
        connections: Ok(vec![
            connection("ours", Some("orderwright pod-1")),
            connection("theirs", Some("reports")),
            connection("unnamed", None),
        ]),
        permissions: Ok(vec![Permission {
            vhost: "v".to_owned(),
            configure: all.clone(),
            write: all.clone(),
            read: all,
        }]),
        vhost: "v".to_owned(),
        features: Ok(Vec::new()),
    }
}

fn consumer(connection: &str, user: &str) -> Consumer {
    serde_json::from_value(json!({
        "queue": {"name": SHARD}, "consumer_timeout": 1_800_000,
        "channel_details": {"connection_name": connection, "user": user},
    }))
    .unwrap()
}

fn connection(name: &str, given: Option<&str>) -> Connection {
    Connection { name: name.to_owned(), user_provided_name: given.map(str::to_owned) }
}

fn judged(observed: &Observed) -> Vec<Diagnosis> {
    judged_with(observed, &topology(2), true)
}

fn judged_with(observed: &Observed, topology: &Topology, declare: bool) -> Vec<Diagnosis> {
    let consumer_timeout = Duration::from_mins(30);
    let resharding = false;
    let expected =
        Expected { topology, resharding, declare, balance: true, consumer_timeout, user: "ann" };
    let all = diagnose(&expected, observed);
    for finding in &all {
        let state = finding.state;
        assert!(STATES.iter().any(|(known, _)| *known == state), "{state} is not in STATES");
    }
    all
}

/// What is not fine.
fn found(all: Vec<Diagnosis>) -> Vec<(Severity, &'static str, Vec<String>, String)> {
    let bad = all.into_iter().filter(|it| it.severity != Severity::Fine);
    bad.map(|it| (it.severity, it.state, it.names.clone(), it.to_string())).collect()
}

#[test]
fn nothing_is_found_where_all_is_well_and_every_part_says_that_it_was_looked_at() {
    let all = judged(&well("4.3.6"));
    assert!(all.iter().all(|it| it.severity == Severity::Fine), "{all:?}");
    let parts: Vec<_> = all.iter().map(|it| it.object).collect();
    assert_eq!(parts, ["broker", "queue", "exchange", "binding", "consumer", "permission"]);
}

type Spoil = fn(&mut Observed);

fn queue<'a>(observed: &'a mut Observed, name: &str) -> &'a mut Queue {
    observed.queues.as_mut().unwrap().get_mut(name).unwrap()
}

fn argument(observed: &mut Observed, key: &str, value: Value) {
    queue(observed, SHARD).arguments.insert(key.to_owned(), value);
}

fn policy(observed: &mut Observed, name: &str, definition: Value) {
    let queue = queue(observed, name);
    queue.policy = Some("all-queues".to_owned());
    queue.effective_policy_definition = serde_json::from_value(definition).unwrap();
}

fn bind(observed: &mut Observed, source: &str, destination: &str, kind: &str, routing_key: &str) {
    observed.bindings.as_mut().unwrap().push(Binding {
        source: source.to_owned(),
        destination: destination.to_owned(),
        destination_type: kind.to_owned(),
        routing_key: routing_key.to_owned(),
    });
}

fn unbind(observed: &mut Observed, source: &str, destination: &str) {
    let gone = |it: &Binding| it.source == source && it.destination == destination;
    observed.bindings.as_mut().unwrap().retain(|it| !gone(it));
}

/// Spoils one thing, and asserts that it is the one finding, with these words.
fn check(cases: &[(Spoil, Severity, &str, &str, &str)]) {
    for (spoil, severity, state, name, words) in cases {
        let mut observed = well("4.3.6");
        spoil(&mut observed);
        let found = found(judged(&observed));
        let [(its_severity, its_state, names, text)] = found.as_slice() else {
            panic!("one finding wanted, {state} of {name}: {found:?}");
        };
        assert_eq!((its_severity, its_state), (severity, state), "{text}");
        assert_eq!(names, &[(*name).to_owned()], "{text}");
        assert!(text.contains(words), "{words:?} in {text}");
    }
}

use Severity::{Refuse, Warn};

#[test]
fn arguments_that_break_a_promise_refuse_the_start() {
    check(&[
        (
            |it| queue(it, SHARD).r#type = "classic".to_owned(),
            Refuse,
            "not_quorum",
            SHARD,
            "classic",
        ),
        (
            |it| drop(queue(it, SHARD).arguments.remove("x-single-active-consumer")),
            Refuse,
            "not_single_active",
            SHARD,
            "two pods",
        ),
        (
            |it| argument(it, "x-single-active-consumer", json!(false)),
            Refuse,
            "not_single_active",
            SHARD,
            "two pods",
        ),
        (
            |it| drop(queue(it, SHARD).arguments.remove("x-dead-letter-exchange")),
            Refuse,
            "not_dead_lettered",
            SHARD,
            "dead-letter-exchange is none, not \"p.dead-letters\"",
        ),
        (
            |it| argument(it, "x-dead-letter-strategy", json!("at-most-once")),
            Refuse,
            "not_dead_lettered",
            SHARD,
            "\"at-most-once\", not \"at-least-once\"",
        ),
        (
            |it| argument(it, "x-overflow", json!("drop-head")),
            Refuse,
            "overflow",
            SHARD,
            "argument",
        ),
        (|it| argument(it, "x-message-ttl", json!(9)), Refuse, "loses_messages", SHARD, "9 ms"),
        (
            |it| argument(it, "x-delivery-limit", json!(19)),
            Refuse,
            "delivery_limit",
            SHARD,
            "is 19",
        ),
        (|it| argument(it, "x-delivery-limit", json!(20)), Warn, "delivery_limit", SHARD, "is 20"),
        (
            |it| drop(queue(it, SHARD).arguments.remove("x-delivery-limit")),
            Warn,
            "no_delivery_limit",
            SHARD,
            "for ever",
        ),
        (
            |it| argument(it, "x-delayed-retry-type", json!("returned")),
            Refuse,
            "delayed_retry",
            SHARD,
            "overtake",
        ),
        (
            |it| {
                let updates = it.exchanges.as_mut().unwrap().get_mut("p.updates").unwrap();
                updates.arguments.clear();
            },
            Refuse,
            "not_caught",
            "p.updates",
            "alternate exchange is none, not \"p.unroutable\"",
        ),
        (
            |it| {
                let spread = it.exchanges.as_mut().unwrap().get_mut("p.shards.g1").unwrap();
                spread.r#type = "fanout".to_owned();
            },
            Refuse,
            "other_type",
            "p.shards.g1",
            "\"fanout\", not \"x-consistent-hash\"",
        ),
    ]);
}

#[test]
fn policies_are_judged_by_what_is_in_force_with_the_arguments() {
    check(&[
        // The smaller limit holds.
        (
            |it| policy(it, SHARD, json!({"delivery-limit": 7})),
            Refuse,
            "delivery_limit",
            SHARD,
            "7 by policy \"all-queues\", not 100: take delivery-limit out of policy \"all-queues\"",
        ),
        (
            |it| policy(it, "p.dead-letters", json!({"delivery-limit": 20})),
            Warn,
            "delivery_limit",
            "p.dead-letters",
            "is 20",
        ),
        (
            |it| policy(it, SHARD, json!({"delivery-limit": -1})),
            Warn,
            "delivery_limit",
            SHARD,
            "-1 by policy",
        ),
        // A policy beats the argument here, and makes dead letters at most once.
        (
            |it| policy(it, SHARD, json!({"overflow": "drop-head"})),
            Refuse,
            "overflow",
            SHARD,
            "all-queues",
        ),
        (
            |it| policy(it, SHARD, json!({"message-ttl": 1})),
            Refuse,
            "loses_messages",
            SHARD,
            "1 ms",
        ),
        (
            |it| policy(it, "p.unroutable", json!({"message-ttl": 1})),
            Refuse,
            "loses_messages",
            "p.unroutable",
            "is lost",
        ),
        (|it| policy(it, SHARD, json!({"expires": 5})), Refuse, "loses_messages", SHARD, "deleted"),
        // Full, it rejects, and nothing is lost.
        (|it| policy(it, SHARD, json!({"max-length": 5})), Warn, "bounded", SHARD, "publishers"),
        (
            |it| policy(it, "p.dead-letters", json!({"max-length-bytes": 5})),
            Refuse,
            "loses_messages",
            "p.dead-letters",
            "oldest",
        ),
        (
            |it| {
                policy(
                    it,
                    "p.dead-letters",
                    json!({"max-length": 5, "overflow": "reject-publish"}),
                );
            },
            Warn,
            "bounded",
            "p.dead-letters",
            "dead letters wait",
        ),
        (
            |it| policy(it, SHARD, json!({"delayed-retry-type": "all"})),
            Refuse,
            "delayed_retry",
            SHARD,
            "\"all\"",
        ),
        (
            |it| policy(it, SHARD, json!({"consumer-timeout": 120_000})),
            Warn,
            "consumer_timeout",
            SHARD,
            "set broker.consumer_timeout = \"2m\"",
        ),
        (
            |it| queue(it, SHARD).effective_policy_definition = None,
            Warn,
            "policies_unseen",
            SHARD,
            "check` again",
        ),
    ]);
}

#[test]
fn policies_that_change_nothing_are_not_found() {
    for definition in [
        // These arguments win over a policy.
        json!({"dead-letter-exchange": "elsewhere", "dead-letter-strategy": "at-most-once"}),
        json!({"delivery-limit": 100, "consumer-timeout": 1_800_000, "queue-leader-locator": "x"}),
        json!({"delivery-limit": 5000, "delayed-retry-type": "disabled"}),
    ] {
        let mut observed = well("4.3.6");
        policy(&mut observed, SHARD, definition.clone());
        assert_eq!(found(judged(&observed)), [], "{definition}");
    }
}

#[test]
fn many_queues_under_one_policy_are_one_finding() {
    let mut observed = well("4.3.6");
    for name in ["p.shard.g1.000", SHARD] {
        policy(&mut observed, name, json!({"expires": 5}));
    }
    let all = judged(&observed);
    assert_eq!(all[0].names, ["p.shard.g1.000", SHARD]);
    assert!(
        all[0].to_string().starts_with("queue p.shard.g1.000 and 1 more: expires"),
        "{}",
        all[0]
    );
    assert_eq!(found(all).len(), 1);
}

#[test]
fn bindings_that_are_missing_double_or_lead_astray_are_found() {
    check(&[
        (
            |it| unbind(it, "p.updates", "p.shards.g1"),
            Refuse,
            "binding_missing",
            "p.updates -> p.shards.g1",
            "run `orderwright topology declare`",
        ),
        (
            |it| unbind(it, "p.shards.g1", SHARD),
            Refuse,
            "binding_missing",
            "p.shards.g1 -> p.shard.g1.001",
            "reshard",
        ),
        (
            |it| unbind(it, "p.dead-letters", "p.dead-letters"),
            Refuse,
            "binding_missing",
            "p.dead-letters -> p.dead-letters",
            "nowhere",
        ),
        (
            |it| {
                unbind(it, "p.dead-letters", "p.dead-letters");
                bind(it, "p.dead-letters", "parked", "queue", "");
            },
            Warn,
            "binding_missing",
            "p.dead-letters -> p.dead-letters",
            "queue parked is bound",
        ),
        // What is left where the number of shards was changed from one to several.
        (
            |it| bind(it, "p.updates", "p.shard.g1.000", "queue", ""),
            Refuse,
            "doubles",
            "p.updates -> p.shard.g1.000",
            "twice",
        ),
        (
            |it| bind(it, "p.updates", "p.shards.g2", "exchange", ""),
            Refuse,
            "doubles",
            "p.updates -> p.shards.g2",
            "twice",
        ),
        (
            |it| bind(it, "p.updates", "erp", "queue", ""),
            Refuse,
            "doubles",
            "p.updates -> erp",
            "twice",
        ),
        (
            |it| bind(it, "p.updates", "tap", "queue", ""),
            Warn,
            "copied",
            "p.updates -> tap",
            "copy",
        ),
        // What is left where the number of shards was lowered.
        (
            |it| bind(it, "p.shards.g1", "p.shard.g1.002", "queue", "1"),
            Refuse,
            "led_away",
            "p.shards.g1 -> p.shard.g1.002",
            "nobody consumes",
        ),
        (
            |it| bind(it, "p.shards.g1", SHARD, "queue", "2"),
            Warn,
            "ring",
            "p.shards.g1 -> p.shard.g1.001",
            "reshard",
        ),
        (
            |it| bind(it, "erp.orders", SHARD, "queue", "a"),
            Warn,
            "past_the_entry",
            "erp.orders -> p.shard.g1.001",
            "bind exchange p.updates instead",
        ),
    ]);
    // Upstream's own exchange before the entry is what the entry is for.
    let mut observed = well("4.3.6");
    bind(&mut observed, "erp.orders", "p.updates", "exchange", "");
    bind(&mut observed, "p.dead-letters", "alerts", "queue", "");
    bind(&mut observed, "erp.orders", "erp", "queue", "");
    assert_eq!(found(judged(&observed)), []);
}

#[test]
fn queues_that_are_taken_from_must_be_there() {
    check(&[
        (
            |it| drop(it.queues.as_mut().unwrap().remove("erp")),
            Refuse,
            "intake_missing",
            "erp",
            "topology.intake",
        ),
        (
            |it| drop(queue(it, "erp").arguments.remove("x-single-active-consumer")),
            Warn,
            "intake_not_single_active",
            "erp",
            "order among its messages",
        ),
        (
            |it| drop(it.queues.as_mut().unwrap().remove(SHARD)),
            Warn,
            "unlisted",
            SHARD,
            "another broker",
        ),
    ]);
}

/// What is found of the queue that is taken from, with these arguments and policies.
fn intake(
    version: &str,
    kind: &str,
    arguments: Value,
    policies: Value,
) -> Option<(Severity, String)> {
    let mut observed = well(version);
    let erp = queue(&mut observed, "erp");
    erp.r#type = kind.to_owned();
    erp.arguments = serde_json::from_value(arguments).unwrap();
    erp.arguments.insert("x-single-active-consumer".to_owned(), json!(true));
    erp.effective_policy_definition = serde_json::from_value(policies).unwrap();
    let topology = topology(1);
    let mut found = found(judged_with(&observed, &topology, true));
    found.retain(|(_, state, names, _)| *state != "version" && *names == ["erp"]);
    let (severity, state, _, text) = found.pop()?;
    assert_eq!((state, found.len()), ("intake_delivery_limit", 0), "{text}");
    Some((severity, text))
}

#[test]
fn queue_that_is_taken_from_and_would_drop_what_cannot_be_forwarded_is_refused() {
    let none = || json!({});
    let kept = || json!({"x-dead-letter-exchange": "erp.refused"});
    let limit = |limit: i64| json!({"x-delivery-limit": limit});
    let policy = |limit: i64| json!({"delivery-limit": limit});
    for (version, kind, arguments, policies, wanted) in [
        // From 4.0 on there is a limit where none is set.
        ("4.0.5", "quorum", none(), none(), Some((Refuse, "limit of 20 and no"))),
        ("3.10.8", "quorum", none(), none(), None),
        ("mine", "quorum", none(), none(), Some((Refuse, "limit of 20 and no"))),
        ("4.0.5", "classic", none(), none(), None),
        ("4.0.5", "quorum", none(), Value::Null, Some((Warn, "limit of 20 and no"))),
        ("3.10.8", "quorum", limit(5), none(), Some((Refuse, "limit of 5 and no"))),
        ("4.3.6", "quorum", limit(100), none(), Some((Warn, "limit of 100 and no"))),
        ("4.3.6", "quorum", limit(100), policy(3), Some((Refuse, "limit of 3 and no"))),
        // No limit on 4, and no return at all on 3.
        ("4.3.6", "quorum", limit(-1), none(), None),
        ("4.3.6", "quorum", none(), policy(-1), None),
        ("4.3.6", "quorum", limit(7), policy(-1), Some((Refuse, "limit of 7 and no"))),
        ("3.10.8", "quorum", limit(-1), none(), Some((Refuse, "limit of 0 and no"))),
        // Kept, wherever that stands; and not so soon.
        ("4.3.6", "quorum", kept(), policy(100), None),
        ("4.3.6", "quorum", kept(), none(), Some((Warn, "past its order"))),
        (
            "4.3.6",
            "quorum",
            limit(5),
            json!({"dead-letter-exchange": "p.dead-letters"}),
            Some((Warn, "past its order")),
        ),
    ] {
        let case = format!("{version} {kind} {arguments} {policies}");
        let found = intake(version, kind, arguments, policies);
        let found = found.as_ref().map(|(severity, text)| (*severity, text.as_str()));
        assert_eq!(found.map(|(severity, _)| severity), wanted.map(|(it, _)| it), "{case}");
        if let (Some((_, text)), Some((severity, words))) = (found, wanted) {
            assert!(text.contains(words), "{case}: {text}");
            let policy = "{\"dead-letter-exchange\":\"p.dead-letters\"}";
            assert_eq!(text.contains(policy), severity == Refuse || words.contains("and no"));
        }
    }
}

#[test]
fn consumers_of_somebody_elses_are_told() {
    check(&[
        (
            |it| it.consumers.as_mut().unwrap().push(consumer("theirs", "ann")),
            Warn,
            "foreign_consumer",
            SHARD,
            "\"theirs\"",
        ),
        (
            |it| it.consumers.as_mut().unwrap().push(consumer("unnamed", "ann")),
            Warn,
            "foreign_consumer",
            SHARD,
            "not applied",
        ),
        (
            |it| it.consumers.as_mut().unwrap().push(consumer("not shown", "bob")),
            Warn,
            "foreign_consumer",
            SHARD,
            "user \"bob\"",
        ),
        (
            |it| it.consumers.as_mut().unwrap()[0].timeout = json!(600_000),
            Warn,
            "consumer_timeout",
            SHARD,
            "is 10m as its consumer shows, and broker.consumer_timeout says 30m",
        ),
    ]);
    let mut observed = well("4.3.6");
    observed.consumers.as_mut().unwrap().push(consumer("not shown", "ann"));
    assert_eq!(found(judged(&observed)), [], "may be another pod, whose connection we may not see");
}

#[test]
fn permissions_are_matched_as_the_broker_matches_them() {
    let granted = |configure: &str, write: &str, read: &str| {
        let mut observed = well("4.3.6");
        let [configure, write, read] = [configure, write, read].map(str::to_owned);
        let vhost = "v".to_owned();
        observed.permissions = Ok(vec![Permission { vhost, configure, write, read }]);
        observed
    };
    let text = |observed: &Observed, declare: bool| {
        let found = found(judged_with(observed, &topology(2), declare));
        found
            .into_iter()
            .map(|(severity, state, _, text)| (severity, state, text))
            .collect::<Vec<_>>()
    };
    assert_eq!(text(&granted("", "^p\\.", "^(p\\.|erp$)"), false), []);
    let one = text(&granted("", "^p\\.", "^p\\."), false);
    assert_eq!(one.len(), 1);
    assert_eq!((one[0].0, one[0].1), (Refuse, "permission"));
    assert!(one[0].2.contains("permission ann: may not read erp: the pattern is"), "{one:?}");
    // Declaring needs more, and an empty pattern grants nothing at all.
    let two = text(&granted("", "^p\\.(dead-letters|forward|peers)$", ".*"), true);
    assert_eq!(two.len(), 2);
    assert!(two[0].2.contains("may not configure p.dead-letters and 13 more"), "{two:?}");
    assert!(two[1].2.contains("may not write p.journal and 7 more"), "{two:?}");
    // Without hints pods only share badly.
    let hints = text(&granted("", "dead-letters|forward", ".*"), false);
    assert_eq!(hints.len(), 1);
    assert_eq!(hints[0].0, Warn);
    assert!(hints[0].2.contains("may not write p.peers: "), "{hints:?}");
    let unclear = text(&granted("^(?!amq)", ".*", ".*"), true);
    assert_eq!((unclear[0].0, unclear[0].1), (Warn, "permission"));
}

#[test]
fn versions_are_judged_by_what_was_measured_and_reported() {
    let khepri = || vec![Feature { name: "khepri_db".to_owned(), state: "enabled".to_owned() }];
    let scrambles = "may scramble the hash ring";
    for (version, shards, khepri, wanted) in [
        ("3.9.29", 1, Vec::new(), Some((Refuse, "at least once"))),
        ("3.10.8", 2, Vec::new(), Some((Warn, scrambles))),
        ("4.0.5", 2, Vec::new(), Some((Warn, scrambles))),
        ("4.0.5", 2, khepri(), None),
        ("4.0.5", 1, Vec::new(), None),
        ("4.2.9", 1, Vec::new(), None),
        ("4.3.0-rc.1", 2, khepri(), Some((Warn, "#17317"))),
        ("4.3.5", 1, Vec::new(), Some((Warn, "#17317"))),
        ("4.3.6", 2, Vec::new(), None),
        ("4.10.0", 2, Vec::new(), None),
        ("mine", 2, Vec::new(), Some((Warn, "no version"))),
    ] {
        let mut observed = well(version);
        observed.features = Ok(khepri);
        let all = judged_with(&observed, &topology(shards), true);
        let found: Vec<_> = all.iter().filter(|it| it.state == "version").collect();
        assert_eq!(found.len(), usize::from(wanted.is_some()), "{version}, {shards}: {found:?}");
        if let Some((severity, words)) = wanted {
            assert_eq!(found[0].severity, severity, "{version}");
            assert!(found[0].to_string().contains(words), "{version}: {}", found[0]);
        }
    }
}

#[test]
fn parts_that_were_not_looked_at_are_told_one_by_one() {
    let mut observed = well("4.3.6");
    observed.overview = Err(Unseen::Status(401));
    observed.queues = Err(Unseen::TooMany(10_000));
    observed.exchanges = Err(Unseen::Unclear("no JSON".to_owned()));
    observed.bindings = Err(Unseen::TooLarge(16));
    observed.consumers = Err(Unseen::Silent("refused".to_owned()));
    observed.permissions = Err(Unseen::Status(401));
    let found = found(judged(&observed));
    assert_eq!(found.len(), 6);
    for (severity, state, _, text) in &found {
        assert_eq!((severity, state), (&Warn, &"not_looked_at"), "{text}");
    }
    assert!(found[5].3.contains("status 401"), "{found:?}");
}

/// As 3.10.8, 4.0.5 and 4.3.6 really answered, for one queue under a policy and an operator policy.
#[test]
fn answers_of_real_brokers_are_understood() {
    let arguments = json!({"x-queue-type": "quorum", "x-single-active-consumer": true});
    for answer in [
        json!({"arguments": arguments, "auto_delete": false, "durable": true,
               "effective_policy_definition": {"delivery-limit": 7}, "exclusive": false,
               "name": SHARD, "operator_policy": "oplim", "policy": null, "type": "quorum"}),
        json!({"arguments": arguments, "auto_delete": false, "delivery_limit": 7, "durable": true,
               "effective_policy_definition": {"consumer-timeout": 120_000, "delivery-limit": 7},
               "exclusive": false, "name": SHARD, "operator_policy": "oplim", "policy": "ct",
               "type": "quorum"}),
        json!({"arguments": arguments, "auto_delete": false, "delayed_retry": "disabled",
               "delivery_limit": 7, "durable": true,
               "effective_policy_definition": {"delivery-limit": 7}, "exclusive": false,
               "name": SHARD, "operator_policy": "oplim", "policy": null, "type": "quorum"}),
    ] {
        let queue: Queue = serde_json::from_value(answer).unwrap();
        assert_eq!(queue.operator_policy.as_deref(), Some("oplim"));
        assert_eq!(queue.effective_policy_definition.unwrap()["delivery-limit"], 7);
    }
    // Just made, before 4.3: the statistics have not come yet.
    let fresh: Queue = serde_json::from_value(json!({"name": SHARD, "type": "quorum"})).unwrap();
    assert_eq!(fresh.effective_policy_definition, None);
    // Erlang has one empty list for both.
    let empty = json!({"name": SHARD, "arguments": [], "effective_policy_definition": []});
    let empty: Queue = serde_json::from_value(empty).unwrap();
    assert_eq!(empty.effective_policy_definition, Some(serde_json::Map::new()));
    let gone: Consumer =
        serde_json::from_value(json!({"queue": {"name": SHARD}, "channel_details": []})).unwrap();
    assert_eq!(gone.channel_details.user, "");
}
