//! Which order is refused for its own sake, and not because too much is asked of the target.
//!
//! A target that throttles refuses whoever comes. One that takes all others and never this order, however
//! often the gate has opened, means the order: it would shut the gate for everybody for ever.

use std::collections::VecDeque;
use std::time::Duration;

use crate::protocol::Request;

/// Refusals in a row of an order, after each of which others were taken, that are about it.
const TIMES: u32 = 5;
/// Others that must have been taken meanwhile for each other one that was refused. At the steady state of a
/// fixed rate fewer than one in twenty is refused; so five in a row by chance are one order in a hundred
/// thousand, and to be dead-lettered it must be refused as often again.
const TAKEN_FOR_ONE: u64 = 10;
/// Most orders that are watched. Of more, the oldest are watched anew.
const ORDERS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Singled(VecDeque<Watched>);

/// An order, by a hash, whose request was refused and not taken since.
#[derive(Debug)]
struct Watched {
    order: u64,
    request: Request,
    times: u32,
    /// What was sent before this says nothing of whether it was too much.
    open: Duration,
    /// Others since its first refusal.
    taken: u64,
    refused: u64,
    /// One was taken since its last refusal.
    is_passed: bool,
}

impl Singled {
    /// A request of this order, sent at `sent`, was taken.
    pub(super) fn taken(&mut self, order: u64, request: Request, sent: Duration) {
        self.0.retain(|it| (it.order, it.request) != (order, request));
        for it in self.0.iter_mut().filter(|it| it.order != order && sent >= it.open) {
            it.taken += 1;
            it.is_passed = true;
        }
    }

    /// One was refused, after which nothing is sent before `open`, as far as it is about the target.
    /// Whether it is about the order.
    pub(super) fn refused(
        &mut self,
        (order, request): (u64, Request),
        sent: Duration,
        open: Duration,
    ) -> bool {
        for it in self.0.iter_mut().filter(|it| it.order != order && sent >= it.open) {
            it.refused += 1;
        }
        let known = self.0.iter_mut().find(|it| (it.order, it.request) == (order, request));
        let Some(it) = known else {
            if self.0.len() >= ORDERS_MAX {
                self.0.pop_front();
            }
            let (times, taken, refused, is_passed) = (1, 0, 0, false);
            self.0.push_back(Watched { order, request, times, open, taken, refused, is_passed });
            return false;
        };
        // Nobody else was taken since: it may be too much that is asked.
        if !std::mem::take(&mut it.is_passed) {
            it.open = it.open.max(open);
            return false;
        }
        it.times = it.times.saturating_add(1);
        let is_its_own = it.times > TIMES && it.taken >= TAKEN_FOR_ONE.saturating_mul(it.refused);
        // The gate stays as it is for all others.
        if !is_its_own {
            it.open = it.open.max(open);
        }
        is_its_own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Refuses order 1 every ten seconds, and in between takes and refuses so many of others. How often it
    /// was about the order.
    fn rounds(rounds: u64, taken: u64, refused: u64) -> Vec<bool> {
        let mut singled = Singled::default();
        let mut about = Vec::new();
        for round in 0..rounds {
            let now = at(round * 10);
            about.push(singled.refused((1, Request::Patch), now, now + at(2)));
            for other in 0..taken {
                singled.taken(10 + other, Request::Patch, now + at(3));
                // Its own GETs say nothing of its PATCHes.
                singled.taken(1, Request::Get, now + at(3));
            }
            for other in 0..refused {
                singled.refused((100 + other, Request::Get), now + at(3), now + at(3));
            }
        }
        about
    }

    #[test]
    fn order_that_is_refused_again_and_again_while_others_are_taken_is_meant_from_the_sixth_time_on()
     {
        let about = rounds(8, 1, 0);
        assert_eq!(about, [false, false, false, false, false, true, true, true]);
    }

    #[test]
    fn nobody_is_meant_where_others_are_refused_as_well_or_nobody_is_taken() {
        assert!(!rounds(100, 9, 1).contains(&true), "too many of the others");
        assert!(rounds(100, 10, 1).contains(&true), "few of them");
        assert!(!rounds(100, 0, 0).contains(&true), "it is alone");
    }

    #[test]
    fn others_that_were_sent_before_the_gate_has_opened_prove_nothing() {
        let mut singled = Singled::default();
        for round in 0..20 {
            let now = at(round * 10);
            assert!(!singled.refused((1, Request::Get), now, now + at(5)));
            singled.taken(2, Request::Get, now + at(4));
        }
    }

    #[test]
    fn one_that_is_taken_is_watched_no_more_and_no_more_are_watched_than_so_many() {
        let mut singled = Singled::default();
        for round in 0..20 {
            assert!(!singled.refused((1, Request::Get), at(round), at(round)), "{round}");
            singled.taken(2, Request::Get, at(round));
            if round % 5 == 4 {
                singled.taken(1, Request::Get, at(round));
            }
        }
        for order in 10..2_000 {
            singled.refused((order, Request::Get), at(30), at(30));
        }
        assert_eq!(singled.0.len(), ORDERS_MAX);
    }

    #[test]
    fn orders_that_are_refused_by_chance_are_not_meant() {
        let mut rng = fastrand::Rng::with_seed(7);
        for share in [0.05, 0.5] {
            let (mut singled, mut meant) = (Singled::default(), 0_u32);
            for step in 0..400_000_u64 {
                // Each of a hundred orders in its turn, and the gate opens at once.
                let (order, now) = (step % 100, Duration::from_millis(step));
                if rng.f64() < share {
                    meant += u32::from(singled.refused((order, Request::Get), now, now));
                } else {
                    singled.taken(order, Request::Get, now);
                }
            }
            // Seven at least in a row are needed for a dead letter.
            assert!(meant <= 1, "{meant} of 400000 requests, {share} refused");
        }
    }
}
