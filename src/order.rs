//! The nouns: which order, what to change, and the ETag that guards the change.
//!
//! Values only. Nothing here reads a socket, a clock or a configuration file.

use std::fmt;
use std::sync::Arc;

use serde_json::value::RawValue;

/// One order update, decoded and found well formed.
#[derive(Debug, Clone)]
pub struct OrderUpdate {
    /// Which order.
    pub key: OrderKey,
    /// What to write.
    pub changes: Changes,
    /// The publisher's own numbering of its updates to this order, rising.
    pub sequence: Option<Sequence>,
    /// What the order must look like for the update to make sense.
    pub expect: Option<Expect>,
    /// When it happened at the publisher's side.
    pub occurred_at: Option<jiff::Timestamp>,
    /// What it may overwrite, where an operator sends it once more after it was dead-lettered.
    pub replay: Option<Replay>,
}

/// What a replayed update may overwrite: time has passed, and the order may have moved on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// The order under the ETag that the dead letter saw last, and no other state of it.
    Since(ETag),
    /// Nobody knows which state the dead letter saw, if any.
    Unknown,
    /// Whatever is there: an operator said so, and why.
    Forced,
}

/// The properties to write: a JSON object, kept as the text that was sent.
///
/// Text and not a tree of values, so that `10.10` arrives at the service as `10.10`, and an amount
/// with more digits than a binary float holds is neither rounded nor compared as if it were.
#[derive(Debug, Clone)]
pub struct Changes(Box<RawValue>);

impl Changes {
    /// Takes the text of a JSON object that has at least one member.
    pub fn new(object: Box<RawValue>) -> Self {
        Self(object)
    }

    /// The JSON text as sent: the body of the PATCH.
    pub fn as_json(&self) -> &str {
        self.0.get()
    }
}

/// Allowed current values by property: a JSON object of non-empty arrays, as sent.
#[derive(Debug, Clone)]
pub struct Expect(Box<RawValue>);

impl Expect {
    /// Takes the text of a JSON object whose members are non-empty arrays.
    pub fn new(object: Box<RawValue>) -> Self {
        Self(object)
    }

    /// The JSON text as sent.
    pub fn as_json(&self) -> &str {
        self.0.get()
    }
}

/// A publisher's number for an update of one order. Fits `Edm.Int64`, the type that a target
/// property for it would have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence(i64);

impl Sequence {
    /// `None` above the largest `Edm.Int64`.
    pub fn new(number: u64) -> Option<Self> {
        i64::try_from(number).ok().map(Self)
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// Names one order: the values of its key properties, in configured order.
///
/// Two forms of the same key. The *values* go into the URL exactly as the publisher wrote them; the
/// *canonical* form is the identity: what is routed by, and what exclusivity is kept for. They differ
/// where a property folds case, because to Dynamics `USMF` and `usmf` are one company.
#[derive(Debug, Clone)]
pub struct OrderKey {
    canonical: Arc<str>,
    values: Vec<KeyValue>,
}

/// One property of an order key with its value as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key property's name, as configured.
    pub property: Arc<str>,
    /// The value as the publisher wrote it.
    pub literal: Literal,
}

/// A key value and how OData writes it in a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Literal {
    /// An `Edm.String`: in single quotes.
    Text(String),
    /// An integer: bare.
    Integer(i64),
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => number.fmt(f),
        }
    }
}

impl OrderKey {
    /// Joins values to a key. `folds` says of each property whether its case is ignored.
    ///
    /// In the canonical form a `/` or `%` inside a value is percent-encoded, so that no two
    /// different keys share one canonical form.
    pub fn new(values: Vec<KeyValue>, folds: impl Fn(&str) -> bool) -> Self {
        let mut canonical = String::with_capacity(48);
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                canonical.push('/');
            }
            let text = value.literal.to_string();
            let text = if folds(&value.property) { text.to_uppercase() } else { text };
            for character in text.chars() {
                match character {
                    '/' => canonical.push_str("%2F"),
                    '%' => canonical.push_str("%25"),
                    other => canonical.push(other),
                }
            }
        }
        Self { canonical: canonical.into(), values }
    }

    /// The identity: values joined by `/`, folded where configured. Also the routing key.
    pub fn canonical(&self) -> &Arc<str> {
        &self.canonical
    }

    /// The values as sent, in configured order.
    pub fn values(&self) -> &[KeyValue] {
        &self.values
    }
}

impl fmt::Display for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical)
    }
}

/// An entity tag: opaque bytes of a server, sent back byte for byte.
///
/// Weak tags (`W/"…"`) are used like any other: Dynamics 365 issues weak ones and honours them in
/// If-Match. Holding a value of this type means that it is safe to put into an HTTP header.
#[derive(Clone, PartialEq, Eq)]
pub struct ETag(Arc<str>);

impl ETag {
    /// Longest entity tag that is accepted, in bytes. Dynamics issues about 100; the limit keeps a
    /// broken server from filling logs, headers and dead letters.
    pub const BYTES_MAX: usize = 1024;

    /// Takes a tag as the server wrote it. `None` if it is empty, has a blank at either end, is `*`, is
    /// over [`Self::BYTES_MAX`], or holds a byte that no header may hold (RFC 9110, section 8.8.3).
    pub fn new(text: &str) -> Option<Self> {
        // A header loses the blanks around it, so that ` *` would be sent as `*`, which guards nothing.
        let fits =
            !text.is_empty() && text.len() <= Self::BYTES_MAX && !["*", "W/*"].contains(&text);
        let fits = fits && text.trim() == text;
        let printable = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        (fits && printable).then(|| Self(text.into()))
    }

    /// The tag, byte for byte.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(company: &str, number: &str) -> OrderKey {
        let text = |property: &str, value: &str| KeyValue {
            property: property.into(),
            literal: Literal::Text(value.to_owned()),
        };
        let values = vec![text("dataAreaId", company), text("SalesOrderNumber", number)];
        OrderKey::new(values, |property| property == "dataAreaId")
    }

    #[test]
    fn folded_property_gives_one_identity_and_keeps_the_value_as_sent() {
        let (upper, lower) = (key("USMF", "so-1"), key("usmf", "so-1"));
        assert_eq!(upper.canonical(), lower.canonical());
        assert_eq!(&**upper.canonical(), "USMF/so-1");
        assert_eq!(lower.values()[0].literal, Literal::Text("usmf".to_owned()));
        assert_ne!(key("USMF", "SO-1").canonical(), upper.canonical());
    }

    #[test]
    fn separator_inside_a_value_cannot_make_two_orders_one() {
        assert_ne!(key("A/B", "C").canonical(), key("A", "B/C").canonical());
        assert_ne!(key("A%2FB", "C").canonical(), key("A/B", "C").canonical());
    }

    #[test]
    fn etag_refuses_what_no_header_may_hold() {
        assert!(ETag::new("W/\"JzEsNTYzNzE0NDU3Njsw\"").is_some());
        for bad in
            ["", "*", " *", "* ", "W/*", "a\r\nb", "caf\u{e9}", &"x".repeat(ETag::BYTES_MAX + 1)]
        {
            assert!(ETag::new(bad).is_none(), "{bad:?}");
        }
    }
}
