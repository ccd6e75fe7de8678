//! Judges what was written to one order after the other. Pure: no clock, no socket.
//!
//! ```text
//! written to an order   judged
//! 1 2 3 4               in order
//! 1 2 2 3               a repeat: the row was as it should be all the time
//! 1 2 3 2 3 4           a replay: 2 and 3 were done, their acks were lost; passes by itself
//! 1 2 3 2 4             stale: 2 over 3, and 3 never again
//! 1 3 2 4               overtaken: 2 was done for the first time after 3
//! ```

use std::collections::BTreeSet;

use jiff::Timestamp;

/// One write to an order.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) time: Timestamp,
    pub(crate) sequence: u64,
    /// The worker, where its log tells.
    pub(crate) worker: Option<u64>,
}

/// What is wrong with one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flaw {
    /// An older update was written again, and after it all newer ones again.
    Replay,
    /// An older update was written again, and not all newer ones after it.
    Stale,
    /// An update was written for the first time after a newer one.
    Overtaken,
}

/// What came of one order.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// When, and what. At most one for each write.
    pub(crate) flaws: Vec<(Timestamp, Flaw)>,
    /// Writes of the update that was written last: harmless.
    pub(crate) repeats: u64,
    /// Older updates written again of which the publisher itself had sent a copy that may come late.
    pub(crate) late_copies: u64,
    /// Neither written nor dead-lettered, and nothing newer was written either.
    pub(crate) lost: u64,
    /// Neither written nor dead-lettered, but a newer one was written.
    pub(crate) skipped: u64,
    /// The order does not look as its newest update that is no dead letter wants it.
    pub(crate) stale_at_the_end: bool,
}

/// Judges an order whose updates 1 to `newest` were published, these `copies` of them twice, the
/// second time perhaps after newer ones: what stands last in the queue is rightly written last.
pub(crate) fn judge(
    newest: u64,
    dead: &BTreeSet<u64>,
    copies: &BTreeSet<u64>,
    writes: &[Write],
) -> Judged {
    let mut judged = Judged::default();
    let mut walk = Walk::new(copies);
    for write in writes {
        walk.step(write, dead, &mut judged);
    }
    walk.settle(true, &mut judged);
    for sequence in (1..=newest).filter(|it| !dead.contains(it) && !walk.seen.contains(it)) {
        let is_older = walk.seen.range(sequence..).next().is_some();
        *if is_older { &mut judged.skipped } else { &mut judged.lost } += 1;
    }
    let wanted = (1..=newest).rev().find(|it| !dead.contains(it)).unwrap_or_default();
    judged.stale_at_the_end = walk.current < wanted && !copies.contains(&walk.current);
    judged
}

/// How many of these letters of an order should not be: whether each says that its update was superseded,
/// and which one that is. Every update is good; one is superseded if a newer one was written.
pub(crate) fn needless(letters: &[(bool, u64)], writes: &[Write]) -> u64 {
    let newest = writes.iter().map(|write| write.sequence).max().unwrap_or_default();
    let is_right = |(is_superseded, sequence): &&(bool, u64)| *is_superseded && *sequence < newest;
    (letters.len() - letters.iter().filter(is_right).count()) as u64
}

#[derive(Debug)]
struct Walk<'a> {
    copies: &'a BTreeSet<u64>,
    seen: BTreeSet<u64>,
    /// What the row looks like.
    current: u64,
    /// The highest so far.
    highest: u64,
    /// Steps back of which it is not known yet whether all newer updates follow.
    open: Vec<Timestamp>,
}

impl<'a> Walk<'a> {
    fn new(copies: &'a BTreeSet<u64>) -> Self {
        Self { copies, seen: BTreeSet::new(), current: 0, highest: 0, open: Vec::new() }
    }

    fn step(&mut self, write: &Write, dead: &BTreeSet<u64>, judged: &mut Judged) {
        let Write { time, sequence, .. } = *write;
        let is_new = self.seen.insert(sequence);
        if sequence == self.current {
            judged.repeats += 1;
        } else if sequence > self.current {
            let skips = (self.current + 1..sequence).any(|it| !dead.contains(&it));
            if skips {
                self.settle(true, judged);
            }
        } else if is_new {
            judged.flaws.push((time, Flaw::Overtaken));
        } else if self.copies.contains(&sequence) {
            judged.late_copies += 1;
        } else {
            self.open.push(time);
        }
        self.current = sequence;
        self.highest = self.highest.max(sequence);
        if self.current == self.highest {
            self.settle(false, judged);
        }
    }

    fn settle(&mut self, is_stale: bool, judged: &mut Judged) {
        let flaw = if is_stale { Flaw::Stale } else { Flaw::Replay };
        judged.flaws.extend(self.open.drain(..).map(|time| (time, flaw)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(newest: u64, dead: &[u64], sequences: &[u64]) -> Judged {
        judged_with(newest, dead, &[], sequences)
    }

    fn judged_with(newest: u64, dead: &[u64], copies: &[u64], sequences: &[u64]) -> Judged {
        let write = |sequence: &u64| Write {
            time: Timestamp::UNIX_EPOCH,
            sequence: *sequence,
            worker: None,
        };
        let writes: Vec<_> = sequences.iter().map(write).collect();
        let set = |numbers: &[u64]| numbers.iter().copied().collect();
        judge(newest, &set(dead), &set(copies), &writes)
    }

    fn flaws(sequences: &[u64]) -> Vec<Flaw> {
        judged(9, &[], sequences).flaws.into_iter().map(|(_, flaw)| flaw).collect()
    }

    #[test]
    fn replay_passes_only_if_all_newer_updates_follow() {
        assert_eq!(flaws(&[1, 2, 3, 4]), []);
        assert_eq!(flaws(&[1, 2, 3, 2, 3, 4]), [Flaw::Replay]);
        assert_eq!(flaws(&[1, 2, 3, 2, 1, 2, 3]), [Flaw::Replay, Flaw::Replay]);
        assert_eq!(flaws(&[1, 2, 3, 2, 4]), [Flaw::Stale]);
        assert_eq!(flaws(&[1, 2, 3, 2]), [Flaw::Stale]);
        assert_eq!(flaws(&[1, 3, 2, 4]), [Flaw::Overtaken]);
    }

    #[test]
    fn repeats_are_counted_apart() {
        let judged = judged(3, &[], &[1, 2, 2, 3, 3]);
        assert_eq!((judged.repeats, judged.flaws.len()), (2, 0));
    }

    #[test]
    fn late_copy_of_the_publishers_own_is_no_flaw() {
        let judged = judged_with(3, &[], &[2], &[1, 2, 3, 2]);
        assert_eq!(
            (judged.late_copies, judged.flaws.len(), judged.stale_at_the_end),
            (1, 0, false)
        );
        let judged = judged_with(3, &[], &[2], &[1, 2, 3, 1]);
        assert_eq!((judged.late_copies, judged.flaws.len(), judged.stale_at_the_end), (0, 1, true));
    }

    #[test]
    fn letters_are_needless_unless_a_newer_update_was_written() {
        let writes = |sequences: &[u64]| -> Vec<Write> {
            let time = Timestamp::UNIX_EPOCH;
            sequences.iter().map(|it| Write { time, sequence: *it, worker: None }).collect()
        };
        assert_eq!(needless(&[], &[]), 0);
        assert_eq!(needless(&[(true, 2), (true, 2), (true, 3)], &writes(&[1, 4])), 0);
        assert_eq!(needless(&[(true, 4), (true, 5), (false, 2)], &writes(&[1, 4])), 3);
        assert_eq!(needless(&[(true, 1)], &[]), 1);
    }

    #[test]
    fn missing_updates_are_lost_or_skipped_unless_they_are_dead_letters() {
        let missing = |judged: Judged| (judged.lost, judged.skipped, judged.stale_at_the_end);
        assert_eq!(missing(judged(4, &[], &[1, 3])), (1, 1, true));
        assert_eq!(missing(judged(4, &[2, 4], &[1, 3])), (0, 0, false));
        assert_eq!(missing(judged(2, &[], &[1, 2, 1])), (0, 0, true));
        assert_eq!(missing(judged(0, &[], &[])), (0, 0, false));
    }
}
