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

    /// The letter that is learned next was written over what one before its edit had written: over this state.
    pub(super) fn learn_former(&mut self, base: Option<String>) {
        self.found(base, Map::new());
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

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;
    use serde_json::json;

    use super::*;
    use crate::dead_letter::Found;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    /// A letter that saw the order under this ETag, and these fields of it.
    fn letter(base: &str, seen: &Value) -> Letter {
        let properties = BasicProperties::default();
        let found = Found { properties: &properties, exchange: "e", routing_key: "k", body: b"{}" };
        let (base, seen) = (Some(base.to_owned()), Some(seen.clone()));
        Letter { base, seen, ..Letter::read(found) }
    }

    fn explains(chain: &Chain, letter: &Letter, now: &str, order: &Value) -> bool {
        chain.explains(letter, &ETag::new(now).unwrap(), &object(order))
    }

    #[test]
    fn behind_a_gap_the_fields_concerned_must_do() {
        let (a, b) = (letter("\"1\"", &json!({"A": 0})), letter("\"1\"", &json!({"B": 0})));
        let mut chain = Chain::default();
        // The service does not tell what came of the first write, and somebody else writes B.
        chain.learn(Fate::Applied, Some("\"1\"".into()), object(&json!({"A": 1})), None);
        assert!(explains(&chain, &a, "\"3\"", &json!({"A": 1})));
        assert!(!explains(&chain, &b, "\"3\"", &json!({"B": 9})));
        // It tells of the second: what was before that is no surer for it.
        chain.learn(Fate::Applied, Some("\"3\"".into()), object(&json!({"A": 2})), Some("\"4\""));
        assert!(explains(&chain, &a, "\"4\"", &json!({"A": 2})));
        assert!(!explains(&chain, &b, "\"4\"", &json!({"B": 9})));
        assert!(explains(&chain, &b, "\"4\"", &json!({"B": 0})), "nobody has written it");
        // One that saw the order behind the gap goes by the ETags.
        let late = letter("\"3\"", &json!({"B": 9}));
        assert!(explains(&chain, &late, "\"4\"", &json!({"B": 9})));
        assert!(!explains(&chain, &late, "\"5\"", &json!({"B": 9})));
    }

    #[test]
    fn what_was_found_applied_links_no_etag_to_another() {
        let behind = letter("\"1\"", &json!({"A": 0, "B": 0}));
        let mut chain = Chain::default();
        let wanted = object(&json!({"A": 1}));
        chain.learn(Fate::AlreadyApplied, Some("\"1\"".into()), wanted, Some("\"3\""));
        assert!(explains(&chain, &behind, "\"3\"", &json!({"A": 1, "B": 0})));
        assert!(!explains(&chain, &behind, "\"3\"", &json!({"A": 1, "B": 9})), "somebody wrote B");
    }

    #[test]
    fn what_was_not_written_explains_nothing() {
        let behind = letter("\"1\"", &json!({"A": 0}));
        for fate in [Fate::Superseded, Fate::Failed, Fate::Unknown, Fate::Left] {
            let mut chain = Chain::default();
            let wanted = object(&json!({"A": 1}));
            chain.learn(fate, Some("\"1\"".into()), wanted, Some("\"2\""));
            assert!(!chain.is_begun() && !explains(&chain, &behind, "\"2\"", &json!({"A": 1})));
        }
    }
}
