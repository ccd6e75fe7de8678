//! The headers of a replayed message, and which of them its next dead letter keeps.

use lapin::BasicProperties;
use lapin::types::ShortString;

use super::record::{EARLIER, FIRST_DEAD_LETTER, FIRST_TRACE, REPLAY_ID, REPLAY_OF, REPLAYS, SEEN};
use crate::parking::unparks;
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
pub const REPLAY_HEADERS: [(&str, &str); 12] = [
    (REPLAY_ID, "the replay that sent it"),
    (REPLAY_OF, "the dead letter that it was"),
    (REPLAY_ETAG, "the ETag that this dead letter saw last: under another one nothing is written"),
    (SEEN, "the fields concerned under that ETag, as JSON"),
    (REPLAY_FORCED, "`1`: no ETag is compared, an operator said so"),
    (FIRST_DEAD_LETTER, "the dead letter that it was first"),
    (FIRST_TRACE, "trace context of the handling that it died in first"),
    (EARLIER, "the deaths that it died before, as JSON"),
    (FORMER, "what the letters before it would have written, where it was edited, as JSON"),
    (REPLAYS, "how often it was replayed, this time included"),
    (REPLY_TO, "the publisher's `reply_to`, empty if there was none: he is told as well"),
    (CORRELATION_ID, "the publisher's `correlation_id`"),
];

/// A header as text. One that is there and is no text counts as empty.
#[must_use]
pub fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a str> {
    Some(properties::header(properties, name)?.unwrap_or_default())
}

/// Of an edited letter: what those before it would have written.
pub const FORMER: &str = "orderwright-edit-former";
/// Bytes of that. What is more is left out altogether: the edited letter is superseded then, as any would be.
pub const FORMER_BYTES_MAX: usize = 4 * 1024;

/// The longest ETag that is read, in bytes.
const ETAG_BYTES_MAX: usize = 1_024;

/// The ETag that a replayed message might be written over; empty where it might be over none. `None` for any
/// other message, for one that an operator wants written over whatever is there, and for one that stood behind
/// a dead letter and is judged as for the first time: these may be written over what they saw.
pub(super) fn base(properties: &BasicProperties) -> Option<&str> {
    if let Some(etag) = header(properties, REPLAY_ETAG) {
        return Some(if etag.len() <= ETAG_BYTES_MAX { etag } else { "" });
    }
    let is_replay = [REPLAY_OF, REPLAY_ID].iter().any(|it| header(properties, it).is_some());
    let is_forced = header(properties, REPLAY_FORCED) == Some("1");
    (is_replay && !is_forced && unparks(properties).is_none()).then_some("")
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
