//! What a dead letter says of itself, whoever wrote it: we, the broker, or somebody else.

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::{FieldTable, ShortString};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::death::{Death, as_text, deaths, in_words, of_death};
use super::earlier::{self, Earlier};
use super::fingerprint::{Trouble, fingerprint};
use super::{record, replay};
use crate::properties::{FORWARDED_EXCHANGE, FORWARDED_ROUTING_KEY};

/// The code of an update that lost against what is newer.
pub(super) const SUPERSEDED: &str = "superseded";

/// Who wrote a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Writer {
    /// A worker of ours.
    Orderwright,
    /// The broker.
    Broker,
    /// Somebody else.
    Foreign,
}

/// Earlier replays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Replays {
    /// How often it was replayed.
    pub count: u32,
    /// The letter of its first death.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_dead_letter: Option<Uuid>,
    /// The replay that brought it here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_id: Option<Uuid>,
    /// The letter that was replayed then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<Uuid>,
}

/// The last change by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Edited {
    /// The letter that it replaces.
    pub from: Uuid,
    /// How often, in all.
    pub count: u32,
    /// When.
    pub at: Option<Timestamp>,
    /// The operator.
    pub by: String,
    /// What was changed, place by place.
    pub diff: String,
}

/// The decision to discard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Discarded {
    /// When.
    pub at: Option<Timestamp>,
    /// The operator.
    pub by: String,
    /// The reason that they gave.
    pub because: String,
}

/// A dead letter, understood. What its body says is not part of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Letter {
    /// Names it. Made at its death, or from what it says where it has none.
    pub id: Uuid,
    /// Groups it with the same trouble of other orders.
    pub fingerprint: String,
    /// Who wrote it.
    pub writer: Writer,
    /// The stable reason code.
    pub reason: String,
    /// Why, in words.
    pub detail: String,
    /// HTTP status of the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The canonical order key; of letters of others, the routing key, which should be it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// The publisher's message id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// When a worker first held it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Timestamp>,
    /// When it died.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_lettered_at: Option<Timestamp>,
    /// Exchange that it was published to.
    pub exchange: String,
    /// Routing key that it was published with.
    pub routing_key: String,
    /// Queue that it was consumed from; empty where nobody knows.
    pub queue: String,
    /// Every attempt, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Value>,
    /// The ETag that was seen last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The ETag of the state that a replay may write over. That which was seen last; of a letter that was
    /// replayed, that which its replay was held to; none where it was superseded, for what it saw then is newer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The order's fields concerned: those of that state, else as the last GET showed them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<Value>,
    /// What the broker says, newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deaths: Vec<Death>,
    /// Earlier replays.
    pub replays: Replays,
    /// The deaths before this one, the first one first. Of many, those in the middle are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Earlier>,
    /// It does not stand where it fell: it was replayed, edited, restored, imported or taken over.
    #[serde(skip)]
    pub is_moved: bool,
    /// The letter that its order stood still behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked_behind: Option<Uuid>,
    /// Changed by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edited: Option<Edited>,
    /// By property, what the letters before its edits would have written.
    #[serde(skip)]
    pub former: Option<Value>,
    /// W3C trace context of the original message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Version that gave up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Instance that gave up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// User that published it, where it named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Names of original headers that had no room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers_dropped: Option<String>,
    /// In the archive: when, by whom and why it was discarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discarded: Option<Discarded>,
    /// Bytes of the body.
    pub bytes: usize,
}

/// A message of a queue of dead letters, as it came.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Its properties.
    pub properties: &'a BasicProperties,
    /// Exchange that it was published to the last time.
    pub exchange: &'a str,
    /// Routing key of the last time.
    pub routing_key: &'a str,
    /// Its body.
    pub body: &'a [u8],
}

impl Letter {
    /// Understands a message. Whatever makes no sense is passed over: a letter must be seen, even a broken
    /// one.
    #[must_use]
    pub fn read(found: Found<'_>) -> Self {
        let empty = FieldTable::default();
        let headers = Headers(found.properties.headers().as_ref().unwrap_or(&empty));
        // Of a letter in the archive, the one that it had before.
        let discarded = headers.text(record::DISCARDED_ROUTING_KEY);
        let found =
            Found { routing_key: discarded.as_deref().unwrap_or(found.routing_key), ..found };
        let deaths = deaths(headers.0);
        let ours = headers.text(record::REASON);
        let writer = match (&ours, deaths.is_empty()) {
            (Some(_), _) => Writer::Orderwright,
            (None, false) => Writer::Broker,
            (None, true) => Writer::Foreign,
        };
        let died = deaths.first();
        let reason = ours.unwrap_or_else(|| of_death(died).to_owned());
        let detail = headers.text(record::DETAIL).unwrap_or_else(|| in_words(died));
        let attempts = headers.attempts();
        let status = attempts.last().and_then(status);
        let etag =
            attempts.iter().rev().find_map(|it| it.get("etag_seen")?.as_str()).map(str::to_owned);
        let base = match headers.text(replay::REPLAY_ETAG) {
            Some(held_to) => Some(held_to).filter(|it| !it.is_empty()),
            None => etag.clone().filter(|_| reason != SUPERSEDED),
        };
        let error_code = attempts.last().and_then(|it| it.get("error_code")?.as_str());
        let forwarded = headers.text(FORWARDED_ROUTING_KEY);
        let routing_key = headers.text(record::ROUTING_KEY).or(forwarded);
        let routing_key = routing_key.or_else(|| died.map(|it| it.routing_key.clone()));
        let routing_key = routing_key.unwrap_or_else(|| found.routing_key.to_owned());
        let exchange = headers.text(record::EXCHANGE).or_else(|| headers.text(FORWARDED_EXCHANGE));
        let exchange = exchange.or_else(|| died.map(|it| it.exchange.clone()));
        let order = headers.text(record::ORDER).or_else(|| {
            let claimed = writer != Writer::Orderwright && !routing_key.is_empty();
            claimed.then(|| routing_key.clone())
        });
        let trouble = Trouble {
            reason: &reason,
            status,
            error_code,
            message: &detail,
            order: order.as_deref(),
        };
        let at = headers.time(record::DEAD_LETTERED_AT).or_else(|| died.and_then(|it| it.at));
        Self {
            id: headers.uuid(record::ID).unwrap_or_else(|| derived(found, at)),
            fingerprint: fingerprint(&trouble),
            writer,
            status,
            message_id: found.properties.message_id().as_ref().map(ShortString::to_string),
            first_seen: headers.time(record::FIRST_SEEN),
            dead_lettered_at: at,
            exchange: exchange.unwrap_or_else(|| found.exchange.to_owned()),
            queue: headers
                .text(record::QUEUE)
                .or_else(|| died.map(|it| it.queue.clone()))
                .unwrap_or_default(),
            etag,
            base,
            seen: headers.text(record::SEEN).and_then(|text| serde_json::from_str(&text).ok()),
            replays: Replays {
                count: headers.text(record::REPLAYS).and_then(|it| it.parse().ok()).unwrap_or(0),
                first_dead_letter: headers.uuid(record::FIRST_DEAD_LETTER),
                replay_id: headers.uuid(record::REPLAY_ID),
                replay_of: headers.uuid(record::REPLAY_OF),
            },
            is_moved: [record::RETURNED_AT, record::REPLAYS, record::FIRST_DEAD_LETTER]
                .iter()
                .any(|name| headers.text(name).is_some()),
            earlier: earlier::read(&headers.text(record::EARLIER).unwrap_or_default()),
            parked_behind: headers.uuid(record::PARKED_BEHIND),
            edited: headers.uuid(record::EDITED_FROM).map(|from| Edited {
                from,
                count: headers.text(record::EDITS).and_then(|it| it.parse().ok()).unwrap_or(1),
                at: headers.time(record::EDITED_AT),
                by: headers.text(record::EDITED_BY).unwrap_or_default(),
                diff: headers.text(record::EDIT_DIFF).unwrap_or_default(),
            }),
            former: headers.text(replay::FORMER).and_then(|text| serde_json::from_str(&text).ok()),
            traceparent: headers.text("traceparent"),
            version: headers.text(record::VERSION),
            instance: headers.text(record::INSTANCE),
            user_id: headers.text(record::USER_ID),
            headers_dropped: headers.text(record::HEADERS_DROPPED),
            discarded: headers.text(record::DISCARDED_BY).map(|by| Discarded {
                at: headers.time(record::DISCARDED_AT),
                by,
                because: headers.text(record::DISCARDED_BECAUSE).unwrap_or_default(),
            }),
            bytes: found.body.len(),
            reason,
            detail,
            order,
            routing_key,
            attempts,
            deaths,
        }
    }
}

fn status(attempt: &Value) -> Option<u16> {
    let status = attempt["patch_status"].as_u64().or_else(|| attempt["get_status"].as_u64())?;
    u16::try_from(status).ok()
}

/// An id of what a letter says: the same at every look. Copies of one message share it.
fn derived(found: Found<'_>, at: Option<Timestamp>) -> Uuid {
    let mut digest = Sha256::new();
    let message_id = found.properties.message_id().as_ref().map(ShortString::as_str);
    let at = at.map(|at| at.to_string()).unwrap_or_default();
    for part in [message_id.unwrap_or_default(), found.routing_key, &at] {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    digest.update(found.body);
    let bytes: [u8; 32] = digest.finalize().into();
    let first = bytes.first_chunk().copied().unwrap_or_default();
    uuid::Builder::from_custom_bytes(first).into_uuid()
}

/// Headers of whoever wrote them.
struct Headers<'a>(&'a FieldTable);

impl Headers<'_> {
    fn text(&self, name: &str) -> Option<String> {
        self.0.inner().get(name).and_then(as_text)
    }

    fn time(&self, name: &str) -> Option<Timestamp> {
        self.text(name)?.parse().ok()
    }

    fn uuid(&self, name: &str) -> Option<Uuid> {
        self.text(name)?.parse().ok()
    }

    fn attempts(&self) -> Vec<Value> {
        let text = self.text(record::ATTEMPTS).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::AMQPValue;

    use super::*;

    fn long(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    /// As RabbitMQ 4 writes it.
    fn died(reason: &str) -> BasicProperties {
        let mut entry = FieldTable::default();
        entry.insert("reason".into(), long(reason));
        entry.insert("queue".into(), long("orderwright.shard.g1.003"));
        entry.insert("exchange".into(), long("orderwright.updates"));
        entry.insert("count".into(), AMQPValue::LongLongInt(1));
        entry.insert("time".into(), AMQPValue::Timestamp(1_739_010_000));
        let keys = vec![long("USMF/SO-1")];
        entry.insert("routing-keys".into(), AMQPValue::FieldArray(keys.into()));
        let mut headers = FieldTable::default();
        let deaths = vec![AMQPValue::FieldTable(entry)];
        headers.insert("x-death".into(), AMQPValue::FieldArray(deaths.into()));
        BasicProperties::default().with_headers(headers)
    }

    fn read(properties: &BasicProperties, body: &[u8]) -> Letter {
        let (exchange, routing_key) = ("orderwright.dead-letters", "key");
        Letter::read(Found { properties, exchange, routing_key, body })
    }

    #[test]
    fn letter_that_was_superseded_may_be_written_over_nothing_that_it_has_seen() {
        let base = |reason: &str, held_to: Option<&str>| {
            let mut headers = FieldTable::default();
            let mut put = |name: &str, value: &str| {
                headers.insert(name.into(), long(value));
            };
            put("orderwright-reason", reason);
            put("orderwright-attempts", r#"[{"etag_seen":"W/\"2\""}]"#);
            if let Some(held_to) = held_to {
                put("orderwright-replay-etag", held_to);
            }
            let letter = read(&BasicProperties::default().with_headers(headers), b"{}");
            assert_eq!(letter.etag.as_deref(), Some("W/\"2\""));
            letter.base
        };
        assert_eq!(base("rejected", None).as_deref(), Some("W/\"2\""));
        assert_eq!(base("superseded", None), None);
        for reason in ["rejected", "superseded"] {
            assert_eq!(base(reason, Some("W/\"1\"")).as_deref(), Some("W/\"1\""));
            assert_eq!(base(reason, Some("")), None, "it might be written over nothing");
        }
    }

    #[test]
    fn letters_of_the_broker_are_understood_with_reasons_of_their_own() {
        let cases = [
            ("delivery_limit", "broker_delivery_limit"),
            ("expired", "broker_expired"),
            ("maxlen", "broker_maxlen"),
            ("rejected", "broker_rejected"),
            ("new_in_version_9", "broker_other"),
        ];
        let mut fingerprints = std::collections::BTreeSet::new();
        for (word, reason) in cases {
            let letter = read(&died(word), b"{}");
            assert_eq!((letter.writer, letter.reason.as_str()), (Writer::Broker, reason));
            assert!(letter.detail.contains(word), "{}", letter.detail);
            assert_eq!(letter.order.as_deref(), Some("USMF/SO-1"));
            assert_eq!(letter.exchange, "orderwright.updates");
            assert_eq!(letter.queue, "orderwright.shard.g1.003");
            assert_eq!(letter.dead_lettered_at.unwrap().as_second(), 1_739_010_000);
            fingerprints.insert(letter.fingerprint);
        }
        assert_eq!(fingerprints.len(), cases.len());
    }

    #[test]
    fn letter_of_somebody_else_has_an_id_of_its_own_that_stays() {
        let properties = BasicProperties::default().with_message_id("m-1".into());
        let letter = read(&properties, b"hello");
        assert_eq!((letter.writer, letter.reason.as_str()), (Writer::Foreign, "foreign"));
        assert_eq!(letter.id, read(&properties, b"hello").id);
        assert_eq!(letter.id.get_version_num(), 8);
        assert_ne!(letter.id, read(&properties, b"hello!").id);
        assert_ne!(letter.id, read(&BasicProperties::default(), b"hello").id);
        assert_ne!(read(&died("expired"), b"").id, read(&died_later(), b"").id);
    }

    fn died_later() -> BasicProperties {
        let mut entry = FieldTable::default();
        entry.insert("reason".into(), long("expired"));
        entry.insert("time".into(), AMQPValue::Timestamp(1_739_010_001));
        let mut headers = FieldTable::default();
        let deaths = vec![AMQPValue::FieldTable(entry)];
        headers.insert("x-death".into(), AMQPValue::FieldArray(deaths.into()));
        BasicProperties::default().with_headers(headers)
    }

    #[test]
    fn nonsense_in_the_headers_hides_no_letter() {
        let mut headers = FieldTable::default();
        for name in [record::ID, record::ATTEMPTS, record::FIRST_SEEN, record::REPLAYS] {
            headers.insert(name.into(), long("\u{1}nonsense"));
        }
        headers.insert(record::REASON.into(), AMQPValue::LongInt(3));
        headers.insert("x-death".into(), long("no list"));
        let letter = read(&BasicProperties::default().with_headers(headers), b"\xff");
        assert_eq!((letter.writer, letter.replays.count), (Writer::Foreign, 0));
        assert!(letter.attempts.is_empty() && letter.first_seen.is_none());
    }
}
