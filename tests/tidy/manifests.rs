//! That what is shipped for Kubernetes fits the program: its settings, its times, its queues, its probes.
//!
//! Reads the files as they are, without kubectl: each resource of the base and of the components is whole in
//! its own file. `make test-manifests` renders them and asks the validators of the tools themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use orderwright::app::CLOSE_MAX;
use orderwright::config::{Settings, Sources};
use orderwright::telemetry::FLUSH_MAX;
use serde_json::Value;

use crate::documents::table;
use crate::files::{read, walk};

pub(crate) const FOLDER: &str = "deploy/kubernetes";
pub(crate) const BASE: &str = "deploy/kubernetes/base";
/// Where the pod finds its secrets.
const SECRETS: &str = "/run/secrets/orderwright";
/// What a busy node may need to pass a signal on, and to see that a process has ended.
const NODE_MAX: Duration = Duration::from_secs(10);

/// The documents of a YAML file.
pub(crate) fn documents(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(crate) fn document(path: &str) -> Value {
    let mut all = documents(path);
    assert_eq!(all.len(), 1, "{path}: one document is looked at");
    all.remove(0)
}

pub(crate) fn files(extension: &str) -> Vec<String> {
    let mut files = Vec::new();
    walk(FOLDER, &mut files);
    files.retain(|file| Path::new(file).extension().is_some_and(|it| it == extension));
    files.sort();
    assert!(!files.is_empty(), "{FOLDER}: no {extension}");
    files
}

pub(crate) fn folder(file: &str) -> &str {
    file.rsplit_once('/').unwrap().0
}

pub(crate) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn mebibytes(quantity: &Value) -> u64 {
    quantity.as_str().unwrap().strip_suffix("Mi").unwrap().parse().unwrap()
}

/// How long a process that runs with these settings may take from SIGTERM to its end.
pub(crate) fn end_max(settings: &Settings) -> Duration {
    settings.drain.grace + CLOSE_MAX + FLUSH_MAX + NODE_MAX
}

pub(crate) fn pod() -> Value {
    document(&format!("{BASE}/deployment.yaml"))["spec"]["template"].clone()
}

/// The variables that a kustomization gives the container, by its patches.
pub(crate) fn patched(kustomization: &str) -> Vec<(String, String)> {
    let of = document(kustomization);
    let none = Vec::new();
    let patches = of["patches"].as_array().unwrap_or(&none);
    let mut variables = Vec::new();
    for patch in patches {
        let text = patch["patch"].as_str().unwrap();
        let steps: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
        for step in steps.iter().filter_map(Value::as_array).flatten() {
            if step["path"] == "/spec/template/spec/containers/0/env/-" {
                let text = |key: &str| step["value"][key].as_str().unwrap().to_owned();
                variables.push((text("name"), text("value")));
            }
        }
    }
    variables
}

pub(crate) fn kustomizations() -> Vec<String> {
    files("yaml").into_iter().filter(|it| it.ends_with("/kustomization.yaml")).collect()
}

/// The settings of a file together with variables, as the pod has them. Where a file of a secret is named, one
/// is there.
pub(crate) fn load(file: &str, variables: &[(String, String)]) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let mut environment = BTreeMap::new();
    let secret = |path: &str| {
        let name = path.strip_prefix(SECRETS).and_then(|it| it.strip_prefix('/'));
        let name = name.unwrap_or_else(|| panic!("{path}: secrets are mounted at {SECRETS}"));
        let text = if name == "broker-url" {
            "amqp://ann:hush@rabbitmq:5672/orderwright"
        } else {
            "s3cret"
        };
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).to_str().unwrap().to_owned()
    };
    // What the webhook of workload identity gives a pod.
    for (name, value) in [
        ("AZURE_CLIENT_ID", "3f2504e0-4f89-11d3-9a0c-0305e82c3301"),
        ("AZURE_TENANT_ID", "contoso.com"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/azure/tokens/azure-identity-token"),
        ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/"),
    ] {
        environment.insert(name.to_owned(), value.to_owned());
    }
    for (name, value) in variables {
        let value = if name.ends_with("_FILE") { secret(value) } else { value.clone() };
        environment.insert(name.clone(), value);
    }
    let text = read(file);
    let path = "/run/secrets/orderwright/broker-url";
    assert!(text.contains(path), "{file}: the broker's address comes from {path}");
    let with_secret = folder.path().join("orderwright.toml");
    std::fs::write(&with_secret, text.replace(path, &secret(path))).unwrap();
    let sources = Sources { file: Some(with_secret), environment };
    Settings::load(&sources)
        .unwrap_or_else(|errors| panic!("{file} with {variables:?}: {errors}"))
        .settings
}

/// The settings of the base alone.
pub(crate) fn base() -> Settings {
    load(&format!("{BASE}/orderwright.toml"), &[])
}

/// What somebody may apply.
pub(crate) struct Installation {
    pub(crate) name: String,
    pub(crate) settings: Settings,
    /// KEDA says how many pods there are.
    pub(crate) is_scaled: bool,
}

/// What each overlay comes to, and the base with each component.
pub(crate) fn installations() -> Vec<Installation> {
    let of = |name: &str, settings, is_scaled| Installation {
        name: name.to_owned(),
        settings,
        is_scaled,
    };
    let mut all = vec![of("the base", base(), false)];
    for kustomization in kustomizations() {
        let own = folder(&kustomization);
        let file = format!("{own}/orderwright.toml");
        if own.contains("/components/") {
            let mut variables = patched(&kustomization);
            if own.ends_with("client-secret") {
                // What the overlay says.
                for (key, value) in [("TENANT", "contoso.com"), ("CLIENT_ID", "c")] {
                    variables.push((format!("ORDERWRIGHT__TARGET__AUTH__{key}"), value.to_owned()));
                }
            }
            let settings = load(&format!("{BASE}/orderwright.toml"), &variables);
            all.push(of(own, settings, own.ends_with("/keda")));
        } else if own.contains("/overlays/") {
            let kustomization = document(&kustomization);
            let mut variables = Vec::new();
            let mut is_scaled = false;
            for component in kustomization["components"].as_array().unwrap() {
                let component = component.as_str().unwrap().trim_start_matches("../../");
                is_scaled |= component.ends_with("/keda");
                variables.extend(patched(&format!("{FOLDER}/{component}/kustomization.yaml")));
            }
            all.push(of(own, load(&file, &variables), is_scaled));
        }
    }
    assert!(all.len() > 5, "{FOLDER}: components and overlays are gone");
    all
}

#[test]
fn every_setting_of_the_manifests_is_known_and_each_pod_is_probed_where_it_listens() {
    let port = number(&pod()["spec"]["containers"][0]["ports"][0]["containerPort"]);
    for Installation { name, settings, .. } in installations() {
        assert_eq!(settings.admin.listen, format!("0.0.0.0:{port}"), "{name}");
    }
    // A setting that nobody knows is seen.
    let unknown = [("ORDERWRIGHT__DRAIN__GRACEE".to_owned(), "1s".to_owned())];
    let loaded = std::panic::catch_unwind(|| load(&format!("{BASE}/orderwright.toml"), &unknown));
    assert!(loaded.is_err(), "an unknown setting was let through");
}

#[test]
fn pod_outlives_the_drain_and_has_the_time_to_start() {
    let spec = &pod()["spec"];
    let grace = Duration::from_secs(number(&spec["terminationGracePeriodSeconds"]));
    let probe = &spec["containers"][0]["startupProbe"];
    let patience = number(&probe["periodSeconds"]) * number(&probe["failureThreshold"]);
    for Installation { name, settings, .. } in installations() {
        let needed = end_max(&settings);
        assert!(
            grace >= needed,
            "{name}: terminationGracePeriodSeconds must be {needed:?} or more"
        );
        let start = settings.broker.start_timeout * 2 + settings.broker.connect_timeout;
        assert!(Duration::from_secs(patience) >= start, "{name}: startupProbe must wait {start:?}");
    }
}

#[test]
fn memory_limit_holds_all_that_the_settings_allow_at_once() {
    let resources = &pod()["spec"]["containers"][0]["resources"];
    let limit = mebibytes(&resources["limits"]["memory"]);
    for Installation { name, settings, .. } in installations() {
        let answers =
            settings.target.body_bytes_max as u64 * settings.dispatch.concurrency_max as u64;
        let bytes = settings.memory_max() + answers;
        // As much again for the program, its connections and what the allocator keeps.
        assert!(
            limit * 1024 * 1024 >= 2 * bytes,
            "{name}: {} MiB of bodies and answers",
            bytes >> 20
        );
    }
    // What the comment says.
    let settings = base();
    let answers = settings.target.body_bytes_max as u64 * settings.dispatch.concurrency_max as u64;
    let said = format!("{} MiB", (settings.memory_max() + answers) >> 20);
    assert!(
        read(&format!("{BASE}/deployment.yaml")).contains(&said),
        "the comment must say {said}"
    );
}

#[test]
fn memory_request_is_no_less_than_the_most_that_was_measured() {
    let request = mebibytes(&pod()["spec"]["containers"][0]["resources"]["requests"]["memory"]);
    let rows = table("docs/PERFORMANCE.md", "## Logs, metrics and traces");
    // "149 MiB (146 to 150)"
    let most = |cell: &String| cell.trim_end_matches(')').rsplit(' ').next()?.parse::<u64>().ok();
    let most = rows.iter().map(|row| most(row.last().unwrap()).unwrap()).max().unwrap();
    assert!(most > 0 && request >= most, "{request} MiB are asked for, {most} were measured");
    for file in [&format!("{BASE}/deployment.yaml"), "deploy/README.md"] {
        assert!(read(file).contains(&format!("{most} MiB at most")), "{file}: {most} MiB at most");
    }
}

#[test]
fn probes_and_ports_are_those_of_the_admin_listener() {
    let container = &pod()["spec"]["containers"][0];
    let routes = read("docs/TELEMETRY.md");
    for (probe, path) in
        [("startupProbe", "/startupz"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
    {
        assert_eq!(container[probe]["httpGet"]["path"], path, "{probe}");
        assert_eq!(container[probe]["httpGet"]["port"], container["ports"][0]["name"], "{probe}");
        assert!(routes.contains(&format!("| `{path}` |")), "docs/TELEMETRY.md: no {path}");
    }
    let port = &container["ports"][0]["containerPort"];
    let policy = document(&format!("{BASE}/network-policy.yaml"));
    assert_eq!(&policy["spec"]["ingress"][0]["ports"][0]["port"], port);
    let monitor = document(&format!("{FOLDER}/components/prometheus-operator/pod-monitor.yaml"));
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!(
        (&endpoint["port"], &endpoint["path"]),
        (&container["ports"][0]["name"], &"/metrics".into())
    );
}

#[test]
fn whoever_chooses_pods_chooses_ours_and_what_is_mounted_is_there() {
    let pod = pod();
    let labels = pod["metadata"]["labels"].as_object().unwrap();
    let deployment = document(&format!("{BASE}/deployment.yaml"));
    let chosen = |what: &str, selector: &Value| {
        let wanted = selector["matchLabels"].as_object().unwrap();
        assert!(!wanted.is_empty(), "{what} chooses every pod");
        for (name, value) in wanted {
            assert_eq!(labels.get(name), Some(value), "{what}: {name}");
        }
    };
    chosen("the deployment", &deployment["spec"]["selector"]);
    for constraint in pod["spec"]["topologySpreadConstraints"].as_array().unwrap() {
        chosen("the spread", &constraint["labelSelector"]);
    }
    let budget = document(&format!("{BASE}/disruption-budget.yaml"));
    chosen("the disruption budget", &budget["spec"]["selector"]);
    let policy = document(&format!("{BASE}/network-policy.yaml"));
    chosen("the network policy", &policy["spec"]["podSelector"]);
    let monitor = document(&format!("{FOLDER}/components/prometheus-operator/pod-monitor.yaml"));
    chosen("the pod monitor", &monitor["spec"]["selector"]);
    let scaled = document(&format!("{FOLDER}/components/keda/scaled-object.yaml"));
    assert_eq!(scaled["spec"]["scaleTargetRef"]["name"], deployment["metadata"]["name"]);
    let account = document(&format!("{BASE}/service-account.yaml"));
    assert_eq!(account["metadata"]["name"], pod["spec"]["serviceAccountName"]);

    let names = |list: &Value| -> BTreeSet<String> {
        let name = |it: &Value| it["name"].as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(name).collect()
    };
    let container = &pod["spec"]["containers"][0];
    assert_eq!(names(&container["volumeMounts"]), names(&pod["spec"]["volumes"]));
    let mounts = container["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(|it| it["mountPath"] == SECRETS));
}

#[test]
fn pod_asks_for_no_more_than_the_restricted_profile_allows() {
    let spec = &pod()["spec"];
    let container = &spec["containers"][0]["securityContext"];
    let host = &spec["securityContext"];
    assert_eq!(host["runAsNonRoot"], true);
    assert_ne!(host["runAsUser"], 0);
    assert_eq!(host["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["capabilities"], serde_json::json!({"drop": ["ALL"]}));
    assert_eq!(spec["automountServiceAccountToken"], false);
    let writable =
        spec["volumes"].as_array().unwrap().iter().any(|it| it.get("hostPath").is_some());
    assert!(!writable, "a folder of the node is in the pod");
}
