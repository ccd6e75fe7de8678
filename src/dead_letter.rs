//! Dead letters: what an operator needs to judge a message that could not be applied.
//!
//! Written by [`record`], read by [`Letter::read`] whoever wrote them, chosen by [`Selection`] and put
//! together by [`Groups`]. Pure: the broker's edge hands messages in.

mod advice;
mod death;
mod fingerprint;
mod groups;
mod record;
mod select;
mod stamp;
mod transfer;
mod typed;
mod view;

pub use advice::advice;
pub use death::{Death, REASONS};
pub use fingerprint::{Trouble, fingerprint, normalised};
pub use groups::{Group, Groups};
pub use record::{HEADERS, Limits, Original, letter_id, record};
pub use select::{Pointer, Selection, Statuses, is_id};
pub use stamp::{Decision, adopted, carried, discarded, restored};
pub use transfer::{Error as TransferError, Message, from_line, to_line};
pub use view::{Discarded, Found, Letter, Replays, Writer};
