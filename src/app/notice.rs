//! What a publisher is told who asked what became of an update.

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::ShortString;
use serde::{Deserialize, Serialize};

use crate::broker::Notice;
use crate::dead_letter::{DEAD_LETTER_ID, REPLAY_ID, header, publishers_reply};
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

/// Where notices go to, and what of them is known before the message is settled.
#[derive(Debug)]
pub(super) struct Asked {
    notices: Vec<Notice>,
    told: Told,
}

impl Asked {
    /// `None` if nobody wants to know.
    pub(super) fn by(properties: &BasicProperties) -> Option<Self> {
        let own = (properties.reply_to().clone(), properties.correlation_id().clone());
        // Of a replay, two want to know: whoever replays, and the publisher.
        let mut all = vec![own, publishers_reply(properties)];
        all.dedup();
        let notice = |(to, correlation_id): (Option<ShortString>, _)| {
            let to = to.filter(|to| !to.as_str().is_empty())?;
            Some(Notice { to, correlation_id, body: Vec::new() })
        };
        let notices: Vec<_> = all.into_iter().filter_map(notice).collect();
        if notices.is_empty() {
            return None;
        }
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
        Some(Self { notices, told })
    }

    /// It was settled without a dead letter.
    pub(super) fn settled(self, outcome: &Outcome, at: Timestamp) -> Vec<Notice> {
        let told = Told {
            outcome: outcome.name().to_owned(),
            order: Some(outcome.order.to_string()),
            etag: outcome.etag.as_ref().map(ToString::to_string),
            at,
            ..self.told
        };
        written(self.notices, &told)
    }

    /// It was dead-lettered, with these properties.
    pub(super) fn dead_lettered(
        self,
        letter: &Letter,
        properties: &BasicProperties,
        at: Timestamp,
    ) -> Vec<Notice> {
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
        written(self.notices, &told)
    }
}

fn written(notices: Vec<Notice>, told: &Told) -> Vec<Notice> {
    let body = serde_json::to_vec(told).unwrap_or_default();
    notices.into_iter().map(|notice| Notice { body: body.clone(), ..notice }).collect()
}

#[cfg(test)]
mod tests {
    use lapin::types::{AMQPValue, FieldTable};

    use super::*;
    use crate::dead_letter::{CORRELATION_ID, REPLY_TO};

    fn told(properties: &BasicProperties) -> Vec<(String, Option<String>)> {
        let text = |it: &ShortString| it.to_string();
        let asked = Asked::by(properties).map(|asked| asked.notices).unwrap_or_default();
        asked.iter().map(|it| (text(&it.to), it.correlation_id.as_ref().map(text))).collect()
    }

    #[test]
    fn outcome_of_a_replay_goes_to_whoever_replays_and_to_the_publisher() {
        let replayed = |to: &str| {
            let mut headers = FieldTable::default();
            headers.insert(REPLY_TO.into(), AMQPValue::LongString(to.into()));
            headers.insert(CORRELATION_ID.into(), AMQPValue::LongString("theirs".into()));
            let properties = BasicProperties::default().with_headers(headers);
            properties.with_reply_to("tool".into()).with_correlation_id("7".into())
        };
        let pair = |to: &str, id: &str| (to.to_owned(), Some(id.to_owned()));
        assert_eq!(told(&replayed("shop")), [pair("tool", "7"), pair("shop", "theirs")]);
        assert_eq!(told(&replayed("")), [pair("tool", "7")]);
        let first = BasicProperties::default().with_reply_to("shop".into());
        assert_eq!(told(&first), [("shop".to_owned(), None)]);
        assert_eq!(told(&BasicProperties::default()), []);
    }
}
