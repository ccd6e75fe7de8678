//! Dead letters: what an operator needs to judge a message that could not be applied.

mod record;

pub use record::{DEAD_LETTER_ID, HEADERS, Limits, Original, id, record};
