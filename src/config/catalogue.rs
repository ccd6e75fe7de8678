//! Every key there is, with what its field says about it: meaning, kind, bounds, default.
//!
//! Read from the JSON schema of [`Settings`], so that nothing is written twice: a field's doc
//! comment is its meaning, its schema attributes are its bounds.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use schemars::generate::SchemaSettings;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use super::Settings;

static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(read);

/// A section or a key, in the order of the fields.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A table of keys.
    Section {
        /// Dotted path, such as `retry.conflicts`.
        path: String,
        /// What the section is about.
        doc: String,
    },
    /// A value.
    Key(Key),
}

/// One key and what is known about it.
#[derive(Debug)]
pub(crate) struct Key {
    /// Dotted path, such as `broker.prefetch`.
    pub(crate) path: String,
    /// What the key means: the field's doc comment.
    pub(crate) doc: String,
    /// What a value of it looks like.
    pub(crate) kind: Kind,
    /// Least and most, where the field has bounds.
    pub(crate) bounds: Option<Bounds>,
    /// Whether its value is never shown.
    pub(crate) secret: bool,
    /// What it is unless given. Null where there is none.
    pub(crate) default: Value,
}

/// What a value looks like.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Url,
    Duration,
    Whole,
    Number,
    Flag,
    List,
    Choice(Vec<String>),
}

/// Least and most, both allowed.
#[derive(Debug)]
pub(crate) enum Bounds {
    /// Of a number.
    Numbers(Number, Number),
    /// Of a duration, as text.
    Durations(String, String),
    /// Of a list's length.
    Items(u64, u64),
}

/// All sections and keys, in the order of the fields.
pub(crate) fn entries() -> &'static [Entry] {
    &ENTRIES
}

/// All keys, in the order of the fields.
pub(crate) fn keys() -> impl Iterator<Item = &'static Key> {
    entries().iter().filter_map(|entry| match entry {
        Entry::Key(key) => Some(key),
        Entry::Section { .. } => None,
    })
}

/// The key of this path.
pub(crate) fn key(path: &str) -> Option<&'static Key> {
    keys().find(|key| key.path == path)
}

/// Whether this path is a table of keys.
pub(crate) fn is_section(path: &str) -> bool {
    entries().iter().any(|entry| matches!(entry, Entry::Section { path: own, .. } if own == path))
}

impl Key {
    /// What a value of this key must be, as in "must be …".
    pub(crate) fn expected(&self) -> String {
        let bounds = self.bounds.as_ref().map(|bounds| format!(" {bounds}")).unwrap_or_default();
        match &self.kind {
            Kind::Text => "text".to_owned(),
            Kind::Url => "a URL".to_owned(),
            Kind::Duration => format!("a duration{bounds}, such as {}", self.default),
            Kind::Whole => format!("a whole number{bounds}"),
            Kind::Number => format!("a number{bounds}"),
            Kind::Flag => "true or false".to_owned(),
            Kind::List => format!("a list of text{bounds}"),
            Kind::Choice(names) => format!("one of {}", names.join(", ")),
        }
    }

    /// Whether a value of the right kind lies within the bounds.
    pub(super) fn allows(&self, value: &Value) -> bool {
        match &self.bounds {
            None => true,
            Some(Bounds::Numbers(least, most)) => value.as_f64().is_some_and(|number| {
                least.as_f64().is_some_and(|least| least <= number)
                    && most.as_f64().is_some_and(|most| number <= most)
            }),
            Some(Bounds::Durations(least, most)) => {
                let given = value.as_str().and_then(duration);
                given.is_some() && duration(least) <= given && given <= duration(most)
            }
            Some(Bounds::Items(least, most)) => value.as_array().is_some_and(|items| {
                u64::try_from(items.len()).is_ok_and(|items| (*least..=*most).contains(&items))
            }),
        }
    }

    fn new(path: String, schema: &Value) -> Self {
        let text = |name: &str| schema.get(name).and_then(Value::as_str).map(str::to_owned);
        let items = |name: &str| schema.get(name).and_then(Value::as_u64);
        let number = |name: &str| match schema.get(name) {
            Some(Value::Number(number)) => Some(number.clone()),
            _ => None,
        };
        let bounds = if let (Some(least), Some(most)) = (text("x-minimum"), text("x-maximum")) {
            Some(Bounds::Durations(least, most))
        } else if let (Some(least), Some(most)) = (number("minimum"), number("maximum")) {
            Some(Bounds::Numbers(least, most))
        } else {
            items("maxItems").map(|most| Bounds::Items(items("minItems").unwrap_or(0), most))
        };
        Self {
            path,
            doc: text("description").unwrap_or_default(),
            kind: Kind::of(schema, matches!(bounds, Some(Bounds::Durations(..)))),
            bounds,
            secret: schema.get("writeOnly") == Some(&Value::Bool(true)),
            default: schema.get("default").cloned().unwrap_or_default(),
        }
    }
}

impl Kind {
    fn of(schema: &Value, duration: bool) -> Self {
        if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
            let name =
                |choice: &Value| choice.get("const").and_then(Value::as_str).map(str::to_owned);
            return Self::Choice(choices.iter().filter_map(name).collect());
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("integer") => Self::Whole,
            Some("number") => Self::Number,
            Some("boolean") => Self::Flag,
            Some("array") => Self::List,
            _ if duration => Self::Duration,
            _ if schema.get("format").and_then(Value::as_str) == Some("uri") => Self::Url,
            _ => Self::Text,
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numbers(least, most) => write!(f, "from {least} to {most}"),
            Self::Durations(least, most) => write!(f, "from {least} to {most}"),
            Self::Items(least, most) => write!(f, "with {least} to {most} items"),
        }
    }
}

/// The effective values, secrets masked, in the order of the fields.
pub(crate) fn values(settings: &Settings) -> Vec<(String, Value)> {
    outline(settings).into_iter().filter_map(|(path, value)| Some((path, value?))).collect()
}

fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

fn read() -> Vec<Entry> {
    let mut generator = SchemaSettings::draft2020_12().with(|all| all.inline_subschemas = true);
    generator.meta_schema = None;
    let schema = generator.into_generator().into_root_schema_for::<Settings>().to_value();
    let entry = |(path, value): (String, Option<Value>)| {
        let pointer: String =
            path.split('.').flat_map(|name| ["/properties/", name]).collect::<Vec<_>>().concat();
        let schema = schema.pointer(&pointer).unwrap_or(&Value::Null);
        if value.is_some() {
            return Entry::Key(Key::new(path, schema));
        }
        let doc = schema.get("description").and_then(Value::as_str).unwrap_or_default();
        Entry::Section { path, doc: doc.to_owned() }
    };
    outline(&Settings::default()).into_iter().map(entry).collect()
}

/// Sections (without a value) and keys, in the order of the fields, which a parsed JSON object
/// would lose.
fn outline(settings: &Settings) -> Vec<(String, Option<Value>)> {
    let mut found = Vec::new();
    let text = serde_json::to_string(settings).unwrap_or_default();
    descend("", &text, &mut found);
    found
}

fn descend(parent: &str, object: &str, found: &mut Vec<(String, Option<Value>)>) {
    let members = serde_json::Deserializer::from_str(object).deserialize_map(Members);
    for (name, raw) in members.unwrap_or_default() {
        let path = if parent.is_empty() { name } else { format!("{parent}.{name}") };
        if raw.get().starts_with('{') {
            found.push((path.clone(), None));
            descend(&path, raw.get(), found);
        } else {
            found.push((path, Some(serde_json::from_str(raw.get()).unwrap_or_default())));
        }
    }
}

/// Reads an object's members in the order in which they are written.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, Box<RawValue>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}
