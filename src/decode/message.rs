//! The message contract, version 1: the types that its JSON Schema is generated from.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde_json::value::RawValue;

use super::json::Names;
use super::{Contract, Error};
use crate::order::{Changes, Expect, KeyValue, Literal, OrderKey, OrderUpdate, Sequence};

/// The top-level fields. A test holds them equal to the properties of the schema.
pub(super) const FIELDS: [&str; 5] = ["key", "changes", "sequence", "expect", "occurredAt"];

/// AMQP gives a routing key 255 bytes (AMQP 0-9-1, section 4.2.5.3: short strings).
const KEY_BYTES_MAX: usize = 255;

/// An order update, as publishers send it.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "OrderUpdate")]
struct Message<'a> {
    /// The order: exactly the key properties that the deployment is configured with.
    #[schemars(extend("minProperties" = 1))]
    key: BTreeMap<String, KeyLiteral>,
    /// The properties to write, with the names and values that the OData service takes. Sent on as
    /// they are written here, digit for digit.
    #[serde(borrow)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>", extend("minProperties" = 1))]
    changes: &'a RawValue,
    /// The publisher's number of this update among those of the same order: every update has a
    /// higher one than those before it. Begin at 1.
    #[serde(default)]
    #[schemars(range(max = 9_223_372_036_854_775_807_u64))]
    sequence: Option<u64>,
    /// Values that a property may have now, for the update to make sense. Judged on the state that
    /// is fetched before each write; if it does not hold, the update is dead-lettered.
    #[serde(borrow, default)]
    #[schemars(with = "Option<BTreeMap<String, Allowed>>")]
    expect: Option<&'a RawValue>,
    /// When it happened at the publisher's side (RFC 3339).
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    occurred_at: Option<jiff::Timestamp>,
}

/// A key value: a string is written in quotes in the URL, an integer bare.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
enum KeyLiteral {
    /// A string that is not empty.
    Text(#[schemars(length(min = 1))] String),
    /// An integer.
    Integer(i64),
}

impl<'de> Deserialize<'de> for KeyLiteral {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = KeyLiteral;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an integer of 64 bits")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<KeyLiteral, E> {
        Ok(KeyLiteral::Text(text.to_owned()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<KeyLiteral, E> {
        Ok(KeyLiteral::Integer(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<KeyLiteral, E> {
        let unexpected = || E::invalid_value(de::Unexpected::Unsigned(number), &self);
        i64::try_from(number).map(KeyLiteral::Integer).map_err(|_large| unexpected())
    }
}

/// The values that are allowed, at least one.
#[derive(JsonSchema)]
struct Allowed(
    #[expect(dead_code, reason = "only its schema is used: the values stay text")]
    #[schemars(length(min = 1))]
    Vec<serde_json::Value>,
);

/// The JSON Schema (2020-12) of the message contract.
#[must_use]
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(Message<'_>)
}

/// Reads the fields of a text that [`super::json::check`] has passed.
pub(super) fn read(text: &str, contract: &Contract) -> Result<OrderUpdate, Error> {
    let message: Message<'_> = match serde_json::from_str(text) {
        Ok(message) => message,
        Err(error) => return Err(field(text, error)),
    };
    let key = key(message.key, contract)?;
    Ok(OrderUpdate {
        key,
        changes: changes(message.changes, contract)?,
        sequence: match message.sequence {
            None => None,
            Some(number) => Some(Sequence::new(number).ok_or(Error::SequenceTooLarge)?),
        },
        expect: message.expect.map(expect).transpose()?,
        occurred_at: message.occurred_at,
        // Its headers say that, not its body.
        replay: None,
    })
}

/// Which field it is that cannot be read: found by a second look, since most messages can be.
#[cold]
fn field(text: &str, error: serde_json::Error) -> Error {
    let deserializer = &mut serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, Message<'_>>(deserializer) {
        Ok(_) => Error::Malformed(error),
        Err(error) => {
            let path = error.path().to_string();
            Error::Field { path, source: error.into_inner() }
        }
    }
}

fn key(mut given: BTreeMap<String, KeyLiteral>, contract: &Contract) -> Result<OrderKey, Error> {
    let names = || contract.key.iter().map(|property| &*property.name);
    if given.len() != contract.key.len() || !names().all(|name| given.contains_key(name)) {
        return Err(Error::KeyMismatch {
            given: given.into_keys().map(|name| super::printable(&name)).collect(),
            wanted: names().map(str::to_owned).collect(),
        });
    }
    let mut values = Vec::with_capacity(contract.key.len());
    for property in &contract.key {
        let literal = match given.remove(&*property.name) {
            Some(KeyLiteral::Text(text)) if property.is_guid && !is_guid(&text) => {
                return Err(Error::KeyGuid { property: property.name.to_string() });
            }
            Some(KeyLiteral::Integer(_)) if property.is_guid => {
                return Err(Error::KeyGuid { property: property.name.to_string() });
            }
            Some(KeyLiteral::Integer(number)) => Literal::Integer(number),
            Some(KeyLiteral::Text(text)) if is_name(&text) => Literal::Text(text),
            Some(KeyLiteral::Text(_)) | None => {
                return Err(Error::KeyValue { property: property.name.to_string() });
            }
        };
        values.push(KeyValue { property: property.name.clone(), literal });
    }
    let folds = |name: &str| {
        contract.key.iter().any(|property| property.folds_case && &*property.name == name)
    };
    let key = OrderKey::new(values, folds);
    let bytes = key.canonical().len();
    if bytes > KEY_BYTES_MAX {
        return Err(Error::KeyTooLong { bytes, bytes_max: KEY_BYTES_MAX });
    }
    Ok(key)
}

/// Control characters would break logs and shells, and no order is named with one.
fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

/// Whether a text is a GUID as OData writes one. Services take others too (in braces, without
/// hyphens), and each would be one more name of the same order: two updates of it at once.
fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn changes(raw: &RawValue, contract: &Contract) -> Result<Changes, Error> {
    let names: Names<'_> = object(raw, "changes")?;
    if names.0.is_empty() {
        return Err(Error::ChangesEmpty);
    }
    let holds = |wanted: &str| names.0.iter().any(|name| name == wanted);
    if let Some(property) = contract.key.iter().find(|key| holds(&key.name)) {
        return Err(Error::ChangesKey { property: property.name.to_string() });
    }
    let sequence = contract.sequence_property.as_deref();
    if let Some(property) = sequence.filter(|property| holds(property)) {
        return Err(Error::ChangesSequence { property: property.to_owned() });
    }
    Ok(Changes::new(raw.to_owned()))
}

fn expect(raw: &RawValue) -> Result<Expect, Error> {
    let members: BTreeMap<String, &RawValue> = object(raw, "expect")?;
    for (property, allowed) in members {
        let list: Result<Vec<&RawValue>, _> = serde_json::from_str(allowed.get());
        if list.is_ok_and(|list| !list.is_empty()) {
            continue;
        }
        return Err(Error::Expect { property: super::printable(&property) });
    }
    Ok(Expect::new(raw.to_owned()))
}

fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue, field: &str) -> Result<T, Error> {
    serde_json::from_str(raw.get())
        .map_err(|source| Error::Field { path: field.to_owned(), source })
}
