//! What operators did with dead letters, and what came of it: one JSON object for each event. The
//! names are part of the interface.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::course::End;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When.
    pub at: Timestamp,
    /// Who: `user@host`, unless the operator says otherwise.
    pub by: String,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// Letters that one event names, at most. A record of the journal stays small.
pub const NAMED_MAX: usize = 200;

/// A dead letter, and its order where that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The dead letter.
    pub letter: String,
    /// Its order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// A replay begins.
    ReplayBegun {
        /// Its id.
        replay: Uuid,
        /// The filters, as they were given.
        selection: String,
        /// Why; given wherever something is forced.
        #[serde(skip_serializing_if = "Option::is_none")]
        because: Option<String>,
        /// Whether dead letters of orders that have moved on are written all the same.
        forced: bool,
        /// Whether those are that never saw their order.
        #[serde(default, skip_serializing_if = "is_false")]
        never_seen: bool,
        /// How many dead letters it is about.
        letters: u64,
        /// How many more are meant, and had no room.
        #[serde(default, skip_serializing_if = "is_zero")]
        left_over: u64,
    },
    /// A dead letter was sent once more, and this came of it.
    Replayed {
        /// The replay.
        replay: Uuid,
        /// The dead letter.
        letter: String,
        /// Its order.
        #[serde(skip_serializing_if = "Option::is_none")]
        order: Option<String>,
        /// `applied`, `already_applied`, `superseded`, `dead_lettered`, or `unknown`.
        outcome: String,
        /// The code of a new dead letter.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The new dead letter.
        #[serde(skip_serializing_if = "Option::is_none")]
        new_letter: Option<String>,
        /// The ETag of the order after it, where it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        etag: Option<String>,
    },
    /// A dead letter was left where it is.
    Left {
        /// The replay.
        replay: Uuid,
        /// The dead letter.
        letter: String,
        /// Its order.
        #[serde(skip_serializing_if = "Option::is_none")]
        order: Option<String>,
        /// Why.
        why: String,
    },
    /// Dead letters were not sent, and stay.
    Unsent {
        /// The replay.
        replay: Uuid,
        /// Which ones: of many, some in each record.
        letters: Vec<Named>,
        /// Why.
        why: String,
    },
    /// A replay ends.
    ReplayEnded {
        /// Its id.
        replay: Uuid,
        /// How.
        end: End,
        /// Why, in words.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// An order that stood still was asked to go on.
    Released {
        /// The order.
        order: String,
        /// The letter that it stood behind.
        head: String,
        /// How many letters of it were dealt with.
        letters: u64,
        /// The replay that dealt with them.
        #[serde(skip_serializing_if = "Option::is_none")]
        replay: Option<Uuid>,
        /// Why, where that was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        because: Option<String>,
    },
    /// A dead letter was put into the archive.
    Discarded {
        /// The dead letter.
        letter: String,
        /// Its order.
        #[serde(skip_serializing_if = "Option::is_none")]
        order: Option<String>,
        /// Why.
        because: String,
    },
    /// A dead letter came back from the archive.
    Restored {
        /// The dead letter.
        letter: String,
        /// Its order.
        #[serde(skip_serializing_if = "Option::is_none")]
        order: Option<String>,
        /// Why, where that was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        because: Option<String>,
    },
    /// A dead letter was changed by hand.
    Edited {
        /// The dead letter.
        letter: String,
        /// The letter that replaces it.
        new_letter: String,
        /// Its order.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        order: Option<String>,
        /// What was changed, place by place, a line each.
        diff: String,
        /// Why, where that was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        because: Option<String>,
    },
    /// Dead letters were read from a file.
    Imported {
        /// How many.
        letters: u64,
        /// Which ones: of many, some in each record.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        named: Vec<Named>,
        /// Where from.
        from: String,
        /// Why, where that was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        because: Option<String>,
    },
    /// Dead letters of somebody else's queue were taken over.
    Moved {
        /// How many.
        letters: u64,
        /// Which ones: of many, some in each record.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        named: Vec<Named>,
        /// Its name.
        from: String,
        /// The filters, as they were given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        selection: Option<String>,
        /// Why, where that was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        because: Option<String>,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
const fn is_false(it: &bool) -> bool {
    !*it
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
const fn is_zero(it: &u64) -> bool {
    *it == 0
}

impl Event {
    /// The replay that it belongs to.
    #[must_use]
    pub const fn replay(&self) -> Option<Uuid> {
        match self {
            Self::ReplayBegun { replay, .. }
            | Self::Replayed { replay, .. }
            | Self::Left { replay, .. }
            | Self::Unsent { replay, .. }
            | Self::ReplayEnded { replay, .. } => Some(*replay),
            Self::Released { replay, .. } => *replay,
            Self::Discarded { .. }
            | Self::Restored { .. }
            | Self::Edited { .. }
            | Self::Imported { .. }
            | Self::Moved { .. } => None,
        }
    }

    /// The letters that it is about, by their ids.
    #[must_use]
    pub fn letters(&self) -> Vec<&str> {
        match self {
            Self::Replayed { letter, new_letter, .. } => {
                let new = new_letter.as_deref();
                std::iter::once(letter.as_str()).chain(new).collect()
            }
            Self::Edited { letter, new_letter, .. } => vec![letter, new_letter],
            Self::Left { letter, .. }
            | Self::Discarded { letter, .. }
            | Self::Restored { letter, .. } => vec![letter],
            Self::Released { head, .. } => vec![head],
            Self::Unsent { letters: named, .. }
            | Self::Imported { named, .. }
            | Self::Moved { named, .. } => named.iter().map(|it| it.letter.as_str()).collect(),
            Self::ReplayBegun { .. } | Self::ReplayEnded { .. } => Vec::new(),
        }
    }

    /// Whether it is about this order, as far as it says.
    #[must_use]
    pub fn is_of(&self, wanted: &str) -> bool {
        match self {
            Self::Replayed { order, .. }
            | Self::Left { order, .. }
            | Self::Edited { order, .. }
            | Self::Discarded { order, .. }
            | Self::Restored { order, .. } => order.as_deref() == Some(wanted),
            Self::Released { order, .. } => order == wanted,
            Self::Unsent { letters: named, .. }
            | Self::Imported { named, .. }
            | Self::Moved { named, .. } => {
                named.iter().any(|it| it.order.as_deref() == Some(wanted))
            }
            Self::ReplayBegun { .. } | Self::ReplayEnded { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_were_written_and_say_what_they_are() {
        let record = Record {
            at: Timestamp::UNIX_EPOCH,
            by: "kim@desk".to_owned(),
            event: Event::Discarded {
                letter: "l-1".to_owned(),
                order: None,
                because: "a test".to_owned(),
            },
        };
        let text = serde_json::to_string(&record).unwrap();
        let expected = r#"{"at":"1970-01-01T00:00:00Z","by":"kim@desk","event":"discarded","letter":"l-1","because":"a test"}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
