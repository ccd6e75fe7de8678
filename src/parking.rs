//! Which orders stand still behind a dead letter. Pure: records and what follows from them.
//!
//! The records stand in a stream on the broker, in one order for everybody:
//!
//! ```text
//! died SO-1 a ─▶ parked behind a, 1 letter ─▶ died SO-1 b ─▶ parked behind a, 2 letters
//!             ─▶ released SO-1 a 1 ─▶ still parked: somebody has not seen b
//!             ─▶ released SO-1 a 2 ─▶ free
//! ```
//!
//! A release that does not fit is passed over. So whoever asks for one with what he has seen cannot
//! free an order that has got another letter meanwhile, nor one that was parked anew.

mod message;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use message::{RELEASE_TYPE, Release, UNPARK, is_replay, is_replay_of, unparks};

/// Something that is so from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "record")]
pub enum Record {
    /// A dead letter of this order stands in the dead-letter queue.
    Died {
        /// Canonical order key.
        order: Box<str>,
        /// The letter's id.
        letter: Uuid,
        /// When.
        at: Timestamp,
    },
    /// An operator has dealt with all letters of this order that he knows of.
    Released {
        /// This record's own id.
        id: Uuid,
        /// Which order, and what he knows.
        #[serde(flatten)]
        release: Release,
        /// When.
        at: Timestamp,
    },
    /// Somebody reads: whoever finds his own has read all that was there before.
    Read {
        /// Whose.
        id: Uuid,
    },
}

impl Record {
    /// What names it, so that its writer knows when he has read it.
    #[must_use]
    pub const fn id(&self) -> Uuid {
        match self {
            Self::Died { letter: id, .. } | Self::Released { id, .. } | Self::Read { id } => *id,
        }
    }
}

/// An order that stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The letter that it stands behind.
    pub head: Uuid,
    /// The newest letter.
    pub last: Uuid,
    /// How many there are, the head included.
    pub letters: u64,
    /// Since when.
    pub since: Timestamp,
}

/// What a record did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing: it is no record of an order, or was there before.
    None,
    /// The order stands still from now on.
    Parked,
    /// The order has one letter more.
    Behind,
    /// The order is free.
    Released,
    /// The order stays as it is: the release does not fit.
    Kept,
}

/// How much is parked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Orders that stand still.
    pub orders: u64,
    /// Dead letters of all of them.
    pub letters: u64,
    /// Since when the first of them does.
    pub oldest: Option<Timestamp>,
}

/// The orders that stand still, as the records tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    orders: BTreeMap<Box<str>, Parked>,
    /// The letters of each order, as they were told of, where somebody wants to know.
    letters: Option<BTreeMap<Box<str>, Vec<Uuid>>>,
}

impl Set {
    /// One that keeps the letters of each order as well: for a tool that must send them in their order.
    #[must_use]
    pub fn with_letters() -> Self {
        Self { letters: Some(BTreeMap::new()), ..Self::default() }
    }

    /// The letters that this order stands still behind, in the order in which they died. Whatever the
    /// clocks of their pods said: the stream has one order for everybody.
    #[must_use]
    pub fn letters(&self, order: &str) -> &[Uuid] {
        self.letters.as_ref().and_then(|all| all.get(order)).map_or(&[], Vec::as_slice)
    }

    /// Takes one more record.
    pub fn apply(&mut self, record: &Record) -> Change {
        match record {
            Record::Read { .. } => Change::None,
            Record::Died { order, letter, at } => {
                let change = self.died(order, *letter, *at);
                if let Some(letters) = self.letters.as_mut().filter(|_| change != Change::None) {
                    letters.entry(order.clone()).or_default().push(*letter);
                }
                change
            }
            Record::Released { release, .. } => {
                let fits = self.get(&release.order).is_some_and(|parked| release.fits(parked));
                if fits {
                    self.orders.remove(&release.order);
                    if let Some(letters) = &mut self.letters {
                        letters.remove(&release.order);
                    }
                }
                if fits { Change::Released } else { Change::Kept }
            }
        }
    }

    fn died(&mut self, order: &str, letter: Uuid, at: Timestamp) -> Change {
        match self.orders.get_mut(order) {
            // Appended again, because its confirm was lost.
            Some(parked) if parked.last == letter => Change::None,
            Some(parked) => {
                parked.last = letter;
                parked.letters = parked.letters.saturating_add(1);
                Change::Behind
            }
            None => {
                let parked = Parked { head: letter, last: letter, letters: 1, since: at };
                self.orders.insert(order.into(), parked);
                Change::Parked
            }
        }
    }

    /// How this order stands still, if it does.
    #[must_use]
    pub fn get(&self, order: &str) -> Option<&Parked> {
        self.orders.get(order)
    }

    /// How many orders stand still.
    #[must_use]
    pub fn len(&self) -> usize {
        self.orders.len()
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    /// All of them, by their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Parked)> {
        self.orders.iter().map(|(order, parked)| (&**order, parked))
    }

    /// How much that is. Looks at every order.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let orders = u64::try_from(self.orders.len()).unwrap_or(u64::MAX);
        let letters = |sum: u64, parked: &Parked| sum.saturating_add(parked.letters);
        let letters = self.orders.values().fold(0, letters);
        Figures { orders, letters, oldest: self.orders.values().map(|parked| parked.since).min() }
    }
}

#[cfg(test)]
mod tests;
