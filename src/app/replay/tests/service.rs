//! An order and its service, which know who wrote what when.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::order::ETag;

/// What becomes of one request of the daemon's.
#[derive(Debug, Clone, Copy)]
pub(super) enum Net {
    Answered,
    /// It never arrives.
    Lost,
    /// It is carried out, and nobody hears of it.
    Unheard,
    /// It is carried out before the next request.
    Late,
}

/// Some of the properties A and B.
pub(super) type Properties = (bool, bool);

/// What others do just before a request.
pub(super) type Meanwhile = Option<Properties>;

/// When the service tells the ETag after a write.
#[derive(Debug, Default, Clone, Copy)]
pub(super) enum Tells {
    #[default]
    Never,
    Sometimes,
    Always,
}

/// An order and its service. Of each property: its value, and the age of who wrote it.
#[derive(Debug, Default)]
pub(super) struct Service {
    pub(super) properties: BTreeMap<String, (u64, u64)>,
    pub(super) version: u64,
    pub(super) tells: Tells,
    pub(super) late: Option<(ETag, Map<String, Value>, u64, bool)>,
}

impl Service {
    pub(super) fn etag(&self) -> ETag {
        ETag::new(&format!("\"{}\"", self.version)).unwrap()
    }

    pub(super) fn body(&self) -> Value {
        let of = |name: &str| self.properties.get(name).map_or(0, |it| it.0);
        json!({"A": of("A"), "B": of("B")})
    }

    pub(super) fn write(&mut self, changes: &Map<String, Value>, age: u64) {
        for (name, value) in changes {
            self.properties.insert(name.clone(), (value.as_u64().unwrap(), age));
        }
        self.version += 1;
    }

    pub(super) fn patch(
        &mut self,
        with: &ETag,
        changes: &Map<String, Value>,
        age: u64,
        is_replay: bool,
    ) -> bool {
        let fits = *with == self.etag();
        if fits {
            if is_replay {
                for name in changes.keys() {
                    let there = self.properties.get(name).map_or(0, |it| it.1);
                    assert!(
                        there <= age,
                        "{name}, written at {there}, is overwritten by what died at {age}"
                    );
                }
            }
            self.write(changes, age);
        }
        fits
    }

    pub(super) fn tells_now(&self) -> bool {
        match self.tells {
            Tells::Never => false,
            Tells::Sometimes => self.version.is_multiple_of(2),
            Tells::Always => true,
        }
    }

    pub(super) fn settle_late(&mut self) {
        if let Some((with, changes, age, is_replay)) = self.late.take() {
            self.patch(&with, &changes, age, is_replay);
        }
    }
}

pub(super) fn changes(names: Properties, value: u64) -> Map<String, Value> {
    let mut changes = Map::new();
    // At least one.
    if names.0 || !names.1 {
        changes.insert("A".to_owned(), json!(value));
    }
    if names.1 {
        changes.insert("B".to_owned(), json!(value));
    }
    changes
}
