//! A dead letter as one line of JSON, and back: byte for byte, with every property and the type of every
//! header.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lapin::BasicProperties;
use lapin::types::{FieldTable, ShortString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::record;
use super::typed::{Headers, of_table, short, to_table};
use super::view::{Found, Letter};

/// Version of the form.
const VERSION: u32 = 1;

/// Headers of a stay in one queue. They are not of the message.
const OF_STAY: [&str; 3] = ["x-delivery-count", "x-acquired-count", record::RETURNED_AT];

/// A message with all that it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Exchange that it was published to the last time.
    pub exchange: String,
    /// Routing key of the last time.
    pub routing_key: String,
    /// Properties and headers.
    pub properties: BasicProperties,
    /// Body.
    pub body: Vec<u8>,
}

/// Why a line is no letter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON, or other fields than ours.
    #[error("it is no exported letter")]
    Form(#[from] serde_json::Error),
    /// Of another version.
    #[error("it has version {found}, and this program knows {VERSION}")]
    Version {
        /// What it says.
        found: u32,
    },
    /// Neither text nor base64, or both.
    #[error("it must have either body or body_base64")]
    Body,
    /// The base64 is broken.
    #[error("its base64 is broken")]
    Base64(#[from] base64::DecodeError),
    /// A float that is none.
    #[error("a float makes no sense")]
    Float(#[from] std::num::ParseFloatError),
    /// Headers nest without end.
    #[error("its headers nest too deep")]
    TooDeep,
    /// AMQP gives such a text 255 bytes.
    #[error("{what} has more than 255 bytes")]
    TooLong {
        /// Which.
        what: &'static str,
    },
}

/// The line. `id` and `reason` are for whoever reads it; an import goes by the rest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    version: u32,
    #[serde(default)]
    id: Option<Uuid>,
    #[serde(default)]
    reason: Option<String>,
    exchange: String,
    routing_key: String,
    properties: Properties,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

/// Those of AMQP 0-9-1, by its names.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Properties {
    content_type: Option<String>,
    content_encoding: Option<String>,
    delivery_mode: Option<u8>,
    priority: Option<u8>,
    correlation_id: Option<String>,
    reply_to: Option<String>,
    expiration: Option<String>,
    message_id: Option<String>,
    timestamp: Option<u64>,
    r#type: Option<String>,
    user_id: Option<String>,
    app_id: Option<String>,
    cluster_id: Option<String>,
    headers: Option<Headers>,
}

/// One line, without its end.
///
/// # Errors
/// [`Error::Form`]; there is no letter that JSON cannot say.
pub fn to_line(message: &Message) -> Result<String, Error> {
    let Message { exchange, routing_key, properties, body } = message;
    let letter = Letter::read(Found { properties, exchange, routing_key, body });
    let text = std::str::from_utf8(body).ok().map(str::to_owned);
    let body_base64 = text.is_none().then(|| STANDARD.encode(body));
    Ok(serde_json::to_string(&Line {
        version: VERSION,
        id: Some(letter.id),
        reason: Some(letter.reason),
        exchange: exchange.clone(),
        routing_key: routing_key.clone(),
        properties: Properties::of(properties),
        body: text,
        body_base64,
    })?)
}

/// The message of a line.
///
/// # Errors
/// Any [`Error`].
pub fn from_line(line: &[u8]) -> Result<Message, Error> {
    let line: Line = serde_json::from_slice(line)?;
    if line.version != VERSION {
        return Err(Error::Version { found: line.version });
    }
    let body = match (line.body, line.body_base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(text)) => STANDARD.decode(text)?,
        (Some(_), Some(_)) | (None, None) => return Err(Error::Body),
    };
    let routing_key = short(line.routing_key, "routing_key")?.to_string();
    let properties = line.properties.into_properties()?;
    Ok(Message { exchange: line.exchange, routing_key, properties, body })
}

impl Properties {
    fn of(properties: &BasicProperties) -> Self {
        let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
        let headers = properties.headers().as_ref().map(|headers| {
            let mut kept = FieldTable::default();
            for (name, value) in headers.inner() {
                if !OF_STAY.contains(&name.as_str()) {
                    kept.insert(name.clone(), value.clone());
                }
            }
            of_table(&kept)
        });
        Self {
            content_type: text(properties.content_type()),
            content_encoding: text(properties.content_encoding()),
            delivery_mode: *properties.delivery_mode(),
            priority: *properties.priority(),
            correlation_id: text(properties.correlation_id()),
            reply_to: text(properties.reply_to()),
            expiration: text(properties.expiration()),
            message_id: text(properties.message_id()),
            timestamp: *properties.timestamp(),
            r#type: text(properties.kind()),
            user_id: text(properties.user_id()),
            app_id: text(properties.app_id()),
            cluster_id: text(properties.cluster_id()),
            headers,
        }
    }

    fn into_properties(self) -> Result<BasicProperties, Error> {
        type With = fn(BasicProperties, ShortString) -> BasicProperties;
        let texts: [(&'static str, Option<String>, With); 10] = [
            ("content_type", self.content_type, BasicProperties::with_content_type),
            ("content_encoding", self.content_encoding, BasicProperties::with_content_encoding),
            ("correlation_id", self.correlation_id, BasicProperties::with_correlation_id),
            ("reply_to", self.reply_to, BasicProperties::with_reply_to),
            ("expiration", self.expiration, BasicProperties::with_expiration),
            ("message_id", self.message_id, BasicProperties::with_message_id),
            ("type", self.r#type, BasicProperties::with_type),
            ("user_id", self.user_id, BasicProperties::with_user_id),
            ("app_id", self.app_id, BasicProperties::with_app_id),
            ("cluster_id", self.cluster_id, BasicProperties::with_cluster_id),
        ];
        let mut made = BasicProperties::default();
        for (what, text, with) in texts {
            if let Some(text) = text {
                made = with(made, short(text, what)?);
            }
        }
        if let Some(mode) = self.delivery_mode {
            made = made.with_delivery_mode(mode);
        }
        if let Some(priority) = self.priority {
            made = made.with_priority(priority);
        }
        if let Some(timestamp) = self.timestamp {
            made = made.with_timestamp(timestamp);
        }
        Ok(match self.headers {
            Some(headers) => made.with_headers(to_table(headers)?),
            None => made,
        })
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::{AMQPValue, DecimalValue};
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = AMQPValue> {
        let scalar = prop_oneof![
            any::<bool>().prop_map(AMQPValue::Boolean),
            any::<i8>().prop_map(AMQPValue::ShortShortInt),
            any::<u8>().prop_map(AMQPValue::ShortShortUInt),
            any::<i16>().prop_map(AMQPValue::ShortInt),
            any::<u16>().prop_map(AMQPValue::ShortUInt),
            any::<i32>().prop_map(AMQPValue::LongInt),
            any::<u32>().prop_map(AMQPValue::LongUInt),
            any::<i64>().prop_map(AMQPValue::LongLongInt),
            any::<u64>().prop_map(AMQPValue::Timestamp),
            (-1.0e300..1.0e300).prop_map(AMQPValue::Double),
            (-1.0e30_f32..1.0e30).prop_map(AMQPValue::Float),
            (any::<u8>(), any::<u32>())
                .prop_map(|(scale, value)| AMQPValue::DecimalValue(DecimalValue { scale, value })),
            ".{0,40}".prop_map(|text| AMQPValue::LongString(text.into())),
            prop::collection::vec(any::<u8>(), 0..40)
                .prop_map(|bytes| AMQPValue::LongString(bytes.into())),
            prop::collection::vec(any::<u8>(), 0..40)
                .prop_map(|bytes| AMQPValue::ByteArray(bytes.into())),
            Just(AMQPValue::Void),
        ];
        scalar.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4)
                    .prop_map(|all| AMQPValue::FieldArray(all.into())),
                table(inner).prop_map(AMQPValue::FieldTable),
            ]
        })
    }

    fn table(value: impl Strategy<Value = AMQPValue>) -> impl Strategy<Value = FieldTable> {
        prop::collection::vec(("[a-z-]{1,12}", value), 0..4).prop_map(|all| {
            let mut table = FieldTable::default();
            for (name, value) in all {
                table.insert(name.as_str().into(), value);
            }
            table
        })
    }

    proptest! {
        #[test]
        fn any_letter_comes_back_byte_for_byte(
            body in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), ".{0,80}".prop_map(String::into_bytes)],
            headers in prop::option::of(table(value())),
            texts in prop::array::uniform10(prop::option::of(".{0,20}")),
            numbers in (prop::option::of(any::<u8>()), prop::option::of(any::<u8>()), prop::option::of(any::<u64>())),
            routing_key in ".{0,40}",
        ) {
            let [content_type, content_encoding, correlation_id, reply_to, expiration, message_id, kind, user_id, app_id, cluster_id] = texts;
            let (delivery_mode, priority, timestamp) = numbers;
            let properties = Properties {
                content_type, content_encoding, delivery_mode, priority, correlation_id, reply_to,
                expiration, message_id, timestamp, r#type: kind, user_id, app_id, cluster_id,
                headers: headers.as_ref().map(of_table),
            };
            let properties = properties.into_properties().unwrap();
            let message = Message { exchange: "x".into(), routing_key, properties, body };
            let line = to_line(&message).unwrap();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(from_line(line.as_bytes()).unwrap(), message);
        }
    }

    #[test]
    fn line_that_is_no_letter_is_refused() {
        let good = r#"{"version":1,"exchange":"","routing_key":"k","properties":{},"body":"b"}"#;
        assert_eq!(from_line(good.as_bytes()).unwrap().body, b"b");
        let long = "x".repeat(256);
        let wrong = [
            ("no JSON".to_owned(), "no exported"),
            (good.replace(":1", ":2"), "version 2"),
            (good.replace(r#""body""#, r#""bodi""#), "no exported"),
            (good.replace(r#","body":"b""#, ""), "either body"),
            (good.replace(r#""body""#, r#""body_base64""#).replace("\"b\"", "\"?\""), "base64"),
            (good.replace(r#""k""#, &format!("{long:?}")), "routing_key"),
            (good.replace("{}", &format!("{{\"app_id\":{long:?}}}")), "app_id"),
        ];
        for (line, part) in wrong {
            let error = from_line(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
