//! One look over a JSON text for what a lenient parser accepts in silence.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Error, printable};

/// Refuses malformed JSON, names given twice at any depth, nesting deeper than `nesting_max`, a text
/// that is no object, and a top-level field that is not among `fields`.
pub(super) fn check(text: &str, nesting_max: usize, fields: &[&str]) -> Result<(), Error> {
    let found = Cell::new(None);
    let look = Look { depth: 0, nesting_max, fields, found: &found };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match look.deserialize(&mut deserializer).and_then(|()| deserializer.end()) {
        Ok(()) => Ok(()),
        Err(error) => Err(found.take().unwrap_or(Error::Malformed(error))),
    }
}

/// Visits a value and everything below it, and keeps nothing.
#[derive(Clone, Copy)]
struct Look<'c> {
    /// Arrays and objects around this value.
    depth: usize,
    nesting_max: usize,
    fields: &'c [&'c str],
    /// Our own finding: serde's error type has room for a text only.
    found: &'c Cell<Option<Error>>,
}

impl Look<'_> {
    fn stop<E: serde::de::Error>(self, error: Error) -> E {
        self.found.set(Some(error));
        E::custom("refused")
    }

    fn scalar<E: serde::de::Error>(self) -> Result<(), E> {
        if self.depth == 0 { Err(self.stop(Error::NotAnObject)) } else { Ok(()) }
    }

    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == self.nesting_max {
            return Err(self.stop(Error::TooDeep { nesting_max: self.nesting_max }));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A member's name, borrowed from the text where it holds no escape.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The names of one object's members so far.
#[derive(Default)]
struct Seen<'a> {
    /// Most objects have a few, which are found quicker than hashed.
    few: Vec<Cow<'a, str>>,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Seen<'a> {
    const FEW_MAX: usize = 16;

    /// Gives the name back if it was there already.
    fn add(&mut self, name: Cow<'a, str>) -> Option<Cow<'a, str>> {
        if self.few.contains(&name) {
            return Some(name);
        }
        if self.few.len() < Self::FEW_MAX {
            self.few.push(name);
            return None;
        }
        self.many.replace(name)
    }
}

/// The names of an object's members.
pub(super) struct Names<'a>(pub(super) Vec<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Names<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamesVisitor).map(Names)
    }
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Vec<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut names = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            names.push(name);
            map.next_value::<IgnoredAny>()?;
        }
        Ok(names)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.scalar()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.scalar()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.scalar()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.depth == 0 {
            return Err(self.stop(Error::NotAnObject));
        }
        let below = self.below()?;
        while seq.next_element_seed(below)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let below = self.below()?;
        let mut seen = Seen::default();
        while let Some(name) = map.next_key::<Name<'de>>()? {
            if self.depth == 0 && !self.fields.contains(&&*name.0) {
                return Err(self.stop(Error::UnknownField { name: printable(&name.0) }));
            }
            if let Some(twice) = seen.add(name.0) {
                return Err(self.stop(Error::DuplicateKey { name: printable(&twice) }));
            }
            map.next_value_seed(below)?;
        }
        Ok(())
    }
}
