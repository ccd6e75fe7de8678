//! Bytes to an [`OrderUpdate`], or the reason why they can never become one.
//!
//! Pure. Two passes: [`json`] looks at the whole text once for what serde would let through in
//! silence (a name given twice, nesting without end), then the fields are read. Bodies are small
//! and bounded, and the second pass borrows from the first's text.

mod json;
mod message;
mod replay;

use std::sync::Arc;

use crate::order::OrderUpdate;

pub use message::schema;
pub use replay::{Marks, replay};

/// What a deployment has agreed with its publishers, beyond the shape of the message.
#[derive(Debug, Clone)]
pub struct Contract {
    /// The order key's properties, in the order in which they are joined to the routing key.
    pub key: Vec<KeyProperty>,
    /// The property that we write the message's `sequence` to, if any. No message may change it.
    pub sequence_property: Option<Arc<str>>,
    /// Longest body that is looked at, in bytes.
    pub body_bytes_max: usize,
    /// Deepest nesting of arrays and objects, the message itself included.
    pub nesting_max: usize,
}

/// One property of the order key.
#[derive(Debug, Clone)]
pub struct KeyProperty {
    /// Its name, case-sensitive as all names in OData are.
    pub name: Arc<str>,
    /// Whether two values that differ in case alone name the same order.
    pub folds_case: bool,
    /// Whether its values are GUIDs.
    pub is_guid: bool,
}

/// A message as the broker hands it over: the parts of it that say what it means.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// The AMQP property. A message without one is taken for JSON.
    pub content_type: Option<&'a str>,
    /// The AMQP property. Bodies must come as they are: a compressed one could be of any size.
    pub content_encoding: Option<&'a str>,
    /// The payload.
    pub body: &'a [u8],
}

/// Why a message can never become an order update.
///
/// Every variant is permanent: the same bytes give the same answer, so the caller dead-letters and
/// never retries. A failure that time could heal does not belong here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Refused before parsing, so that one message cannot exhaust the memory.
    #[error("the body has {bytes} bytes, the limit is {bytes_max} (order.body_bytes_max)")]
    BodyTooLarge {
        /// Bytes received.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// The content type names something else than JSON.
    #[error("content type {given:?} is not application/json")]
    ContentType {
        /// The property as received, cut to a printable length.
        given: String,
    },
    /// The body is compressed or otherwise encoded.
    #[error("content encoding {given:?} is not supported: send the JSON text as it is")]
    ContentEncoding {
        /// The property as received, cut to a printable length.
        given: String,
    },
    /// JSON is UTF-8 (RFC 8259, section 8.1).
    #[error("the body is not UTF-8 from byte {valid_up_to} on")]
    Utf8 {
        /// Bytes before the first bad one.
        valid_up_to: usize,
    },
    /// Not JSON. The position is in the source.
    #[error("the body is not JSON")]
    Malformed(#[source] serde_json::Error),
    /// JSON, but no object.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// Which of the two is meant, nobody can say (RFC 8259, section 4, leaves it open).
    #[error("{name:?} is given twice in one object")]
    DuplicateKey {
        /// The name.
        name: String,
    },
    /// Nested deeper than any order is.
    #[error("arrays and objects nest deeper than {nesting_max} (order.nesting_max)")]
    TooDeep {
        /// Levels allowed.
        nesting_max: usize,
    },
    /// A field that the contract does not know: a misspelt `expect` must not be dropped in silence.
    #[error("unknown field {name:?}: the contract knows {}", message::FIELDS.join(", "))]
    UnknownField {
        /// The field.
        name: String,
    },
    /// A field is missing or has the wrong type. The source names it.
    #[error("the field {path:?} is missing or of the wrong type")]
    Field {
        /// Where in the message.
        path: String,
        /// What was expected there.
        #[source]
        source: serde_json::Error,
    },
    /// `key` does not hold exactly the configured properties.
    #[error("the key has the properties {given:?}, and must have {wanted:?}")]
    KeyMismatch {
        /// Names received.
        given: Vec<String>,
        /// Names configured as `order.key`.
        wanted: Vec<String>,
    },
    /// A key value that cannot name an order.
    #[error("the key property {property:?} is empty or holds a control character")]
    KeyValue {
        /// Whose value it is.
        property: String,
    },
    /// A key value that is no GUID where one is wanted.
    #[error(
        "the key property {property:?} is no GUID of the form 3f2504e0-4f89-11d3-9a0c-0305e82c3301"
    )]
    KeyGuid {
        /// Whose value it is.
        property: String,
    },
    /// The canonical key is the routing key, and AMQP gives that 255 bytes.
    #[error("the key has {bytes} bytes when joined, the limit is {bytes_max}")]
    KeyTooLong {
        /// Bytes of the canonical key.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// Nothing to do is more likely a publisher's mistake than a wish.
    #[error("changes is empty")]
    ChangesEmpty,
    /// An order is not renamed by an update.
    #[error("changes holds the key property {property:?}: a key cannot be changed")]
    ChangesKey {
        /// The property.
        property: String,
    },
    /// Only the message's `sequence` may say what stands there, or the order would be guarded by a
    /// number that belongs to no update.
    #[error("changes holds {property:?}, which takes the message's sequence: send that instead")]
    ChangesSequence {
        /// The property.
        property: String,
    },
    /// `expect` must name allowed values: an empty list would refuse every order.
    #[error(
        "expect must map each property to a non-empty list of values, and {property:?} does not"
    )]
    Expect {
        /// The property.
        property: String,
    },
    /// Above the largest `Edm.Int64`.
    #[error("sequence is above {}", i64::MAX)]
    SequenceTooLarge,
}

impl Error {
    /// A stable name for the dead-letter header, the metric label and the alert. Never reworded.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::ContentType { .. } => "content_type_unsupported",
            Self::ContentEncoding { .. } => "content_encoding_unsupported",
            Self::Utf8 { .. } => "utf8_invalid",
            Self::Malformed(_) => "json_malformed",
            Self::NotAnObject => "json_not_an_object",
            Self::DuplicateKey { .. } => "json_duplicate_key",
            Self::TooDeep { .. } => "json_too_deep",
            Self::UnknownField { .. } => "field_unknown",
            Self::Field { .. } => "field_invalid",
            Self::KeyMismatch { .. } => "key_mismatch",
            Self::KeyValue { .. } | Self::KeyGuid { .. } => "key_value_invalid",
            Self::KeyTooLong { .. } => "key_too_long",
            Self::ChangesEmpty => "changes_empty",
            Self::ChangesKey { .. } => "changes_key_property",
            Self::ChangesSequence { .. } => "changes_sequence_property",
            Self::Expect { .. } => "expect_invalid",
            Self::SequenceTooLarge => "sequence_too_large",
        }
    }
}

/// Decodes one message.
///
/// # Errors
/// Every [`Error`] is permanent.
pub fn decode(contract: &Contract, envelope: Envelope<'_>) -> Result<OrderUpdate, Error> {
    let bytes = envelope.body.len();
    if bytes > contract.body_bytes_max {
        return Err(Error::BodyTooLarge { bytes, bytes_max: contract.body_bytes_max });
    }
    check_content(envelope)?;
    let text = std::str::from_utf8(envelope.body)
        .map_err(|error| Error::Utf8 { valid_up_to: error.valid_up_to() })?;
    json::check(text, contract.nesting_max, &message::FIELDS)?;
    message::read(text, contract)
}

fn check_content(envelope: Envelope<'_>) -> Result<(), Error> {
    if let Some(given) = envelope.content_type {
        let essence = given.split(';').next().unwrap_or_default().trim();
        // `+json` is JSON with a more telling name (RFC 6839, section 3.1).
        let json = essence.eq_ignore_ascii_case("application/json")
            || essence.to_ascii_lowercase().ends_with("+json");
        if !json {
            return Err(Error::ContentType { given: printable(given) });
        }
    }
    if let Some(given) = envelope.content_encoding {
        let plain = ["", "identity", "utf-8", "utf8"];
        if !plain.iter().any(|name| given.eq_ignore_ascii_case(name)) {
            return Err(Error::ContentEncoding { given: printable(given) });
        }
    }
    Ok(())
}

/// Names come from strangers: what is quoted of them in an error is bounded.
fn printable(text: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    text.chars().take(CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests;
