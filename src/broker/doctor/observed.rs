//! What was seen, in the shapes in which the management API tells it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Why a part could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unseen {
    /// No answer, or a broken one.
    #[error("the management API does not answer ({0})")]
    Silent(String),
    /// An HTTP status that is no success: 401 where the user may not ask.
    #[error("the management API answers with status {0}")]
    Status(u16),
    /// More than we read.
    #[error("its answer is larger than {0} bytes")]
    TooLarge(usize),
    /// More pages than we read.
    #[error("there are more than {0} of them")]
    TooMany(usize),
    /// Not what we know.
    #[error("its answer is not understood ({0})")]
    Unclear(String),
}

/// Something that was looked at, or why not.
pub type Part<T> = Result<T, Unseen>;

/// All that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The server.
    pub overview: Part<Overview>,
    /// Queues by name: ours, and those that are taken from. Others may be among them.
    pub queues: Part<BTreeMap<String, Queue>>,
    /// Exchanges by name. Others may be among them.
    pub exchanges: Part<BTreeMap<String, Exchange>>,
    /// All bindings of the virtual host.
    pub bindings: Part<Vec<Binding>>,
    /// The consumers of the virtual host that the asking user may see.
    pub consumers: Part<Vec<Consumer>>,
    /// The connections of the virtual host that the asking user may see.
    pub connections: Part<Vec<Connection>>,
    /// What the user of the AMQP connection may do, for each virtual host.
    pub permissions: Part<Vec<Permission>>,
    /// The virtual host.
    pub vhost: String,
    /// Feature flags.
    pub features: Part<Vec<Feature>>,
}

/// The server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Overview {
    /// Such as `4.3.6`.
    pub rabbitmq_version: String,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// `quorum`, `classic`, `stream`.
    pub r#type: String,
    /// Its arguments.
    #[serde(deserialize_with = "object")]
    pub arguments: Map<String, Value>,
    /// The policy that applies.
    pub policy: Option<String>,
    /// The operator policy that applies.
    pub operator_policy: Option<String>,
    /// Both merged. Missing until the broker's statistics have come: for some seconds after the
    /// queue was made, before 4.3.
    #[serde(deserialize_with = "some_object")]
    pub effective_policy_definition: Option<Map<String, Value>>,
}

/// An exchange.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// `fanout`, `direct`, `x-consistent-hash`, …
    pub r#type: String,
    /// Its arguments.
    #[serde(deserialize_with = "object")]
    pub arguments: Map<String, Value>,
}

/// A binding.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Binding {
    /// From this exchange; empty for the default exchange.
    pub source: String,
    /// To this queue or exchange.
    pub destination: String,
    /// `queue` or `exchange`.
    pub destination_type: String,
    /// Its routing key.
    pub routing_key: String,
}

/// A consumer.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Consumer {
    /// Of this queue.
    pub queue: Named,
    /// By this channel.
    #[serde(deserialize_with = "or_default")]
    pub channel_details: Channel,
    /// Milliseconds, from 4.0 on.
    #[serde(rename = "consumer_timeout")]
    pub timeout: Value,
}

/// Something that has a name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Named {
    /// The name.
    pub name: String,
}

/// A consumer's channel.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Channel {
    /// Name of its connection, as the broker made it: both addresses.
    pub connection_name: String,
    /// Who is logged in.
    pub user: String,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Connection {
    /// As the broker made it.
    pub name: String,
    /// As the client gave it.
    pub user_provided_name: Option<String>,
}

/// What a user may do in a virtual host: regular expressions over names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Permission {
    /// In this virtual host.
    pub vhost: String,
    /// Declare and delete.
    pub configure: String,
    /// Publish to an exchange, bind to a queue.
    pub write: String,
    /// Consume a queue, bind from an exchange.
    pub read: String,
}

/// A feature flag.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// `enabled` or not.
    pub state: String,
}

/// Erlang has one empty list for both, so an empty object may come as `[]`.
fn object<'de, D: Deserializer<'de>>(from: D) -> Result<Map<String, Value>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    })
}

fn some_object<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Map<String, Value>>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Object(map) => Some(map),
        Value::Array(none) if none.is_empty() => Some(Map::new()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            None
        }
    })
}

/// A channel that is just gone comes as `[]`.
fn or_default<'de, D: Deserializer<'de>>(from: D) -> Result<Channel, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).unwrap_or_default())
}
