//! Which shard queues there are, and how a running cluster goes from one number of them to another.
//! Pure: records and what follows from them.
//!
//! The records stand in a stream on the broker, in one order for everybody. Whoever folds them from
//! the first on knows the generation that is worked on:
//!
//! ```text
//! begun g1 ─▶ opened g2 ─▶ switched g2 ─▶ drained g1 (each shard, twice) ─▶ live g2 ─▶
//!             queues stand   messages go     nothing of it is left            pods work on g2
//!                            to g2 only      anywhere
//! ─▶ drained g1 (each shard, once more: what strayed) ─▶ retired g1: its queues are deleted
//! ```
//!
//! A record that does not fit is passed over: a step that is done twice, by a command that was
//! started again, changes nothing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Shard queues that belong together: an order has one shard among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Generation {
    /// Counts from 1.
    pub number: u32,
    /// How many shards it has.
    pub shards: u16,
}

/// Rounds of markers in a generation before the next one is worked on. The first finds all that was
/// published to it settled, or sent on to its order's own shard behind the first markers; the second
/// finds that settled too.
pub(super) const ROUNDS: u8 = 2;

/// The round that finds everything that strayed into a left generation sent on.
pub(super) const LAST_ROUND: u8 = ROUNDS + 1;

/// Something that is so from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "record")]
pub enum Record {
    /// The first generation. Only the first such record counts.
    Begun(Generation),
    /// The next generation is being made.
    Opened(Generation),
    /// The entry leads to the next generation, and to no other.
    Switched(Generation),
    /// All that stood before this round's marker in this shard's queue is settled.
    Drained {
        /// Generation of the queue.
        generation: u32,
        /// Its shard.
        shard: u16,
        /// Which round, from 1.
        round: u8,
    },
    /// The next generation is worked on, and no message of the one before is left.
    Live(Generation),
    /// The one before is deleted.
    Retired(Generation),
    /// Somebody reads: whoever finds his own has read all that was there before.
    Read {
        /// Whose.
        id: uuid::Uuid,
    },
}

/// How far the way to the next generation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It is being made; messages still go to the present one.
    Opened,
    /// Messages go to it; the present one is drained.
    Switched,
}

/// The generations as the records tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generations {
    /// The one that is worked on.
    pub live: Generation,
    /// The one that comes.
    pub next: Option<(Generation, Phase)>,
    /// The one that was left and is not deleted yet: what strays into it is sent on.
    pub left: Option<Generation>,
    /// Round and shard of the markers that were settled in the generation that is drained: the live
    /// one while there is a next one, else the left one.
    drained: BTreeSet<(u8, u16)>,
}

impl Generations {
    /// What is so after the first record that matters.
    #[must_use]
    pub fn begin(record: &Record) -> Option<Self> {
        match record {
            Record::Begun(live) => Some(Self::begun(*live)),
            Record::Opened(_)
            | Record::Switched(_)
            | Record::Drained { .. }
            | Record::Live(_)
            | Record::Retired(_)
            | Record::Read { .. } => None,
        }
    }

    /// What is so where nobody has begun yet, and this is begun.
    #[must_use]
    pub fn begun(live: Generation) -> Self {
        Self { live, next: None, left: None, drained: BTreeSet::new() }
    }

    /// Takes one more record. False if it does not fit and changes nothing.
    pub fn apply(&mut self, record: &Record) -> bool {
        match *record {
            Record::Begun(_) | Record::Read { .. } => false,
            Record::Opened(next) => {
                let fits = self.may_open() && next.number == self.live.number + 1;
                if fits {
                    self.next = Some((next, Phase::Opened));
                    self.drained.clear();
                }
                fits
            }
            Record::Switched(next) => {
                let fits = self.next == Some((next, Phase::Opened));
                if fits {
                    self.next = Some((next, Phase::Switched));
                }
                fits
            }
            Record::Drained { generation, shard, round } => {
                let fits = self.draining().is_some_and(|(old, rounds)| {
                    old.number == generation && shard < old.shards && rounds.contains(&round)
                });
                fits && self.drained.insert((round, shard))
            }
            Record::Live(next) => {
                let fits = self.next == Some((next, Phase::Switched))
                    && (1..=ROUNDS).all(|round| self.undrained(round).next().is_none());
                if fits {
                    self.left = Some(self.live);
                    self.live = next;
                    self.next = None;
                    self.drained.clear();
                }
                fits
            }
            Record::Retired(left) => {
                let fits = self.left == Some(left) && self.undrained(LAST_ROUND).next().is_none();
                if fits {
                    self.left = None;
                    self.drained.clear();
                }
                fits
            }
        }
    }

    /// Whether this is known later than that: somebody who reads from the first record on meets all
    /// that was so before.
    #[must_use]
    pub fn is_after(&self, that: &Self) -> bool {
        let stage = |it: &Self| {
            (it.live, it.next.map(|(_, phase)| phase), it.left.is_none(), it.drained.len())
        };
        stage(self) > stage(that)
    }

    /// Whether all that belongs in this shard queue is settled: what is found there has strayed, and may not
    /// be worked on there, because the next generation may be worked on at any moment.
    #[must_use]
    pub fn is_settled(&self, of: Generation, shard: u16) -> bool {
        of.number < self.live.number || of == self.live && self.drained.contains(&(ROUNDS, shard))
    }

    /// Whether a new generation may be opened: one at a time.
    #[must_use]
    pub fn may_open(&self) -> bool {
        self.next.is_none() && self.left.is_none()
    }

    /// Where messages go that come in now.
    #[must_use]
    pub fn entry(&self) -> Generation {
        match self.next {
            Some((next, Phase::Switched)) => next,
            Some((_, Phase::Opened)) | None => self.live,
        }
    }

    /// The generation that is drained now, and by which rounds.
    fn draining(&self) -> Option<(Generation, std::ops::RangeInclusive<u8>)> {
        match (self.next, self.left) {
            (Some((_, Phase::Switched)), _) => Some((self.live, 1..=ROUNDS)),
            (Some((_, Phase::Opened)), _) | (None, None) => None,
            (None, Some(left)) => Some((left, LAST_ROUND..=LAST_ROUND)),
        }
    }

    /// Shards of the generation that is drained whose marker of this round is not settled yet.
    pub fn undrained(&self, round: u8) -> impl Iterator<Item = u16> + '_ {
        let shards = self.draining().map_or(0, |(old, _)| old.shards);
        (0..shards).filter(move |shard| !self.drained.contains(&(round, *shard)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Generation = Generation { number: 1, shards: 2 };
    const NEW: Generation = Generation { number: 2, shards: 3 };

    fn drained(generation: Generation, round: u8) -> Vec<Record> {
        let number = generation.number;
        let record = |shard| Record::Drained { generation: number, shard, round };
        (0..generation.shards).map(record).collect()
    }

    /// A whole way from one generation to the next.
    fn way() -> Vec<Record> {
        let mut way = vec![Record::Opened(NEW), Record::Switched(NEW)];
        way.extend((1..=ROUNDS).flat_map(|round| drained(OLD, round)));
        way.push(Record::Live(NEW));
        way.extend(drained(OLD, LAST_ROUND));
        way.push(Record::Retired(OLD));
        way
    }

    fn begun() -> Generations {
        Generations::begin(&Record::Begun(OLD)).unwrap()
    }

    #[test]
    fn way_leads_from_one_generation_to_the_next() {
        let mut now = begun();
        for record in way() {
            assert!(now.apply(&record), "{record:?} to {now:?}");
        }
        let mut then = Generations::begin(&Record::Begun(NEW)).unwrap();
        assert_eq!(now, then);
        let third = Generation { number: 3, shards: 1 };
        assert!(now.apply(&Record::Opened(third)) && then.apply(&Record::Opened(third)));
    }

    #[test]
    fn every_step_needs_all_those_before_it() {
        let way = way();
        for left_out in 0..way.len() {
            let mut now = begun();
            for (_, record) in way.iter().enumerate().filter(|(step, _)| *step != left_out) {
                now.apply(record);
            }
            let done = Generations::begin(&Record::Begun(NEW));
            assert_ne!(Some(now), done, "without {:?}", way[left_out]);
        }
    }

    #[test]
    fn steps_that_are_done_twice_change_nothing_and_each_is_later_than_the_one_before() {
        let (mut now, mut last) = (begun(), begun());
        for record in way() {
            assert!(now.apply(&record));
            let before = now.clone();
            assert!(now.is_after(&last) && !last.is_after(&now), "{record:?}");
            last = now.clone();
            assert!(!now.apply(&record), "{record:?}");
            assert!(!now.apply(&Record::Begun(NEW)));
            assert_eq!(now, before);
        }
    }

    #[test]
    fn next_generation_is_not_live_before_every_shard_of_the_old_one_is_drained_twice() {
        let mut now = begun();
        for record in way() {
            let is_live = matches!(record, Record::Live(_));
            assert_eq!(now.clone().apply(&Record::Live(NEW)), is_live, "at {record:?}");
            now.apply(&record);
        }
    }

    #[test]
    fn messages_go_to_the_next_generation_from_the_switch_on() {
        let mut now = begun();
        let entries: Vec<_> = way()
            .iter()
            .map(|record| {
                now.apply(record);
                now.entry().number
            })
            .collect();
        assert_eq!(entries[..2], [1, 2]);
        assert!(entries[2..].iter().all(|number| *number == 2));
    }

    #[test]
    fn shard_queue_is_settled_from_its_own_last_marker_on_and_for_good() {
        let mut now = begun();
        for record in way() {
            let before = [0, 1].map(|shard| now.is_settled(OLD, shard));
            now.apply(&record);
            let after = [0, 1].map(|shard| now.is_settled(OLD, shard));
            let ends = |which| matches!(record, Record::Drained { shard, round: ROUNDS, .. } if shard == which);
            assert_eq!(after, [before[0] || ends(0), before[1] || ends(1)], "{record:?}");
            assert!((0..NEW.shards).all(|shard| !now.is_settled(NEW, shard)), "{record:?}");
        }
        assert!(now.is_settled(OLD, 0) && now.is_settled(OLD, 1));
    }

    #[test]
    fn record_survives_the_wire() {
        for record in way().into_iter().chain([Record::Read { id: uuid::Uuid::nil() }]) {
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record, "{text}");
        }
    }
}
