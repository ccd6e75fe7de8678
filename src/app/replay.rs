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

mod account;
mod ask;
mod calm;
mod chain;
mod check;
pub mod edit;
pub mod former;
mod hold;
mod message;
mod order;
mod place;
mod prospect;
mod pulse;
pub mod release;
mod run;
mod under_way;

#[cfg(test)]
mod tests;

pub use check::Checker;
pub use hold::Hold;
pub use order::{Turn, by_order};
pub use place::{Found, Place, Standing, placed};
pub use prospect::{Allowed, Change, Checked, Prospect};
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

/// What a letter takes in memory besides what it brings: at most.
const LETTER_BYTES: usize = 2 * 1024;

impl Candidate {
    /// Of a message that is held, with the right to take it out of the queue. What a replay has no use for is dropped:
    /// the attempts alone may be as large as many bodies.
    #[must_use]
    pub fn new(letter: Letter, held: Held) -> (Self, Ticket) {
        let Held { properties, body, receipt, position, .. } = held;
        (Self::of(letter, Message { properties, body }, position), receipt)
    }

    fn of(mut letter: Letter, message: Message, position: u64) -> Self {
        (letter.attempts, letter.deaths) = (Vec::new(), Vec::new());
        letter.detail = String::new();
        let message = Message { properties: message::kept(&message.properties), ..message };
        Self { letter, message, place: Place::Free, position, rank: None }
    }

    /// Bytes that it takes in memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let headers = crate::dead_letter::header_bytes(&self.message.properties);
        // Text beside what was read of it.
        let read = self.letter.seen.iter().chain(&self.letter.former);
        let read: usize = read.map(|it| 4 * it.to_string().len()).sum();
        self.message.body.len() + headers + read + LETTER_BYTES
    }
}

#[cfg(test)]
mod memory {
    use lapin::types::{AMQPValue, FieldTable};

    use super::*;
    use crate::dead_letter::Found;

    #[test]
    fn letter_that_waits_for_its_replay_holds_no_more_than_it_is_counted_for() {
        let long = |text: &str| AMQPValue::LongString(text.into());
        let attempts = format!("[{}]", vec!["{\"number\":1}"; 1_000].join(","));
        let mut headers = FieldTable::default();
        headers.insert("orderwright-attempts".into(), long(&attempts));
        headers.insert("orderwright-first-traceparent".into(), long("00-1"));
        headers.insert("shop".into(), long(&"x".repeat(10_000)));
        let properties = lapin::BasicProperties::default().with_headers(headers);
        let body = vec![b'x'; 500];
        let found = Found { properties: &properties, exchange: "e", routing_key: "k", body: &body };
        let letter = Letter::read(found);
        assert_eq!(letter.attempts.len(), 1_000);
        let candidate = Candidate::of(letter, Message { properties, body }, 1);
        assert!(candidate.letter.attempts.is_empty());
        let names: Vec<_> = candidate
            .message
            .properties
            .headers()
            .iter()
            .flat_map(FieldTable::inner)
            .map(|(name, _)| name.to_string())
            .collect();
        assert_eq!(names, ["orderwright-first-traceparent", "shop"]);
        assert!((12_500..13_500).contains(&candidate.bytes()), "{}", candidate.bytes());
    }
}
