//! Judges orders that stand still behind an update which the service refuses. Pure: no clock, no socket.
//!
//! ```text
//! written      dead letters     judged
//! 1 2 3        4 5 6 7          in order: 4 is the bad one, the others stand behind it
//! 1 2 3        4 5 6 5 6 7      the same: a redelivery, whose copies are behind the first ones
//! 1 2 3 5      4 6 7            passed: 5 was written though 4 is a dead letter
//! 1 2 3        4 6 5 7          disordered: who replays them one after the other writes 6 before 5
//! ```

use std::collections::BTreeSet;

use crate::audit::{Judged, Write, judge};
use crate::ring::Letters;

/// Of so many orders one gets a bad update.
const ONE_IN: u64 = 5;
/// Where it stands among the order's updates: between the first and the second number.
const BAD_MIN: u64 = 3;
const BAD_SPREAD: u64 = 40;
/// Why updates behind a dead one are dead-lettered.
pub(crate) const BEHIND: &str = "parked_behind";

/// Which update of this order the service refuses, if one.
pub(crate) fn bad_of(order: u64) -> Option<u64> {
    order.is_multiple_of(ONE_IN).then(|| BAD_MIN + order % BAD_SPREAD)
}

/// A letter of one order: whether it has the reason that was asked for, and its update.
pub(crate) type Letter = (bool, u64);

/// What came of an order with a bad update, beside what its earlier updates are judged by.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parked {
    /// Updates behind the bad one that were written.
    pub(crate) passed: u64,
    /// Letters whose update stands behind one that is newer than they are.
    pub(crate) disordered: u64,
    /// Letters that should not be, or give another reason than they should.
    pub(crate) unexplained: u64,
}

/// The letters of one order, in the order of the queue.
pub(crate) fn letters_of(order: u64, letters: &Letters, asked: &str) -> Vec<Letter> {
    let its = letters.iter().filter_map(|(reason, update)| Some((reason, (*update)?)));
    its.filter(|(_, update)| update.0 == order)
        .map(|(reason, update)| (reason == asked, update.1))
        .collect()
}

/// Judges an order whose update `bad` is refused, and whose updates 1 to `newest` were published.
pub(crate) fn judge_parked(
    bad: u64,
    newest: u64,
    letters: &[Letter],
    copies: &BTreeSet<u64>,
    writes: &[Write],
) -> (Judged, Parked) {
    let (before, passed): (Vec<_>, Vec<_>) =
        writes.iter().cloned().partition(|write| write.sequence < bad);
    let passed: BTreeSet<u64> = passed.iter().map(|write| write.sequence).collect();
    let mut judged = judge(newest.min(bad - 1), &BTreeSet::new(), copies, &before);
    let mut parked = Parked { passed: passed.len() as u64, ..Parked::default() };
    let (mut seen, mut has_head) = (BTreeSet::new(), false);
    for &(is_behind, sequence) in letters {
        // One that was done, and whose ack was lost, may come again and stand behind its successor.
        let is_right = if sequence == bad { true } else { is_behind };
        has_head |= sequence == bad && !is_behind;
        parked.unexplained += u64::from(!is_right);
        let is_first = seen.insert(sequence) && sequence >= bad;
        let is_late = seen.range(sequence + 1..).next().is_some();
        parked.disordered += u64::from(is_first && is_late);
    }
    parked.unexplained += u64::from(newest >= bad && !has_head);
    let is_there = |sequence: &u64| seen.contains(sequence) || passed.contains(sequence);
    judged.lost += (bad..=newest).filter(|sequence| !is_there(sequence)).count() as u64;
    (judged, parked)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn judged(letters: &[Letter], written: &[u64]) -> (u64, Parked) {
        let write = |sequence: &u64| Write {
            time: Timestamp::UNIX_EPOCH,
            sequence: *sequence,
            worker: None,
        };
        let writes: Vec<_> = written.iter().map(write).collect();
        let (judged, parked) = judge_parked(4, 6, letters, &BTreeSet::new(), &writes);
        (judged.lost, parked)
    }

    fn parked(passed: u64, disordered: u64, unexplained: u64) -> Parked {
        Parked { passed, disordered, unexplained }
    }

    #[test]
    fn followers_stand_in_order_behind_the_bad_update_and_copies_do_no_harm() {
        let all = [(false, 4), (true, 5), (true, 6)];
        assert_eq!(judged(&all, &[1, 2, 3]), (0, parked(0, 0, 0)));
        let again = [(false, 4), (true, 5), (true, 3), (true, 4), (true, 5), (true, 6)];
        assert_eq!(judged(&again, &[1, 2, 3]), (0, parked(0, 0, 0)));
    }

    #[test]
    fn what_passes_is_missing_stands_wrong_or_gives_another_reason_is_found() {
        let all = [(false, 4), (true, 5), (true, 6)];
        assert_eq!(judged(&[(false, 4), (true, 6)], &[1, 2, 3, 5]), (0, parked(1, 0, 0)));
        assert_eq!(judged(&[(false, 4), (true, 6)], &[1, 2, 3]), (1, parked(0, 0, 0)));
        assert_eq!(judged(&all, &[1, 2]), (1, parked(0, 0, 0)));
        let turned = [(false, 4), (true, 6), (true, 5)];
        assert_eq!(judged(&turned, &[1, 2, 3]), (0, parked(0, 1, 0)));
        let other = [(false, 4), (false, 5), (true, 6)];
        assert_eq!(judged(&other, &[1, 2, 3]), (0, parked(0, 0, 1)));
        let headless = [(true, 4), (true, 5), (true, 6)];
        assert_eq!(judged(&headless, &[1, 2, 3]), (0, parked(0, 0, 1)));
    }
}
