//! The order of the letters of one order, and how sure it is. Pure.
//!
//! Nothing tells for certain which of two letters died first: a queue of dead letters loses its order when a
//! tool is killed at it, and whoever brings a letter back puts it at the end; clocks of pods differ. So all is
//! looked at that there is, and where it does not agree the letter behind is *unsure*: nothing that
//! was written by the same replay excuses a change of its order ([`super::check`]).
//!
//! | of two letters | the earlier one | sure |
//! | --- | --- | --- |
//! | of an order whose updates all have a sequence | has the lower one | yes |
//! | of an order that stands still | comes first in the stream of the parked orders | yes |
//! | died on one pod | died first by its clock, which does not go back | yes |
//! | on two, both where they fell | stands first in the queue | if the clocks say so too |
//! | on two, one came back to the queue | died first by the clocks | no |
//!
//! So two things must be wrong at once before an older letter is taken for the newer one: the queue lost its
//! order, *and* the clocks of two pods differ by more than the time between the two deaths.

use jiff::Timestamp;

use super::{Candidate, Message, Place};

/// A letter in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Which one of the candidates.
    pub index: usize,
    /// Whether all before it of its order are certainly older.
    pub is_sure: bool,
}

/// What is known of a letter's place.
#[derive(Debug, Clone, Copy)]
struct Evidence<'a> {
    index: usize,
    position: u64,
    /// It came back: where it stands says nothing.
    is_moved: bool,
    /// When it died first, and by whose clock.
    died: Option<Timestamp>,
    instance: Option<&'a str>,
}

/// Groups letters by their order; each group in the order in which they are to go.
///
/// A letter of no order is a group of its own, as is one that must not go.
#[must_use]
pub fn by_order(
    candidates: &[&Candidate],
    sequence: impl Fn(&Message) -> Option<i64>,
) -> Vec<Vec<Turn>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut known = std::collections::HashMap::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let is_held = matches!(candidate.place, Place::Held(_));
        let order = candidate.letter.order.as_deref().filter(|_| !is_held);
        let at = order.and_then(|order| known.get(order).copied());
        if let Some(group) = at.and_then(|at: usize| groups.get_mut(at)) {
            group.push(index);
            continue;
        }
        if let Some(order) = order {
            known.insert(order, groups.len());
        }
        groups.push(vec![index]);
    }
    groups.into_iter().map(|group| in_turn(candidates, group, &sequence)).collect()
}

fn in_turn(
    candidates: &[&Candidate],
    group: Vec<usize>,
    sequence: impl Fn(&Message) -> Option<i64>,
) -> Vec<Turn> {
    let of = |index: &usize| candidates.get(*index);
    let number = |index: &usize| of(index).and_then(|it| sequence(&it.message));
    let rank = |index: &usize| of(index).and_then(|it| it.rank);
    if let Some(sure) = by_key(&group, number).or_else(|| by_key(&group, rank)) {
        return sure;
    }
    let evidence = group.into_iter().filter_map(|index| {
        let Candidate { letter, position, .. } = candidates.get(index)?;
        let (died, instance) = letter.first_death();
        let is_moved = letter.is_moved;
        Some(Evidence { index, position: *position, is_moved, died, instance })
    });
    arranged(evidence.collect())
}

/// By what all of them have, or not at all. Copies of one letter have the same.
fn by_key<K: Ord>(group: &[usize], key: impl Fn(&usize) -> Option<K>) -> Option<Vec<Turn>> {
    if group.len() < 2 {
        return Some(group.iter().map(|index| Turn { index: *index, is_sure: true }).collect());
    }
    let keyed: Option<Vec<_>> = group.iter().map(|index| Some((key(index)?, *index))).collect();
    let mut keyed = keyed?;
    keyed.sort_by(|(one, _), (other, _)| one.cmp(other));
    Some(keyed.into_iter().map(|(_, index)| Turn { index, is_sure: true }).collect())
}

fn arranged(mut all: Vec<Evidence<'_>>) -> Vec<Turn> {
    all.sort_by_key(|it| it.position);
    let (moved, mut line): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| it.is_moved);
    if is_shuffled(&line) {
        line.sort_by_key(|it| it.died);
        for it in &mut line {
            it.is_moved = true;
        }
    }
    for it in moved {
        let at = place(&line, &it);
        line.insert(at, it);
    }
    sure(&line)
}

/// Whether two that died on one pod stand the wrong way round: then the queue has lost its order.
fn is_shuffled(line: &[Evidence<'_>]) -> bool {
    let mut newest = std::collections::HashMap::new();
    line.iter().any(|it| {
        let (Some(died), Some(instance)) = (it.died, it.instance) else { return false };
        let newest = newest.entry(instance).or_insert(died);
        let is_older = died < *newest;
        *newest = died.max(*newest);
        is_older
    })
}

/// Where one goes that stands anywhere: among those of its own pod by their clock, and there by the others'.
fn place(line: &[Evidence<'_>], it: &Evidence<'_>) -> usize {
    let is_own = |other: &Evidence<'_>| it.instance.is_some() && other.instance == it.instance;
    let is_later = |other: &Evidence<'_>| other.died > it.died;
    let end = line.iter().position(|other| is_own(other) && is_later(other));
    let end = end.unwrap_or(line.len());
    let before = line.get(..end).unwrap_or_default();
    let start = before.iter().rposition(is_own).map_or(0, |at| at + 1);
    let between = before.iter().skip(start).position(is_later);
    between.map_or(end, |at| start + at)
}

/// Says of each whether all before it are certainly older.
fn sure(line: &[Evidence<'_>]) -> Vec<Turn> {
    // Of those before: the newest by each clock, and by all of them; the last place; whether none was moved.
    let mut newest: Option<Timestamp> = None;
    let mut last = 0;
    let mut clocks: Vec<Option<&str>> = Vec::new();
    let (mut none_moved, mut all_dated) = (true, true);
    let mut turns = Vec::new();
    for it in line {
        let is_newest =
            all_dated && it.died.is_some() && newest.is_none_or(|at| Some(at) < it.died);
        let one_clock = it.instance.is_some() && clocks.iter().all(|clock| *clock == it.instance);
        let stands = none_moved && !it.is_moved && last < it.position;
        let is_first = turns.is_empty();
        turns.push(Turn {
            index: it.index,
            is_sure: is_first || (is_newest && (one_clock || stands)),
        });
        newest = newest.max(it.died);
        all_dated &= it.died.is_some();
        last = last.max(it.position);
        none_moved &= !it.is_moved;
        if !clocks.contains(&it.instance) {
            clocks.push(it.instance);
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fell(index: usize, died: i64, instance: &str) -> Evidence<'_> {
        let (position, died) =
            (u64::try_from(index).unwrap() + 1, Timestamp::from_second(died).ok());
        Evidence { index, position, is_moved: false, died, instance: Some(instance) }
    }

    fn moved(index: usize, died: i64, instance: &str) -> Evidence<'_> {
        Evidence { is_moved: true, ..fell(index, died, instance) }
    }

    fn turns(all: Vec<Evidence<'_>>) -> Vec<(usize, bool)> {
        arranged(all).into_iter().map(|it| (it.index, it.is_sure)).collect()
    }

    #[test]
    fn letters_of_pods_whose_clocks_differ_go_as_they_stand_and_excuse_nothing() {
        let skewed = vec![fell(0, 100, "a"), fell(1, 50, "b"), fell(2, 51, "b")];
        assert_eq!(turns(skewed), [(0, true), (1, false), (2, false)]);
        let agreed = vec![fell(0, 49, "a"), fell(1, 50, "b"), fell(2, 51, "b")];
        assert_eq!(turns(agreed), [(0, true), (1, true), (2, true)]);
    }

    #[test]
    fn letters_of_one_pod_go_by_its_clock_wherever_they_stand() {
        let shuffled = vec![fell(0, 3, "a"), fell(1, 1, "a"), fell(2, 2, "a")];
        assert_eq!(turns(shuffled), [(1, true), (2, true), (0, true)]);
        // Of two pods, a queue that has lost its order tells nothing.
        let both = vec![fell(0, 3, "a"), fell(1, 1, "a"), fell(2, 2, "b")];
        assert_eq!(turns(both), [(1, true), (2, false), (0, false)]);
    }

    #[test]
    fn letter_that_came_back_goes_where_its_first_death_was() {
        let all = vec![fell(0, 2, "a"), fell(1, 3, "a"), moved(2, 1, "a")];
        assert_eq!(turns(all), [(2, true), (0, true), (1, true)]);
        // By the clock of another pod: its place is a guess.
        let all = vec![fell(0, 2, "a"), fell(1, 4, "a"), moved(2, 3, "b")];
        assert_eq!(turns(all), [(0, true), (2, false), (1, false)]);
        // The clock of its own pod before those of others.
        let all = vec![fell(0, 100, "a"), fell(1, 50, "b"), moved(2, 60, "a")];
        assert_eq!(turns(all)[0], (2, true));
    }

    #[test]
    fn letter_of_which_nobody_knows_when_it_died_is_never_sure() {
        let unknown = Evidence { died: None, ..fell(1, 0, "a") };
        assert_eq!(
            turns(vec![fell(0, 1, "a"), unknown, fell(2, 2, "a")]),
            [(0, true), (1, false), (2, false)]
        );
    }

    proptest! {
        /// Some updates of an order die, one after the other, on pods with clocks of their own; some come back.
        #[test]
        fn whatever_the_clocks_say_nothing_that_is_sure_stands_before_what_is_older(
            deaths in proptest::collection::vec((0..3_usize, any::<bool>()), 1..9),
            clocks in proptest::array::uniform3(-20..20_i64),
            cut in prop::option::of(0..9_usize),
        ) {
            // One of the two: clocks that differ, or a tool that was killed.
            let clocks = if cut.is_some() { [0; 3] } else { clocks };
            let names = ["a", "b", "c"];
            let stands = deaths.iter().enumerate().filter(|(_, (_, came_back))| !came_back);
            let back = deaths.iter().enumerate().filter(|(_, (_, came_back))| *came_back);
            let mut queue: Vec<_> = stands.chain(back.rev()).collect();
            let cut = cut.unwrap_or_default() % queue.len();
            queue.rotate_left(cut);
            let all: Vec<_> = queue.into_iter().zip(1..).map(|((number, (pod, is_moved)), position)| Evidence {
                index: number,
                position,
                is_moved: *is_moved,
                died: Timestamp::from_second(i64::try_from(number).unwrap() + clocks[*pod]).ok(),
                instance: Some(names[*pod]),
            }).collect();
            let turns = arranged(all);
            prop_assert_eq!(turns.len(), deaths.len());
            for (at, turn) in turns.iter().enumerate().filter(|(_, turn)| turn.is_sure) {
                for before in &turns[..at] {
                    prop_assert!(before.index < turn.index, "{:?}", turns);
                }
            }
        }
    }
}
