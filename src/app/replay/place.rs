//! How the order of a dead letter stands, and which letters of it may go. Pure.
//!
//! Of an order that stands still, all letters go or none: the first one, what came of it in earlier
//! replays, and what stands behind it. Any other would pass what stands before it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::{Candidate, Message, by_order};
use crate::dead_letter::Letter;
use crate::parking::{Parked, Release};

/// What a letter is to its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The order goes on: the letter is judged by what it saw.
    Free,
    /// The order stands behind this letter. It was begun once, and is judged by what it saw.
    Head(Uuid),
    /// It stands behind that letter: no later update of its order was begun.
    Behind(Uuid),
    /// It must not go, and this is why.
    Held(String),
}

impl Place {
    /// Of a letter of an order that stands behind `head`. `None` if it is none of those letters.
    #[must_use]
    pub fn of(letter: &Letter, head: Uuid) -> Option<Self> {
        // What dies again once it has been let pass has an id of its own, and names the first one.
        if letter.id == head || letter.replays.first_dead_letter == Some(head) {
            return Some(Self::Head(head));
        }
        (letter.parked_behind == Some(head)).then_some(Self::Behind(head))
    }

    /// The head that it must name to pass the gate.
    #[must_use]
    pub const fn unparks(&self) -> Option<Uuid> {
        match self {
            Self::Head(head) | Self::Behind(head) => Some(*head),
            Self::Free | Self::Held(_) => None,
        }
    }
}

/// An order that stands still.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Behind what.
    pub parked: Parked,
    /// Its letters, in the order in which they died.
    pub letters: Vec<Uuid>,
}

/// A letter that was found, with the right to take it away.
#[derive(Debug)]
pub struct Found<T> {
    /// The letter.
    pub candidate: Candidate,
    /// The right.
    pub ticket: T,
    /// Whether it was asked for; otherwise its order was.
    pub is_chosen: bool,
}

/// The letters that are meant, each in its place, and the orders that may go on once theirs are done.
///
/// `cut` are orders of which not every letter was found; `edited` are letters that another one replaces. A letter
/// that was not asked for, and may not go, is left out.
#[must_use]
pub fn placed<T>(
    mut found: Vec<Found<T>>,
    parked: &BTreeMap<String, Standing>,
    (cut, edited): (&BTreeSet<String>, &BTreeMap<Uuid, Uuid>),
    sequence: impl Fn(&Message) -> Option<i64>,
) -> (Vec<Found<T>>, Vec<Release>) {
    let ranks: HashMap<(&str, Uuid), usize> = parked
        .iter()
        .flat_map(|(order, it)| it.letters.iter().enumerate().map(move |ranked| (order, ranked)))
        .map(|(order, (rank, letter))| ((order.as_str(), *letter), rank))
        .collect();
    for Found { candidate, .. } in &mut found {
        if let Some(new) = edited.get(&candidate.letter.id) {
            let why =
                format!("it was edited, and is {new} now: edit it so once more, or discard it");
            candidate.place = Place::Held(why);
            continue;
        }
        let order = candidate.letter.order.as_deref();
        let Some((order, standing)) = order.and_then(|order| parked.get_key_value(order)) else {
            continue;
        };
        let ids = candidate.letter.ids();
        candidate.rank = ids.filter_map(|id| ranks.get(&(order.as_str(), id)).copied()).min();
        let head = standing.parked.head;
        candidate.place = match (Place::of(&candidate.letter, head), candidate.rank) {
            (Some(place), Some(_)) => place,
            // Its place among the others is not known, and what stands behind the head is held to no ETag.
            (Some(_), None) => Place::Held(
                "it is none of the letters that its order is known to stand still behind: it came just now, or \
                 is a copy of one of them"
                    .to_owned(),
            ),
            (None, _) => {
                Place::Held(format!("its order stands still behind {head}, which came later"))
            }
        };
    }
    let mut releases = Vec::new();
    let candidates: Vec<&Candidate> = found.iter().map(|it| &it.candidate).collect();
    let mut stopped = Vec::new();
    for group in by_order(&candidates, &sequence) {
        let all = || group.iter().filter_map(|turn| found.get(turn.index));
        let head = all().find(|it| matches!(it.candidate.place, Place::Head(_)));
        let Some(first) = head.or_else(|| all().next()) else { continue };
        let Some(order) = first.candidate.letter.order.as_deref() else { continue };
        let (Some(standing), Some(_)) = (parked.get(order), first.candidate.place.unparks()) else {
            continue;
        };
        let why = if cut.contains(order) {
            "not all letters of its order had room: choose fewer orders, or a higher --limit"
                .to_owned()
        } else if first.is_chosen {
            releases.push(Release::of(order, &standing.parked));
            continue;
        } else {
            let first = first.candidate.letter.id;
            format!("{first} stands before it: choose that one as well, or discard it")
        };
        stopped.extend(group.into_iter().map(|turn| (turn.index, why.clone())));
    }
    for (index, why) in stopped {
        if let Some(found) = found.get_mut(index) {
            found.candidate.place = Place::Held(why);
        }
    }
    found.retain(|it| it.is_chosen || !matches!(it.candidate.place, Place::Held(_)));
    (found, releases)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use lapin::BasicProperties;

    use super::*;
    use crate::dead_letter::{Found as Read, Replays};

    const HEAD: Uuid = Uuid::from_u128(1);

    /// A letter of order A, by a number that is its place in time as well.
    fn letter(number: u128, behind: Option<Uuid>) -> Letter {
        let properties = BasicProperties::default();
        let read = Read { properties: &properties, exchange: "e", routing_key: "A", body: b"{}" };
        Letter {
            id: Uuid::from_u128(number),
            dead_lettered_at: Timestamp::from_second(i64::try_from(number).unwrap()).ok(),
            parked_behind: behind,
            ..Letter::read(read)
        }
    }

    fn found(letter: Letter, is_chosen: bool) -> Found<()> {
        let message = Message { properties: BasicProperties::default(), body: Vec::new() };
        let candidate = Candidate { letter, message, place: Place::Free, position: 1, rank: None };
        Found { candidate, ticket: (), is_chosen }
    }

    fn parked() -> BTreeMap<String, Standing> {
        let parked = Parked { head: HEAD, last: HEAD, letters: 3, since: Timestamp::UNIX_EPOCH };
        let letters = (1..4).map(Uuid::from_u128).collect();
        BTreeMap::from([("A".to_owned(), Standing { parked, letters })])
    }

    fn judged(
        found: Vec<Found<()>>,
        parked: &BTreeMap<String, Standing>,
        cut: &[&str],
    ) -> (Vec<(u128, Place)>, usize) {
        let cut = cut.iter().map(ToString::to_string).collect();
        let edited = BTreeMap::from([(Uuid::from_u128(77), Uuid::from_u128(78))]);
        let (found, releases) = placed(found, parked, (&cut, &edited), |_| None);
        let place = |it: Found<()>| (it.candidate.letter.id.as_u128(), it.candidate.place);
        (found.into_iter().map(place).collect(), releases.len())
    }

    fn is_held(place: &Place) -> bool {
        matches!(place, Place::Held(_))
    }

    #[test]
    fn what_stands_behind_the_head_comes_along_and_lets_the_order_go_on() {
        let all = || {
            vec![
                found(letter(1, None), true),
                found(letter(2, Some(HEAD)), false),
                found(letter(3, Some(HEAD)), false),
            ]
        };
        let (places, releases) = judged(all(), &parked(), &[]);
        let behind = |number| (number, Place::Behind(HEAD));
        assert_eq!(places, [(1, Place::Head(HEAD)), behind(2), behind(3)]);
        assert_eq!(releases, 1);
        let (places, releases) = judged(all(), &BTreeMap::new(), &[]);
        assert!(places.iter().all(|(_, place)| *place == Place::Free), "{places:?}");
        assert_eq!(releases, 0);
        let (places, releases) = judged(all(), &parked(), &["A"]);
        assert_eq!(
            (places.len(), is_held(&places[0].1), releases),
            (1, true, 0),
            "not all had room"
        );
    }

    #[test]
    fn nothing_goes_before_what_stands_before_it() {
        let chosen = vec![found(letter(1, None), false), found(letter(2, Some(HEAD)), true)];
        let (places, releases) = judged(chosen, &parked(), &[]);
        assert_eq!((places.len(), is_held(&places[0].1), releases), (1, true, 0), "{places:?}");
        // The head is discarded: the first of those behind it leads.
        let rest = vec![found(letter(2, Some(HEAD)), true), found(letter(3, Some(HEAD)), false)];
        let (places, releases) = judged(rest, &parked(), &[]);
        assert_eq!((places.len(), is_held(&places[0].1), releases), (2, false, 1));
        let late = vec![found(letter(2, Some(HEAD)), false), found(letter(3, Some(HEAD)), true)];
        assert!(is_held(&judged(late, &parked(), &[]).0[0].1));
    }

    #[test]
    fn letter_of_another_time_has_no_right_to_pass() {
        let older = letter(0, Some(Uuid::from_u128(99)));
        let (places, releases) =
            judged(vec![found(older, true), found(letter(1, None), true)], &parked(), &[]);
        assert!(is_held(&places[0].1) && places[1].1 == Place::Head(HEAD), "{places:?}");
        assert_eq!(releases, 1, "and stops none of those that have it");
    }

    #[test]
    fn letter_whose_edit_was_cut_short_stays_and_the_edited_one_goes() {
        let all = vec![found(letter(77, None), true), found(letter(78, None), true)];
        let (places, _) = judged(all, &BTreeMap::new(), &[]);
        assert!(is_held(&places[0].1) && places[1].1 == Place::Free, "{places:?}");
    }

    #[test]
    fn letter_that_its_order_is_not_known_to_stand_behind_stays_and_stops_nobody() {
        let all = vec![
            found(letter(9, Some(HEAD)), true),
            found(letter(1, None), true),
            found(letter(3, Some(HEAD)), true),
        ];
        let (places, releases) = judged(all, &parked(), &[]);
        assert!(is_held(&places[0].1), "{places:?}");
        assert_eq!((&places[1].1, &places[2].1), (&Place::Head(HEAD), &Place::Behind(HEAD)));
        assert_eq!(releases, 1);
    }

    #[test]
    fn letters_of_an_order_that_stands_still_go_in_the_order_of_its_stream() {
        // By their clocks and by their places, the last one would go first.
        let late = letter(1, None);
        let mut all = vec![
            found(letter(3, Some(HEAD)), true),
            found(letter(2, Some(HEAD)), true),
            found(Letter { dead_lettered_at: Timestamp::from_second(9).ok(), ..late }, true),
        ];
        for (place, it) in (1..).zip(&mut all) {
            it.candidate.position = place;
        }
        let none = (&BTreeSet::new(), &BTreeMap::new());
        let (found, _) = placed(all, &parked(), none, |_| None);
        let candidates: Vec<&Candidate> = found.iter().map(|it| &it.candidate).collect();
        let turns = by_order(&candidates, |_| None);
        let order: Vec<_> = turns[0].iter().map(|turn| (turn.index, turn.is_sure)).collect();
        assert_eq!(order, [(2, true), (1, true), (0, true)]);
    }

    #[test]
    fn head_that_died_again_is_the_head() {
        let replays = Replays { count: 1, first_dead_letter: Some(HEAD), ..Replays::default() };
        let again = Letter { replays, ..letter(9, Some(HEAD)) };
        let all = vec![found(letter(2, Some(HEAD)), false), found(again, true)];
        let (places, releases) = judged(all, &parked(), &[]);
        assert_eq!(places, [(2, Place::Behind(HEAD)), (9, Place::Head(HEAD))]);
        assert_eq!(releases, 1);
    }
}
