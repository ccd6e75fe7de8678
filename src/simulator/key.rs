//! Reads the key of an order out of a request's URL.
//!
//! Written apart from the daemon's own URL builder on purpose: the stand-in is the judge of what
//! the daemon sends, and a judge that shares code with the judged also shares its mistakes.

use std::fmt;

use percent_encoding::percent_decode_str;

/// The one entity set that is served. Case-sensitive, as in Finance & Operations.
pub const ENTITY_SET: &str = "SalesOrderHeadersV2";
/// Key property: the company.
pub const COMPANY: &str = "dataAreaId";
/// Key property: the number of the order inside its company.
pub const NUMBER: &str = "SalesOrderNumber";

/// Names one order. Compared byte by byte: `USMF` and `usmf` are two companies here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Value of [`COMPANY`].
    pub company: String,
    /// Value of [`NUMBER`].
    pub number: String,
}

/// Why a URL names no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not the entity set that is served.
    #[error("Resource not found for the segment '{segment}'.")]
    UnknownSegment {
        /// What stands in the URL, decoded.
        segment: String,
    },
    /// No key at all: the set as a whole.
    #[error("The set as a whole is no order.")]
    WholeSet,
    /// No key predicate can be read.
    #[error("Bad Request - Error in query syntax.")]
    Syntax,
    /// Finance & Operations wants the whole key.
    #[error("The key property '{name}' is missing, given twice, or has the wrong type.")]
    Property {
        /// The property that is wrong.
        name: String,
    },
}

/// A key value as OData writes it in a URL.
#[derive(Debug, PartialEq, Eq)]
enum Literal {
    Text(String),
    Integer(i64),
}

impl Key {
    /// A key from its two values.
    pub fn new(company: impl Into<String>, number: impl Into<String>) -> Self {
        Self { company: company.into(), number: number.into() }
    }

    /// Reads `SalesOrderHeadersV2(dataAreaId='USMF',SalesOrderNumber='SO-1')`, the raw segment
    /// after `/data/`. It is percent-decoded as a whole first: OData puts quoting inside the
    /// encoding.
    pub fn parse(segment: &str) -> Result<Self, Error> {
        let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| Error::Syntax)?;
        let (set, predicate) = decoded.split_once('(').unwrap_or((&decoded, ""));
        if set != ENTITY_SET {
            return Err(Error::UnknownSegment { segment: set.to_owned() });
        }
        if segment.contains('/') {
            return Err(Error::UnknownSegment { segment: decoded.into_owned() });
        }
        if !decoded.contains('(') {
            return Err(Error::WholeSet);
        }
        let predicate = predicate.strip_suffix(')').ok_or(Error::Syntax)?;
        let (mut company, mut number) = (None, None);
        for (name, literal) in pairs(predicate)? {
            let slot = match name {
                COMPANY => &mut company,
                NUMBER => &mut number,
                other => return Err(Error::Property { name: other.to_owned() }),
            };
            match literal {
                Literal::Text(text) if slot.is_none() => *slot = Some(text),
                Literal::Text(_) | Literal::Integer(_) => {
                    return Err(Error::Property { name: name.to_owned() });
                }
            }
        }
        let missing = |name: &str| Error::Property { name: name.to_owned() };
        Ok(Self {
            company: company.ok_or_else(|| missing(COMPANY))?,
            number: number.ok_or_else(|| missing(NUMBER))?,
        })
    }

    /// A number that is the same in every run and build (FNV-1a), so that a seed repeats a run.
    pub fn stable_hash(&self) -> u64 {
        let parts = self.company.bytes().chain([0xff]).chain(self.number.bytes());
        parts.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

/// `USMF/SO-000001`. A `/` or `%` inside a value is percent-encoded, so that no two keys look
/// alike.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = |value: &str| value.replace('%', "%25").replace('/', "%2F");
        write!(f, "{}/{}", escaped(&self.company), escaped(&self.number))
    }
}

/// Splits `a='x',b=42`. Cannot split at commas first: one may stand inside quotes.
fn pairs(predicate: &str) -> Result<Vec<(&str, Literal)>, Error> {
    let mut found = Vec::with_capacity(2);
    let mut text = predicate;
    loop {
        let (name, rest) = text.split_once('=').ok_or(Error::Syntax)?;
        let (value, rest) = literal(rest)?;
        found.push((name, value));
        match rest.strip_prefix(',') {
            Some(more) => text = more,
            None if rest.is_empty() => return Ok(found),
            None => return Err(Error::Syntax),
        }
    }
}

/// One literal and what follows it. Inside quotes a quote is doubled.
fn literal(text: &str) -> Result<(Literal, &str), Error> {
    let Some(mut rest) = text.strip_prefix('\'') else {
        let (digits, rest) = text.split_at(text.find(',').unwrap_or(text.len()));
        let number = digits.parse().map_err(|_| Error::Syntax)?;
        return Ok((Literal::Integer(number), rest));
    };
    let mut value = String::new();
    loop {
        let (before, after) = rest.split_once('\'').ok_or(Error::Syntax)?;
        value.push_str(before);
        match after.strip_prefix('\'') {
            Some(more) => {
                value.push('\'');
                rest = more;
            }
            None => return Ok((Literal::Text(value), after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(predicate: &str) -> Result<Key, Error> {
        Key::parse(&format!("{ENTITY_SET}({predicate})"))
    }

    #[test]
    fn key_is_read_in_any_order_of_its_properties() {
        let expected = Ok(Key::new("USMF", "SO-000001"));
        assert_eq!(parse("dataAreaId='USMF',SalesOrderNumber='SO-000001'"), expected);
        assert_eq!(parse("SalesOrderNumber='SO-000001',dataAreaId='USMF'"), expected);
    }

    #[test]
    fn quotes_are_undoubled_after_percent_decoding() {
        let expected = Ok(Key::new("O'Neil", "a,b=c)d/e 100%"));
        assert_eq!(
            parse("dataAreaId=%27O%27%27Neil%27,SalesOrderNumber='a%2Cb%3Dc)d%2Fe%20100%25'"),
            expected
        );
        assert_eq!(parse("dataAreaId='',SalesOrderNumber=''''"), Ok(Key::new("", "'")));
    }

    #[test]
    fn key_may_hold_any_language_and_plus_is_no_space() {
        let expected = Ok(Key::new("日本", "Ü+ß"));
        assert_eq!(
            parse("dataAreaId='%E6%97%A5%E6%9C%AC',SalesOrderNumber='%C3%9C+%C3%9F'"),
            expected
        );
    }

    #[test]
    fn malformed_predicates_are_syntax_errors() {
        for bad in ["", "'x'", "dataAreaId='U", "dataAreaId='U'x", "dataAreaId=", "%ff='x'"] {
            assert_eq!(parse(bad), Err(Error::Syntax), "{bad}");
        }
        assert_eq!(Key::parse(ENTITY_SET), Err(Error::WholeSet), "no predicate at all");
    }

    #[test]
    fn incomplete_repeated_unknown_or_numeric_keys_name_the_property() {
        for (bad, property) in [
            ("dataAreaId='U'", NUMBER),
            ("dataAreaId='U',dataAreaId='U'", COMPANY),
            ("dataareaid='U',SalesOrderNumber='x'", "dataareaid"),
            ("dataAreaId='U',SalesOrderNumber=-42", NUMBER),
        ] {
            assert_eq!(parse(bad), Err(Error::Property { name: property.to_owned() }), "{bad}");
        }
    }

    #[test]
    fn other_segments_are_unknown() {
        for bad in ["SalesOrderHeaders(a='x')", "salesorderheadersv2(a='x')", "$metadata"] {
            assert!(matches!(Key::parse(bad), Err(Error::UnknownSegment { .. })), "{bad}");
        }
        assert!(matches!(
            Key::parse(&format!("{ENTITY_SET}(dataAreaId='a/b',SalesOrderNumber='x')")),
            Err(Error::UnknownSegment { .. })
        ));
    }

    #[test]
    fn stable_hash_is_the_same_in_every_build() {
        assert_eq!(Key::new("USMF", "SO-000001").stable_hash(), 0x1a4f_c6a9_d8ae_d9f3);
        assert_ne!(Key::new("a", "bc").stable_hash(), Key::new("ab", "c").stable_hash());
    }
}
