//! Dead letters: what an operator needs to judge a message that could not be applied.

mod record;

pub use record::{HEADERS, Limits, Original, record};
