//! What is written on a letter that an operator sends elsewhere, and taken off it again.

use std::time::Duration;

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use uuid::Uuid;

use super::record;
use super::replay::FORMER;
use super::view::{Letter, Writer};
use crate::properties::republished;

/// Characters of a difference that a header keeps; the journal has all of it. All headers must fit one frame.
const DIFF_CHARACTERS_MAX: usize = 4_000;

/// Characters of an operator's reason that are kept.
const BECAUSE_CHARACTERS_MAX: usize = 1_000;

/// Headers that would send copies elsewhere, or that are of the stay in one queue.
const LEFT_BEHIND: [&str; 5] =
    ["CC", "BCC", "x-delivery-count", "x-acquired-count", record::RETURNED_AT];

/// Headers of a letter in the archive.
const OF_ARCHIVE: [&str; 4] = [
    record::DISCARDED_AT,
    record::DISCARDED_BY,
    record::DISCARDED_BECAUSE,
    record::DISCARDED_ROUTING_KEY,
];

/// Who decided, and why.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    /// The operator.
    pub by: &'a str,
    /// The reason that they gave.
    pub because: &'a str,
    /// When.
    pub at: Timestamp,
}

/// The properties of a letter that is sent on as it is. Left behind is what would delete it, copy it or
/// have it refused: expiration, priority, CC and BCC, and the user id, which becomes a header.
fn carried(properties: &BasicProperties) -> BasicProperties {
    let mut headers = FieldTable::default();
    let theirs = properties.headers().iter().flat_map(FieldTable::inner);
    for (name, value) in theirs.filter(|(name, _)| !LEFT_BEHIND.contains(&name.as_str())) {
        headers.insert(name.clone(), value.clone());
    }
    if let Some(user) = properties.user_id()
        && !headers.contains_key(record::USER_ID)
    {
        put(&mut headers, record::USER_ID, user.as_str());
    }
    let kept = republished(properties);
    if headers.inner().is_empty() { kept } else { kept.with_headers(headers) }
}

/// The same for one that comes to the queue of dead letters from elsewhere: it stands behind letters that died later,
/// and says so.
#[must_use]
pub fn returned(properties: &BasicProperties, at: Timestamp) -> BasicProperties {
    let kept = carried(properties);
    let mut headers = kept.headers().clone().unwrap_or_default();
    put(&mut headers, record::RETURNED_AT, &at.to_string());
    kept.with_headers(headers)
}

/// The properties of a letter that goes to the archive, where it stays for so long.
#[must_use]
pub fn discarded(
    properties: &BasicProperties,
    routing_key: &str,
    decision: Decision<'_>,
    retention: Duration,
) -> BasicProperties {
    let kept = carried(properties);
    let mut headers = kept.headers().clone().unwrap_or_default();
    let because: String = decision.because.chars().take(BECAUSE_CHARACTERS_MAX).collect();
    put(&mut headers, record::DISCARDED_AT, &decision.at.to_string());
    put(&mut headers, record::DISCARDED_BY, decision.by);
    put(&mut headers, record::DISCARDED_BECAUSE, &because);
    put(&mut headers, record::DISCARDED_ROUTING_KEY, routing_key);
    let milliseconds = retention.as_millis().to_string();
    kept.with_headers(headers).with_expiration(milliseconds.as_str().into())
}

/// The properties and the routing key of a letter that comes back from the archive.
#[must_use]
pub fn restored(
    properties: &BasicProperties,
    routing_key: &str,
    at: Timestamp,
) -> (BasicProperties, String) {
    let kept = returned(properties, at);
    let mut headers = FieldTable::default();
    let mut key = routing_key.to_owned();
    for (name, value) in kept.headers().iter().flat_map(FieldTable::inner) {
        if name.as_str() == record::DISCARDED_ROUTING_KEY {
            key = super::death::as_text(value).unwrap_or(key);
        }
        if !OF_ARCHIVE.contains(&name.as_str()) {
            headers.insert(name.clone(), value.clone());
        }
    }
    (republished(properties).with_headers(headers), key)
}

/// The properties of a letter of somebody else's that becomes one of ours: what is known of its death,
/// in our headers. One that has them keeps them. `queue` is where it was found.
#[must_use]
pub fn adopted(
    properties: &BasicProperties,
    letter: &Letter,
    queue: &str,
    at: Timestamp,
) -> BasicProperties {
    let kept = returned(properties, at);
    if letter.writer == Writer::Orderwright {
        return kept;
    }
    let mut headers = kept.headers().clone().unwrap_or_default();
    put(&mut headers, record::ID, &letter.id.to_string());
    put(&mut headers, record::FINGERPRINT, &letter.fingerprint);
    put(&mut headers, record::REASON, &letter.reason);
    put(&mut headers, record::DETAIL, &letter.detail);
    put(&mut headers, record::EXCHANGE, &letter.exchange);
    put(&mut headers, record::ROUTING_KEY, &letter.routing_key);
    put(&mut headers, record::QUEUE, if letter.queue.is_empty() { queue } else { &letter.queue });
    put(&mut headers, record::VERSION, env!("CARGO_PKG_VERSION"));
    if let Some(order) = &letter.order {
        put(&mut headers, record::ORDER, order);
    }
    if let Some(at) = letter.dead_lettered_at {
        put(&mut headers, record::DEAD_LETTERED_AT, &at.to_string());
    }
    kept.with_headers(headers)
}

/// A change by hand.
#[derive(Debug, Clone, Copy)]
pub struct Edition<'a> {
    /// The letter that comes of it.
    pub id: Uuid,
    /// The operator.
    pub by: &'a str,
    /// When.
    pub at: Timestamp,
    /// What is changed, place by place.
    pub diff: &'a str,
    /// What the letters before it would have written, by property, as JSON.
    pub former: Option<&'a str>,
}

/// The properties of the letter that replaces one: it names that one, and is judged as that one would be. `queue`
/// is where it was found.
#[must_use]
pub fn edited(
    properties: &BasicProperties,
    letter: &Letter,
    queue: &str,
    edition: Edition<'_>,
) -> BasicProperties {
    let kept = adopted(properties, letter, queue, edition.at);
    let mut headers = FieldTable::default();
    for (name, value) in kept.headers().iter().flat_map(FieldTable::inner) {
        if name.as_str() != FORMER {
            headers.insert(name.clone(), value.clone());
        }
    }
    let count = letter.edited.as_ref().map_or(0, |it| it.count).saturating_add(1);
    let first = letter.replays.first_dead_letter.unwrap_or(letter.id);
    let diff: String = edition.diff.chars().take(DIFF_CHARACTERS_MAX).collect();
    put(&mut headers, record::ID, &edition.id.to_string());
    put(&mut headers, record::FIRST_DEAD_LETTER, &first.to_string());
    put(&mut headers, record::EDITED_FROM, &letter.id.to_string());
    put(&mut headers, record::EDITS, &count.to_string());
    put(&mut headers, record::EDITED_AT, &edition.at.to_string());
    put(&mut headers, record::EDITED_BY, edition.by);
    put(&mut headers, record::EDIT_DIFF, &diff);
    if let Some(former) = edition.former {
        put(&mut headers, FORMER, former);
    }
    kept.with_headers(headers)
}

fn put(headers: &mut FieldTable, name: &str, value: &str) {
    headers.insert(name.into(), AMQPValue::LongString(value.into()));
}

#[cfg(test)]
mod tests {
    use super::super::view::Found;
    use super::*;

    fn read(properties: &BasicProperties, routing_key: &str) -> Letter {
        Letter::read(Found { properties, exchange: "", routing_key, body: b"{}" })
    }

    fn decision() -> Decision<'static> {
        Decision { by: "jane@desk", because: "no such order", at: Timestamp::UNIX_EPOCH }
    }

    fn foreign() -> BasicProperties {
        let mut headers = FieldTable::default();
        put(&mut headers, "source", "shop");
        put(&mut headers, "CC", "elsewhere");
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(3));
        BasicProperties::default()
            .with_headers(headers)
            .with_message_id("m-1".into())
            .with_expiration("1".into())
            .with_user_id("shop".into())
    }

    #[test]
    fn letter_that_is_discarded_and_restored_is_the_same_letter() {
        let before = read(&foreign(), "A/1");
        let archived = discarded(&foreign(), "A/1", decision(), Duration::from_mins(1));
        assert_eq!(archived.expiration().as_ref().unwrap().as_str(), "60000");
        assert_eq!(read(&archived, "archive").id, before.id, "known by its id there as well");
        let (back, key) = restored(&archived, "archive", Timestamp::UNIX_EPOCH);
        assert_eq!((key.as_str(), back.expiration()), ("A/1", &None));
        let after = read(&back, &key);
        assert_eq!((after.id, &after.fingerprint), (before.id, &before.fingerprint));
        let headers = back.headers().as_ref().unwrap();
        let names: Vec<_> = headers.inner().keys().map(ToString::to_string).collect();
        assert_eq!(names, [record::USER_ID, record::RETURNED_AT, "source"]);
        assert!(after.is_moved && !before.is_moved);
    }

    #[test]
    fn letter_of_somebody_else_gets_our_headers_once() {
        let letter = read(&foreign(), "A/1");
        let ours = adopted(&foreign(), &letter, "their.dlq", Timestamp::UNIX_EPOCH);
        let again = read(&ours, "elsewhere");
        assert_eq!((again.writer, again.id), (Writer::Orderwright, letter.id));
        assert_eq!((again.reason.as_str(), again.queue.as_str()), ("foreign", "their.dlq"));
        assert_eq!((again.fingerprint, again.order), (letter.fingerprint, letter.order));
        assert_eq!(adopted(&ours, &read(&ours, "x"), "other", Timestamp::UNIX_EPOCH), ours);
    }

    #[test]
    fn edited_letter_names_the_one_that_it_replaces_and_is_what_that_was_otherwise() {
        let before = read(&foreign(), "A/1");
        let edition = |id| Edition {
            id: Uuid::from_u128(id),
            by: "jane@desk",
            at: Timestamp::UNIX_EPOCH,
            diff: "- /a: 1",
            former: (id == 7).then_some("{\"a\":[1]}"),
        };
        let first = edited(&foreign(), &before, "their.dlq", edition(7));
        let once = read(&first, "A/1");
        let says = once.edited.clone().unwrap();
        assert_eq!((once.id, says.from, says.count), (Uuid::from_u128(7), before.id, 1));
        assert_eq!((says.by.as_str(), says.diff.as_str()), ("jane@desk", "- /a: 1"));
        assert_eq!((&once.order, &once.reason), (&before.order, &before.reason));
        assert_eq!(once.replays.count, 0);
        let twice = read(&edited(&first, &once, "q", edition(8)), "A/1");
        let says = twice.edited.unwrap();
        assert_eq!((says.from, says.count), (once.id, 2));
        assert_eq!(twice.replays.first_dead_letter, Some(before.id));
        assert_eq!(once.former, Some(serde_json::json!({"a": [1]})));
        assert_eq!(twice.former, None, "too much the second time");
    }
}
