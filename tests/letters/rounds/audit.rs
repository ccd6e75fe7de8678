//! What must be true at the end, whoever was killed.

use std::collections::{BTreeMap, BTreeSet};

use super::hands::{Lying, Update, Written};

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
    /// Those of them that died before they saw their order, so that only a person can know.
    pub(crate) unseen: u64,
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
        self.unseen += other.unseen;
        self.copies += other.copies;
        self.flaws.extend(other.flaws);
    }

    /// Compares what was published with what was written, in its order, and with the letters that are left. What a
    /// killed replay had written may be written once more as its letter was edited after it: that is another text.
    pub(super) fn judge(&mut self, published: &[Update], written: &[Written], letters: &[Lying]) {
        let mut newest: BTreeMap<u64, Written> = BTreeMap::new();
        let mut each = BTreeSet::new();
        for write in written {
            let (order, number) = write.update;
            if !each.insert(*write) {
                self.flaws.push(format!("update {number} of order {order} was written twice"));
            }
            let newest = newest.entry(order).or_insert(*write);
            if *write < *newest {
                let over = newest.update.1;
                self.flaws.push(format!("update {number} of order {order} over {over}"));
            }
            *newest = (*newest).max(*write);
        }
        let once: BTreeSet<Update> = each.iter().map(|it| it.update).collect();
        let held: BTreeSet<_> = letters.iter().map(|it| it.update).collect();
        // Nobody knows of one of its copies, if they do not know of it.
        let seen: BTreeSet<_> =
            letters.iter().filter(|it| !it.is_unseen).map(|it| it.update).collect();
        for update in published {
            if !once.contains(update) && !held.contains(update) {
                let (order, number) = update;
                self.flaws.push(format!("update {number} of order {order} is lost"));
            }
        }
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        for (order, number) in held.difference(&once) {
            let is_newer = newest.get(order).is_some_and(|newest| newest.update.1 > *number);
            if seen.contains(&(*order, *number)) && !is_newer {
                let why = "is left, though nothing newer was written and it saw its order";
                self.flaws.push(format!("update {number} of order {order} {why}"));
            }
            self.unseen += u64::from(!is_newer);
        }
        let left = held.difference(&once).count();
        self.published += count(published.len());
        self.written += count(once.len());
        self.left += count(left);
        self.copies += count(letters.len() - left);
    }

    /// An order that stood still and that nobody let go, nor took letters from: nothing of it was written but what a
    /// replay brought, from its first update on and without a gap.
    pub(super) fn parked(
        &mut self,
        when: &str,
        order: u64,
        is_replayed: bool,
        written: &[Written],
    ) {
        let mut last = Written { update: (order, 0), is_edited: true };
        for write in written.iter().filter(|it| it.update.0 == order) {
            let number = write.update.1;
            let is_next = number == last.update.1 + 1;
            let is_its_edit = number == last.update.1 && write.is_edited && !last.is_edited;
            if !is_replayed || !(is_next || is_its_edit) {
                let flaw = format!("{when}: update {number} of parked order {order} was written");
                self.flaws.push(flaw);
            }
            last = *write;
        }
    }

    /// The first letter of each update, in the order of the queue.
    pub(super) fn in_order(&mut self, order: u64, letters: &[Lying]) {
        let mut seen = BTreeSet::new();
        let numbers = letters.iter().map(|it| it.update).filter(|(of, _)| *of == order);
        let numbers: Vec<u64> =
            numbers.map(|(_, number)| number).filter(|number| seen.insert(*number)).collect();
        if !numbers.is_sorted() {
            self.flaws.push(format!("the letters of order {order} stand as {numbers:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lying(updates: &[Update]) -> Vec<Lying> {
        updates.iter().map(|update| Lying { update: *update, is_unseen: false }).collect()
    }

    fn written(updates: &[Update]) -> Vec<Written> {
        updates.iter().map(|update| Written { update: *update, is_edited: false }).collect()
    }

    fn edited(update: Update) -> Written {
        Written { update, is_edited: true }
    }

    fn judged(written: &[Written], letters: &[Lying]) -> Verdict {
        let mut verdict = Verdict::default();
        verdict.judge(&[(1, 1), (1, 2), (2, 1)], written, letters);
        verdict
    }

    #[test]
    fn what_is_lost_doubled_overwritten_or_left_for_no_reason_is_found() {
        assert!(judged(&written(&[(1, 1), (1, 2), (2, 1)]), &[]).flaws.is_empty());
        let copies = judged(&written(&[(1, 2), (2, 1)]), &lying(&[(1, 1), (1, 1), (1, 2)]));
        assert!(copies.flaws.is_empty() && (copies.left, copies.copies) == (1, 2), "{copies:?}");
        assert_eq!(judged(&written(&[(1, 1), (1, 2)]), &[]).flaws.len(), 1, "lost");
        let twice = judged(&written(&[(1, 1), (1, 1), (1, 2), (2, 1)]), &[]);
        assert_eq!(twice.flaws.len(), 1, "twice");
        assert_eq!(
            judged(&written(&[(1, 2), (1, 1), (2, 1)]), &[]).flaws.len(),
            1,
            "older over newer"
        );
        let left = judged(&written(&[(1, 1), (1, 2)]), &lying(&[(2, 1)]));
        assert_eq!((left.flaws.len(), left.unseen), (1, 1), "left");
        let unseen =
            judged(&written(&[(1, 1), (1, 2)]), &[Lying { update: (2, 1), is_unseen: true }]);
        assert!(unseen.flaws.is_empty() && (unseen.left, unseen.unseen) == (1, 1), "{unseen:?}");
    }

    #[test]
    fn an_edited_letter_is_another_text_of_its_update_but_no_other_update() {
        let first = written(&[(1, 1)])[0];
        let rest = written(&[(1, 2), (2, 1)]);
        let flaws = |begin: &[Written]| judged(&[begin, &rest].concat(), &[]).flaws;
        assert!(flaws(&[first, edited((1, 1))]).is_empty());
        assert_eq!(flaws(&[edited((1, 1)), first]).len(), 1, "the older text over the newer one");
        assert_eq!(flaws(&[first, edited((1, 1)), edited((1, 1))]).len(), 1, "twice");
        let late = [&rest[..], &[first, edited((1, 1))]].concat();
        assert_eq!(judged(&late, &[]).flaws.len(), 2, "both over update 2");
        let mut verdict = Verdict::default();
        verdict.parked("now", 1, true, &[first, edited((1, 1)), rest[0], edited((1, 2))]);
        assert!(verdict.flaws.is_empty(), "{verdict:?}");
        verdict.parked("now", 1, true, &[edited((1, 1)), first]);
        verdict.parked("now", 1, true, &[first, edited((1, 2)), edited((1, 1))]);
        assert_eq!(verdict.flaws.len(), 2, "{verdict:?}");
    }

    #[test]
    fn parked_orders_that_are_passed_or_shuffled_are_found() {
        let mut verdict = Verdict::default();
        verdict.parked("now", 1, false, &written(&[(2, 1)]));
        verdict.parked("now", 2, true, &written(&[(2, 1), (1, 7), (2, 2)]));
        verdict.in_order(1, &lying(&[(1, 1), (2, 9), (1, 1), (1, 2), (1, 1)]));
        assert!(verdict.flaws.is_empty(), "{verdict:?}");
        verdict.parked("now", 2, false, &written(&[(2, 1)]));
        verdict.parked("now", 2, true, &written(&[(2, 2)]));
        verdict.parked("now", 2, true, &written(&[(2, 1), (2, 3)]));
        verdict.in_order(1, &lying(&[(1, 2), (1, 1)]));
        assert_eq!(verdict.flaws.len(), 4, "{verdict:?}");
    }
}
