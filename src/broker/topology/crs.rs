//! The topology as custom resources of RabbitMQ's Messaging Topology Operator.

use serde_json::{Map, Value, json};

use super::{Queue, Topology, arguments};

impl Topology {
    /// The resources, for the RabbitmqCluster of this name in the same namespace; what is bound
    /// before its bindings. The operator works on them in no certain order, though, and the hash over
    /// the shards goes by the order of its bindings.
    pub fn custom_resources(&self, vhost: &str, cluster: &str) -> Vec<Value> {
        let resource = |kind: &str, name: String, mut spec: Map<String, Value>| {
            spec.insert("vhost".to_owned(), json!(vhost));
            spec.insert("rabbitmqClusterReference".to_owned(), json!({"name": cluster}));
            let metadata =
                json!({"name": name, "labels": {"app.kubernetes.io/name": "orderwright"}});
            json!({
                "apiVersion": "rabbitmq.com/v1beta1", "kind": kind,
                "metadata": metadata, "spec": spec,
            })
        };
        let exchanges = self.exchanges().into_iter().map(|it| {
            let spec = object([
                ("name", json!(it.name)),
                ("type", json!(it.kind.name())),
                ("durable", json!(true)),
                ("autoDelete", json!(false)),
                ("arguments", Value::Object(arguments(&it.arguments))),
            ]);
            resource("Exchange", self.resource_name(&it.name), spec)
        });
        let queues = self
            .queues()
            .into_iter()
            .map(|it| resource("Queue", self.resource_name(&it.name), queue(&it)));
        let bindings = self.bindings().into_iter().map(|it| {
            let spec = object([
                ("source", json!(it.source)),
                ("destination", json!(it.destination)),
                ("destinationType", json!(it.leads_to.name())),
                ("routingKey", json!(it.routing_key)),
            ]);
            let (from, to) = (self.resource_name(&it.source), self.resource_name(&it.destination));
            resource("Binding", format!("{from}.{to}"), spec)
        });
        exchanges.chain(queues).chain(bindings).collect()
    }

    /// The same as a stream of YAML documents.
    pub fn crs(&self, vhost: &str, cluster: &str) -> String {
        let mut text = String::new();
        for resource in self.custom_resources(vhost, cluster) {
            text.push_str("---\n");
            block(&mut text, 0, &resource);
        }
        text
    }

    /// A name that Kubernetes allows: letters and digits in lower case, and `-`. A prefix that has
    /// others is told apart from its likes by a number made of it.
    fn resource_name(&self, name: &str) -> String {
        let rest = name.strip_prefix(&self.prefix).unwrap_or(name);
        let plain = |c: char| match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => c,
            _ => '-',
        };
        let slug = |text: &str| text.chars().map(plain).collect::<String>();
        let prefix = slug(&self.prefix);
        let prefix = prefix.trim_matches('-');
        let mark = if prefix == self.prefix { String::new() } else { mark(&self.prefix) };
        let joined = format!("{prefix}{mark}{}", slug(rest));
        joined.trim_matches('-').to_owned()
    }
}

fn queue(it: &Queue) -> Map<String, Value> {
    let mut arguments = arguments(&it.arguments);
    // The operator makes this argument of the type.
    let kind = arguments.remove("x-queue-type").unwrap_or_default();
    object([
        ("name", json!(it.name)),
        ("type", kind),
        ("durable", json!(true)),
        ("autoDelete", json!(false)),
        // The default would delete the queue, and all that waits in it, with its resource.
        ("deletionPolicy", json!("retain")),
        ("arguments", Value::Object(arguments)),
    ])
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

/// FNV-1a, 32 bits: short, and the same in every version.
fn mark(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("-{hash:08x}")
}

/// Writes an object as block YAML. Scalars are written as JSON, which YAML includes.
fn block(text: &mut String, depth: usize, value: &Value) {
    let Value::Object(members) = value else { return };
    for (key, value) in members {
        text.push_str(&"  ".repeat(depth));
        text.push_str(key);
        text.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                text.push('\n');
                block(text, depth + 1, value);
            }
            Value::Object(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => {
                text.push(' ');
                text.push_str(&value.to_string());
                text.push('\n');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn topology(prefix: &str, shards: u16) -> Topology {
        let prefix = prefix.to_owned();
        Topology::new(&config::Topology { prefix, shards, ..config::Topology::default() })
    }

    #[test]
    fn every_resource_is_valid_by_the_operators_own_schema() {
        let schema = |kind: &str| {
            let file = format!("tests/schemas/rabbitmq.com/{kind}_v1beta1.json");
            let root = env!("CARGO_MANIFEST_DIR");
            let text = std::fs::read_to_string(format!("{root}/{file}")).unwrap();
            jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
        };
        let validators =
            ["Exchange", "Queue", "Binding"].map(|kind| (kind, schema(&kind.to_lowercase())));
        for shards in [1, 3] {
            let resources = topology("p", shards).custom_resources("v", "rabbit");
            for resource in &resources {
                let of = |(kind, _): &&(&str, _)| resource["kind"] == *kind;
                let (_, validator) = validators.iter().find(of).unwrap();
                let errors: Vec<_> =
                    validator.iter_errors(resource).map(|it| it.to_string()).collect();
                assert!(errors.is_empty(), "{errors:?} in {resource}");
            }
            // The schema is known to see a difference.
            let mut wrong = resources[0].clone();
            wrong["spec"]["durabel"] = json!(true);
            assert!(!validators[0].1.is_valid(&wrong));
        }
    }

    #[test]
    fn resources_have_names_that_kubernetes_allows_and_each_its_own() {
        let part = |part: &str| {
            let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            !part.is_empty()
                && part.chars().all(inside)
                && !part.starts_with('-')
                && !part.ends_with('-')
        };
        let long = "Long_".repeat(12);
        let mut kept = std::collections::BTreeSet::new();
        for prefix in ["orderwright", "a.b", "a_b", "A-b", "a-b", "-", "_.", &long] {
            for resource in topology(prefix, 2).custom_resources("/", "rabbit") {
                let name = resource["metadata"]["name"].as_str().unwrap().to_owned();
                assert!(name.len() <= 253 && name.split('.').all(part), "{name}");
                let named = (resource["kind"].to_string(), name);
                assert!(kept.insert(named.clone()), "{named:?} of {prefix:?} is there twice");
            }
        }
    }

    #[test]
    fn manifests_have_the_resources_that_are_printed_for_the_default_settings() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = root.join("deploy/kubernetes/components/rabbitmq-topology/topology.yaml");
        let text = Topology::of_all(&config::Settings::default()).crs("orderwright", "rabbitmq");
        if std::env::var_os("ORDERWRIGHT_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let checked_in = std::fs::read_to_string(&path).unwrap();
        assert!(
            checked_in == text,
            "run ORDERWRIGHT_BLESS=1 cargo test to write {}",
            path.display()
        );
    }

    #[test]
    fn text_is_one_document_a_resource_and_the_queue_outlives_its_resource() {
        let text = topology("p", 1).crs("it's", "rabbit");
        let documents: Vec<_> = text.split("---\n").skip(1).collect();
        assert_eq!(documents.len(), 5 + 6 + 6);
        assert_eq!(
            documents[10],
            r#"apiVersion: "rabbitmq.com/v1beta1"
kind: "Queue"
metadata:
  labels:
    app.kubernetes.io/name: "orderwright"
  name: "p-shard-g1-000"
spec:
  arguments:
    x-dead-letter-exchange: "p.dead-letters"
    x-dead-letter-strategy: "at-least-once"
    x-delivery-limit: 100
    x-overflow: "reject-publish"
    x-single-active-consumer: true
  autoDelete: false
  deletionPolicy: "retain"
  durable: true
  name: "p.shard.g1.000"
  rabbitmqClusterReference:
    name: "rabbit"
  type: "quorum"
  vhost: "it's"
"#
        );
        assert_eq!(text, topology("p", 1).crs("it's", "rabbit"), "the same each time");
    }
}
