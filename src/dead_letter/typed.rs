//! Headers of AMQP as JSON that keeps their types. A text is a text; anything else names its type.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lapin::types::{AMQPValue, ByteArray, DecimalValue, FieldTable, LongString, ShortString};
use serde::{Deserialize, Serialize};

use super::transfer::Error;

/// Nesting that is read: headers are flat, but for the broker's list of deaths.
const DEPTH_MAX: usize = 16;

/// Headers by name.
pub(super) type Headers = BTreeMap<String, Header>;

/// A value.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Header {
    /// A long string of UTF-8: what nearly every header is.
    Text(String),
    /// Anything else.
    Typed(Typed),
}

/// A value with the name of its type. Floats are texts, as JSON's own numbers may lose their last bit.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Typed {
    Bool(bool),
    I8(i8),
    U8(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    F32(String),
    F64(String),
    Decimal {
        scale: u8,
        value: u32,
    },
    ShortString(String),
    /// A long string that is no UTF-8.
    StringBase64(String),
    BytesBase64(String),
    Timestamp(u64),
    Array(Vec<Header>),
    Table(Headers),
    Void(()),
}

/// As JSON.
pub(super) fn of_table(table: &FieldTable) -> Headers {
    table.inner().iter().map(|(name, value)| (name.to_string(), of_value(value))).collect()
}

fn of_value(value: &AMQPValue) -> Header {
    Header::Typed(match value {
        AMQPValue::LongString(text) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => return Header::Text(text.to_owned()),
            Err(_no_text) => Typed::StringBase64(STANDARD.encode(text.as_bytes())),
        },
        AMQPValue::ShortString(text) => Typed::ShortString(text.to_string()),
        AMQPValue::Boolean(value) => Typed::Bool(*value),
        AMQPValue::ShortShortInt(value) => Typed::I8(*value),
        AMQPValue::ShortShortUInt(value) => Typed::U8(*value),
        AMQPValue::ShortInt(value) => Typed::I16(*value),
        AMQPValue::ShortUInt(value) => Typed::U16(*value),
        AMQPValue::LongInt(value) => Typed::I32(*value),
        AMQPValue::LongUInt(value) => Typed::U32(*value),
        AMQPValue::LongLongInt(value) => Typed::I64(*value),
        AMQPValue::Float(value) => Typed::F32(value.to_string()),
        AMQPValue::Double(value) => Typed::F64(value.to_string()),
        AMQPValue::DecimalValue(value) => Typed::Decimal { scale: value.scale, value: value.value },
        AMQPValue::Timestamp(value) => Typed::Timestamp(*value),
        AMQPValue::ByteArray(bytes) => Typed::BytesBase64(STANDARD.encode(bytes.as_slice())),
        AMQPValue::FieldArray(all) => Typed::Array(all.as_slice().iter().map(of_value).collect()),
        AMQPValue::FieldTable(table) => Typed::Table(of_table(table)),
        AMQPValue::Void => Typed::Void(()),
    })
}

/// As AMQP.
///
/// # Errors
/// Any [`Error`].
pub(super) fn to_table(headers: Headers) -> Result<FieldTable, Error> {
    table(headers, 0)
}

fn table(headers: Headers, depth: usize) -> Result<FieldTable, Error> {
    let mut table = FieldTable::default();
    for (name, header) in headers {
        let name = short(name, "the name of a header")?;
        table.insert(name, to_value(header, depth + 1)?);
    }
    Ok(table)
}

fn to_value(header: Header, depth: usize) -> Result<AMQPValue, Error> {
    if depth > DEPTH_MAX {
        return Err(Error::TooDeep);
    }
    let typed = match header {
        Header::Text(text) => return Ok(AMQPValue::LongString(text.into())),
        Header::Typed(typed) => typed,
    };
    Ok(match typed {
        Typed::StringBase64(text) => {
            AMQPValue::LongString(LongString::from(STANDARD.decode(text)?))
        }
        Typed::ShortString(text) => AMQPValue::ShortString(short(text, "a short string")?),
        Typed::Bool(value) => AMQPValue::Boolean(value),
        Typed::I8(value) => AMQPValue::ShortShortInt(value),
        Typed::U8(value) => AMQPValue::ShortShortUInt(value),
        Typed::I16(value) => AMQPValue::ShortInt(value),
        Typed::U16(value) => AMQPValue::ShortUInt(value),
        Typed::I32(value) => AMQPValue::LongInt(value),
        Typed::U32(value) => AMQPValue::LongUInt(value),
        Typed::I64(value) => AMQPValue::LongLongInt(value),
        Typed::F32(value) => AMQPValue::Float(value.parse()?),
        Typed::F64(value) => AMQPValue::Double(value.parse()?),
        Typed::Decimal { scale, value } => AMQPValue::DecimalValue(DecimalValue { scale, value }),
        Typed::Timestamp(value) => AMQPValue::Timestamp(value),
        Typed::BytesBase64(text) => AMQPValue::ByteArray(ByteArray::from(STANDARD.decode(text)?)),
        Typed::Array(all) => {
            let all: Result<Vec<_>, _> =
                all.into_iter().map(|header| to_value(header, depth + 1)).collect();
            AMQPValue::FieldArray(all?.into())
        }
        Typed::Table(headers) => AMQPValue::FieldTable(table(headers, depth)?),
        Typed::Void(()) => AMQPValue::Void,
    })
}

/// AMQP gives it 255 bytes.
pub(super) fn short(text: String, what: &'static str) -> Result<ShortString, Error> {
    ShortString::try_new(text).map_err(|_long| Error::TooLong { what })
}
