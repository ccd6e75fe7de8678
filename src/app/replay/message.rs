//! The message that a dead letter becomes when it is sent once more. Pure.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use uuid::Uuid;

use super::Candidate;
use crate::broker::{Outgoing, Topology};
use crate::dead_letter::{
    CORRELATION_ID, EARLIER, FIRST_DEAD_LETTER, FIRST_TRACE, FORMER, REPLAY_ETAG, REPLAY_FORCED,
    REPLAY_ID, REPLAY_OF, REPLAYS, REPLY_TO, SEEN, header, publishers_reply,
};
use crate::order::Replay;
use crate::parking::UNPARK;
use crate::properties::republished_for;

/// What is written beside what the publisher said.
#[derive(Debug)]
pub(super) struct Sending<'a> {
    pub(super) replay: Uuid,
    /// What it may overwrite.
    pub(super) may: &'a Replay,
    /// The fields concerned of that state.
    pub(super) seen: Option<&'a str>,
    /// Where its outcome goes.
    pub(super) reply_to: ShortString,
    /// What its outcome is known by.
    pub(super) correlation_id: ShortString,
}

/// Through the front door, like any update, so that it stands in its order's queue behind what is there.
///
/// The headers are the publisher's and ours for a replay: what the broker or an earlier life wrote stays
/// behind, or it might die of that.
pub(super) fn message(
    topology: &Topology,
    candidate: &Candidate,
    sending: Sending<'_>,
) -> Outgoing {
    let letter = &candidate.letter;
    let mut headers = FieldTable::default();
    if let Some(theirs) = candidate.message.properties.headers() {
        for (name, value) in theirs.inner() {
            if is_publishers(name.as_str()) {
                headers.insert(name.clone(), value.clone());
            }
        }
    }
    let mut put = |name: &str, value: &str| {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    };
    let first = letter.replays.first_dead_letter.unwrap_or(letter.id);
    put(REPLAY_ID, &sending.replay.to_string());
    put(REPLAY_OF, &letter.id.to_string());
    put(FIRST_DEAD_LETTER, &first.to_string());
    if let Some(trace) = header(&candidate.message.properties, FIRST_TRACE) {
        put(FIRST_TRACE, trace);
    }
    put(EARLIER, &letter.deaths_so_far());
    if let Some(former) = &letter.former {
        put(FORMER, &former.to_string());
    }
    put(REPLAYS, &letter.replays.count.saturating_add(1).to_string());
    match sending.may {
        Replay::Since(etag) => {
            put(REPLAY_ETAG, etag.as_str());
            if let Some(seen) = sending.seen {
                put(SEEN, seen);
            }
        }
        Replay::Forced => put(REPLAY_FORCED, "1"),
        Replay::Unknown => {}
    }
    if let Some(head) = candidate.place.unparks() {
        put(UNPARK, &head.to_string());
    }
    let (reply_to, correlation_id) = publishers_reply(&candidate.message.properties);
    put(REPLY_TO, reply_to.as_ref().map(ShortString::as_str).unwrap_or_default());
    if let Some(id) = correlation_id {
        put(CORRELATION_ID, id.as_str());
    }
    let reply = (Some(sending.reply_to), Some(sending.correlation_id));
    let properties = republished_for(&candidate.message.properties, reply).with_headers(headers);
    let routing_key = letter.order.as_deref().unwrap_or(&letter.routing_key);
    Outgoing {
        exchange: topology.updates(),
        routing_key: routing_key.into(),
        properties,
        body: candidate.message.body.clone(),
    }
}

/// The properties of a dead letter, as far as a replay has a use for them.
pub(super) fn kept(properties: &BasicProperties) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
        if is_publishers(name.as_str()) || name.as_str() == FIRST_TRACE {
            headers.insert(name.clone(), value.clone());
        }
    }
    properties.clone().with_headers(headers)
}

fn is_publishers(name: &str) -> bool {
    let reserved = name.starts_with("x-") || name.starts_with("orderwright-");
    !reserved && !matches!(name, "CC" | "BCC")
}

#[cfg(test)]
mod tests {
    use super::super::{Message, Place};
    use super::*;
    use crate::config;
    use crate::dead_letter::{Found, Letter};
    use crate::order::ETag;

    #[test]
    fn replayed_message_says_what_its_publisher_said_and_nothing_of_an_earlier_life() {
        let mut headers = FieldTable::default();
        for name in [
            "traceparent",
            "shop",
            "x-death",
            "x-delivery-count",
            "CC",
            "orderwright-reason",
            "orderwright-forwards",
            FIRST_TRACE,
            REPLAY_FORCED,
        ] {
            headers.insert(name.into(), AMQPValue::LongString(name.into()));
        }
        let properties = BasicProperties::default()
            .with_headers(headers)
            .with_message_id("m-1".into())
            .with_reply_to("theirs".into())
            .with_expiration("1".into());
        let body = b"{}".to_vec();
        let found =
            Found { properties: &properties, exchange: "e", routing_key: "USMF/1", body: &body };
        let letter = Letter::read(found);
        let id = letter.id;
        let mut candidate = Candidate {
            letter,
            message: Message { properties, body },
            place: Place::Free,
            position: 1,
            rank: None,
        };
        let topology = Topology::new(&config::Topology::default());
        let may = Replay::Since(ETag::new("W/\"1\"").unwrap());
        let sending = |may| Sending {
            replay: Uuid::nil(),
            may,
            seen: Some("{}"),
            reply_to: "answers".into(),
            correlation_id: "7".into(),
        };
        let made = message(&topology, &candidate, sending(&may));
        assert_eq!(made.exchange, "orderwright.updates");
        let properties = made.properties;
        let mut names: Vec<_> = properties
            .headers()
            .as_ref()
            .unwrap()
            .inner()
            .keys()
            .map(ShortString::as_str)
            .collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                EARLIER,
                FIRST_DEAD_LETTER,
                FIRST_TRACE,
                REPLAY_ETAG,
                REPLAY_ID,
                REPLAY_OF,
                REPLAYS,
                REPLY_TO,
                SEEN,
                "shop",
                "traceparent"
            ]
        );
        assert_eq!(header(&properties, REPLY_TO), Some("theirs"));
        assert_eq!(header(&properties, REPLAY_ETAG), Some("W/\"1\""));
        assert_eq!(header(&properties, FIRST_TRACE), Some(FIRST_TRACE));
        assert_eq!(header(&properties, REPLAYS), Some("1"));
        assert_eq!(header(&properties, FIRST_DEAD_LETTER), Some(id.to_string().as_str()));
        assert_eq!(properties.reply_to().as_ref().unwrap().as_str(), "answers");
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "m-1");
        assert!(properties.expiration().is_none());

        let forced = message(&topology, &candidate, sending(&Replay::Forced)).properties;
        assert_eq!(header(&forced, REPLAY_FORCED), Some("1"));
        assert_eq!(header(&forced, REPLAY_ETAG), None);

        candidate.place = Place::Behind(Uuid::from_u128(7));
        let behind = message(&topology, &candidate, sending(&Replay::Unknown)).properties;
        assert_eq!(crate::parking::unparks(&behind), Some(Uuid::from_u128(7)));
    }
}
