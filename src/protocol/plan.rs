//! What an update means for the order as it was just fetched.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::guard::{Guard, Standing};
use super::{Code, compare};
use crate::order::{ETag, Expect, OrderUpdate, Replay};

/// Longest value of an order that an objection quotes, in characters.
const VALUE_CHARACTERS_MAX: usize = 80;

/// Longest text of the fields concerned, in bytes. They stand in a header beside much else.
const CONCERNED_BYTES_MAX: usize = 4_096;

/// What the fetched order says of the update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Every wanted value is there already, or the order holds the update's own sequence.
    AlreadyApplied,
    /// The order holds the sequence of a newer update.
    Superseded,
    /// The update is a replay, and the order is not what its dead letter saw last.
    MovedOn,
    /// Something differs: write it.
    Outdated,
    /// The update must not be written to an order in this state.
    Refused(Code),
}

/// The order as a GET returned it: names and values borrowed from the answer's text.
#[derive(Debug)]
pub struct Fetched<'a>(Members<'a>);

impl<'a> Fetched<'a> {
    /// Reads an answer's body. `None` if it is not a JSON object, or one that tells of an error: a
    /// service that has sent its 200 already can say it in no other way (OData 4.01 Protocol,
    /// section 9.4).
    #[must_use]
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let members: Members<'a> = serde_json::from_slice(body).ok()?;
        let error = members.get("error").or_else(|| members.get("@odata.error"));
        let is_error = error.is_some_and(|error| error.get().starts_with('{'));
        (!is_error).then_some(Self(members))
    }

    /// Whether this is a page of a collection, as a GET of the entity set brings it.
    #[must_use]
    pub fn is_page(&self) -> bool {
        self.0.get("value").is_some_and(|value| value.get().starts_with('['))
    }

    /// The ETag in the body (`@odata.etag`, OData JSON Format 4.01, section 4.6.13).
    #[must_use]
    pub fn etag(&self) -> Option<ETag> {
        // 4.01 drops the prefix, 4.0 and Dynamics have it.
        let raw = self.0.get("@odata.etag").or_else(|| self.0.get("@etag"))?;
        ETag::new(&serde_json::from_str::<Cow<'_, str>>(raw.get()).ok()?)
    }

    /// Judges an update against this state, which has this ETag: by its sequence, by the wanted
    /// values, by what a replay may overwrite, by its `expect`, by the allowed transitions. The first
    /// that has something to say decides.
    ///
    /// A wanted value that is there already needs no write; what cannot be compared counts as
    /// different, because writing again is harmless and skipping is not.
    ///
    /// A replay is judged like this at *every* GET, and keeps no memory of an earlier one. So after a
    /// conflict it meets an ETag that is not its dead letter's any more, and is not written. The one
    /// change of the ETag that is its own doing is a PATCH of ours whose answer was lost; then the
    /// wanted values, or its sequence, are there, and that is why those are looked at first. If
    /// somebody has changed them again since, that was later, and must stay.
    #[must_use]
    pub fn judge(&self, update: &OrderUpdate, guard: &Guard, etag: &ETag) -> Judgement {
        let is_there = || self.holds_all(update.changes.as_json());
        let standing = guard.standing(update, &self.0);
        match standing {
            // Whatever the values are: the update was written, and somebody changed them since.
            Standing::Same => return Judgement::AlreadyApplied,
            Standing::Older => return Judgement::Superseded,
            Standing::Unreadable => return Judgement::Refused(Code::SequenceUnreadable),
            Standing::Unnumbered if is_there() => return Judgement::AlreadyApplied,
            // Written though nothing differs: else an older update would find a lower sequence.
            Standing::Newer if is_there() => return Judgement::Outdated,
            Standing::Unnumbered | Standing::Newer => {}
        }
        if moved_on(update, standing, etag) {
            return Judgement::MovedOn;
        }
        match &update.expect {
            Some(expect) if self.unexpected(expect).is_some() => {
                Judgement::Refused(Code::ExpectationFailed)
            }
            Some(_) | None if guard.forbidden(&update.changes, &self.0).is_some() => {
                Judgement::Refused(Code::TransitionRefused)
            }
            Some(_) | None => Judgement::Outdated,
        }
    }

    fn holds_all(&self, changes: &str) -> bool {
        let Ok(wanted) = serde_json::from_str::<Members<'_>>(changes) else { return false };
        wanted.0.iter().all(|(name, value)| {
            self.0.get(name).is_some_and(|current| compare::same(value.get(), current.get()))
        })
    }

    /// The properties that the update would change, and the one with its sequence, as they are now: a
    /// JSON object. What has no room is left out.
    #[must_use]
    pub fn concerned(&self, update: &OrderUpdate, guard: &Guard) -> String {
        let wanted = serde_json::from_str::<Members<'_>>(update.changes.as_json());
        let names = wanted.map(|wanted| wanted.0).unwrap_or_default();
        let names = names.iter().map(|(name, _)| name.as_ref());
        let sequence = guard.numbers(update).map(|(property, _)| property);
        let mut text = String::from("{");
        for name in names.chain(sequence) {
            let Some(value) = self.0.get(name) else { continue };
            let comma = if text.len() > 1 { "," } else { "" };
            let name = serde_json::to_string(name).unwrap_or_default();
            let member = format!("{comma}{name}:{}", value.get());
            if text.len() + member.len() < CONCERNED_BYTES_MAX {
                text.push_str(&member);
            }
        }
        text + "}"
    }

    /// One sentence about what of this state stands in the way of an update that [`Self::judge`] does
    /// not let pass.
    #[must_use]
    pub fn objection(&self, update: &OrderUpdate, guard: &Guard, etag: &ETag) -> String {
        let now = |name: &str| {
            let value = self.0.get(name).map_or("absent", RawValue::get);
            let value: String = value.chars().take(VALUE_CHARACTERS_MAX).collect();
            format!("{name} is {value}")
        };
        let standing = guard.standing(update, &self.0);
        if let Some((property, sequence)) = guard.numbers(update)
            && matches!(standing, Standing::Older | Standing::Unreadable)
        {
            let sequence = sequence.get();
            return format!("{}, and the update's sequence is {sequence}", now(property));
        }
        if moved_on(update, standing, etag) {
            return match &update.replay {
                Some(Replay::Since(seen)) => {
                    format!("the order's ETag is {etag}, and its dead letter saw {seen} last")
                }
                Some(Replay::Unknown | Replay::Forced) | None => {
                    format!("the order's ETag is {etag}, and what its dead letter saw is not known")
                }
            };
        }
        if let Some(name) = update.expect.as_ref().and_then(|expect| self.unexpected(expect)) {
            return format!("{}, which the update does not expect", now(&name));
        }
        let forbidden = guard.forbidden(&update.changes, &self.0);
        let way = |name: Cow<'_, str>| {
            format!("{}, and may not become from there what the update wants", now(&name))
        };
        forbidden.map(way).unwrap_or_default()
    }

    /// The first property that has none of the values that are expected of it.
    fn unexpected<'b>(&self, expect: &'b Expect) -> Option<Cow<'b, str>> {
        let Ok(expected) = serde_json::from_str::<Members<'_>>(expect.as_json()) else {
            return Some("expect".into());
        };
        let is_expected = |name: &str, allowed: &RawValue| {
            let Some(current) = self.0.get(name) else { return false };
            let Ok(allowed) = serde_json::from_str::<Vec<&RawValue>>(allowed.get()) else {
                return false;
            };
            allowed.iter().any(|value| compare::same(value.get(), current.get()))
        };
        let unmet = expected.0.into_iter().find(|(name, allowed)| !is_expected(name, allowed));
        unmet.map(|(name, _)| name)
    }
}

/// Whether a replay would overwrite what its dead letter has not seen. Where sequences are compared and
/// the order's is lower, nothing newer of that numbering was written, and that is proof enough where
/// there is no other; a person may have changed the order all the same, which an ETag shows.
fn moved_on(update: &OrderUpdate, standing: Standing, etag: &ETag) -> bool {
    match &update.replay {
        None | Some(Replay::Forced) => false,
        Some(Replay::Since(seen)) => seen != etag,
        Some(Replay::Unknown) => standing != Standing::Newer,
    }
}

/// The members of a JSON object in their order, as text. A list, because an order has a few hundred
/// properties at most and a handful are looked for: no allocation for each name, no hashing.
#[derive(Debug)]
pub(super) struct Members<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor).map(Members)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            members.push((name, map.next_value()?));
        }
        Ok(members)
    }
}

/// A member's name, borrowed where it holds no escape.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
