//! When updates of one order that wait in a row may be written as one, and what that one says.
//!
//! Only where the order ends up exactly as if they had been written one by one, whatever it is like now:
//!
//! - Each changes properties of its own or the same ones, to plain values. A later value wins. Parts of
//!   a complex value would be joined by the service (OData 4.01 Protocol, section 11.4.3), and a
//!   name with an annotation may stand for another property: neither is merged.
//! - None asks for anything of the order's state: no `expect`, no status with allowed ways, no replay.
//! - All are numbered, ever higher, or none is. So if the first one is newer than what the order holds,
//!   all of them are.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::guard::Guard;
use super::plan::Members;
use crate::order::{Changes, OrderUpdate, Sequence};

/// Most updates that are written as one. A hot order then gets a few hundred times as far with each
/// request, and what is done again when one is refused stays small.
pub const UPDATES_MAX: usize = 256;

/// Updates that are written as one.
#[derive(Debug)]
pub struct Merged {
    first: OrderUpdate,
    members: Vec<(String, Box<RawValue>)>,
    /// The last one's.
    sequence: Option<Sequence>,
    count: usize,
    /// Of the body, about.
    bytes: usize,
    bytes_max: usize,
}

impl Merged {
    /// Begins with the update that is next. `None` if it must be written by itself.
    #[must_use]
    pub fn begin(first: &OrderUpdate, guard: &Guard, bytes_max: usize) -> Option<Self> {
        let members = plain(first, guard)?;
        let members = members.into_iter().map(owned).collect();
        let (first, sequence) = (first.clone(), first.sequence);
        let bytes = first.changes.as_json().len();
        Some(Self { first, members, sequence, count: 1, bytes, bytes_max })
    }

    /// Adds the one behind it. False, and nothing is added, if that one must be written later.
    pub fn add(&mut self, next: &OrderUpdate, guard: &Guard) -> bool {
        let in_order = match (self.sequence, next.sequence) {
            (None, None) => true,
            (Some(before), Some(sequence)) => before < sequence,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let bytes = self.bytes + next.changes.as_json().len();
        if !in_order || self.count >= UPDATES_MAX || bytes > self.bytes_max {
            return false;
        }
        let Some(members) = plain(next, guard) else { return false };
        // Whether the service tells names apart by their case alone, nobody knows.
        let alike = |(name, _): &(Cow<'_, str>, &RawValue)| {
            let known = self.members.iter().map(|(known, _)| known);
            known.into_iter().any(|known| known != name && known.eq_ignore_ascii_case(name))
        };
        if members.iter().any(alike) {
            return false;
        }
        for (name, value) in members {
            match self.members.iter_mut().find(|(known, _)| *known == name) {
                Some((_, old)) => *old = value.to_owned(),
                None => self.members.push(owned((name, value))),
            }
        }
        (self.sequence, self.bytes) = (next.sequence, bytes);
        self.count += 1;
        true
    }

    /// The one update that they come to. `None` if there is but one.
    #[must_use]
    pub fn update(self) -> Option<OrderUpdate> {
        if self.count < 2 {
            return None;
        }
        let mut text = String::with_capacity(self.bytes);
        for (name, value) in &self.members {
            text.push(if text.is_empty() { '{' } else { ',' });
            text.push_str(&serde_json::to_string(name).ok()?);
            text.push(':');
            text.push_str(value.get());
        }
        text.push('}');
        let changes = Changes::new(RawValue::from_string(text).ok()?);
        Some(OrderUpdate { changes, sequence: self.sequence, ..self.first })
    }
}

/// What it changes, if that says the same in company.
fn plain<'a>(update: &'a OrderUpdate, guard: &Guard) -> Option<Vec<(Cow<'a, str>, &'a RawValue)>> {
    if update.expect.is_some() || update.replay.is_some() {
        return None;
    }
    let members: Members<'_> = serde_json::from_str(update.changes.as_json()).ok()?;
    let guarded = |name: &str| guard.transitions.iter().any(|way| *way.property == *name);
    let is_plain = |(name, value): &(Cow<'_, str>, &RawValue)| {
        !value.get().starts_with(['{', '[']) && !name.contains(['@', '.', '/']) && !guarded(name)
    };
    members.0.iter().all(is_plain).then_some(members.0)
}

fn owned((name, value): (Cow<'_, str>, &RawValue)) -> (String, Box<RawValue>) {
    (name.into_owned(), value.to_owned())
}
