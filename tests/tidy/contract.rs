//! That the contract for machines, `docs/asyncapi.yaml`, is the contract of the program and of `docs/MESSAGES.md`.
//!
//! `make test-manifests` asks AsyncAPI's own parser whether it is one.

use std::collections::BTreeSet;

use orderwright::broker::Topology;
use serde_json::Value;

use crate::documents::table;
use crate::files::read;
use crate::manifests::{base, document};

const CONTRACT: &str = "docs/asyncapi.yaml";

/// What a value of the document refers to, within it.
fn followed<'a>(contract: &'a Value, at: &'a Value) -> &'a Value {
    let Some(path) = at["$ref"].as_str() else { return at };
    let found = contract.pointer(path.trim_start_matches('#'));
    followed(contract, found.unwrap_or_else(|| panic!("{CONTRACT}: {path} leads nowhere")))
}

#[test]
fn asyncapi_document_has_the_exchange_and_the_body_of_the_program() {
    let contract = document(CONTRACT);
    let topology = Topology::of_all(&base());
    let updates = &contract["channels"]["updates"];
    let exchange = &updates["bindings"]["amqp"]["exchange"];
    assert_eq!(updates["address"], topology.updates());
    assert_eq!(exchange["name"], topology.updates());
    let declared = topology.exchanges().into_iter().find(|it| it.name == topology.updates());
    let kind = format!("{:?}", declared.unwrap().kind).to_lowercase();
    assert_eq!(exchange["type"], kind);
    assert_eq!((&exchange["durable"], &exchange["autoDelete"]), (&true.into(), &false.into()));

    let operation = &contract["operations"]["applyUpdate"];
    let message = followed(&contract, &operation["messages"][0]);
    assert_eq!(message["payload"]["$ref"], "order-update.schema.json");
    let schema: Value = serde_json::from_str(&read("docs/order-update.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for example in message["examples"].as_array().unwrap() {
        let errors: Vec<_> =
            schema.iter_errors(&example["payload"]).map(|it| it.to_string()).collect();
        assert!(errors.is_empty(), "{CONTRACT}: {errors:?}");
    }
    let version = read("docs/MESSAGES.md")
        .lines()
        .find_map(|it| it.strip_prefix("Version ").map(str::to_owned));
    let version = version.unwrap().split('.').next().unwrap().to_owned();
    assert_eq!(contract["info"]["version"], format!("{version}.0.0"));
}

#[test]
fn asyncapi_document_has_the_outcome_notice_of_the_messages() {
    let contract = document(CONTRACT);
    let reply = &contract["operations"]["applyUpdate"]["reply"]["messages"][0];
    let notice = followed(&contract, &followed(&contract, reply)["payload"]);
    let rows = table("docs/MESSAGES.md", "## The outcome notice");
    let written: BTreeSet<_> = rows.iter().map(|row| row[0].clone()).collect();
    let known: BTreeSet<_> = notice["properties"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(known, written, "{CONTRACT}, left, must have the fields of docs/MESSAGES.md, right");
    let required: BTreeSet<_> = notice["required"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(known, required);
    let outcomes = &notice["properties"]["outcome"]["enum"];
    let said = &rows.iter().find(|row| row[0] == "outcome").unwrap()[1];
    // The first words in code are the outcomes.
    let said: Vec<_> = said
        .split('`')
        .filter(|it| it.bytes().all(|it| it.is_ascii_lowercase() || it == b'_'))
        .collect();
    assert_eq!(
        outcomes.as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect::<Vec<_>>(),
        said
    );
}

#[test]
fn every_example_for_publishers_is_in_the_document_with_the_test_that_runs_it() {
    let mut files = Vec::new();
    crate::files::walk("docs/publishing", &mut files);
    let rows = table("docs/PUBLISHING.md", "# Publishing: programs that keep the contract");
    assert_eq!(rows.len(), files.len(), "docs/PUBLISHING.md must have a row for each of {files:?}");
    let tests = read("tests/it/publishers.rs");
    for row in rows {
        let name = row[0].split(['[', ']']).nth(1).unwrap_or_default();
        assert!(files.iter().any(|it| it.ends_with(&format!("/{name}"))), "no {name}");
        let (is_tested, is_untested) =
            (tests.contains(&format!("async fn {}(", row[2])), row[2].contains("**untested**"));
        assert!(is_tested != is_untested, "docs/PUBLISHING.md: {name}: {}", row[2]);
    }
}
