//! Whether a wanted value is already there, though the service may write it in another way.
//!
//! Numbers are compared as decimals, digit for digit: an amount must not be taken for equal because
//! a binary float cannot tell the two apart. Dates are compared by day where they are dates,
//! instants as instants, enum members by name. In doubt two values differ: the price of a wrong "no"
//! is one more PATCH, the price of a wrong "yes" is a lost update.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::plan::Members;

/// Deepest nesting that is compared; the decoder's own limit is lower.
const NESTING_MAX: usize = 64;

/// Compares a wanted value with a current one. Both are JSON texts.
#[must_use]
pub fn same(wanted: &str, current: &str) -> bool {
    same_at(wanted.trim(), current.trim(), Others::Allowed, 0)
}

/// Members of an object that nobody asked for.
#[derive(Clone, Copy, PartialEq)]
enum Others {
    /// A PATCH leaves them as they are.
    Allowed,
    /// It would take them away.
    Forbidden,
}

fn same_at(wanted: &str, current: &str, others: Others, depth: usize) -> bool {
    if depth > NESTING_MAX {
        return false;
    }
    match (wanted.as_bytes().first(), current.as_bytes().first()) {
        (Some(b'"'), Some(b'"')) => same_string(wanted, current),
        (Some(b'{'), Some(b'{')) => same_object(wanted, current, others, depth),
        (Some(b'['), Some(b'[')) => same_array(wanted, current, depth),
        (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => same_number(wanted, current),
        // true, false, null
        (Some(b't' | b'f' | b'n'), Some(_)) => wanted == current,
        (Some(_) | None, _) => false,
    }
}

/// A PATCH of a complex property writes the members it names (OData 4.01 Protocol, section 11.4.3),
/// so the wanted ones must be there and others may be. Not so within a collection, which it replaces as
/// a whole. What the service says about values (a name with an `@`) is no member.
fn same_object(wanted: &str, current: &str, others: Others, depth: usize) -> bool {
    let parsed = (serde_json::from_str::<Members<'_>>(wanted), serde_json::from_str(current));
    let (Ok(wanted), Ok(current)) = parsed else { return false };
    let current: Members<'_> = current;
    let is_asked_for = |name: &str| name.contains('@') || wanted.get(name).is_some();
    let is_there = |(name, value): &(Cow<'_, str>, &RawValue)| {
        current.get(name).is_some_and(|there| same_at(value.get(), there.get(), others, depth + 1))
    };
    wanted.0.iter().all(is_there)
        && (others == Others::Allowed || current.0.iter().all(|(name, _)| is_asked_for(name)))
}

fn same_array(wanted: &str, current: &str, depth: usize) -> bool {
    let parsed = (serde_json::from_str::<Vec<&RawValue>>(wanted), serde_json::from_str(current));
    let (Ok(wanted), Ok(current)) = parsed else { return false };
    let current: Vec<&RawValue> = current;
    let same =
        |(a, b): (&&RawValue, &RawValue)| same_at(a.get(), b.get(), Others::Forbidden, depth + 1);
    wanted.len() == current.len() && wanted.iter().zip(current).all(same)
}

fn same_string(wanted: &str, current: &str) -> bool {
    let parsed = (serde_json::from_str(wanted), serde_json::from_str(current));
    let (Ok(Text(wanted)), Ok(Text(current))) = parsed else { return false };
    wanted == current
        || same_date(&wanted, &current)
        || matches!((enum_member(&wanted), enum_member(&current)), (a, b) if a.is_some() | b.is_some()
            && a.unwrap_or(&wanted) == b.unwrap_or(&current))
}

#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// `Namespace.Type'Member'` is how OData URLs, and some clients, write an enum member that JSON
/// bodies give by its bare name.
fn enum_member(text: &str) -> Option<&str> {
    let (name, member) = text.strip_suffix('\'')?.split_once('\'')?;
    let qualified = name.contains('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_'));
    (qualified && !member.contains('\'')).then_some(member)
}

fn same_date(wanted: &str, current: &str) -> bool {
    if is_day(wanted) || is_day(current) {
        return matches!((day_of(wanted), day_of(current)), (Some(a), Some(b)) if a == b);
    }
    let instant = |text: &str| text.parse::<jiff::Timestamp>().ok();
    matches!((instant(wanted), instant(current)), (Some(a), Some(b)) if a == b)
}

/// `2025-02-08`, and nothing after it.
fn is_day(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

/// The day of a value that is a date: bare, or with the noon or midnight that services put behind
/// one (Finance & Operations writes noon UTC). A value with another time of day is an instant.
fn day_of(text: &str) -> Option<&str> {
    let day = text.get(..10).filter(|day| is_day(day))?;
    let time = text.get(10..)?;
    let Some(time) = time.strip_prefix('T') else { return time.is_empty().then_some(day) };
    let after = time.strip_prefix("12:00:00").or_else(|| time.strip_prefix("00:00:00"))?;
    let zone = match after.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches('0'),
        None => after,
    };
    matches!(zone, "" | "Z" | "+00:00").then_some(day)
}

fn same_number(wanted: &str, current: &str) -> bool {
    wanted == current
        || matches!((Decimal::read(wanted), Decimal::read(current)), (Some(a), Some(b)) if a == b)
}

/// The whole number that a JSON text says, exact: a number, or a text that holds one, as services
/// write an `Edm.Int64` where a client asks for it (`IEEE754Compatible`, OData JSON Format 4.01,
/// section 7.1). `None` if it is anything else, has a fraction, or has more than 38 digits.
pub(super) fn whole(value: &str) -> Option<i128> {
    let text = match serde_json::from_str(value) {
        Ok(Text(text)) => text,
        Err(_not_text) => Cow::Borrowed(value),
    };
    // A text may hold anything, and the decimal below believes that it is a number.
    let number = serde_json::from_str::<&RawValue>(&text).ok()?.get();
    if !matches!(number.as_bytes().first(), Some(b'-' | b'0'..=b'9')) {
        return None;
    }
    let Decimal { negative, digits, exponent } = Decimal::read(number)?;
    if digits.is_empty() {
        return Some(0);
    }
    let zeros = u32::try_from(exponent).ok()?;
    let number = digits.parse::<i128>().ok()?.checked_mul(10_i128.checked_pow(zeros)?)?;
    Some(if negative { -number } else { number })
}

/// A decimal number in its one normal form: no zero at either end of the digits.
#[derive(PartialEq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// `None` where an exponent is beyond all sense: the texts themselves are compared then.
    fn read(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, fraction].concat();
        let digits = all.trim_start_matches('0').trim_end_matches('0');
        if digits.is_empty() {
            return Some(Self { negative: false, digits: String::new(), exponent: 0 });
        }
        let zeros_cut = all.len() - all.trim_end_matches('0').len();
        let shift = i64::try_from(zeros_cut).ok()? - i64::try_from(fraction.len()).ok()?;
        Some(Self { negative, digits: digits.to_owned(), exponent: i64::from(exponent) + shift })
    }
}

#[cfg(test)]
mod tests {
    use super::{same, whole};

    #[track_caller]
    fn equal(wanted: &str, current: &str) {
        assert!(same(wanted, current), "{wanted} is {current}");
        assert!(same(current, wanted), "{current} is {wanted}");
    }

    #[track_caller]
    fn different(wanted: &str, current: &str) {
        assert!(!same(wanted, current), "{wanted} is not {current}");
        assert!(!same(current, wanted), "{current} is not {wanted}");
    }

    #[test]
    fn numbers_are_decimals() {
        equal("10", "10.0");
        equal("1e2", "100");
        equal("-0.0", "0");
        equal("0.10", "1E-1");
        equal("120", "1.20e2");
        different("12345678901234567.89", "12345678901234567.90");
        different("1", "-1");
        different("1", "10");
        different("1e999999999999", "1e999999999998");
        different("1", "\"1\"");
    }

    #[test]
    fn whole_numbers_are_read_exactly_from_numbers_and_from_texts() {
        let most = i128::from(i64::MAX);
        for (text, number) in [
            ("7", 7),
            ("-7", -7),
            ("7.000", 7),
            ("12e2", 1_200),
            ("-0", 0),
            ("0.0", 0),
            ("\"7\"", 7),
            ("9223372036854775807", most),
            ("\"9223372036854775807\"", most),
            ("9223372036854775808", most + 1),
            ("9007199254740993", 9_007_199_254_740_993),
        ] {
            assert_eq!(whole(text), Some(number), "{text}");
        }
        let long = "9".repeat(40);
        for text in [
            "7.5", "true", "null", "\"\"", "\"x\"", "\"7 8\"", "[7]", "1e99", &long, "\"--7\"",
            "\"-\"", "\".\"",
        ] {
            assert_eq!(whole(text), None, "{text}");
        }
    }

    #[test]
    fn dates_are_compared_by_day_where_they_are_dates() {
        equal("\"2025-02-08\"", "\"2025-02-08T12:00:00Z\"");
        equal("\"2025-02-08\"", "\"2025-02-08T00:00:00.000Z\"");
        different("\"2025-02-08\"", "\"2025-02-09T12:00:00Z\"");
        different("\"2025-02-08\"", "\"2025-02-08T15:30:00Z\"");
        different("\"2025-02-08\"", "\"2025-02-08T12:00:00+09:00\"");
        different("\"2025-02-08T00:00:00Z\"", "\"2025-02-08T12:00:00Z\"");
        different("\"2025-02-30\"", "\"2025-02-30T12:00:00Z\"");
    }

    #[test]
    fn instants_are_compared_as_instants() {
        equal("\"2025-02-08T10:00:00Z\"", "\"2025-02-08T11:00:00+01:00\"");
        equal("\"2025-02-08T10:00:00Z\"", "\"2025-02-08T10:00:00.000Z\"");
        different("\"2025-02-08T10:00:00Z\"", "\"2025-02-08T10:00:01Z\"");
    }

    #[test]
    fn enum_members_are_compared_by_name() {
        equal("\"Microsoft.Dynamics.DataEntities.SalesStatus'Backorder'\"", "\"Backorder\"");
        different("\"Microsoft.Dynamics.DataEntities.SalesStatus'Backorder'\"", "\"backorder\"");
        different("\"O'Neill'\"", "\"Neill\"");
        different("\"a.b'c'd'\"", "\"c'd\"");
    }

    #[test]
    fn texts_are_compared_as_what_they_say_not_as_they_are_escaped() {
        equal(r#""caf\u00e9""#, "\"café\"");
        different("\"a\"", "\"A\"");
        different("\"a\"", "\"a \"");
        different("null", "\"null\"");
        different("true", "false");
        equal("null", "null");
    }

    #[test]
    fn wanted_members_of_a_complex_value_must_be_there_and_others_may_be() {
        assert!(same(r#"{"a":1}"#, r#"{"b":2,"a":1.0}"#));
        assert!(!same(r#"{"a":1,"b":2}"#, r#"{"a":1}"#));
        equal(r#"[1,{"a":"x"}]"#, r#"[1.0, {"a":"x"}]"#);
        different("[1,2]", "[2,1]");
        different("[1]", "[1,1]");
    }

    #[test]
    fn objects_of_a_collection_have_nothing_that_was_not_wanted() {
        assert!(!same(r#"[{"a":1}]"#, r#"[{"a":1,"b":2}]"#), "the PATCH would take b away");
        assert!(!same(r#"{"l":[{"a":{"x":1}}]}"#, r#"{"l":[{"a":{"x":1,"y":2}}]}"#));
        assert!(same(
            r#"[{"a":1}]"#,
            r##"[{"@odata.type":"#ns.t","a@odata.type":"#Int32","a":1}]"##
        ));
    }
}
