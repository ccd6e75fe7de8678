//! What a dead letter would come to, in the words of a plan. Pure.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::order::Replay;
use crate::protocol::compare;

/// What would come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Prospect {
    /// It would be written.
    WouldApply,
    /// It is there already.
    AlreadyApplied,
    /// The order has moved on since.
    Superseded,
    /// It died before it saw its order, so nobody can tell whether that has moved on since.
    NeverSeen,
    /// There is no such order.
    OrderMissing,
    /// It would be refused: by a guard, or because its body is no update.
    Refused,
    /// Its order stands still, and it is not its turn.
    Held,
    /// The service did not say.
    Unknown,
}

impl Prospect {
    /// A stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WouldApply => "would_apply",
            Self::AlreadyApplied => "already_applied",
            Self::Superseded => "superseded",
            Self::NeverSeen => "never_seen",
            Self::OrderMissing => "order_missing",
            Self::Refused => "refused",
            Self::Held => "held",
            Self::Unknown => "unknown",
        }
    }
}

/// What an operator lets letters be written over, besides what they saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Allowed {
    /// Nothing.
    #[default]
    Seen,
    /// By those that never saw their order: the state that it has when it is looked at.
    NeverSeen,
    /// Anything.
    All,
}

/// A property that is not what the dead letter saw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Its name.
    pub property: String,
    /// What the dead letter saw.
    pub seen: Option<Value>,
    /// What it is now.
    pub now: Option<Value>,
    /// What the dead letter wants.
    pub wanted: Option<Value>,
}

/// What came of a look.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// What would come of it.
    pub prospect: Prospect,
    /// What it may overwrite, if it is sent.
    pub may: Replay,
    /// The fields concerned of that state, as JSON, where they are known.
    pub seen: Option<String>,
    /// What stands in its way, in words.
    pub why: String,
    /// What has changed of the fields concerned.
    pub changed: Vec<Change>,
    /// How long the service took to answer, where it did.
    pub took: Option<Duration>,
}

/// What is not as the letter saw it. Nothing is known where it saw nothing.
pub(super) fn changed(
    seen: Option<&Map<String, Value>>,
    now: &Map<String, Value>,
    wanted: &Map<String, Value>,
) -> Vec<Change> {
    let Some(seen) = seen else { return Vec::new() };
    let differs = |name: &&String| match (seen.get(*name), now.get(*name)) {
        (Some(seen), Some(now)) => !compare::same(&seen.to_string(), &now.to_string()),
        (seen, now) => seen.is_some() != now.is_some(),
    };
    let change = |name: &String| Change {
        property: name.clone(),
        seen: seen.get(name).cloned(),
        now: now.get(name).cloned(),
        wanted: wanted.get(name).cloned(),
    };
    now.keys().filter(differs).map(change).collect()
}

/// What is not as the letter wants it, where it has seen nothing.
pub(super) fn unlike(now: &Map<String, Value>, wanted: &Map<String, Value>) -> Vec<Change> {
    let is_there = |name: &String, wanted: &Value| {
        now.get(name).is_some_and(|now| compare::same(&wanted.to_string(), &now.to_string()))
    };
    let unlike = wanted.iter().filter(|(name, wanted)| !is_there(name, wanted));
    let change = |(name, wanted): (&String, &Value)| Change {
        property: name.clone(),
        seen: None,
        now: now.get(name).cloned(),
        wanted: Some(wanted.clone()),
    };
    unlike.map(change).collect()
}
