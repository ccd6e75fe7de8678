//! What one replay has written to an order, and whether that explains how the order is now. Pure.
//!
//! Letters of one order that died one after the other saw the same state, and the first one that is written
//! changes the ETag for the others:
//!
//! ```text
//! letter 1 saw "1", letter 2 saw "1"
//! letter 1 is written over "1" ─▶ the order is "2" ─▶ letter 2 may be written over "2": nobody else wrote
//! ```
//!
//! That is so as long as one ETag follows the other. Where it is not known which ETag came of a write,
//! or a letter was found applied and nobody knows by whom, the fields concerned must do: each is what the
//! letter saw, or what was written here. Somebody who wrote the very same values since is not told from that.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::dead_letter::{Fate, Letter};
use crate::order::ETag;
use crate::protocol::compare;

/// What this replay has written to an order already.
#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    /// States from which one ETag followed the other.
    linked: BTreeSet<String>,
    /// States before a gap.
    loose: BTreeSet<String>,
    /// What was changed: of each property the newest value.
    wrote: Map<String, Value>,
    /// The order's ETag after the last write, where the service said it.
    etag: Option<String>,
    is_begun: bool,
}

impl Chain {
    /// Takes what came of a letter that was sent to be written over this state; `etag` is what its outcome told.
    pub(super) fn learn(
        &mut self,
        fate: Fate,
        over: Option<String>,
        changes: Map<String, Value>,
        etag: Option<&str>,
    ) {
        match fate {
            Fate::Applied => self.wrote(over, changes, etag),
            Fate::AlreadyApplied => self.found(over, changes),
            Fate::Superseded | Fate::Failed | Fate::Unknown | Fate::Left => {}
        }
    }

    /// One more letter was written over this state; of one that stood behind a dead letter, none is known.
    fn wrote(&mut self, over: Option<String>, changes: Map<String, Value>, etag: Option<&str>) {
        let follows = !self.is_begun || (over.is_some() && over == self.etag);
        if !follows {
            self.loose.append(&mut self.linked);
        }
        self.linked.extend(over);
        self.add(changes, etag);
    }

    /// One was there already: over which state, by whom and with what since, nobody knows.
    fn found(&mut self, base: Option<String>, changes: Map<String, Value>) {
        self.loose.append(&mut self.linked);
        self.loose.extend(base);
        self.add(changes, None);
    }

    fn add(&mut self, changes: Map<String, Value>, etag: Option<&str>) {
        self.is_begun = true;
        self.wrote.extend(changes);
        self.etag = etag.map(str::to_owned);
    }

    /// Whether anything was written.
    pub(super) const fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Whether nothing but what this replay wrote has changed since the letter saw the order. For a letter that is
    /// certainly newer than all that were written.
    pub(super) fn explains(
        &self,
        letter: &Letter,
        now: &ETag,
        concerned: &Map<String, Value>,
    ) -> bool {
        let Some(base) = letter.base.as_ref() else { return false };
        match &self.etag {
            Some(after) if self.linked.contains(base) => after == now.as_str(),
            Some(_) | None if self.linked.contains(base) || self.loose.contains(base) => {
                self.accounts_for(letter, concerned)
            }
            Some(_) | None => false,
        }
    }

    fn accounts_for(&self, letter: &Letter, concerned: &Map<String, Value>) -> bool {
        let seen = letter.seen.as_ref().and_then(Value::as_object);
        concerned.iter().all(|(name, value)| {
            let expected = self.wrote.get(name).or_else(|| seen.and_then(|seen| seen.get(name)));
            expected.is_some_and(|it| compare::same(&it.to_string(), &value.to_string()))
        })
    }
}
