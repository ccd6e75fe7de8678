//! The properties and headers of a dead letter. The body is the original's, byte for byte.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use uuid::Uuid;

use super::earlier;
use super::replay::{
    FORMER, FORMER_BYTES_MAX, REPLAY_ETAG, REPLAY_HEADERS, base, header, publishers_reply,
};
use super::view::Found;
use crate::config;
use crate::dispatch::{Attempt, Letter};
use crate::parking::{UNPARK, unparks};
use crate::properties::republished_for;

/// The headers that a dead letter may carry, with their meaning. The names are part of the interface.
pub const HEADERS: [(&str, &str); 35] = [
    (ID, "names this dead letter"),
    (FINGERPRINT, "the same for the same trouble, whatever order it befell"),
    (REASON, "why: the stable reason code"),
    (DETAIL, "why, in words"),
    (ORDER, "canonical order key, where the message could be decoded"),
    (PARKED_BEHIND, "the dead letter that the order stands behind, where that is another one"),
    (ATTEMPTS, "every attempt as JSON: times, statuses, ETags, request ids"),
    (FIRST_SEEN, "when orderwright first held the message"),
    (DEAD_LETTERED_AT, "when it gave up"),
    (EXCHANGE, "exchange that the message was published to"),
    (ROUTING_KEY, "routing key that it was published with"),
    (QUEUE, "queue that it was consumed from"),
    (USER_ID, "user that published it, where the message named one"),
    (HEADERS_DROPPED, "names of original headers that had no room"),
    (VERSION, "version of orderwright"),
    (INSTANCE, "instance that gave up"),
    (SEEN, "the order's fields concerned as the last GET showed them, as JSON"),
    (FIRST_DEAD_LETTER, "of a replayed message: id of its first dead letter"),
    (FIRST_TRACE, "trace context of the handling that it died in first, where that was recorded"),
    (EARLIER, "of a replayed message: its deaths before, as JSON: the first and the newest"),
    (REPLAYS, "of a replayed message: how often it was replayed"),
    (REPLAY_ID, "of a replayed message: the replay that brought it"),
    (REPLAY_OF, "of a replayed message: id of the dead letter that was replayed"),
    (REPLAY_ETAG, "of a replayed message: the ETag that it might be written over; empty for none"),
    (EDITED_FROM, "of an edited letter: id of the dead letter that it replaces"),
    (EDITS, "of an edited letter: how often it was edited"),
    (EDITED_AT, "of an edited letter: when, the last time"),
    (EDITED_BY, "of an edited letter: by whom"),
    (EDIT_DIFF, "of an edited letter: what was changed, place by place"),
    (FORMER, "of an edited letter: by property, what those before it would have written, as JSON"),
    (RETURNED_AT, "of a letter that an operator brought to the queue: when"),
    (DISCARDED_AT, "in the archive: when it was discarded"),
    (DISCARDED_BY, "in the archive: by whom"),
    (DISCARDED_BECAUSE, "in the archive: why"),
    (DISCARDED_ROUTING_KEY, "in the archive: routing key that it had as a dead letter"),
];

/// Kept of a replayed message that dies again.
const KEPT: [&str; 5] = [FIRST_DEAD_LETTER, FIRST_TRACE, REPLAYS, REPLAY_ID, REPLAY_OF];

/// What names one dead letter.
pub const ID: &str = "orderwright-dead-letter-id";
/// The same for the same trouble.
pub const FINGERPRINT: &str = "orderwright-fingerprint";
/// What of the order an update would change, as JSON, under the ETag that is named beside it.
pub const SEEN: &str = "orderwright-seen";
/// Of a replayed message: its first dead letter.
pub const FIRST_DEAD_LETTER: &str = "orderwright-first-dead-letter";
/// The handling that a message died in first, as W3C `traceparent`: that of its replay links to it.
pub const FIRST_TRACE: &str = "orderwright-first-traceparent";
/// Of a replayed message: the deaths that it died before.
pub const EARLIER: &str = "orderwright-earlier-deaths";
/// Of a replayed message: how often it was replayed.
pub const REPLAYS: &str = "orderwright-replays";
/// Of a replayed message: the run that replays it.
pub const REPLAY_ID: &str = "orderwright-replay-id";
/// Of a replayed message: the dead letter that is replayed.
pub const REPLAY_OF: &str = "orderwright-replay-of";
pub(super) const EDITED_FROM: &str = "orderwright-edited-from";
pub(super) const EDITS: &str = "orderwright-edits";
pub(super) const EDITED_AT: &str = "orderwright-edited-at";
pub(super) const EDITED_BY: &str = "orderwright-edited-by";
pub(super) const EDIT_DIFF: &str = "orderwright-edit-diff";
/// It was restored, imported or taken over: it stands behind letters that died later.
pub(super) const RETURNED_AT: &str = "orderwright-returned-at";
pub(super) const DISCARDED_AT: &str = "orderwright-discarded-at";
pub(super) const DISCARDED_BY: &str = "orderwright-discarded-by";
pub(super) const DISCARDED_BECAUSE: &str = "orderwright-discarded-because";
pub(super) const DISCARDED_ROUTING_KEY: &str = "orderwright-discarded-routing-key";
pub(super) const PARKED_BEHIND: &str = "orderwright-parked-behind";
pub(super) const REASON: &str = "orderwright-reason";
pub(super) const DETAIL: &str = "orderwright-detail";
pub(super) const ORDER: &str = "orderwright-order";
pub(super) const ATTEMPTS: &str = "orderwright-attempts";
pub(super) const FIRST_SEEN: &str = "orderwright-first-seen";
pub(super) const DEAD_LETTERED_AT: &str = "orderwright-dead-lettered-at";
pub(super) const EXCHANGE: &str = "orderwright-original-exchange";
pub(super) const ROUTING_KEY: &str = "orderwright-original-routing-key";
pub(super) const QUEUE: &str = "orderwright-original-queue";
pub(super) const USER_ID: &str = "orderwright-original-user-id";
pub(super) const HEADERS_DROPPED: &str = "orderwright-headers-dropped";
pub(super) const VERSION: &str = "orderwright-version";
pub(super) const INSTANCE: &str = "orderwright-instance";

/// Bytes that the original's own headers may take. All headers must fit one frame, 128 KiB unless the
/// broker is configured otherwise; a larger one makes it close the connection.
const ORIGINAL_BYTES_MAX: usize = 32 * 1024;

/// Bytes of a header that is kept of a replayed message: they are ids and a number.
const KEPT_BYTES_MAX: usize = 128;

/// Bytes of the fields concerned, where a replayed message brought them: those of ours are shorter.
const SEEN_BYTES_MAX: usize = 4_096;

/// What is known of the message as it was.
#[derive(Debug, Clone, Copy)]
pub struct Original<'a> {
    /// Its properties.
    pub properties: &'a BasicProperties,
    /// Exchange that it was published to.
    pub exchange: &'a str,
    /// Routing key that it was published with.
    pub routing_key: &'a str,
    /// Queue that it was consumed from.
    pub queue: &'a str,
}

/// Its death.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// Names the letter.
    pub id: Uuid,
    /// When the message is given up.
    pub at: jiff::Timestamp,
    /// The handling in which that is, as W3C `traceparent`, where it is recorded.
    pub trace: Option<&'a str>,
}

/// Bounds, and who we are.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of the attempts' JSON.
    pub attempts_bytes_max: usize,
    /// Bytes of the detail.
    pub detail_bytes_max: usize,
    /// Name of this instance.
    pub instance: String,
}

impl Limits {
    /// From the settings.
    #[must_use]
    pub fn new(settings: &config::DeadLetter, instance: &str) -> Self {
        Self {
            attempts_bytes_max: settings.attempts_bytes_max,
            detail_bytes_max: settings.detail_bytes_max,
            instance: instance.to_owned(),
        }
    }
}

/// The id of a letter that dies now (UUID, version 7: those of one process sort by time).
#[must_use]
pub fn letter_id(now: jiff::Timestamp, random: u128) -> Uuid {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    let random = random.to_le_bytes().first_chunk().copied().unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// The properties of the dead letter for a message.
#[must_use]
pub fn record(
    original: Original<'_>,
    letter: &Letter,
    limits: &Limits,
    death: Given<'_>,
) -> BasicProperties {
    let mut headers = FieldTable::default();
    let mut put = |name: &str, value: &str| {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    };
    put(ID, &death.id.to_string());
    put(REASON, letter.code);
    put(DETAIL, cut(&letter.detail, limits.detail_bytes_max));
    if let Some(order) = &letter.order {
        put(ORDER, order);
    }
    // Also of one that was let pass, and died: it is still one of those letters.
    if let Some(head) = letter.parked_behind.or_else(|| unparks(original.properties)) {
        put(PARKED_BEHIND, &head.to_string());
    }
    put(ATTEMPTS, &attempts(&letter.attempts, limits.attempts_bytes_max));
    // Of a replay, the state that it might be written over stays, whatever it has seen since: it has lost
    // against what is newer, and must not be written over that the next time.
    let base = base(original.properties);
    if let Some(etag) = base {
        put(REPLAY_ETAG, etag);
    }
    let before = base.and_then(|_| header(original.properties, SEEN));
    let last = letter.attempts.iter().rev().find_map(|it| it.etag_seen.as_ref());
    let is_of_base = base.is_none_or(|base| last.is_some_and(|it| it.as_str() == base));
    if let Some(seen) = before.or(letter.seen.as_deref().filter(|_| is_of_base)) {
        put(SEEN, cut(seen, SEEN_BYTES_MAX));
    }
    put(FIRST_SEEN, &letter.first_seen.to_string());
    put(DEAD_LETTERED_AT, &death.at.to_string());
    if let Some(trace) = death.trace {
        put(FIRST_TRACE, trace);
    }
    put(EXCHANGE, original.exchange);
    put(ROUTING_KEY, original.routing_key);
    put(QUEUE, original.queue);
    put(VERSION, env!("CARGO_PKG_VERSION"));
    put(INSTANCE, &limits.instance);
    if let Some(user) = original.properties.user_id() {
        put(USER_ID, user.as_str());
    }
    if let Some(theirs) = original.properties.headers() {
        let kept = KEPT.iter().filter_map(|name| theirs.inner().get_key_value(*name));
        for (name, value) in kept.filter(|(_, value)| size(value) <= KEPT_BYTES_MAX) {
            headers.insert(name.clone(), value.clone());
        }
        for (name, most) in [(EARLIER, earlier::BYTES_MAX), (FORMER, FORMER_BYTES_MAX)] {
            let theirs = theirs.inner().get_key_value(name);
            if let Some((name, value)) = theirs.filter(|(_, it)| size(it) <= most) {
                headers.insert(name.clone(), value.clone());
            }
        }
    }
    let dropped = copy_headers(original.properties, &mut headers);
    if !dropped.is_empty() {
        let names = dropped.join(",");
        let names = AMQPValue::LongString(cut(&names, limits.detail_bytes_max).into());
        headers.insert(HEADERS_DROPPED.into(), names);
    }
    // Not to the replay that sent it: it is gone when the next one comes.
    let reply = publishers_reply(original.properties);
    let made = republished_for(original.properties, reply).with_headers(headers.clone());
    let found = Found {
        properties: &made,
        exchange: original.exchange,
        routing_key: original.routing_key,
        body: &[],
    };
    // Of what is written, and not of what is known: so it can be computed anew.
    let fingerprint = super::Letter::read(found).fingerprint;
    headers.insert(FINGERPRINT.into(), AMQPValue::LongString(fingerprint.into()));
    made.with_headers(headers)
}

fn copy_headers(original: &BasicProperties, headers: &mut FieldTable) -> Vec<String> {
    let Some(theirs) = original.headers() else { return Vec::new() };
    let mut room = ORIGINAL_BYTES_MAX;
    let mut dropped = Vec::new();
    for (name, value) in theirs.inner() {
        let is_ours = |(known, _): &(&str, &str)| *known == name.as_str();
        let ours = HEADERS.iter().chain(&REPLAY_HEADERS).any(is_ours);
        // It was meant for that life alone.
        let passes = name.as_str() == UNPARK;
        if ours || passes || is_brokers(name.as_str()) {
            continue;
        }
        let bytes = name.as_str().len() + size(value);
        match room.checked_sub(bytes) {
            Some(left) => {
                room = left;
                headers.insert(name.clone(), value.clone());
            }
            None => dropped.push(name.to_string()),
        }
    }
    dropped
}

/// Headers that the broker writes or acts on. `CC` and `BCC` would send copies of the dead letter to
/// queues of the publisher's choice; the others are about a life that has ended.
fn is_brokers(name: &str) -> bool {
    matches!(name, "CC" | "BCC" | "x-delivery-count" | "x-acquired-count" | "x-death")
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
}

/// At least the bytes that the headers of a message take in a frame.
#[must_use]
pub fn header_bytes(properties: &BasicProperties) -> usize {
    let headers = properties.headers().iter().flat_map(FieldTable::inner);
    headers.map(|(name, value)| name.as_str().len() + size(value)).sum()
}

/// At least the bytes that a value takes in a frame.
fn size(value: &AMQPValue) -> usize {
    const SCALAR: usize = 16;
    match value {
        AMQPValue::LongString(text) => SCALAR + text.as_bytes().len(),
        AMQPValue::ShortString(text) => SCALAR + text.as_str().len(),
        AMQPValue::ByteArray(bytes) => SCALAR + bytes.as_slice().len(),
        AMQPValue::FieldArray(array) => SCALAR + array.as_slice().iter().map(size).sum::<usize>(),
        AMQPValue::FieldTable(table) => {
            let each = table.inner().iter().map(|(name, value)| name.as_str().len() + size(value));
            SCALAR + each.sum::<usize>()
        }
        AMQPValue::Boolean(_)
        | AMQPValue::ShortShortInt(_)
        | AMQPValue::ShortShortUInt(_)
        | AMQPValue::ShortInt(_)
        | AMQPValue::ShortUInt(_)
        | AMQPValue::LongInt(_)
        | AMQPValue::LongUInt(_)
        | AMQPValue::LongLongInt(_)
        | AMQPValue::Float(_)
        | AMQPValue::Double(_)
        | AMQPValue::DecimalValue(_)
        | AMQPValue::Timestamp(_)
        | AMQPValue::Void => SCALAR,
    }
}

/// The attempts as compact JSON. Where they do not fit, those in the middle are left out, with a mark
/// that says how many: the first and the last tell the most.
fn attempts(all: &[Attempt], bytes_max: usize) -> String {
    let texts: Vec<String> =
        all.iter().map(|attempt| serde_json::to_string(attempt).unwrap_or_default()).collect();
    let whole = format!("[{}]", texts.join(","));
    if whole.len() <= bytes_max {
        return whole;
    }
    let mark = |left_out: usize| format!("{{\"left_out\":{left_out}}}");
    // Room for the brackets, the mark and its commas.
    let mut room = bytes_max.saturating_sub(2 + mark(all.len()).len() + 2);
    let (mut head, mut tail) = (0, texts.len());
    let mut from_head = true;
    while head < tail {
        let next = if from_head { texts.get(head) } else { texts.get(tail - 1) };
        let Some(left) = next.and_then(|text| room.checked_sub(text.len() + 1)) else { break };
        room = left;
        if from_head {
            head += 1;
        } else {
            tail -= 1;
        }
        from_head = !from_head;
    }
    let kept = texts.iter().take(head).cloned();
    let kept = kept.chain([mark(tail - head)]).chain(texts.iter().skip(tail).cloned());
    format!("[{}]", kept.collect::<Vec<_>>().join(","))
}

/// At most `bytes_max` bytes, cut between characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use lapin::types::ShortString;

    use super::super::replay::{REPLAY_ETAG, REPLAY_FORCED};
    use super::*;

    fn attempt(number: u32) -> Attempt {
        Attempt {
            number,
            at: jiff::Timestamp::UNIX_EPOCH,
            milliseconds: 12,
            get_status: Some(200),
            patch_status: Some(412),
            etag_seen: crate::order::ETag::new("W/\"1\""),
            etag_sent: crate::order::ETag::new("W/\"1\""),
            outcome: "etag_conflict",
            message: String::new(),
            request_id: Uuid::nil(),
            service_request_id: None,
            error_code: Some("Validation".to_owned()),
        }
    }

    fn letter(attempts: Vec<Attempt>) -> Letter {
        Letter {
            code: "conflict_exhausted",
            detail: "é".repeat(4000),
            order: Some("USMF/SO-1".into()),
            attempts,
            seen: Some(r#"{"A":1}"#.to_owned()),
            first_seen: jiff::Timestamp::UNIX_EPOCH,
            parked_behind: Some(Uuid::from_u128(2)),
        }
    }

    fn limits() -> Limits {
        Limits::new(&config::DeadLetter::default(), "pod-1")
    }

    fn make(properties: &BasicProperties, letter: &Letter) -> BasicProperties {
        let (exchange, routing_key) = ("orderwright.updates", "USMF/SO-1");
        let original = Original { properties, exchange, routing_key, queue: "shard" };
        let at = jiff::Timestamp::UNIX_EPOCH;
        record(original, letter, &limits(), Given { id: Uuid::nil(), at, trace: Some("00-2") })
    }

    fn header(properties: &BasicProperties, name: &str) -> Option<String> {
        let headers = properties.headers().as_ref()?;
        let value = headers.inner().get(name)?;
        let AMQPValue::LongString(text) = value else { panic!("{value:?}") };
        Some(text.to_string())
    }

    #[test]
    fn every_header_that_is_written_is_in_the_list() {
        let names = HEADERS.map(|(name, _)| name);
        let made = make(&BasicProperties::default(), &letter(vec![attempt(1)]));
        for name in made.headers().as_ref().unwrap().inner().keys() {
            assert!(names.contains(&name.as_str()), "{name}");
        }
    }

    #[test]
    fn attempts_are_complete_json_with_etags_sent_and_seen() {
        let made = make(&BasicProperties::default(), &letter((1..=4).map(attempt).collect()));
        let json = header(&made, ATTEMPTS).unwrap();
        let read: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
        assert_eq!(read.len(), 4);
        assert_eq!(read[3]["number"], 4);
        assert_eq!(read[0]["etag_sent"], "W/\"1\"");
        assert_eq!(read[0]["etag_seen"], "W/\"1\"");
    }

    #[test]
    fn replayed_message_keeps_where_it_comes_from_and_not_how_it_was_to_be_judged() {
        let mut theirs = FieldTable::default();
        for (name, _) in REPLAY_HEADERS {
            theirs.insert(name.into(), AMQPValue::LongString(name.into()));
        }
        let made = make(&BasicProperties::default().with_headers(theirs), &letter(vec![]));
        for name in KEPT.into_iter().chain([EARLIER, FORMER]) {
            assert_eq!(header(&made, name).as_deref(), Some(name));
        }
        assert_eq!(header(&made, REPLAY_FORCED), None);
        assert_eq!(header(&made, REPLAY_ETAG).as_deref(), Some(REPLAY_ETAG), "its state stays");
        assert_eq!(header(&made, SEEN).as_deref(), Some(SEEN), "and what that was");
    }

    #[test]
    fn too_many_attempts_keep_the_first_and_the_last_and_say_how_many_are_missing() {
        let all: Vec<_> = (1..=500).map(attempt).collect();
        for bytes_max in [1024, 1025, 1500, 4096, 16_384] {
            let json = attempts(&all, bytes_max);
            assert!(json.len() <= bytes_max, "{} bytes, allowed {bytes_max}", json.len());
            let read: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
            assert_eq!(read[0]["number"], 1);
            assert_eq!(read[read.len() - 1]["number"], 500);
            let left_out: Vec<_> = read.iter().filter_map(|it| it["left_out"].as_u64()).collect();
            assert_eq!(left_out, [u64::try_from(500 - (read.len() - 1)).unwrap()]);
        }
    }

    #[test]
    fn headers_fit_one_frame_whatever_the_message_brought() {
        let mut theirs = FieldTable::default();
        for number in 0..200 {
            let value = AMQPValue::LongString("x".repeat(1000).into());
            theirs.insert(format!("h{number:03}").as_str().into(), value);
        }
        let original = BasicProperties::default().with_headers(theirs);
        let made = make(&original, &letter((1..=500).map(attempt).collect()));
        let headers = made.headers().clone().unwrap();
        assert!(size(&AMQPValue::FieldTable(headers)) < 100 * 1024);
        assert!(header(&made, "h000").is_some(), "what has room is kept");
        assert!(header(&made, HEADERS_DROPPED).unwrap().contains("h199"));
        assert!(header(&made, DETAIL).unwrap().len() <= 2048);
    }

    #[test]
    fn what_would_delete_copy_or_forbid_the_dead_letter_is_left_behind() {
        let mut theirs = FieldTable::default();
        for name in ["CC", "BCC", "x-death", "x-delivery-count", "x-first-death-queue", "trace"] {
            theirs.insert(name.into(), AMQPValue::LongString("v".into()));
        }
        let original = BasicProperties::default()
            .with_headers(theirs)
            .with_expiration("1000".into())
            .with_user_id("shop".into())
            .with_message_id("m-1".into())
            .with_timestamp(7);
        let made = make(&original, &letter(vec![]));
        assert!(made.expiration().is_none() && made.user_id().is_none());
        assert_eq!(made.message_id().as_ref().map(ShortString::as_str), Some("m-1"));
        assert_eq!(*made.timestamp(), Some(7));
        assert_eq!(header(&made, USER_ID).as_deref(), Some("shop"));
        assert_eq!(header(&made, "trace").as_deref(), Some("v"));
        for gone in ["CC", "BCC", "x-death", "x-delivery-count", "x-first-death-queue"] {
            assert_eq!(header(&made, gone), None, "{gone}");
        }
    }

    #[test]
    fn letter_is_read_back_as_it_was_written_and_its_fingerprint_computed_anew() {
        let id = letter_id(jiff::Timestamp::UNIX_EPOCH, 7);
        let mut theirs = FieldTable::default();
        for (name, value) in [(REPLAYS, "3"), (REPLAY_ID, &id.to_string()), ("traceparent", "00-1")]
        {
            theirs.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        let original =
            BasicProperties::default().with_headers(theirs).with_message_id("m-1".into());
        for attempts in [0, 1, 4, 500] {
            let made = make(&original, &letter((1..=attempts).map(attempt).collect()));
            let found = Found { properties: &made, exchange: "x", routing_key: "y", body: b"12" };
            let read = super::super::Letter::read(found);
            assert_eq!(Some(&read.fingerprint), header(&made, FINGERPRINT).as_ref());
            assert_eq!((read.id, read.reason.as_str()), (Uuid::nil(), "conflict_exhausted"));
            assert_eq!(read.order.as_deref(), Some("USMF/SO-1"));
            assert_eq!((read.routing_key.as_str(), read.bytes), ("USMF/SO-1", 2));
            assert_eq!(read.dead_lettered_at, Some(jiff::Timestamp::UNIX_EPOCH));
            assert_eq!(read.status, (attempts > 0).then_some(412));
            assert_eq!(read.etag.is_some(), attempts > 0);
            assert_eq!((read.replays.count, read.replays.replay_id), (3, Some(id)));
            assert_eq!(read.traceparent.as_deref(), Some("00-1"));
            assert_eq!(header(&made, FIRST_TRACE).as_deref(), Some("00-2"));
        }
    }

    #[test]
    fn replay_that_dies_again_keeps_the_trace_of_the_first_death() {
        let mut theirs = FieldTable::default();
        theirs.insert(FIRST_TRACE.into(), AMQPValue::LongString("00-first".into()));
        let made = make(&BasicProperties::default().with_headers(theirs), &letter(vec![]));
        assert_eq!(header(&made, FIRST_TRACE).as_deref(), Some("00-first"));
    }

    #[test]
    fn replay_that_dies_again_keeps_its_head_and_its_publishers_place_for_answers() {
        let mut headers = FieldTable::default();
        for (name, value) in [
            (UNPARK, "00000000-0000-0000-0000-000000000007"),
            (super::super::replay::REPLY_TO, "shop"),
            (super::super::replay::CORRELATION_ID, "theirs"),
        ] {
            headers.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        let replayed = BasicProperties::default()
            .with_headers(headers)
            .with_reply_to("tool".into())
            .with_correlation_id("7".into());
        let begun = Letter { parked_behind: None, ..letter(Vec::new()) };
        let made = make(&replayed, &begun);
        let text = |it: &Option<ShortString>| it.as_ref().unwrap().to_string();
        assert_eq!(
            (text(made.reply_to()), text(made.correlation_id())),
            ("shop".into(), "theirs".into())
        );
        let found = Found { properties: &made, exchange: "e", routing_key: "k", body: b"{}" };
        let read = super::super::Letter::read(found);
        assert_eq!(read.parked_behind, Some(Uuid::from_u128(7)));
        assert!(super::super::replay::header(&made, super::super::replay::REPLY_TO).is_none());
    }

    #[test]
    fn id_sorts_by_time() {
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        let early = letter_id(at(1_000), u128::MAX);
        assert!(early < letter_id(at(1_001), 0));
        assert_eq!((early.get_version_num(), letter_id(at(-5), 0).get_version_num()), (7, 7));
    }
}
