//! What the broker says of a message that it dead-lettered by itself (`x-death`).

use jiff::Timestamp;
use lapin::types::{AMQPValue, FieldTable};
use serde::Serialize;

/// The reasons of letters that we did not write, with their meaning.
pub const REASONS: [(&str, &str); 6] = [
    (
        "broker_delivery_limit",
        "the broker delivered it `topology.delivery_limit` times, and it was never settled",
    ),
    (
        "broker_expired",
        "it had an `expiration`, or its queue a time to live, and waited for longer",
    ),
    ("broker_maxlen", "its queue was full and dropped it from its head"),
    ("broker_rejected", "a consumer that is none of ours rejected it"),
    ("broker_other", "the broker dead-lettered it for a reason that is not known here"),
    ("foreign", "somebody published it to the queue of dead letters"),
];

/// Deaths by the broker that are shown; it keeps one entry for each queue and reason.
const DEATHS_MAX: usize = 32;

/// One entry of the broker's `x-death`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Death {
    /// The broker's own word for why.
    pub reason: String,
    /// Queue that it died in.
    pub queue: String,
    /// Exchange that it was published to.
    pub exchange: String,
    /// Routing key that it was published with.
    pub routing_key: String,
    /// How often. What the number means differs from broker to broker.
    pub count: i64,
    /// When it happened first.
    pub at: Option<Timestamp>,
}

/// All entries of these headers, newest first.
pub(super) fn deaths(headers: &FieldTable) -> Vec<Death> {
    let Some(AMQPValue::FieldArray(all)) = headers.inner().get("x-death") else {
        return Vec::new();
    };
    let entries = all.as_slice().iter().filter_map(AMQPValue::as_field_table);
    entries.take(DEATHS_MAX).map(death).collect()
}

/// The reason of a letter that is not ours.
pub(super) fn of_death(death: Option<&Death>) -> &'static str {
    match death.map(|it| it.reason.as_str()) {
        None => "foreign",
        Some("delivery_limit") => "broker_delivery_limit",
        Some("expired") => "broker_expired",
        Some("maxlen") => "broker_maxlen",
        Some("rejected") => "broker_rejected",
        Some(_) => "broker_other",
    }
}

/// One sentence on it.
pub(super) fn in_words(death: Option<&Death>) -> String {
    let Some(death) = death else { return "it says nothing of why it is here".to_owned() };
    let reason = of_death(Some(death));
    let meaning = REASONS.iter().find(|(name, _)| *name == reason).map_or("", |(_, text)| text);
    format!("the broker says {:?}: {}", death.reason, meaning.replace('`', ""))
}

fn death(table: &FieldTable) -> Death {
    let routing_key = match table.inner().get("routing-keys") {
        Some(AMQPValue::FieldArray(keys)) => keys.as_slice().first().and_then(as_text),
        Some(_) | None => None,
    };
    let at = match table.inner().get("time") {
        Some(AMQPValue::Timestamp(seconds)) => {
            i64::try_from(*seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok())
        }
        Some(_) | None => None,
    };
    let text = |name| text(table, name).unwrap_or_default();
    Death {
        reason: text("reason"),
        queue: text("queue"),
        exchange: text("exchange"),
        routing_key: routing_key.unwrap_or_default(),
        count: table.inner().get("count").and_then(as_number).unwrap_or(0),
        at,
    }
}

fn text(table: &FieldTable, name: &str) -> Option<String> {
    table.inner().get(name).and_then(as_text)
}

/// A text, of either kind.
pub(super) fn as_text(value: &AMQPValue) -> Option<String> {
    let long = value.as_long_string().map(ToString::to_string);
    long.or_else(|| value.as_short_string().map(ToString::to_string))
}

fn as_number(value: &AMQPValue) -> Option<i64> {
    let number = value.as_long_long_int();
    number
        .or_else(|| value.as_long_int().map(i64::from))
        .or_else(|| value.as_long_uint().map(i64::from))
}
