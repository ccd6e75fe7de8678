//! That what the manifests ask of other operators fits the program: KEDA's queues and pods, the broker's rights, and
//! every custom resource its schema. And that Kustomize gets every file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use orderwright::broker::{Generation, Topology};
use serde_json::Value;

use crate::files::{ROOT, read, tidy, walk};
use crate::manifests::{
    BASE, FOLDER, Installation, base, document, documents, files, folder, installations,
    kustomizations, load, number, patched, pod,
};

const KEDA: &str = "deploy/kubernetes/components/keda";
/// Requests at a time that Dataverse documents for one user.
const SERVICE_CONCURRENCY: u64 = 52;

/// The text or the number in quotes that a manifest has where only text is allowed.
fn number_in(text: &Value) -> u64 {
    text.as_str().unwrap().parse().unwrap_or_else(|_| panic!("{text} is no number in quotes"))
}

#[test]
fn autoscaler_counts_the_shard_queues_alone_and_asks_for_no_more_pods_than_are_of_use() {
    let scaled = document(&format!("{KEDA}/scaled-object.yaml"));
    let trigger = &scaled["spec"]["triggers"][0]["metadata"];
    let pods = number(&scaled["spec"]["maxReplicaCount"]);
    let variables = patched(&format!("{KEDA}/kustomization.yaml"));
    let settings = load(&format!("{BASE}/orderwright.toml"), &variables);
    let shards = u64::from(settings.topology.shards);
    assert!(pods <= shards, "beyond {shards} pods have nothing to do");
    let page = number_in(&trigger["pageSize"]);
    assert!((2 * shards..=500).contains(&page), "a reshard has two generations of queues");

    let regex = regex::Regex::new(trigger["queueName"].as_str().unwrap()).unwrap();
    let first = Topology::of_all(&settings);
    let largest = first.of(Generation { number: 12, shards: 1024 });
    for topology in [first, largest] {
        let shards: BTreeSet<String> = topology.shard_queues().collect();
        for queue in topology
            .queues()
            .into_iter()
            .map(|it| it.name)
            .chain(["xorderwright.shard.g1.000".into()])
        {
            assert_eq!(regex.is_match(&queue), shards.contains(&queue), "{queue}");
        }
    }

    let known: Value =
        serde_json::from_str(&read("tests/schemas/keda.sh/scaler-rabbitmq.json")).unwrap();
    let known = known["scalers"][0]["parameters"].as_array().unwrap();
    let known: BTreeSet<_> = known.iter().map(|it| it["name"].as_str().unwrap()).collect();
    let authentication = document(&format!("{KEDA}/trigger-authentication.yaml"));
    let parameters = authentication["spec"]["secretTargetRef"].as_array().unwrap();
    let given = trigger.as_object().unwrap().keys().map(String::as_str);
    for name in given.chain(parameters.iter().map(|it| it["parameter"].as_str().unwrap())) {
        assert!(known.contains(name), "KEDA's scaler for RabbitMQ knows no {name}");
    }
}

#[test]
fn all_pods_of_a_rollout_together_ask_no_more_than_the_service_takes() {
    let deployment = document(&format!("{BASE}/deployment.yaml"));
    let surge = number(&deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"]);
    let scaled = document(&format!("{KEDA}/scaled-object.yaml"));
    for Installation { name, settings, is_scaled } in installations() {
        let pods = if is_scaled {
            number(&scaled["spec"]["maxReplicaCount"])
        } else {
            number(&deployment["spec"]["replicas"])
        };
        let together = (pods + surge) * settings.dispatch.concurrency_max as u64;
        assert!(
            together <= SERVICE_CONCURRENCY,
            "{name}: {pods} pods and {surge} of a rollout ask {together} at a time"
        );
    }
    assert!(installations().iter().any(|it| it.is_scaled));
}

#[test]
fn virtual_host_and_rights_of_the_broker_are_those_that_the_daemon_needs() {
    let access = documents(&format!("{FOLDER}/components/rabbitmq/access.yaml"));
    let of = |kind: &str| access.iter().find(|it| it["kind"] == kind).unwrap();
    let vhost = &of("Vhost")["spec"]["name"];
    assert_eq!(&of("Permission")["spec"]["vhost"], vhost);
    let scaled = document(&format!("{KEDA}/scaled-object.yaml"));
    assert_eq!(&scaled["spec"]["triggers"][0]["metadata"]["vhostName"], vhost);
    let permissions = &of("Permission")["spec"]["permissions"];
    let topology = Topology::of_all(&base());
    let mut names: Vec<String> = topology.queues().into_iter().map(|it| it.name).collect();
    names.extend(topology.exchanges().into_iter().map(|it| it.name));
    names.extend([topology.lock(), "amq.gen-3Wkq".to_owned()]);
    for verb in ["configure", "write", "read"] {
        let pattern = regex::Regex::new(permissions[verb].as_str().unwrap()).unwrap();
        for name in &names {
            assert!(pattern.is_match(name), "{verb}: {name}");
        }
        // Outcome notices go by the default exchange.
        assert_eq!(pattern.is_match("amq.default"), verb == "write", "{verb}");
        assert!(!pattern.is_match("somebody.else"), "{verb}");
    }
}

#[test]
fn custom_resources_are_valid_by_their_operators_own_schemas() {
    const CORE: [&str; 5] =
        ["v1", "apps/v1", "policy/v1", "networking.k8s.io/v1", "kustomize.config.k8s.io/"];
    let mut validators = BTreeMap::new();
    let mut findings = Vec::new();
    let mut looked_at = 0;
    for file in files("yaml") {
        for resource in documents(&file) {
            let version =
                resource["apiVersion"].as_str().unwrap_or_else(|| panic!("{file}: apiVersion"));
            if CORE
                .iter()
                .any(|core| version == *core || (core.ends_with('/') && version.starts_with(core)))
            {
                continue;
            }
            let (group, version) = version.split_once('/').unwrap();
            let kind = resource["kind"].as_str().unwrap().to_lowercase();
            let schema = format!("tests/schemas/{group}/{kind}_{version}.json");
            let validator = validators.entry(schema).or_insert_with_key(|schema| {
                jsonschema::validator_for(&serde_json::from_str(&read(schema)).unwrap()).unwrap()
            });
            findings
                .extend(validator.iter_errors(&resource).map(|it| format!("{file}: {kind}: {it}")));
            looked_at += 1;
            let mut wrong = resource.clone();
            wrong["spec"]["misspelt"] = true.into();
            assert!(!validator.is_valid(&wrong), "the schema of {kind} sees no difference");
        }
    }
    assert!(looked_at > 200, "{looked_at} resources");
    tidy(&findings);
}

#[test]
fn alerts_of_the_cluster_are_those_that_are_tested() {
    const FILE: &str = "deploy/kubernetes/components/prometheus-operator/rules.yaml";
    let tested = read("deploy/observability/rules.yaml");
    // Comments and all: people read this one as well.
    let groups = &tested[tested.find("groups:").unwrap()..];
    let indented: String =
        groups.lines().map(|line| format!("  {line}").trim_end().to_owned() + "\n").collect();
    let have = read(FILE);
    let (head, _) = have.split_once("spec:\n").unwrap();
    let wanted = format!("{head}spec:\n{indented}");
    if std::env::var_os("ORDERWRIGHT_BLESS").is_some() {
        std::fs::write(Path::new(ROOT).join(FILE), &wanted).unwrap();
    }
    assert!(have == wanted, "run ORDERWRIGHT_BLESS=1 cargo test --test tidy to write {FILE}");
    assert_eq!(document(FILE)["spec"], document("deploy/observability/rules.yaml"));
}

#[test]
fn kustomizations_list_every_file_and_the_image_is_of_this_version() {
    let mut findings = Vec::new();
    for kustomization in kustomizations() {
        let of = document(&kustomization);
        let own = folder(&kustomization);
        let mut listed: BTreeSet<String> = BTreeSet::from(["kustomization.yaml".to_owned()]);
        let text = |it: &Value| it.as_str().unwrap().to_owned();
        let lists = ["resources", "components"]
            .map(|name| of[name].as_array().cloned().unwrap_or_default());
        listed.extend(lists.iter().flatten().map(text));
        for generator in of["configMapGenerator"].as_array().into_iter().flatten() {
            listed.extend(generator["files"].as_array().unwrap().iter().map(text));
        }
        let mut there = Vec::new();
        walk(own, &mut there);
        for file in there {
            let name = file.strip_prefix(own).unwrap().trim_start_matches('/');
            if !listed.contains(name) {
                findings.push(format!("{kustomization}: does not list {name}"));
            }
        }
        for name in listed {
            if !Path::new(ROOT).join(own).join(&name).exists() {
                findings.push(format!("{kustomization}: {name} is not there"));
            }
        }
        for image in of["images"].as_array().into_iter().flatten() {
            assert_eq!(image["newTag"], env!("CARGO_PKG_VERSION"), "{kustomization}");
        }
    }
    let image = format!("orderwright:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(pod()["spec"]["containers"][0]["image"], image);
    tidy(&findings);
}
