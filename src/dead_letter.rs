//! Dead letters: what an operator needs to judge a message that could not be applied.

mod fingerprint;
mod record;
mod select;
mod view;

pub use fingerprint::{Trouble, fingerprint, normalised};
pub use record::{HEADERS, Limits, Original, letter_id, record};
pub use select::{Pointer, Selection, Statuses, is_id};
pub use view::{Death, Found, Letter, REASONS, Replays, Writer};
