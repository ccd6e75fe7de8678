//! That the Helm chart is of this version, and takes no value that it does not know.
//!
//! That it renders what Kustomize renders, Helm's own engine says in `make test-manifests`.

use serde_json::{Value, json};

use crate::files::{ROOT, read};
use crate::manifests::document;

const CHART: &str = "deploy/helm/orderwright";

#[test]
fn chart_is_of_this_version_and_reads_the_files_of_the_base() {
    let chart = document(&format!("{CHART}/Chart.yaml"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"), "{CHART}/Chart.yaml");
    let link = std::path::Path::new(ROOT).join(CHART).join("kubernetes");
    let kubernetes = std::path::Path::new(ROOT).join("deploy/kubernetes");
    assert_eq!(link.canonicalize().unwrap(), kubernetes.canonicalize().unwrap());
    // What is needed of Kubernetes is what deploy/README.md says.
    let minor = chart["kubeVersion"].as_str().unwrap().split('.').nth(1).unwrap();
    assert!(read("deploy/README.md").contains(&format!("For Kubernetes 1.{minor} or later")));
}

/// Every object of the schema that lists its properties refuses others.
fn closed(path: &str, schema: &Value) {
    match schema {
        Value::Object(of) => {
            if of.contains_key("properties") {
                assert_eq!(
                    of.get("additionalProperties"),
                    Some(&json!(false)),
                    "{path} takes anything"
                );
            }
            for (name, value) in of {
                closed(&format!("{path}/{name}"), value);
            }
        }
        Value::Array(of) => of.iter().for_each(|it| closed(path, it)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn values_that_the_chart_does_not_know_are_refused_and_its_own_are_not() {
    let text = read(&format!("{CHART}/values.schema.json"));
    let schema: Value = serde_json::from_str(&text).unwrap();
    closed("", &schema);
    let validator = jsonschema::validator_for(&schema).unwrap();
    let values = document(&format!("{CHART}/values.yaml"));
    for name in ["values", "ci/production-values", "ci/self-contained-values"] {
        let values = document(&format!("{CHART}/{name}.yaml"));
        let errors: Vec<_> = validator.iter_errors(&values).map(|it| it.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
    // Each value has its default, so that values.yaml is the whole list. `global` is Helm's own.
    let known = schema["properties"].as_object().unwrap().keys().filter(|it| *it != "global");
    let have = values.as_object().unwrap();
    assert_eq!(
        known.collect::<Vec<_>>(),
        have.keys().collect::<Vec<_>>(),
        "schema, and values.yaml"
    );
    // And the components are the folders that there are.
    let mut folders: Vec<String> =
        std::fs::read_dir(format!("{ROOT}/deploy/kubernetes/components"))
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
    folders.sort();
    assert_eq!(schema["properties"]["components"]["items"]["enum"], json!(folders));
}
