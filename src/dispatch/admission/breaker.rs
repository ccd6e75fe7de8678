//! Whether the target works at all. Judged over different orders, so that one bad order is not an
//! outage, and an outage is not a thousand bad orders.
//!
//! ```text
//! closed ── several orders failed, and no answer was a sign of life ───▶ open
//!        ── two of them met what is hardly one order's doing ──────────▶ open
//!        ── two answers that are alike for all, and no sign between ───▶ open
//!        ── an order has spent all, and the target does not answer ────▶ open
//! open   ── one update, or one look, every interval, answered well ────▶ closed
//! ```
//!
//! Reads and writes are looked at apart: where every PATCH fails, a GET that is answered is no sign
//! that writing works. Nothing harmless can be asked to find that out. So a write is judged by the
//! writes of others: an order that fails before and after one that was answered is bad by itself, and
//! orders that fail together while none is answered wait for one (ADR 5).

use std::collections::VecDeque;
use std::time::Duration;

use crate::protocol::{Code, Request};

/// Answers in a row that are alike for all orders and an outage. The second confirms the first.
const ALIKE_MAX: u32 = 2;
/// Different orders that met what is hardly one order's doing, and an outage.
const STRANGE_MAX: usize = 2;
/// Every so many probes of a target that could not be read, one is a look instead of an update: the
/// updates that wait may all be of one order that fails by itself.
const LOOK_EVERY: u32 = 3;

/// Most orders that are known to have failed, by reads, by writes and before a sign of life each. In an
/// outage far fewer are enough; of more that are bad by themselves, the later ones are found later.
const FAILED_MAX: usize = 256;

/// When the target is taken for down, and how it is found out that it works again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaking {
    /// Different orders that must have failed.
    pub orders_min: usize,
    /// How long no answer must have been a sign of life.
    pub silence_min: Duration,
    /// How often one update is let through while it is open.
    pub probe_interval: Duration,
}

/// An order, by a hash, of which a request failed.
#[derive(Debug, Clone, Copy)]
struct Failed {
    order: u64,
    request: Request,
    first: Duration,
    last: Duration,
    /// What it met is hardly one order's doing.
    is_strange: bool,
}

/// How much an answer says of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// As much as of the order.
    Failure,
    /// Much, when a second order meets it. One alone may be what something on the way takes offence at.
    Strange,
    /// All: nobody is let in, whatever the order.
    Alike,
}

/// What failed since the last sign of life.
#[derive(Debug, Default)]
struct Signs {
    orders: Vec<Failed>,
    alike: u32,
}

/// The target is taken for down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) since: Duration,
    pub(super) code: Code,
    /// What fails: GETs, or PATCHes alone.
    pub(super) cause: Request,
    probe_at: Duration,
    probes: u32,
}

/// What a failure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// This order, as far as is known.
    Order,
    /// The target. It was known.
    Target,
    /// The target. It has just become known.
    Opened,
}

/// Whether the target works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Works {
    Yes,
    No,
    /// It has just become known.
    Opened,
    /// Look.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Breaker {
    settings: Breaking,
    /// Counts how often it opened. What was sent before says nothing of what is now.
    epoch: u64,
    read: Signs,
    write: Signs,
    /// Orders whose failures have opened it, or whose write failed before another one was answered; oldest
    /// first, until they are answered. They do not open it again: they may be bad by themselves.
    accused: VecDeque<Failed>,
    lived: Option<Duration>,
    /// When the last write was sent that was answered.
    wrote: Option<Duration>,
    open: Option<Open>,
}

impl Breaker {
    pub(super) fn new(settings: Breaking) -> Self {
        let (read, write) = (Signs::default(), Signs::default());
        let accused = VecDeque::new();
        Self { settings, epoch: 0, read, write, accused, lived: None, wrote: None, open: None }
    }

    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) const fn open(&self) -> Option<Open> {
        self.open
    }

    /// An answer to what was sent at `sent` proves that the target works on orders: on this one.
    pub(super) fn lived(
        &mut self,
        order: u64,
        request: Request,
        epoch: u64,
        [sent, now]: [Duration; 2],
    ) {
        self.accused.retain(|it| (it.order, it.request) != (order, request));
        if epoch != self.epoch {
            return;
        }
        if request == Request::Patch {
            self.wrote = self.wrote.max(Some(sent));
            let failed = std::mem::take(&mut self.write.orders);
            // One that failed later may have met the beginning of an outage.
            self.accuse(failed.into_iter().filter(|it| it.order != order && it.first < sent));
            self.write.clear();
        }
        self.seen(epoch, now);
    }

    /// The target can be read.
    pub(super) fn seen(&mut self, epoch: u64, now: Duration) {
        if self.open.is_none() && epoch == self.epoch {
            self.lived = Some(now);
            self.read.clear();
        }
    }

    /// A request of an order failed.
    pub(super) fn failed(
        &mut self,
        order: u64,
        (request, code): (Request, Code),
        weight: Weight,
        epoch: u64,
        now: Duration,
    ) -> About {
        if self.open.is_some() || epoch != self.epoch {
            return About::Target;
        }
        let is_it = |it: &&mut Failed| (it.order, it.request) == (order, request);
        if let Some(accused) = self.accused.iter_mut().find(is_it)
            && weight != Weight::Alike
        {
            accused.last = now;
            return About::Order;
        }
        let Breaking { orders_min, silence_min, .. } = self.settings;
        let is_strange = weight == Weight::Strange;
        let signs = self.signs(request);
        if let Some(failed) = signs.orders.iter_mut().find(is_it) {
            failed.last = now;
            failed.is_strange |= is_strange;
        } else if signs.orders.len() < FAILED_MAX {
            signs.orders.push(Failed { order, request, first: now, last: now, is_strange });
        }
        signs.alike += u32::from(weight == Weight::Alike);
        let since = signs.orders.first().map_or(now, |it| it.first);
        let silent = now.saturating_sub(since) >= silence_min;
        let strange = signs.orders.iter().filter(|it| it.is_strange).count();
        if signs.alike >= ALIKE_MAX
            || strange >= STRANGE_MAX
            || (signs.orders.len() >= orders_min && silent)
        {
            self.trip(request, code, now);
            return About::Opened;
        }
        About::Order
    }

    /// An order has spent all its failures, the last one now. The first one was at `begun`, and the last
    /// but one at `since`.
    pub(super) fn works(
        &mut self,
        order: u64,
        (request, code): (Request, Code),
        [begun, since]: [Duration; 2],
        epoch: u64,
        now: Duration,
    ) -> Works {
        if self.open.is_some() || epoch != self.epoch {
            return Works::No;
        }
        // However short the time was: its retries are behind it.
        let many = self.signs(request).orders.len() >= self.settings.orders_min;
        if many
            || code.is_never_of_an_order()
            || (request == Request::Patch && self.doubts_writing(order, begun))
        {
            self.trip(request, code, now);
            return Works::Opened;
        }
        if self.lived.is_some_and(|lived| lived >= since) { Works::Yes } else { Works::Unknown }
    }

    /// Whether an order whose writes fail since `begun` is not the only one, and no other was answered.
    fn doubts_writing(&self, order: u64, begun: Duration) -> bool {
        let known = self.accused.iter().filter(|it| it.request == Request::Patch);
        let own = known.clone().find(|it| it.order == order).map_or(begun, |it| it.first);
        let proven = self.wrote.is_some_and(|wrote| wrote >= begun.min(own));
        let others = known.chain(&self.write.orders).filter(|it| it.order != order);
        !proven && others.into_iter().any(|it| it.last >= begun)
    }

    /// The target was looked at because an order had spent all, and did not work. Whether that was
    /// news.
    pub(super) fn looked_dead(&mut self, code: Code, epoch: u64, now: Duration) -> bool {
        let is_news = self.open.is_none() && epoch == self.epoch;
        if is_news {
            self.trip(Request::Get, code, now);
        }
        is_news
    }

    /// When the next probe is due, if it is open.
    pub(super) fn probe_due(&self) -> Option<Duration> {
        self.open.map(|open| open.probe_at)
    }

    /// Whether the next probe is to be a look, and no update.
    pub(super) fn wants_look(&self) -> bool {
        self.open.is_some_and(|open| {
            open.cause == Request::Get && open.probes % LOOK_EVERY == LOOK_EVERY - 1
        })
    }

    /// A probe begins.
    pub(super) fn probe(&mut self, now: Duration) {
        let interval = self.settings.probe_interval;
        if let Some(open) = &mut self.open {
            // Counted from its beginning: one that hangs holds up none.
            open.probe_at = now + interval;
            open.probes += 1;
        }
    }

    /// A probe was answered well: since when was it open?
    pub(super) fn close(&mut self, epoch: u64, now: Duration) -> Option<Open> {
        if epoch != self.epoch {
            return None;
        }
        let open = self.open.take()?;
        self.read.clear();
        self.write.clear();
        self.lived = Some(now);
        Some(open)
    }

    fn trip(&mut self, cause: Request, code: Code, now: Duration) {
        let failed = std::mem::take(&mut self.signs(cause).orders);
        self.accuse(failed.into_iter());
        self.epoch += 1;
        let probe_at = now + self.settings.probe_interval;
        self.open = Some(Open { since: now, code, cause, probe_at, probes: 0 });
    }

    /// What fails of these from now on says nothing of the target.
    fn accuse(&mut self, failed: impl Iterator<Item = Failed>) {
        for it in failed {
            if self.accused.len() >= FAILED_MAX {
                self.accused.pop_front();
            }
            self.accused.push_back(it);
        }
    }

    fn signs(&mut self, request: Request) -> &mut Signs {
        match request {
            Request::Get => &mut self.read,
            Request::Patch => &mut self.write,
        }
    }
}

impl Signs {
    fn clear(&mut self) {
        self.orders.clear();
        self.alike = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Breaking = Breaking {
        orders_min: 3,
        silence_min: Duration::from_secs(1),
        probe_interval: Duration::from_secs(5),
    };
    const GATEWAY: (Request, Code) = (Request::Get, Code::Gateway);
    const WRITE: (Request, Code) = (Request::Patch, Code::ServerError);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn failed(breaker: &mut Breaker, order: u64, what: (Request, Code), at: u64) -> About {
        breaker.failed(order, what, Weight::Failure, breaker.epoch(), ms(at))
    }

    #[test]
    fn several_orders_that_fail_in_silence_open_it_and_one_order_never_does() {
        let mut breaker = Breaker::new(SETTINGS);
        for at in 0..100 {
            assert_eq!(failed(&mut breaker, 1, GATEWAY, at * 1_000), About::Order);
        }
        assert_eq!(failed(&mut breaker, 2, GATEWAY, 100_000), About::Order);
        assert_eq!(failed(&mut breaker, 3, GATEWAY, 100_001), About::Opened);
        assert_eq!(failed(&mut breaker, 4, GATEWAY, 100_002), About::Target);
    }

    #[test]
    fn failures_at_one_moment_are_no_outage_until_the_silence_has_lasted() {
        let mut breaker = Breaker::new(SETTINGS);
        for order in 1..=9 {
            assert_eq!(failed(&mut breaker, order, GATEWAY, order), About::Order);
        }
        assert_eq!(failed(&mut breaker, 1, GATEWAY, 999), About::Order);
        assert_eq!(failed(&mut breaker, 1, GATEWAY, 1_001), About::Opened);
    }

    #[test]
    fn sign_of_life_begins_the_count_anew() {
        let mut breaker = Breaker::new(SETTINGS);
        for at in 0..50 {
            assert_eq!(failed(&mut breaker, at, GATEWAY, at * 900), About::Order);
            if at % 2 == 1 {
                breaker.lived(1, Request::Get, 0, [ms(at * 900 + 1); 2]);
            }
        }
    }

    #[test]
    fn answered_gets_are_no_sign_that_writing_works() {
        let mut breaker = Breaker::new(SETTINGS);
        for order in 1..=2 {
            breaker.lived(1, Request::Get, 0, [ms(order * 1_000); 2]);
            assert_eq!(failed(&mut breaker, order, WRITE, order * 1_000), About::Order);
        }
        breaker.lived(1, Request::Get, 0, [ms(3_000); 2]);
        assert_eq!(failed(&mut breaker, 3, WRITE, 3_000), About::Opened);
        assert!(!breaker.wants_look(), "a look would find that reading works");
    }

    #[test]
    fn answer_that_is_alike_for_all_opens_it_when_it_is_confirmed_once_be_it_by_the_same_order() {
        let mut breaker = Breaker::new(SETTINGS);
        let barred = |breaker: &mut Breaker, at| {
            breaker.failed(1, (Request::Get, Code::Auth), Weight::Alike, 0, ms(at))
        };
        assert_eq!(barred(&mut breaker, 0), About::Order);
        breaker.lived(1, Request::Get, 0, [ms(1); 2]);
        assert_eq!(barred(&mut breaker, 2), About::Order);
        assert_eq!(barred(&mut breaker, 3), About::Opened);
        assert_eq!(breaker.open().map(|open| open.code), Some(Code::Auth));
    }

    #[test]
    fn strange_answer_opens_it_for_a_second_order_and_never_for_one_alone_however_often() {
        for request in [Request::Get, Request::Patch] {
            let mut breaker = Breaker::new(SETTINGS);
            let page = |breaker: &mut Breaker, order, at| {
                let what = (request, Code::NotOData);
                breaker.failed(order, what, Weight::Strange, breaker.epoch(), ms(at))
            };
            for at in 0..100 {
                assert_eq!(page(&mut breaker, 1, at * 100), About::Order);
            }
            breaker.lived(9, request, 0, [ms(10_000); 2]);
            assert_eq!(
                page(&mut breaker, 2, 10_001),
                About::Order,
                "one of them, as far as is known"
            );
            assert_eq!(page(&mut breaker, 3, 10_002), About::Opened);
            breaker.close(1, ms(11_000));
            // Those two have had their say.
            for at in 0..100 {
                assert_eq!(page(&mut breaker, 2 + at % 2, 12_000 + at), About::Order);
            }
        }
    }

    #[test]
    fn sign_in_that_fails_is_never_held_against_an_order_though_others_are_answered() {
        let mut breaker = Breaker::new(SETTINGS);
        breaker.lived(9, Request::Get, 0, [ms(5_000); 2]);
        for code in [Code::AuthConfig, Code::AuthUnavailable, Code::Certificate] {
            let epoch = breaker.epoch();
            let works = breaker.works(1, (Request::Get, code), [ms(1_000); 2], epoch, ms(6_000));
            assert_eq!(works, Works::Opened, "{code:?}");
            breaker.close(epoch + 1, ms(6_000));
        }
    }

    #[test]
    fn order_that_has_spent_all_is_to_blame_only_where_others_were_answered() {
        let mut breaker = Breaker::new(SETTINGS);
        failed(&mut breaker, 1, GATEWAY, 1_000);
        assert_eq!(breaker.works(1, GATEWAY, [ms(1_000); 2], 0, ms(5_000)), Works::Unknown);
        breaker.lived(1, Request::Get, 0, [ms(999); 2]);
        assert_eq!(breaker.works(1, GATEWAY, [ms(1_000); 2], 0, ms(5_000)), Works::Unknown);
        breaker.lived(1, Request::Get, 0, [ms(4_000); 2]);
        assert_eq!(breaker.works(1, GATEWAY, [ms(1_000); 2], 0, ms(5_000)), Works::Yes);
        for order in 1..=3 {
            failed(&mut breaker, order, GATEWAY, 6_000);
        }
        assert_eq!(breaker.works(1, GATEWAY, [ms(1_000); 2], 0, ms(6_001)), Works::Opened);
        assert_eq!(breaker.works(1, GATEWAY, [ms(1_000); 2], 1, ms(6_002)), Works::No);
    }

    #[test]
    fn what_was_sent_before_it_opened_neither_closes_it_nor_counts_afterwards() {
        let mut breaker = Breaker::new(SETTINGS);
        assert!(breaker.looked_dead(Code::Unreachable, 0, ms(0)));
        assert!(!breaker.looked_dead(Code::Unreachable, 0, ms(1)));
        breaker.lived(1, Request::Patch, 0, [ms(1); 2]);
        assert!(breaker.open().is_some() && breaker.close(0, ms(1)).is_none());
        assert!(breaker.close(1, ms(2)).is_some());
        for order in 1..=9 {
            let late = breaker.failed(order, GATEWAY, Weight::Failure, 0, ms(9_000));
            assert_eq!(late, About::Target, "it does not count against its order either");
        }
        assert!(breaker.open().is_none());
    }

    #[test]
    fn orders_that_opened_it_do_not_open_it_again_until_they_are_answered() {
        let mut breaker = Breaker::new(SETTINGS);
        let open = |breaker: &mut Breaker, at: u64| {
            let mut opened =
                |order| failed(breaker, order, GATEWAY, at + order * 200) == About::Opened;
            (1..=4).filter(|order| opened(*order)).count()
        };
        assert_eq!(open(&mut breaker, 0), 0, "not silent for long enough");
        assert_eq!(failed(&mut breaker, 2, GATEWAY, 2_000), About::Opened);
        breaker.close(1, ms(3_000));
        assert_eq!(open(&mut breaker, 4_000), 0, "the fourth alone counts");
        assert_eq!(failed(&mut breaker, 2, GATEWAY, 9_000), About::Order);
        for order in 1..=3 {
            breaker.lived(order, Request::Get, 1, [ms(10_000); 2]);
        }
        assert_eq!(open(&mut breaker, 11_000), 0);
        assert_eq!(failed(&mut breaker, 2, GATEWAY, 13_000), About::Opened);
    }

    fn spent(breaker: &mut Breaker, order: u64, begun: u64, at: u64) -> Works {
        let epoch = breaker.epoch();
        breaker.works(order, WRITE, [ms(begun), ms(at - 1_000)], epoch, ms(at))
    }

    #[test]
    fn order_whose_writes_fail_alone_is_to_blame_and_two_at_a_time_are_an_outage_of_writing() {
        let mut breaker = Breaker::new(SETTINGS);
        breaker.lived(1, Request::Get, 0, [ms(6_900); 2]);
        failed(&mut breaker, 1, WRITE, 100);
        assert_eq!(spent(&mut breaker, 1, 100, 7_000), Works::Yes, "the only one");
        // Another one later on: nobody else fails at the same time.
        failed(&mut breaker, 2, WRITE, 60_000);
        breaker.lived(2, Request::Get, 0, [ms(66_900); 2]);
        assert_eq!(spent(&mut breaker, 2, 60_000, 67_000), Works::Yes);
        let mut breaker = Breaker::new(SETTINGS);
        for at in [100, 3_000] {
            failed(&mut breaker, 1, WRITE, at);
            failed(&mut breaker, 2, WRITE, at + 1);
            breaker.lived(2, Request::Get, 0, [ms(at + 2); 2]);
        }
        assert_eq!(spent(&mut breaker, 1, 100, 3_500), Works::Opened);
        assert_eq!(breaker.open().map(|open| open.cause), Some(Request::Patch));
        assert_eq!(spent(&mut breaker, 2, 101, 3_501), Works::No);
    }

    #[test]
    fn orders_that_fail_before_and_after_an_answered_write_are_bad_by_themselves() {
        let mut breaker = Breaker::new(SETTINGS);
        for order in 1..=5 {
            failed(&mut breaker, order, WRITE, 100);
        }
        breaker.lived(9, Request::Patch, 0, [ms(101), ms(200)]);
        // Nothing else goes on any more.
        for at in [1_100, 3_100, 7_100] {
            for order in 1..=5 {
                assert_eq!(failed(&mut breaker, order, WRITE, at), About::Order);
            }
        }
        for order in 1..=5 {
            breaker.lived(order, Request::Get, 0, [ms(7_000); 2]);
            assert_eq!(spent(&mut breaker, order, 100, 7_101), Works::Yes);
        }
        // Once answered they count again.
        for order in 1..=3 {
            breaker.lived(order, Request::Patch, 0, [ms(8_000), ms(8_001)]);
        }
        for order in 1..=3 {
            failed(&mut breaker, order, WRITE, 9_000);
        }
        assert_eq!(failed(&mut breaker, 1, WRITE, 10_000), About::Opened);
    }

    #[test]
    fn write_that_was_on_its_way_when_others_failed_proves_nothing() {
        let mut breaker = Breaker::new(SETTINGS);
        for order in 1..=3 {
            failed(&mut breaker, order, WRITE, 100);
        }
        breaker.lived(9, Request::Patch, 0, [ms(99), ms(200)]);
        for order in 1..=3 {
            failed(&mut breaker, order, WRITE, 1_100);
        }
        assert_eq!(failed(&mut breaker, 1, WRITE, 2_100), About::Opened);
    }

    #[test]
    fn answered_write_that_ends_an_outage_of_writing_says_who_was_bad_by_himself() {
        let mut breaker = Breaker::new(SETTINGS);
        for order in 1..=3 {
            failed(&mut breaker, order, WRITE, order * 500);
        }
        assert!(breaker.open().is_some());
        // A look finds that reading works, and says nothing of writing.
        assert!(breaker.close(1, ms(900_000)).is_some());
        for order in 1..=3 {
            failed(&mut breaker, order, WRITE, 901_000);
            breaker.lived(order, Request::Get, 1, [ms(906_000); 2]);
        }
        assert_eq!(spent(&mut breaker, 1, 901_000, 907_000), Works::Opened);
        breaker.lived(9, Request::Patch, 2, [ms(910_000), ms(910_100)]);
        assert!(breaker.close(2, ms(910_100)).is_some());
        for order in 1..=3 {
            assert_eq!(failed(&mut breaker, order, WRITE, 911_000), About::Order);
            breaker.lived(order, Request::Get, 2, [ms(917_000); 2]);
            assert_eq!(spent(&mut breaker, order, 911_000, 918_000), Works::Yes);
        }
    }

    #[test]
    fn probes_come_at_intervals_and_every_third_is_a_look() {
        let mut breaker = Breaker::new(SETTINGS);
        assert_eq!(breaker.probe_due(), None);
        breaker.looked_dead(Code::Unreachable, 0, ms(0));
        let mut looks = Vec::new();
        for number in 1..=6 {
            assert_eq!(breaker.probe_due(), Some(ms(number * 5_000)));
            looks.push(breaker.wants_look());
            breaker.probe(ms(number * 5_000));
        }
        assert_eq!(looks, [false, false, true, false, false, true]);
    }
}
