//! Dead letters: what an operator needs to judge a message that could not be applied.
//!
//! Written by [`record()`], read by [`Letter::read`] whoever wrote them, chosen by [`Selection`] and put
//! together by [`Groups`]. Pure: the broker's edge hands messages in.

mod advice;
mod body;
mod course;
mod death;
mod earlier;
mod fingerprint;
mod groups;
pub mod journal;
mod manner;
mod record;
mod replay;
mod select;
mod stamp;
mod transfer;
mod typed;
mod view;

pub use advice::advice;
pub use body::{Body, Change as BodyChange, Error as BodyError};
pub use course::{Course, End, Fate, Next};
pub use death::{Death, REASONS};
pub use earlier::Earlier;
pub use fingerprint::{Trouble, fingerprint, normalised};
pub use groups::{Group, Groups};
pub use manner::{Manner, StopIf};
pub use record::{
    EARLIER, FINGERPRINT, FIRST_DEAD_LETTER, FIRST_TRACE, Given, HEADERS, ID as DEAD_LETTER_ID,
    Limits, Original, REPLAY_ID, REPLAY_OF, REPLAYS, SEEN, header_bytes, letter_id, record,
};
pub use replay::{
    CORRELATION_ID, FORMER, FORMER_BYTES_MAX, REPLAY_ETAG, REPLAY_FORCED, REPLAY_HEADERS, REPLY_TO,
    header, publishers_reply,
};
pub use select::{Pointer, Selection, Statuses, is_id};
pub use stamp::{Decision, Edition, adopted, discarded, edited, restored, returned};
pub use transfer::{Error as TransferError, Message, from_line, to_line};
pub use view::{Discarded, Edited, Found, Letter, Replays, Writer};
