//! Dead letters: what an operator needs to judge a message that could not be applied.

mod course;
mod fingerprint;
pub mod journal;
mod record;
mod replay;
mod select;
mod view;

pub use course::{Course, End, Fate, Manner, Next, StopIf};
pub use fingerprint::{Trouble, fingerprint, normalised};
pub use record::{
    FIRST_DEAD_LETTER, HEADERS, ID as DEAD_LETTER_ID, Limits, Original, REPLAY_ID, REPLAY_OF,
    REPLAYS, letter_id, record,
};
pub use replay::{REPLAY_ETAG, REPLAY_FORCED, REPLAY_HEADERS, header};
pub use select::{Pointer, Selection, Statuses, is_id};
pub use view::{Death, Found, Letter, REASONS, Replays, Writer};
