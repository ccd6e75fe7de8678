//! Which dead letters are meant. What is said twice of one thing means either; different things must all
//! hold.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;
use uuid::Uuid;

use super::death::as_text;
use super::view::Letter;

/// Which letters. The default means all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Fingerprints, or their beginnings.
    pub fingerprints: Vec<String>,
    /// Reason codes.
    pub reasons: Vec<String>,
    /// Canonical order keys.
    pub orders: Vec<String>,
    /// Ids of letters, or their beginnings.
    pub ids: Vec<String>,
    /// HTTP statuses.
    pub statuses: Vec<Statuses>,
    /// Died then or later.
    pub since: Option<Timestamp>,
    /// Died before then.
    pub until: Option<Timestamp>,
    /// Died at least so long ago.
    pub older_than: Option<SignedDuration>,
    /// Was replayed so often, or oftener.
    pub replays_min: Option<u32>,
    /// Headers of the message, by name and value.
    pub headers: Vec<(String, String)>,
    /// Values in the body.
    pub pointers: Vec<Pointer>,
}

/// A status, or all of its hundred: `412`, `5xx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statuses {
    /// This one.
    One(u16),
    /// All of a hundred, by its first digit.
    Hundred(u16),
    /// Letters without any: no request was answered.
    None,
}

impl std::str::FromStr for Statuses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is none: write 412, 5xx or none");
        if text == "none" {
            return Ok(Self::None);
        }
        match text.strip_suffix("xx") {
            Some(first) => match first.parse() {
                Ok(first @ 1..=5) => Ok(Self::Hundred(first)),
                Ok(_) | Err(_) => Err(wrong()),
            },
            None => text
                .parse()
                .ok()
                .filter(|it| (100..=599).contains(it))
                .map(Self::One)
                .ok_or_else(wrong),
        }
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(status) => write!(f, "{status}"),
            Self::Hundred(first) => write!(f, "{first}xx"),
            Self::None => f.write_str("none"),
        }
    }
}

impl Statuses {
    fn is(self, status: Option<u16>) -> bool {
        match self {
            Self::One(wanted) => status == Some(wanted),
            Self::Hundred(first) => status.is_some_and(|status| status / 100 == first),
            Self::None => status.is_none(),
        }
    }
}

/// A place in the body (RFC 6901), and what must stand there: JSON, or a text without its quotes.
#[derive(Debug, Clone, PartialEq)]
pub struct Pointer {
    /// Such as `/changes/SalesStatus`.
    pub path: String,
    /// Such as `Delivered` or `7`; nothing where the place has only to be there.
    pub value: Option<String>,
}

impl std::str::FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, value) = match text.split_once('=') {
            Some((path, value)) => (path, Some(value.to_owned())),
            None => (text, None),
        };
        if !path.starts_with('/') {
            return Err(format!("{path:?} is no JSON pointer: it begins with a slash"));
        }
        Ok(Self { path: path.to_owned(), value })
    }
}

impl Pointer {
    fn is(&self, body: &Value) -> bool {
        let Some(found) = body.pointer(&self.path) else { return false };
        let Some(wanted) = &self.value else { return true };
        found.as_str() == Some(wanted)
            || serde_json::from_str(wanted).is_ok_and(|it: Value| it == *found)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        self.value.as_ref().map_or(Ok(()), |value| write!(f, "={value}"))
    }
}

/// As it would be typed, with what was said relative to a moment made absolute: so it can be said again.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = |flag, all: &[String]| all.iter().map(|it| (flag, it.clone())).collect();
        let mut flags: Vec<(&str, String)> = texts("fingerprint", &self.fingerprints);
        flags.extend::<Vec<_>>(texts("reason", &self.reasons));
        flags.extend::<Vec<_>>(texts("order", &self.orders));
        flags.extend::<Vec<_>>(texts("id", &self.ids));
        flags.extend(self.statuses.iter().map(|it| ("status", it.to_string())));
        flags.extend(self.since.map(|it| ("since", it.to_string())));
        flags.extend(self.until.map(|it| ("until", it.to_string())));
        flags.extend(self.older_than.map(|it| ("older-than", format!("{}s", it.as_secs()))));
        flags.extend(self.replays_min.map(|it| ("min-replays", it.to_string())));
        flags.extend(self.headers.iter().map(|(name, it)| ("header", format!("{name}={it}"))));
        flags.extend(self.pointers.iter().map(|it| ("pointer", it.to_string())));
        if flags.is_empty() {
            return f.write_str("all");
        }
        for (index, (flag, value)) in flags.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            let plain = |it: char| it.is_ascii_alphanumeric() || "-_./:=+@,".contains(it);
            if !value.is_empty() && value.chars().all(plain) {
                write!(f, "{gap}--{flag} {value}")?;
            } else {
                write!(f, "{gap}--{flag} '{}'", value.replace('\'', r"'\''"))?;
            }
        }
        Ok(())
    }
}

impl Selection {
    /// Whether it means everything.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it means some orders, whatever is the matter with them.
    #[must_use]
    pub fn is_orders_alone(&self) -> bool {
        let orders = self.orders.clone();
        !orders.is_empty() && *self == Self { orders, ..Self::default() }
    }

    /// Whether it means this letter. `now` is what ages are counted from: one moment for a whole look.
    #[must_use]
    pub fn matches(
        &self,
        letter: &Letter,
        headers: Option<&FieldTable>,
        body: &[u8],
        now: Timestamp,
    ) -> bool {
        any(&self.fingerprints, |wanted| letter.fingerprint.starts_with(wanted.as_str()))
            && any(&self.reasons, |wanted| letter.reason == *wanted)
            && any(&self.orders, |wanted| letter.order.as_ref() == Some(wanted))
            && any(&self.ids, |wanted| is_id(letter.id, wanted))
            && any(&self.statuses, |wanted| wanted.is(letter.status))
            && self.is_in_time(letter.dead_lettered_at, now)
            && self.replays_min.is_none_or(|least| letter.replays.count >= least)
            && self.headers.iter().all(|(name, wanted)| has_header(headers, name, wanted))
            && self.is_in_body(body)
    }

    /// A letter whose time of death nobody knows is in no span of time.
    fn is_in_time(&self, died: Option<Timestamp>, now: Timestamp) -> bool {
        let holds = |is: &dyn Fn(Timestamp) -> bool| died.is_some_and(is);
        self.since.is_none_or(|since| holds(&|at| at >= since))
            && self.until.is_none_or(|until| holds(&|at| at < until))
            && self.older_than.is_none_or(|age| holds(&|at| now.duration_since(at) >= age))
    }

    fn is_in_body(&self, body: &[u8]) -> bool {
        if self.pointers.is_empty() {
            return true;
        }
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return false };
        self.pointers.iter().all(|pointer| pointer.is(&body))
    }
}

/// Whether one of them holds; also where there is none.
fn any<T>(wanted: &[T], is: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(is)
}

/// Whether this text is the id, or its beginning.
#[must_use]
pub fn is_id(id: Uuid, text: &str) -> bool {
    !text.is_empty() && id.hyphenated().to_string().starts_with(&text.to_ascii_lowercase())
}

fn has_header(headers: Option<&FieldTable>, name: &str, wanted: &str) -> bool {
    let value = headers.and_then(|headers| headers.inner().get(name));
    value.is_some_and(|value| shown(value).as_deref() == Some(wanted))
}

/// A header's value as an operator writes it; nothing for what has no such form.
fn shown(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(_) | AMQPValue::ShortString(_) => as_text(value),
        AMQPValue::Boolean(is) => Some(is.to_string()),
        AMQPValue::ShortShortInt(number) => Some(number.to_string()),
        AMQPValue::ShortShortUInt(number) => Some(number.to_string()),
        AMQPValue::ShortInt(number) => Some(number.to_string()),
        AMQPValue::ShortUInt(number) => Some(number.to_string()),
        AMQPValue::LongInt(number) => Some(number.to_string()),
        AMQPValue::LongUInt(number) => Some(number.to_string()),
        AMQPValue::LongLongInt(number) => Some(number.to_string()),
        AMQPValue::Timestamp(seconds) => Some(seconds.to_string()),
        AMQPValue::Float(number) => Some(number.to_string()),
        AMQPValue::Double(number) => Some(number.to_string()),
        AMQPValue::DecimalValue(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::ByteArray(_)
        | AMQPValue::Void => None,
    }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;

    use super::super::view::Found;
    use super::*;

    fn headers() -> FieldTable {
        let mut headers = FieldTable::default();
        let texts = [
            ("orderwright-reason", "rejected"),
            ("orderwright-order", "USMF/SO-1"),
            ("orderwright-dead-lettered-at", "2025-02-08T10:00:00Z"),
            ("orderwright-attempts", r#"[{"number":1,"patch_status":400}]"#),
            ("orderwright-replays", "2"),
            ("source", "shop"),
        ];
        for (name, value) in texts {
            headers.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        headers.insert("batch".into(), AMQPValue::LongInt(7));
        headers
    }

    const BODY: &[u8] = br#"{"changes":{"SalesStatus":"Delivered","Weight":7}}"#;

    fn matches(selection: &Selection) -> bool {
        let headers = headers();
        let properties = BasicProperties::default().with_headers(headers.clone());
        let found = Found { properties: &properties, exchange: "", routing_key: "", body: BODY };
        let letter = Letter::read(found);
        let now = "2025-02-08T12:00:00Z".parse().unwrap();
        selection.matches(&letter, Some(&headers), BODY, now)
    }

    #[test]
    fn selection_is_written_as_it_would_be_typed() {
        assert_eq!(Selection::default().to_string(), "all");
        let selection = Selection {
            fingerprints: vec!["v1-4f1d".to_owned()],
            statuses: vec![Statuses::Hundred(5), Statuses::None],
            since: Some("2025-02-08T10:00:00Z".parse().unwrap()),
            older_than: Some(SignedDuration::from_mins(2)),
            replays_min: Some(1),
            headers: vec![("shop".to_owned(), "Kim's".to_owned())],
            pointers: vec!["/changes/A=x y".parse().unwrap(), "/key".parse().unwrap()],
            ..Selection::default()
        };
        let typed = r"--fingerprint v1-4f1d --status 5xx --status none --since 2025-02-08T10:00:00Z --older-than 120s --min-replays 1 --header 'shop=Kim'\''s' --pointer '/changes/A=x y' --pointer /key";
        assert_eq!(selection.to_string(), typed);
    }

    #[test]
    fn each_filter_says_yes_and_no() {
        let base = Selection::default;
        let text = |text: &str| vec![text.to_owned()];
        let at = |text: &str| Some(text.parse().unwrap());
        let status = |text: &str| vec![text.parse().unwrap()];
        let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let pointer = |text: &str| vec![text.parse().unwrap()];
        let hours = |hours| Some(SignedDuration::from_hours(hours));
        let yes = [
            base(),
            Selection { fingerprints: text("v1-"), ..base() },
            Selection { reasons: vec!["other".into(), "rejected".into()], ..base() },
            Selection { orders: text("USMF/SO-1"), ..base() },
            Selection { statuses: status("400"), ..base() },
            Selection { statuses: status("4xx"), ..base() },
            Selection { since: at("2025-02-08T10:00:00Z"), ..base() },
            Selection { until: at("2025-02-08T10:00:01Z"), ..base() },
            Selection { older_than: hours(2), ..base() },
            Selection { replays_min: Some(2), ..base() },
            Selection { headers: header("source", "shop"), ..base() },
            Selection { headers: header("batch", "7"), ..base() },
            Selection { pointers: pointer("/changes/SalesStatus=Delivered"), ..base() },
            Selection { pointers: pointer("/changes/Weight=7"), ..base() },
            Selection { pointers: pointer("/changes/Weight"), ..base() },
        ];
        let no = [
            Selection { fingerprints: text("v2-"), ..base() },
            Selection { reasons: text("reject"), ..base() },
            Selection { orders: text("USMF/SO-10"), ..base() },
            Selection { ids: text("zzz"), ..base() },
            Selection { statuses: status("412"), ..base() },
            Selection { statuses: status("5xx"), ..base() },
            Selection { statuses: status("none"), ..base() },
            Selection { since: at("2025-02-08T10:00:01Z"), ..base() },
            Selection { until: at("2025-02-08T10:00:00Z"), ..base() },
            Selection { older_than: hours(3), ..base() },
            Selection { replays_min: Some(3), ..base() },
            Selection { headers: header("source", "sho"), ..base() },
            Selection { headers: header("gone", ""), ..base() },
            Selection { pointers: pointer("/changes/SalesStatus=Open"), ..base() },
            Selection { pointers: pointer("/changes/Gone"), ..base() },
            // Both must hold.
            Selection { reasons: text("rejected"), statuses: status("500"), ..base() },
        ];
        for selection in &yes {
            assert!(matches(selection), "{selection:?}");
        }
        for selection in &no {
            assert!(!matches(selection), "{selection:?}");
        }
        assert!(yes[0].is_all() && !yes[1].is_all());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_way_to_write_it() {
        for text in ["", "4", "9xx", "0xx", "600", "-1", "4XX"] {
            assert!(text.parse::<Statuses>().is_err(), "{text}");
        }
        assert!("changes/A=1".parse::<Pointer>().is_err());
    }
}
