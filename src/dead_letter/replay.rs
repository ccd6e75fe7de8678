//! The headers of a replayed message, and which of them its next dead letter keeps.

use lapin::BasicProperties;
use lapin::types::ShortString;

use super::record::{FIRST_DEAD_LETTER, FIRST_TRACE, REPLAY_ID, REPLAY_OF, REPLAYS};
use crate::properties;

/// The ETag that this dead letter saw last.
pub const REPLAY_ETAG: &str = "orderwright-replay-etag";
/// `1` where an operator wants it written whatever the order has become.
pub const REPLAY_FORCED: &str = "orderwright-replay-forced";

/// Where the publisher wants its outcome; empty where he does not. The message's own place is the replay's.
pub const REPLY_TO: &str = "orderwright-reply-to";
/// What the publisher knows it by.
pub const CORRELATION_ID: &str = "orderwright-correlation-id";

/// The headers that a replayed message may carry, with their meaning. The names are part of the
/// interface.
pub const REPLAY_HEADERS: [(&str, &str); 9] = [
    (REPLAY_ID, "the replay that sent it"),
    (REPLAY_OF, "the dead letter that it was"),
    (REPLAY_ETAG, "the ETag that this dead letter saw last: under another one nothing is written"),
    (REPLAY_FORCED, "`1`: no ETag is compared, an operator said so"),
    (FIRST_DEAD_LETTER, "the dead letter that it was first"),
    (FIRST_TRACE, "trace context of the handling that it died in first"),
    (REPLAYS, "how often it was replayed, this time included"),
    (REPLY_TO, "the publisher's `reply_to`, empty if there was none: he is told as well"),
    (CORRELATION_ID, "the publisher's `correlation_id`"),
];

/// A header as text. One that is there and is no text counts as empty.
#[must_use]
pub fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a str> {
    Some(properties::header(properties, name)?.unwrap_or_default())
}

/// Where the publisher wants to be told, and what he knows the update by.
#[must_use]
pub fn publishers_reply(
    properties: &BasicProperties,
) -> (Option<ShortString>, Option<ShortString>) {
    let Some(to) = header(properties, REPLY_TO) else {
        return (properties.reply_to().clone(), properties.correlation_id().clone());
    };
    // Both were short strings before.
    let short = |text: &str| ShortString::try_new(text.to_owned()).ok();
    let to = short(to).filter(|to| !to.as_str().is_empty());
    (to, header(properties, CORRELATION_ID).and_then(short))
}
