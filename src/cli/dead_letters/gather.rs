//! Collects the dead letters that are meant, and holds them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use uuid::Uuid;

use super::desk::{Desk, Next};
use crate::app::replay::{Candidate, Checker, Found, Place, Standing, placed};
use crate::broker::{Browser, Error, Parking, Ticket};
use crate::dead_letter::Selection;
use crate::parking::Release;

/// Memory that letters take at once, in bytes. What does not fit is left for the next time.
const BYTES_MAX: usize = 256 * 1024 * 1024;

/// Letters, and the look that holds them.
pub(super) struct Gathered {
    pub(super) browser: Browser,
    pub(super) candidates: Vec<Candidate>,
    /// The rights to take them out of the queue, in their order.
    pub(super) tickets: Vec<Ticket>,
    /// Orders that stand still, and may go on once their letters are done.
    pub(super) releases: Vec<Release>,
    /// Orders that are meant and of which not every letter had room.
    pub(super) cut: BTreeSet<String>,
    /// Letters that are meant as well and had no room.
    pub(super) left_over: u64,
    /// An interrupt ended it: not all was seen.
    pub(super) interrupted: bool,
}

/// Looks at all dead letters up to where their end is now. Those that come later are not part of it.
///
/// Of an order that stands still, all its letters come along: they go in order, or not at all. Of any other, those
/// that are meant come along beyond the limit: what is left behind would be superseded by what is written now.
pub(super) async fn gather(
    desk: &Desk,
    checker: &Checker,
    parking: Option<&Parking>,
    selection: &Selection,
    limit: usize,
) -> Result<Gathered, Error> {
    let mut heap = collect(desk, selection, limit, &BTreeMap::new()).await?;
    // Known before the next look begins: whatever is counted in it stands in the queue by then.
    let parked = parking.map(|parking| parked(parking, &heap, selection)).unwrap_or_default();
    if !parked.is_empty() && !heap.interrupted {
        desk.close(heap.browser).await?;
        heap = collect(desk, selection, limit, &parked).await?;
    }
    let Heap { browser, found, cut, edited, left_over, interrupted } = heap;
    let (found, mut releases) =
        placed(found, &parked, (&cut, &edited), |message| checker.sequence(message));
    if selection.is_orders_alone() {
        let has_any = |order: &str| {
            let of = |it: &Found<Ticket>| it.candidate.letter.order.as_deref() == Some(order);
            cut.contains(order)
                || found.iter().any(|it| of(it) && it.candidate.place.unparks().is_some())
        };
        let none_left = parked.iter().filter(|(order, _)| !has_any(order));
        releases.extend(none_left.map(|(order, it)| Release::of(order, &it.parked)));
    }
    let (candidates, tickets) = found.into_iter().map(|it| (it.candidate, it.ticket)).unzip();
    Ok(Gathered { browser, candidates, tickets, releases, cut, left_over, interrupted })
}

/// The orders concerned that stand still.
fn parked(parking: &Parking, heap: &Heap, selection: &Selection) -> BTreeMap<String, Standing> {
    let found = heap.found.iter().filter_map(|it| it.candidate.letter.order.as_ref());
    let orders: BTreeSet<&String> = found.chain(&selection.orders).collect();
    let standing = |order: &String| {
        let (parked, letters) = parking.standing(order)?;
        Some((order.clone(), Standing { parked, letters }))
    };
    orders.into_iter().filter_map(standing).collect()
}

/// What one look found.
struct Heap {
    browser: Browser,
    found: Vec<Found<Ticket>>,
    /// Orders of which not every letter had room.
    cut: BTreeSet<String>,
    /// Letters that another one in the queue replaces.
    edited: BTreeMap<Uuid, Uuid>,
    left_over: u64,
    interrupted: bool,
}

async fn collect(
    desk: &Desk,
    selection: &Selection,
    limit: usize,
    parked: &BTreeMap<String, Standing>,
) -> Result<Heap, Error> {
    let mut browser = desk.browse(&desk.queue(false)).await?;
    let (mut found, mut cut, mut edited) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
    let (mut bytes, mut left_over) = (0_usize, 0);
    let (mut is_full, mut known) = (false, HashSet::new());
    let all = Selection::default();
    let visit = |letter: crate::dead_letter::Letter, held: crate::broker::Held| {
        edited.extend(letter.edited.as_ref().map(|it| (it.from, letter.id)));
        let headers = held.properties.headers().as_ref();
        let is_chosen = selection.matches(&letter, headers, &held.body, desk.now);
        let order = letter.order.as_ref().and_then(|order| parked.get_key_value(order));
        let stands = order.filter(|(_, it)| Place::of(&letter, it.parked.head).is_some());
        if !is_chosen && stands.is_none() {
            return Next::More;
        }
        let (candidate, ticket) = Candidate::new(letter, held);
        let size = candidate.bytes();
        let order = candidate.letter.order.as_ref();
        let is_known = order.is_some_and(|order| known.contains(order));
        let is_within = is_known || found.len() < limit;
        // From the first one on that has no room: an order's later letters must not go before it.
        is_full |= is_within && bytes.saturating_add(size) > BYTES_MAX;
        if is_full || !is_within {
            left_over += u64::from(is_chosen);
            cut.extend(order.filter(|_| is_known || stands.is_some()).cloned());
            return Next::More;
        }
        known.extend(order.filter(|_| !is_known).cloned());
        bytes = bytes.saturating_add(size);
        found.push(Found { candidate, ticket, is_chosen });
        Next::More
    };
    let looked = desk.go_over(&mut browser, 0..u64::MAX, &all, visit).await;
    match looked {
        Ok(looked) => {
            Ok(Heap { browser, found, cut, edited, left_over, interrupted: looked.interrupted })
        }
        Err(error) => {
            // In good order if that can be: it keeps its order then.
            let _closed = desk.close(browser).await;
            Err(error)
        }
    }
}
