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

mod check;
pub mod edit;
mod hold;
mod message;
mod place;
pub mod release;
mod run;
mod under_way;

pub use check::{Change, Checked, Checker, Prospect};
pub use hold::Hold;
pub use place::{Found, Place, placed};
pub use run::{Counts, Error, Report, Run, Told};

use jiff::Timestamp;
use uuid::Uuid;

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
        let Held { properties, body, receipt, .. } = held;
        (Self { letter, message: Message { properties, body }, place: Place::Free }, receipt)
    }
}

/// Groups letters by their order; each group in the order in which they are to go.
///
/// By sequence where all have one, else by the time of their first death. A letter of no order is a group of
/// its own, as is one that must not go.
#[must_use]
pub fn by_order(
    candidates: &[&Candidate],
    sequence: impl Fn(&Message) -> Option<i64>,
) -> Vec<Vec<usize>> {
    let mut groups: Vec<(Option<&str>, Vec<usize>)> = Vec::new();
    let mut known = std::collections::HashMap::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let is_held = matches!(candidate.place, Place::Held(_));
        let order = candidate.letter.order.as_deref().filter(|_| !is_held);
        let at = order.and_then(|order| known.get(order).copied());
        if let Some((_, group)) = at.and_then(|at: usize| groups.get_mut(at)) {
            group.push(index);
            continue;
        }
        if let Some(order) = order {
            known.insert(order, groups.len());
        }
        groups.push((order, vec![index]));
    }
    let sequence =
        |index: &usize| candidates.get(*index).and_then(|candidate| sequence(&candidate.message));
    let died =
        |index: &usize| candidates.get(*index).map(|candidate| first_death(&candidate.letter));
    for (_, group) in &mut groups {
        if group.len() > 1 && group.iter().all(|index| sequence(index).is_some()) {
            group.sort_by_key(sequence);
        } else {
            // Stable: what died at the same time stays as it stands in the queue.
            group.sort_by_key(died);
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// A replay moves a letter to the end of the queue if it dies again: its first death tells its place. Ids
/// of letters hold their time (UUID, version 7).
fn first_death(letter: &Letter) -> Option<Timestamp> {
    let of = |id: Uuid| {
        let time = id.get_timestamp()?.to_unix();
        Timestamp::new(i64::try_from(time.0).ok()?, i32::try_from(time.1).ok()?).ok()
    };
    letter.replays.first_dead_letter.and_then(of).or(letter.dead_lettered_at)
}
