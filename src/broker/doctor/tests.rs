//! A broker on which all is well, and one thing after the other that is not.

mod arguments;
mod bindings;
mod intake;
mod server;

use serde_json::{Value, json};

use super::*;
use crate::config;
use Severity::{Refuse, Warn};

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
