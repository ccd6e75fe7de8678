//! Bodies to messages with the properties and the routing key that the contract asks for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::ShortString;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::app::target::key_values;
use crate::broker::Outgoing;
use crate::decode::{self, Contract, Envelope, decode};

/// What a message that is no update is routed by: the broker wants some key, and this one shows.
const NO_KEY: &str = "undecodable";

pub(super) struct Builder {
    pub(super) contract: Contract,
    pub(super) exchange: String,
    pub(super) unchecked: bool,
}

impl Builder {
    /// The message for a body. An error only where checking was asked for.
    pub(super) fn build(&self, body: &[u8]) -> Result<Outgoing, decode::Error> {
        let (content_type, content_encoding) = (Some("application/json"), None);
        let envelope = Envelope { content_type, content_encoding, body };
        let routing_key: ShortString = match decode(&self.contract, envelope) {
            Ok(update) => (&**update.key.canonical()).into(),
            Err(_) if self.unchecked => NO_KEY.into(),
            Err(error) => return Err(error),
        };
        let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid();
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_message_id(id.to_string().as_str().into())
            .with_app_id("orderwright-publish".into())
            .with_timestamp(now);
        let (exchange, body) = (self.exchange.clone(), body.to_vec());
        Ok(Outgoing { exchange, routing_key, properties, body })
    }
}

/// The body of an update that is given by flags.
pub(super) fn from_flags(
    contract: &Contract,
    key: &str,
    set: &[String],
    sequence: Option<u64>,
) -> Result<Vec<u8>, String> {
    let names: Vec<_> = contract.key.iter().map(|property| property.name.to_string()).collect();
    let values = key_values(&names, key)?;
    let key: BTreeMap<_, _> = names.into_iter().zip(values).collect();
    let mut changes = BTreeMap::new();
    for assignment in set {
        let Some((name, value)) = assignment.split_once('=') else {
            return Err(format!("--set {assignment:?} is not NAME=VALUE"));
        };
        if changes.insert(name, literal(value)).is_some() {
            return Err(format!("--set names {name:?} twice"));
        }
    }
    let body = Body { key, changes, sequence };
    serde_json::to_vec(&body).map_err(|error| error.to_string())
}

#[derive(Serialize)]
struct Body<'a> {
    key: BTreeMap<String, String>,
    changes: BTreeMap<&'a str, Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
}

/// A number, true, false, null or a quoted text as it is written, digit for digit; all else as text.
fn literal(text: &str) -> Box<RawValue> {
    let scalar = !text.trim_start().starts_with(['{', '[']);
    let json = serde_json::from_str::<Box<RawValue>>(text).ok().filter(|_| scalar);
    // A string always has a JSON form.
    json.or_else(|| serde_json::value::to_raw_value(text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_sent_as_they_are_written() {
        for (written, sent) in [
            ("12.50", "12.50"),
            ("12345678901234567.89", "12345678901234567.89"),
            ("true", "true"),
            ("null", "null"),
            ("Delivered", "\"Delivered\""),
            ("2025-02-08", "\"2025-02-08\""),
            ("\"007\"", "\"007\""),
            ("[1]", "\"[1]\""),
            ("", "\"\""),
        ] {
            assert_eq!(literal(written).get(), sent, "{written}");
        }
    }
}
