//! The topology in the words of RabbitMQ's own tools, for those who declare objects themselves.

use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Map, Value, json};

use super::{Destination, Kind, Topology};

impl Kind {
    pub(in crate::broker) const fn name(self) -> &'static str {
        match self {
            Self::Fanout => "fanout",
            Self::Direct => "direct",
            Self::ConsistentHash => "x-consistent-hash",
        }
    }
}

impl Destination {
    pub(in crate::broker) const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Exchange => "exchange",
        }
    }
}

impl Topology {
    /// A definitions file, as `rabbitmqctl import_definitions`, `load_definitions` and the
    /// management page take it. It names nothing but our own objects, so that its import changes
    /// nothing else; the virtual host must exist.
    pub fn definitions(&self, vhost: &str) -> Value {
        let exchanges = self.exchanges().into_iter().map(|exchange| {
            json!({
                "name": exchange.name, "vhost": vhost, "type": exchange.kind.name(),
                "durable": true, "auto_delete": false, "internal": false,
                "arguments": arguments(&exchange.arguments),
            })
        });
        let queues = self.queues().into_iter().map(|queue| {
            json!({
                "name": queue.name, "vhost": vhost, "durable": true, "auto_delete": false,
                "arguments": arguments(&queue.arguments),
            })
        });
        let bindings = self.bindings().into_iter().map(|binding| {
            json!({
                "source": binding.source, "vhost": vhost, "destination": binding.destination,
                "destination_type": binding.leads_to.name(),
                "routing_key": binding.routing_key, "arguments": {},
            })
        });
        json!({
            "exchanges": exchanges.collect::<Vec<_>>(),
            "queues": queues.collect::<Vec<_>>(),
            "bindings": bindings.collect::<Vec<_>>(),
        })
    }

    /// Shell lines for `rabbitmqadmin`, to be run in this order: what is bound exists by then, and
    /// the shards are bound one after the other, which is what their hash goes by.
    pub fn commands(&self, vhost: &str) -> String {
        let declare = format!("rabbitmqadmin --vhost={} declare", quoted(vhost));
        let exchanges = self.exchanges().into_iter().map(|exchange| {
            let (name, kind) = (quoted(&exchange.name), exchange.kind.name());
            let arguments = shell(&exchange.arguments);
            format!("{declare} exchange name={name} type={kind} durable=true{arguments}\n")
        });
        let queues = self.queues().into_iter().map(|queue| {
            let (name, arguments) = (quoted(&queue.name), shell(&queue.arguments));
            format!("{declare} queue name={name} durable=true{arguments}\n")
        });
        let bindings = self.bindings().into_iter().map(|binding| {
            let (source, destination) = (quoted(&binding.source), quoted(&binding.destination));
            let (kind, key) = (binding.leads_to.name(), quoted(&binding.routing_key));
            format!(
                "{declare} binding source={source} destination={destination} \
                 destination_type={kind} routing_key={key}\n"
            )
        });
        exchanges.chain(queues).chain(bindings).collect()
    }
}

/// Arguments as JSON, as the management API has them.
pub(in crate::broker) fn arguments(table: &FieldTable) -> Map<String, Value> {
    table.inner().iter().map(|(name, value)| (name.to_string(), value_of(value))).collect()
}

/// An argument as JSON.
fn value_of(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => json!(value),
        AMQPValue::LongInt(value) => json!(value),
        AMQPValue::LongLongInt(value) => json!(value),
        AMQPValue::LongString(value) => json!(value.to_string()),
        // The topology holds none of these, and a test would show the first one.
        AMQPValue::ShortShortInt(_)
        | AMQPValue::ShortShortUInt(_)
        | AMQPValue::ShortInt(_)
        | AMQPValue::ShortUInt(_)
        | AMQPValue::LongUInt(_)
        | AMQPValue::Float(_)
        | AMQPValue::Double(_)
        | AMQPValue::DecimalValue(_)
        | AMQPValue::ShortString(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::Timestamp(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::ByteArray(_)
        | AMQPValue::Void => Value::Null,
    }
}

fn shell(table: &FieldTable) -> String {
    if table.inner().is_empty() {
        return String::new();
    }
    format!(" arguments={}", quoted(&Value::Object(arguments(table)).to_string()))
}

/// One word for a POSIX shell, in quotes only where it needs them.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn topology(shards: u16) -> Topology {
        let prefix = "p".to_owned();
        Topology::new(&config::Topology { prefix, shards, ..config::Topology::default() })
    }

    #[test]
    fn definitions_hold_every_object_and_all_arguments() {
        let definitions = topology(2).definitions("v");
        let count = |kind: &str| definitions[kind].as_array().unwrap().len();
        assert_eq!((count("exchanges"), count("queues"), count("bindings")), (6, 7, 9));
        assert!(!definitions.to_string().contains("null"), "{definitions}");
        let shard = &definitions["queues"][5];
        assert_eq!((&shard["name"], &shard["vhost"]), (&json!("p.shard.g1.000"), &json!("v")));
        assert_eq!(shard["arguments"]["x-single-active-consumer"], json!(true));
        assert_eq!(shard["arguments"]["x-delivery-limit"], json!(100));
        let last = &definitions["bindings"][8];
        assert_eq!(last["destination_type"], "exchange", "opened last: {last}");
    }

    #[test]
    fn commands_are_one_line_an_object_in_the_order_of_their_making() {
        let commands = topology(1).commands("it's");
        let lines: Vec<_> = commands.lines().collect();
        assert_eq!(
            lines[4],
            r#"rabbitmqadmin --vhost='it'\''s' declare exchange name=p.updates type=fanout durable=true arguments='{"alternate-exchange":"p.unroutable"}'"#
        );
        assert_eq!(
            lines[16],
            r"rabbitmqadmin --vhost='it'\''s' declare binding source=p.updates destination=p.shard.g1.000 destination_type=queue routing_key=''"
        );
        assert_eq!(lines.len(), 5 + 6 + 6);
    }
}
