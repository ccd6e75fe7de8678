//! Sends dead letters once more, and sees what comes of each: what is decided is the course's
//! ([`crate::dead_letter::Course`]), what is done is here.
//!
//! ```text
//! look at the order ─▶ publish to the entry, confirmed ─▶ outcome by the reply queue
//!   ─▶ journal, confirmed ─▶ ack the dead letter
//! ```
//!
//! Whoever dies on the way leaves a dead letter that is there still, and an update that is there
//! already: the next replay finds it applied, and takes the letter away then.

mod chain;
mod check;
pub mod edit;
mod hold;
mod message;
mod order;
mod place;
pub mod release;
mod run;
mod under_way;

#[cfg(test)]
mod tests;

pub use check::{Change, Checked, Checker, Prospect};
pub use hold::Hold;
pub use order::{Turn, by_order};
pub use place::{Found, Place, Standing, placed};
pub use run::{Counts, Error, Report, Run, Told};

use crate::broker::{Held, Ticket};
use crate::dead_letter::Letter;

/// A dead letter that is to be replayed.
#[derive(Debug)]
pub struct Candidate {
    /// What it says.
    pub letter: Letter,
    /// Its properties and body, as they are in the queue.
    pub message: Message,
    /// What it is to its order.
    pub place: Place,
    /// Where it stands in the queue, from 1.
    pub position: u64,
    /// Its place among the letters of an order that stands still.
    pub rank: Option<usize>,
}

/// A message that was published before.
#[derive(Debug)]
pub struct Message {
    /// Its properties.
    pub properties: lapin::BasicProperties,
    /// Its body.
    pub body: Vec<u8>,
}

impl Candidate {
    /// Of a message that is held, with the right to take it out of the queue.
    #[must_use]
    pub fn new(letter: Letter, held: Held) -> (Self, Ticket) {
        let Held { properties, body, receipt, position, .. } = held;
        let message = Message { properties, body };
        (Self { letter, message, place: Place::Free, position, rank: None }, receipt)
    }
}
