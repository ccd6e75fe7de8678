//! Dead letters: what an operator needs to judge a message that could not be applied.

pub mod journal;
mod record;
mod replay;

pub use record::{DEAD_LETTER_ID, HEADERS, Limits, Original, record};
pub use replay::{
    FIRST_DEAD_LETTER, REPLAY_ETAG, REPLAY_FORCED, REPLAY_HEADERS, REPLAY_ID, REPLAY_OF, REPLAYS,
    header,
};
