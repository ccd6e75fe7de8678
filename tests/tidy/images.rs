//! That the images and the playground of Docker Compose fit the program.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use orderwright::config::{Settings, Sources};
use serde_json::Value;

use crate::files::{ROOT, read, tidy};
use crate::manifests::{documents, end_max};

fn compose() -> Value {
    let mut all = documents("docker-compose.yml");
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// The settings of a service that runs the daemon's image, by its variables.
fn settings(service: &Value) -> Settings {
    let given = service["environment"].as_object().unwrap();
    let text =
        |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap().to_owned());
    let environment: BTreeMap<_, _> = given.iter().map(text).collect();
    Settings::load(&Sources { file: None, environment }).unwrap().settings
}

#[test]
fn workers_of_the_playground_have_known_settings_and_outlive_their_drain() {
    let compose = compose();
    let worker = &compose["services"]["orderwright"];
    let of_worker = settings(worker);
    assert_eq!(of_worker.admin.listen, "0.0.0.0:9464", "deploy/compose/prometheus.yaml asks there");
    let patience = worker["stop_grace_period"].as_str().unwrap();
    let needed = end_max(&of_worker);
    let patience: Duration = humantime::parse_duration(patience).unwrap();
    assert!(patience >= needed, "stop_grace_period must be {needed:?} or more");
    let cli = settings(&compose["services"]["cli"]);
    assert_eq!(cli.broker.url, of_worker.broker.url);
    assert!(of_worker.topology.declare, "nobody else makes the queues");
}

#[test]
fn playground_is_open_to_this_machine_alone_and_asks_for_no_privilege() {
    let compose = compose();
    for (name, service) in compose["services"].as_object().unwrap() {
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name}: {port}");
        }
        assert!(service.get("privileged").is_none(), "{name}");
    }
    for name in ["orderwright", "cli", "simulator"] {
        let service = &compose["services"][name];
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
    }
}

/// Every text below a value, with its path.
fn texts(path: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => found.push((path.to_owned(), text.clone())),
        Value::Array(of) => of.iter().for_each(|it| texts(path, it, found)),
        Value::Object(of) => {
            for (name, value) in of {
                texts(&format!("{path}.{name}"), value, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[test]
fn playground_holds_no_secret() {
    let secret = regex::Regex::new(r"(?i)pass(word|wd)?|secret|token|api_?key|credential").unwrap();
    // `user:password@` of an address. What stands in ${} comes from outside.
    let userinfo = regex::Regex::new(r"://[^/@\s]+@").unwrap();
    let findings_of = |compose: &Value| {
        let (mut all, mut findings) = (Vec::new(), Vec::new());
        texts("", compose, &mut all);
        for (path, text) in all {
            if secret.is_match(&path) || userinfo.is_match(&text) {
                findings.push(format!("docker-compose.yml: {path}: {text} is a secret"));
            }
            // A list of NAME=value, and flags.
            let name = text.split_once('=').map_or("", |(name, _)| name);
            if secret.is_match(name) {
                findings.push(format!("docker-compose.yml: {path}: {text} is a secret"));
            }
        }
        findings
    };
    tidy(&findings_of(&compose()));
    // That one would be seen.
    for wrong in [
        serde_json::json!({"environment": {"ORDERWRIGHT__BROKER__URL": "amqp://ann:hush@rabbitmq/"}}),
        serde_json::json!({"environment": {"RABBITMQ_DEFAULT_PASS": "hush"}}),
        serde_json::json!({"environment": ["RABBITMQ_DEFAULT_PASS=hush"]}),
        serde_json::json!({"command": ["--bearer-token=hush"]}),
    ] {
        let mut compose = compose();
        compose["services"]["orderwright"] = wrong;
        assert_eq!(findings_of(&compose).len(), 1, "{:?}", compose["services"]["orderwright"]);
    }
}

#[test]
fn playground_waits_for_what_it_needs_and_every_file_and_service_that_it_names_is_there() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    for (name, service) in services {
        let needed = match &service["depends_on"] {
            Value::Object(of) => of.keys().cloned().collect(),
            Value::Array(of) => of.iter().map(|it| it.as_str().unwrap().to_owned()).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => BTreeSet::new(),
        };
        for other in needed {
            assert!(services.contains_key(&other), "{name} waits for {other}");
        }
    }
    let after = &services["orderwright"]["depends_on"];
    for name in ["rabbitmq", "simulator"] {
        assert_eq!(after[name]["condition"], "service_healthy", "{name}");
        assert!(services[name]["healthcheck"]["test"].is_array(), "{name} has no health check");
    }
    for (name, config) in compose["configs"].as_object().unwrap() {
        let file = config["file"].as_str().unwrap();
        assert!(std::path::Path::new(ROOT).join(file).is_file(), "{name}: {file} is not there");
    }
}

#[test]
fn image_is_built_with_the_toolchain_of_this_repository_and_bears_its_version() {
    let file = read("Dockerfile");
    let toolchain: toml::Table = read("rust-toolchain.toml").parse().unwrap();
    let channel = toolchain["toolchain"]["channel"].as_str().unwrap();
    let minor = channel.rsplit_once('.').unwrap().0;
    assert!(file.contains(&format!("ARG RUST_IMAGE=rust:{minor}-")), "Dockerfile: Rust {minor}");
    let version = env!("CARGO_PKG_VERSION");
    assert!(file.contains(&format!("ARG VERSION={version}\n")), "Dockerfile: {version}");
    let compose = read("docker-compose.yml");
    for image in ["orderwright", "orderwright-sim"] {
        assert!(compose.contains(&format!(":-{image}:{version}}}")), "docker-compose.yml: {image}");
    }
}

#[test]
fn images_say_what_they_are_of() {
    let file = read("Dockerfile");
    let stages: Vec<_> =
        file.split("\nFROM ").filter(|it| it.starts_with("${RUNTIME_IMAGE}")).collect();
    assert_eq!(stages.len(), 2, "Dockerfile: the stages are written in another way");
    for stage in stages {
        for label in ["title", "description", "version", "revision", "source"] {
            let label = format!("org.opencontainers.image.{label}=\"");
            assert!(stage.contains(&label), "Dockerfile: {label} is missing in {stage}");
        }
        let version = format!("ARG VERSION={}\n", env!("CARGO_PKG_VERSION"));
        assert!(stage.contains(&version), "Dockerfile: {version} is missing in {stage}");
    }
}

#[test]
fn process_gets_its_signals_and_runs_as_nobody() {
    let file = read("Dockerfile");
    for stage in file.split("\nFROM ").filter(|it| it.starts_with("${RUNTIME_IMAGE}")) {
        let line = |start: &str| stage.lines().find(|it| it.trim_start().starts_with(start));
        // A shell in between would keep the signal to itself, and there is none.
        assert!(
            line("ENTRYPOINT").unwrap().starts_with("ENTRYPOINT [\"/usr/local/bin/"),
            "{stage}"
        );
        assert!(line("CMD").unwrap().trim_start().starts_with("CMD ["), "{stage}");
        assert_eq!(line("STOPSIGNAL"), Some("STOPSIGNAL SIGTERM"), "{stage}");
        assert_eq!(line("USER"), Some("USER 65532:65532"), "{stage}");
        assert!(line("RUN").is_none(), "{stage}");
    }
}
