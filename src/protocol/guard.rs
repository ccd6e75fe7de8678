//! What the configuration guards on the fetched order, beside the `expect` of the update itself:
//! that no older update is written over a newer one, and that a status takes only allowed ways.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::compare;
use super::plan::Members;
use crate::order::{Changes, OrderUpdate, Sequence};

/// What is guarded. The default guards nothing.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// The property of the order that holds the sequence of the update written last. Without one,
    /// sequences are not looked at.
    pub sequence_property: Option<Arc<str>>,
    /// The only ways in which the values of the properties that stand here may change.
    pub transitions: Vec<Transition>,
}

/// One allowed change of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Which property, as the service spells it.
    pub property: Arc<str>,
    /// What it may be now: a text without its quotes, or any other value as JSON writes it.
    pub from: String,
    /// What it may become, written alike.
    pub to: String,
}

/// How an update stands to the sequence that the order holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The sequence says nothing: there is none, or nobody looks at it.
    Unnumbered,
    /// The order holds none or a lower one.
    Newer,
    /// The order holds this very one.
    Same,
    /// The order holds a higher one.
    Older,
    /// The order holds something that is no whole number.
    Unreadable,
}

impl Guard {
    /// The body of the PATCH: the changes as they were sent, and the update's sequence if the order
    /// has a place for it. One PATCH writes both or neither.
    #[must_use]
    pub fn body<'a>(&self, update: &'a OrderUpdate) -> Cow<'a, str> {
        let changes = update.changes.as_json();
        match (self.numbers(update), changes.trim_end().strip_suffix('}')) {
            // Never empty, so a comma is in place. The name is an identifier: nothing to escape.
            (Some((property, sequence)), Some(open)) => {
                Cow::Owned(format!("{open},\"{property}\":{}}}", sequence.get()))
            }
            (Some(_) | None, _) => Cow::Borrowed(changes),
        }
    }

    /// Compares the update's sequence with the order's.
    pub(super) fn standing(&self, update: &OrderUpdate, order: &Members<'_>) -> Standing {
        let Some((property, sequence)) = self.numbers(update) else { return Standing::Unnumbered };
        let stored = match order.get(property).map(RawValue::get) {
            // Absent: the PATCH will show whether the service knows the property at all.
            None | Some("null") => return Standing::Newer,
            Some(value) => compare::whole(value),
        };
        let Some(stored) = stored else { return Standing::Unreadable };
        match i128::from(sequence.get()).cmp(&stored) {
            Ordering::Greater => Standing::Newer,
            // A property that knows no null holds 0 before anybody has written it, so a 0 there is
            // no proof that the update 0 was.
            Ordering::Equal if sequence.get() == 0 => Standing::Unnumbered,
            Ordering::Equal => Standing::Same,
            Ordering::Less => Standing::Older,
        }
    }

    /// The first property that would change in a way that is not allowed. To stay is always allowed;
    /// a value that no transition begins with may not be left, nor may one that is not known.
    pub(super) fn forbidden<'a>(
        &self,
        changes: &'a Changes,
        order: &Members<'_>,
    ) -> Option<Cow<'a, str>> {
        if self.transitions.is_empty() {
            return None;
        }
        let Ok(wanted) = serde_json::from_str::<Members<'_>>(changes.as_json()) else {
            return Some("changes".into());
        };
        let allows = |name: &str, to: &str| {
            let mut ways = self.transitions.iter().filter(|way| *way.property == *name).peekable();
            if ways.peek().is_none() {
                return true;
            }
            let Some(from) = order.get(name).map(RawValue::get) else { return false };
            compare::same(to, from) || ways.any(|way| is(&way.from, from) && is(&way.to, to))
        };
        wanted.0.into_iter().find(|(name, to)| !allows(name, to.get())).map(|(name, _)| name)
    }

    /// Property and sequence, where the configuration has the one and the update the other.
    pub(super) fn numbers(&self, update: &OrderUpdate) -> Option<(&str, Sequence)> {
        self.sequence_property.as_deref().zip(update.sequence)
    }
}

/// Whether a value of the configuration is this JSON value.
fn is(configured: &str, json: &str) -> bool {
    let text = serde_json::to_string(configured).unwrap_or_default();
    compare::same(&text, json) || compare::same(configured, json)
}
