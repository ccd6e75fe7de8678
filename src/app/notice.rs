//! What a publisher is told who asked what became of an update.

use jiff::Timestamp;
use lapin::BasicProperties;
use serde::{Deserialize, Serialize};

use crate::broker::Notice;
use crate::dead_letter::{DEAD_LETTER_ID, REPLAY_ID, header};
use crate::dispatch::{Letter, Outcome};
use crate::order::ETag;

/// The body of a notice. Its names are part of the interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// `applied`, `already_applied`, `superseded` or `dead_lettered`.
    pub outcome: String,
    /// Reason code of the dead letter.
    pub reason: Option<String>,
    /// Canonical order key, where the message could be decoded.
    pub order: Option<String>,
    /// The update's `message_id`.
    pub message_id: Option<String>,
    /// The dead letter.
    pub dead_letter_id: Option<String>,
    /// The replay that sent the update.
    pub replay_id: Option<String>,
    /// The order's ETag after it, as far as the service told; with a dead letter, the one seen last.
    pub etag: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// Where a notice goes to, and what of it is known before the message is settled.
#[derive(Debug)]
pub(super) struct Asked {
    notice: Notice,
    told: Told,
}

impl Asked {
    /// `None` if nobody wants to know.
    pub(super) fn by(properties: &BasicProperties) -> Option<Self> {
        let to = properties.reply_to().clone().filter(|to| !to.as_str().is_empty())?;
        let correlation_id = properties.correlation_id().clone();
        let told = Told {
            outcome: String::new(),
            reason: None,
            order: None,
            message_id: properties.message_id().as_ref().map(ToString::to_string),
            dead_letter_id: None,
            replay_id: header(properties, REPLAY_ID).map(str::to_owned),
            etag: None,
            at: Timestamp::UNIX_EPOCH,
        };
        Some(Self { notice: Notice { to, correlation_id, body: Vec::new() }, told })
    }

    /// It was settled without a dead letter.
    pub(super) fn settled(self, outcome: &Outcome, at: Timestamp) -> Notice {
        let told = Told {
            outcome: outcome.name().to_owned(),
            order: Some(outcome.order.to_string()),
            etag: outcome.etag.as_ref().map(ToString::to_string),
            at,
            ..self.told
        };
        written(self.notice, &told)
    }

    /// It was dead-lettered, with these properties.
    pub(super) fn dead_lettered(
        self,
        letter: &Letter,
        properties: &BasicProperties,
        at: Timestamp,
    ) -> Notice {
        let seen = letter.attempts.iter().rev().find_map(|attempt| attempt.etag_seen.as_ref());
        let told = Told {
            outcome: "dead_lettered".to_owned(),
            reason: Some(letter.code.to_owned()),
            order: letter.order.as_deref().map(str::to_owned),
            dead_letter_id: header(properties, DEAD_LETTER_ID).map(str::to_owned),
            etag: seen.map(ETag::to_string),
            at,
            ..self.told
        };
        written(self.notice, &told)
    }
}

fn written(notice: Notice, told: &Told) -> Notice {
    Notice { body: serde_json::to_vec(told).unwrap_or_default(), ..notice }
}
