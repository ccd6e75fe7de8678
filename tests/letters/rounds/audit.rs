//! What must be true at the end, whoever was killed.

use std::collections::{BTreeMap, BTreeSet};

use super::hands::Update;

/// What came of a round.
#[derive(Debug, Default, Clone)]
pub(crate) struct Verdict {
    /// Processes that were killed before their end, by what they were at.
    pub(crate) kills: BTreeMap<&'static str, u64>,
    /// Updates published.
    pub(crate) published: u64,
    /// Updates written.
    pub(crate) written: u64,
    /// Letters left at the end, of updates that were not written: what is newer was.
    pub(crate) left: u64,
    /// Copies of letters, or letters of updates that were written.
    pub(crate) copies: u64,
    /// Broken promises, in words.
    pub(crate) flaws: Vec<String>,
}

impl Verdict {
    pub(crate) fn add(&mut self, other: Self) {
        for (what, kills) in other.kills {
            *self.kills.entry(what).or_default() += kills;
        }
        self.published += other.published;
        self.written += other.written;
        self.left += other.left;
        self.copies += other.copies;
        self.flaws.extend(other.flaws);
    }

    /// Compares what was published with what was written, in its order, and with the letters that are left.
    pub(super) fn judge(&mut self, published: &[Update], written: &[Update], letters: &[Update]) {
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        let mut once = BTreeSet::new();
        for (order, number) in written {
            if !once.insert((*order, *number)) {
                self.flaws.push(format!("update {number} of order {order} was written twice"));
            }
            let newest = newest.entry(*order).or_default();
            if number < newest {
                self.flaws.push(format!("update {number} of order {order} over {newest}"));
            }
            *newest = (*newest).max(*number);
        }
        let held: BTreeSet<_> = letters.iter().copied().collect();
        for update in published {
            if !once.contains(update) && !held.contains(update) {
                let (order, number) = update;
                self.flaws.push(format!("update {number} of order {order} is lost"));
            }
        }
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let left = held.difference(&once).count();
        self.published += count(published.len());
        self.written += count(once.len());
        self.left += count(left);
        self.copies += count(letters.len() - left);
    }

    /// Orders that stand still: what has died or waits is in the queue, in the order in which it was
    /// published, and nothing of it was written.
    pub(super) fn parked(&mut self, when: &str, order: u64, written: &[Update]) {
        for (_, number) in written.iter().filter(|(of, _)| *of == order) {
            self.flaws.push(format!("{when}: update {number} of parked order {order} was written"));
        }
    }

    /// The first letter of each update, in the order of the queue.
    pub(super) fn in_order(&mut self, order: u64, letters: &[Update]) {
        let mut seen = BTreeSet::new();
        let first = letters.iter().filter(|(of, number)| *of == order && seen.insert(*number));
        let numbers: Vec<u64> = first.map(|(_, number)| *number).collect();
        if !numbers.is_sorted() {
            self.flaws.push(format!("the letters of order {order} stand as {numbers:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(written: &[Update], letters: &[Update]) -> Verdict {
        let mut verdict = Verdict::default();
        verdict.judge(&[(1, 1), (1, 2), (2, 1)], written, letters);
        verdict
    }

    #[test]
    fn what_is_lost_doubled_or_overwritten_is_found() {
        assert!(judged(&[(1, 1), (1, 2)], &[(2, 1)]).flaws.is_empty());
        let copies = judged(&[(1, 2), (2, 1)], &[(1, 1), (1, 1), (1, 2)]);
        assert!(copies.flaws.is_empty() && (copies.left, copies.copies) == (1, 2), "{copies:?}");
        assert_eq!(judged(&[(1, 1), (1, 2)], &[]).flaws.len(), 1, "lost");
        assert_eq!(judged(&[(1, 1), (1, 1), (1, 2)], &[(2, 1)]).flaws.len(), 1, "twice");
        assert_eq!(judged(&[(1, 2), (1, 1)], &[(2, 1)]).flaws.len(), 1, "older over newer");
    }

    #[test]
    fn parked_orders_that_are_passed_or_shuffled_are_found() {
        let mut verdict = Verdict::default();
        verdict.parked("now", 1, &[(2, 1)]);
        verdict.in_order(1, &[(1, 1), (2, 9), (1, 1), (1, 2), (1, 1)]);
        assert!(verdict.flaws.is_empty());
        verdict.parked("now", 2, &[(2, 1)]);
        verdict.in_order(1, &[(1, 2), (1, 1)]);
        assert_eq!(verdict.flaws.len(), 2);
    }
}
