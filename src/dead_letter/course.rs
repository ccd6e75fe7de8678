//! The course of a replay: what is sent next, and when it stops. Pure: told what happened and when.
//!
//! ```text
//! canary (so many, all must succeed) ─▶ ramp (1, then 5, then 25 …) ─▶ the rest
//!   one letter of an order at a time, in order; what is behind one that was not written stays
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::manner::{Manner, StopIf};

/// Outcomes from which on a share of failures is judged before a step of the ramp is over: of a few, one
/// failure is always many.
const JUDGED_MIN: usize = 20;

/// So many pauses without any outcome make up the time that one may take.
const PAUSES_MIN: u32 = 15;

/// What came of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Written.
    Applied,
    /// It was there already.
    AlreadyApplied,
    /// Its order has moved on: a dead letter again, or done unwritten.
    Superseded,
    /// A dead letter again.
    Failed,
    /// Nobody knows: its outcome did not come.
    Unknown,
    /// It was not sent: one of its order before it was not written, or the replay ended.
    Left,
}

impl Fate {
    /// Whether what comes behind it of its order may go on. Where the order has moved on, what is behind is
    /// judged by what it has seen itself.
    #[must_use]
    pub const fn lets_on(self) -> bool {
        matches!(self, Self::Applied | Self::AlreadyApplied | Self::Superseded)
    }
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Send this one. It counts as sent.
    Send(usize),
    /// Nothing before this time, unless an outcome comes.
    At(Duration),
    /// Nothing before an outcome comes.
    Await,
    /// It is over.
    Over(End),
}

/// Why it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Nothing is left to be sent.
    Done,
    /// One of the canary was not written.
    CanaryFailed,
    /// Too many failed.
    Stopped,
    /// An operator wanted it, or letters had been held for as long as the broker allows.
    Cancelled,
    /// The broker went away.
    BrokenOff,
}

/// One replay under way. Time is since its beginning.
#[derive(Debug)]
pub struct Course {
    manner: Manner,
    /// Letters of one order that wait, the first to go next. Only those of orders that are at rest.
    ready: VecDeque<VecDeque<usize>>,
    /// Those of orders of which one is on its way.
    busy: BTreeMap<usize, VecDeque<usize>>,
    /// When each of those was sent, and for how long outcomes had come by then.
    sent_at: BTreeMap<usize, (Duration, Duration)>,
    fates: BTreeMap<usize, Fate>,
    /// Those of them that were never sent.
    passed_over: BTreeSet<usize>,
    /// What the present step may still send, and the steps after it. Without any, all may go.
    step: Option<usize>,
    steps: VecDeque<usize>,
    is_canary: bool,
    sent: u32,
    last_sent: Option<Duration>,
    last_heard: Duration,
    /// How long outcomes have come: what [`Self::lively`] was when one was heard last.
    heard_for: Duration,
    end: Option<End>,
}

impl Course {
    /// `orders` holds, for each order, its letters in the order in which they are to go.
    #[must_use]
    pub fn new(manner: Manner, orders: impl IntoIterator<Item = Vec<usize>>) -> Self {
        let ready = orders.into_iter().map(VecDeque::from).filter(|it| !it.is_empty()).collect();
        let is_canary = manner.canary > 0;
        let canary = is_canary.then_some(manner.canary);
        let mut steps: VecDeque<usize> = canary
            .into_iter()
            .chain(manner.ramp.iter().copied().filter(|step| *step > 0))
            .collect();
        Self {
            manner,
            ready,
            busy: BTreeMap::new(),
            sent_at: BTreeMap::new(),
            fates: BTreeMap::new(),
            passed_over: BTreeSet::new(),
            step: steps.pop_front(),
            steps,
            is_canary,
            sent: 0,
            last_sent: None,
            last_heard: Duration::ZERO,
            heard_for: Duration::ZERO,
            end: None,
        }
    }

    /// What to do now. Call it again after whatever it says was done, and after every outcome.
    pub fn next(&mut self, now: Duration) -> Next {
        self.give_up_late(now);
        self.judge();
        if let Some(end) = self.end {
            return if self.busy.is_empty() { Next::Over(end) } else { self.until_late(now) };
        }
        if self.step == Some(0) {
            if !self.busy.is_empty() {
                return self.until_late(now);
            }
            self.is_canary = false;
            self.step = self.steps.pop_front();
        }
        if self.ready.is_empty() && self.busy.is_empty() {
            self.end = Some(End::Done);
            return Next::Over(End::Done);
        }
        if self.ready.is_empty() || self.busy.len() >= self.manner.in_flight_max.max(1) {
            return self.until_late(now);
        }
        if let Some(due) = self.due().filter(|due| now < *due) {
            return Next::At(due);
        }
        self.send(now)
    }

    fn send(&mut self, now: Duration) -> Next {
        let Some(mut order) = self.ready.pop_front() else { return Next::Await };
        let Some(letter) = order.pop_front() else { return Next::Await };
        self.busy.insert(letter, order);
        self.sent_at.insert(letter, (now, self.lively(now)));
        self.last_sent = Some(now);
        self.sent = self.sent.saturating_add(1);
        self.step = self.step.map(|left| left.saturating_sub(1));
        Next::Send(letter)
    }

    /// When the next one may go. From the last one on, and not from the beginning: what was held up is
    /// not made up for all at once.
    fn due(&self) -> Option<Duration> {
        let rate = self.manner.rate.filter(|rate| *rate > 0)?;
        self.last_sent.map(|last| last + Duration::from_secs(1) / rate)
    }

    /// Takes what came of a letter. Only the first counts.
    pub fn heard(&mut self, letter: usize, fate: Fate, now: Duration) {
        self.heard_for = self.lively(now);
        self.last_heard = now;
        self.settle(letter, fate);
    }

    /// What is behind a letter that is on its way stays, whatever comes of it.
    pub fn hold_back(&mut self, letter: usize) {
        let Some(behind) = self.busy.get_mut(&letter).map(std::mem::take) else { return };
        self.fates.extend(behind.into_iter().map(|letter| (letter, Fate::Left)));
    }

    /// A look just before it was sent says that it is better not sent. It does not count as one of its step.
    pub fn passed_over(&mut self, letter: usize, fate: Fate) {
        if self.busy.contains_key(&letter) {
            self.step = self.step.map(|left| left.saturating_add(1));
            self.passed_over.insert(letter);
            self.settle(letter, fate);
        }
    }

    fn settle(&mut self, letter: usize, fate: Fate) {
        let Some(behind) = self.busy.remove(&letter) else { return };
        self.sent_at.remove(&letter);
        self.fates.insert(letter, fate);
        if fate.lets_on() {
            if !behind.is_empty() {
                // Behind the others: a long order holds up nobody.
                self.ready.push_back(behind);
            }
        } else {
            // Older data would come after newer, if it is mended and sent later.
            self.fates.extend(behind.into_iter().map(|letter| (letter, Fate::Left)));
        }
    }

    /// An operator wants it to end: nothing more is sent.
    pub fn cancel(&mut self) {
        self.end.get_or_insert(End::Cancelled);
    }

    /// Gives up what is on its way: its outcome is not known.
    pub fn abandon(&mut self) {
        let letters: Vec<usize> = self.busy.keys().copied().collect();
        for letter in letters {
            self.settle(letter, Fate::Unknown);
        }
    }

    /// For how long outcomes have come. While none does, the target is down, or no daemon runs: that time counts for
    /// no more than a pause between two of them, however long it is. When it is over, what is on its way needs
    /// as long as ever.
    fn lively(&self, now: Duration) -> Duration {
        self.heard_for.saturating_add(now.saturating_sub(self.last_heard).min(self.pause_max()))
    }

    /// Of the time that an outcome may take, a part that is small and still longer than what an update takes.
    fn pause_max(&self) -> Duration {
        self.manner.outcome_max / PAUSES_MIN
    }

    /// Gives up what should have come while others did: a notice may be lost.
    fn give_up_late(&mut self, now: Duration) {
        let (lively, max, heard) = (self.lively(now), self.manner.outcome_max, self.last_heard);
        let is_late = |(sent, then): &(Duration, Duration)| {
            *sent < heard && lively.saturating_sub(*then) >= max
        };
        let late = self.sent_at.iter().filter(|(_, times)| is_late(times));
        let late: Vec<usize> = late.map(|(letter, _)| *letter).collect();
        for letter in late {
            self.settle(letter, Fate::Unknown);
        }
    }

    /// Gives up one whose outcome nobody will tell.
    pub fn give_up(&mut self, letter: usize) {
        self.settle(letter, Fate::Unknown);
    }

    /// Nothing, until what is on its way may be given up.
    fn until_late(&self, now: Duration) -> Next {
        let late_in = |(_, then): &(Duration, Duration)| {
            self.manner.outcome_max.saturating_sub(self.lively(now).saturating_sub(*then))
        };
        let first = self.sent_at.values().map(late_in).min().filter(|left| !left.is_zero());
        // Longer than a pause, something must be heard first.
        let pause = self.pause_max().saturating_sub(now.saturating_sub(self.last_heard));
        first.filter(|left| *left <= pause).map_or(Next::Await, |left| Next::At(now + left))
    }

    fn judge(&mut self) {
        if self.end.is_some() {
            return;
        }
        let mut known = 0;
        let mut failures = 0;
        let mut is_bad = false;
        for (letter, fate) in &self.fates {
            if *fate == Fate::Left || self.passed_over.contains(letter) {
                continue;
            }
            known += 1;
            failures += usize::from(matches!(fate, Fate::Failed | Fate::Unknown));
            is_bad |= !matches!(fate, Fate::Applied | Fate::AlreadyApplied);
        }
        if self.is_canary && is_bad {
            self.end = Some(End::CanaryFailed);
            return;
        }
        let is_over = self.busy.is_empty() && self.step == Some(0);
        let is_too_many = match self.manner.stop_if {
            None => false,
            Some(StopIf::Count(most)) => failures > most,
            Some(StopIf::Percent(most)) => {
                (known >= JUDGED_MIN || is_over) && share(failures, known) > most
            }
        };
        if is_too_many {
            self.end = Some(End::Stopped);
        }
    }

    /// What came of each letter. Those that are not there wait, or are on their way.
    #[must_use]
    pub fn fates(&self) -> &BTreeMap<usize, Fate> {
        &self.fates
    }

    /// Messages whose outcome is awaited.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.busy.len()
    }

    /// Whether letters of its order wait behind this one, which is on its way.
    #[must_use]
    pub fn has_behind(&self, letter: usize) -> bool {
        self.busy.get(&letter).is_some_and(|behind| !behind.is_empty())
    }

    /// One of them; another one each turn.
    #[must_use]
    pub fn awaited(&self, turn: usize) -> Option<usize> {
        self.busy.keys().nth(turn.checked_rem(self.busy.len())?).copied()
    }

    /// How long the one has been on its way that was sent first.
    #[must_use]
    pub fn waiting(&self, now: Duration) -> Duration {
        let first = self.sent_at.values().map(|(sent, _)| *sent).min();
        now.saturating_sub(first.unwrap_or(now))
    }

    /// How long nothing has been heard while something is awaited.
    #[must_use]
    pub fn silence(&self, now: Duration) -> Duration {
        let since = self.sent_at.values().map(|(sent, _)| *sent).min().unwrap_or(now);
        now.saturating_sub(since.max(self.last_heard))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share of counts far below 2^52")]
fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn manner() -> Manner {
        Manner {
            canary: 0,
            ramp: Vec::new(),
            rate: None,
            in_flight_max: 100,
            stop_if: None,
            outcome_max: 600 * SECOND,
        }
    }

    /// Everything that may go at this time.
    fn all(course: &mut Course, now: Duration) -> (Vec<usize>, Next) {
        let mut sent = Vec::new();
        loop {
            match course.next(now) {
                Next::Send(letter) => sent.push(letter),
                other @ (Next::At(_) | Next::Await | Next::Over(_)) => return (sent, other),
            }
        }
    }

    fn singles(count: usize) -> Vec<Vec<usize>> {
        (0..count).map(|letter| vec![letter]).collect()
    }

    #[test]
    fn letters_of_an_order_go_one_after_the_other_and_orders_side_by_side() {
        let mut course = Course::new(manner(), [vec![0, 1, 2], vec![3, 4], vec![5]]);
        assert_eq!(all(&mut course, SECOND).0, [0, 3, 5]);
        course.heard(0, Fate::Applied, SECOND);
        course.heard(5, Fate::Applied, SECOND);
        assert_eq!(all(&mut course, SECOND).0, [1]);
        course.heard(3, Fate::AlreadyApplied, SECOND);
        course.heard(1, Fate::Applied, SECOND);
        assert_eq!(all(&mut course, SECOND).0, [4, 2]);
        course.heard(4, Fate::Applied, SECOND);
        course.heard(2, Fate::Applied, SECOND);
        assert_eq!(course.next(SECOND), Next::Over(End::Done));
    }

    #[test]
    fn what_is_behind_a_letter_that_was_not_written_stays() {
        for fate in [Fate::Failed, Fate::Unknown] {
            let mut course = Course::new(manner(), [vec![0, 1, 2], vec![3]]);
            assert_eq!(all(&mut course, SECOND).0, [0, 3]);
            course.heard(0, fate, SECOND);
            course.heard(3, Fate::Applied, SECOND);
            assert_eq!(all(&mut course, SECOND), (vec![], Next::Over(End::Done)));
            let fates: Vec<_> = course.fates().values().copied().collect();
            assert_eq!(fates, [fate, Fate::Left, Fate::Left, Fate::Applied]);
        }
    }

    #[test]
    fn rest_waits_until_every_letter_of_the_canary_is_written() {
        let mut course = Course::new(Manner { canary: 2, ..manner() }, singles(5));
        assert_eq!(all(&mut course, SECOND).0, [0, 1]);
        course.heard(0, Fate::Applied, SECOND);
        assert_eq!(all(&mut course, SECOND).0, [0; 0], "one of two is not enough");
        course.heard(1, Fate::AlreadyApplied, SECOND);
        assert_eq!(all(&mut course, SECOND).0, [2, 3, 4]);

        for fate in [Fate::Failed, Fate::Superseded, Fate::Unknown] {
            let mut course = Course::new(Manner { canary: 2, ..manner() }, singles(5));
            assert_eq!(all(&mut course, SECOND).0, [0, 1]);
            course.heard(1, fate, SECOND);
            assert_eq!(course.next(SECOND), Next::Await, "for the other one");
            course.heard(0, Fate::Applied, SECOND);
            assert_eq!(course.next(SECOND), Next::Over(End::CanaryFailed));
        }
    }

    #[test]
    fn letter_that_is_passed_over_is_no_canary_and_no_failure() {
        let stop_if = Some(StopIf::Count(0));
        let mut course = Course::new(
            Manner { canary: 1, stop_if, ..manner() },
            [vec![0, 1], vec![2, 3], vec![4]],
        );
        assert_eq!(all(&mut course, SECOND).0, [0]);
        course.passed_over(0, Fate::Superseded);
        assert_eq!(all(&mut course, SECOND).0, [2], "another one is the canary");
        course.passed_over(2, Fate::Left);
        assert_eq!(all(&mut course, SECOND).0, [4], "what is behind that stays");
        course.heard(4, Fate::Applied, SECOND);
        assert_eq!(all(&mut course, SECOND).0, [1], "what is behind a superseded one goes on");
        course.heard(1, Fate::Applied, SECOND);
        assert_eq!(course.next(SECOND), Next::Over(End::Done));
        assert_eq!(course.fates()[&3], Fate::Left);
    }

    #[test]
    fn each_step_of_the_ramp_is_over_before_the_next_begins() {
        let mut course =
            Course::new(Manner { canary: 1, ramp: vec![2, 3], ..manner() }, singles(10));
        for step in [vec![0], vec![1, 2], vec![3, 4, 5], vec![6, 7, 8, 9]] {
            let (sent, next) = all(&mut course, SECOND);
            assert_eq!((sent, next), (step.clone(), Next::Await));
            for letter in step {
                assert_eq!(all(&mut course, SECOND).0, [0; 0]);
                course.heard(letter, Fate::Applied, SECOND);
            }
        }
        assert_eq!(course.next(SECOND), Next::Over(End::Done));
    }

    #[test]
    fn rate_is_kept_and_what_was_held_up_is_not_made_up_for_at_once() {
        let mut course = Course::new(Manner { rate: Some(4), ..manner() }, singles(9));
        let quarter = SECOND / 4;
        assert_eq!(all(&mut course, SECOND), (vec![0], Next::At(SECOND + quarter)));
        assert_eq!(all(&mut course, SECOND + quarter), (vec![1], Next::At(SECOND + 2 * quarter)));
        assert_eq!(all(&mut course, 60 * SECOND), (vec![2], Next::At(60 * SECOND + quarter)));
    }

    #[test]
    fn no_more_are_awaited_than_allowed() {
        let mut course = Course::new(Manner { in_flight_max: 3, ..manner() }, singles(9));
        assert_eq!(all(&mut course, SECOND).0, [0, 1, 2]);
        course.heard(1, Fate::Failed, SECOND);
        assert_eq!(all(&mut course, SECOND).0, [3]);
    }

    #[test]
    fn too_many_failures_stop_it_and_what_is_on_its_way_is_awaited() {
        let stop_if = Some("failed > 5%".parse().unwrap());
        let mut course = Course::new(Manner { stop_if, in_flight_max: 1, ..manner() }, singles(50));
        for letter in 0..19 {
            assert_eq!(course.next(SECOND), Next::Send(letter));
            course.heard(letter, if letter == 3 { Fate::Failed } else { Fate::Applied }, SECOND);
        }
        assert_eq!(course.next(SECOND), Next::Send(19));
        course.heard(19, Fate::Superseded, SECOND);
        assert_eq!(course.next(SECOND), Next::Send(20), "one of twenty is not more than 5 %");
        course.heard(20, Fate::Failed, SECOND);
        assert_eq!(course.next(SECOND), Next::Over(End::Stopped));

        let stop_if = Some("failed>0".parse().unwrap());
        let mut course = Course::new(Manner { stop_if, ..manner() }, singles(3));
        assert_eq!(all(&mut course, SECOND).0, [0, 1, 2]);
        course.heard(0, Fate::Failed, SECOND);
        assert_eq!(course.next(SECOND), Next::Await);
        course.heard(1, Fate::Applied, SECOND);
        course.heard(2, Fate::Applied, SECOND);
        assert_eq!(course.next(SECOND), Next::Over(End::Stopped));
    }

    #[test]
    fn share_is_judged_at_the_end_of_a_step_however_few_there_were() {
        let stop_if = Some(StopIf::Percent(5.0));
        let mut course = Course::new(Manner { stop_if, ramp: vec![2], ..manner() }, singles(9));
        assert_eq!(all(&mut course, SECOND).0, [0, 1]);
        course.heard(0, Fate::Failed, SECOND);
        course.heard(1, Fate::Applied, SECOND);
        assert_eq!(course.next(SECOND), Next::Over(End::Stopped));
    }

    #[test]
    fn limits_are_read_as_they_are_written_and_nonsense_is_refused() {
        assert_eq!("failed>5%".parse(), Ok(StopIf::Percent(5.0)));
        assert_eq!("failed > 0.5 %".parse(), Ok(StopIf::Percent(0.5)));
        assert_eq!("failed>10".parse(), Ok(StopIf::Count(10)));
        for nonsense in ["", "failed", "failed<5%", "failed>x", "failed>-1%", "failed>100%", "5%"] {
            assert!(nonsense.parse::<StopIf>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn outcome_that_is_lost_is_given_up_while_others_come_and_awaited_while_none_does() {
        let singles = (1..9).map(|letter| vec![letter]);
        let orders = std::iter::once(vec![0, 9]).chain(singles);
        let mut course = Course::new(Manner { in_flight_max: 2, ..manner() }, orders);
        assert_eq!(all(&mut course, SECOND).0, [0, 1]);
        let hours = 7_200 * SECOND;
        assert_eq!(course.next(hours), Next::Await, "the target is down: all wait");
        assert_eq!(course.silence(hours), 7_199 * SECOND);
        // Others come, each after a pause of more than 40 s, which counts for no more than that.
        let mut now = hours;
        for letter in 1..8 {
            course.heard(letter, Fate::Applied, now);
            assert_eq!(all(&mut course, now).0, [letter + 1]);
            assert_eq!(course.fates().get(&0), None, "{letter}");
            now += 100 * SECOND;
        }
        // Without a pause: all of it counts.
        for _ in 0..11 {
            now += 39 * SECOND;
            course.heard(8, Fate::Applied, now);
        }
        assert_eq!(course.next(now), Next::Over(End::Done));
        assert_eq!((course.fates()[&0], course.fates()[&9]), (Fate::Unknown, Fate::Left));
    }

    #[test]
    fn what_was_on_its_way_in_a_long_outage_has_as_long_as_ever_when_it_is_over() {
        let stop_if = Some(StopIf::Count(0));
        let manner = Manner { in_flight_max: 8, stop_if, ..manner() };
        let mut course = Course::new(manner, singles(9));
        assert_eq!(all(&mut course, SECOND).0, [0, 1, 2, 3, 4, 5, 6, 7]);
        // Longer than an outcome may take, by far.
        let hours = 7_200 * SECOND;
        for letter in 0..8 {
            let now = hours + SECOND * u32::try_from(letter).unwrap();
            course.heard(letter, Fate::Applied, now);
            assert_ne!(course.next(now), Next::Over(End::Stopped), "{letter}");
        }
        course.heard(8, Fate::Applied, hours + 9 * SECOND);
        assert_eq!(course.next(hours + 9 * SECOND), Next::Over(End::Done));
        assert!(course.fates().values().all(|fate| *fate == Fate::Applied));
    }

    #[test]
    fn due_time_of_one_that_is_late_is_told_once_it_is_near() {
        let mut course = Course::new(Manner { in_flight_max: 2, ..manner() }, singles(30));
        assert_eq!(all(&mut course, SECOND).0, [0, 1]);
        for letter in 1..21 {
            let now = SECOND * (1 + 29 * u32::try_from(letter).unwrap());
            course.heard(letter, Fate::Applied, now);
            assert_eq!(all(&mut course, now).0, [letter + 1]);
        }
        // 20 times 29 s have gone by.
        let now = 581 * SECOND;
        assert_eq!(course.next(now), Next::At(601 * SECOND));
        assert_eq!(all(&mut course, 601 * SECOND).0, [22]);
        assert_eq!(course.fates()[&0], Fate::Unknown);
    }

    #[test]
    fn cancelled_replay_sends_nothing_more_and_awaits_what_is_on_its_way() {
        let mut course = Course::new(Manner { in_flight_max: 2, ..manner() }, singles(5));
        assert_eq!(all(&mut course, SECOND).0, [0, 1]);
        course.cancel();
        course.heard(0, Fate::Applied, SECOND);
        assert_eq!(course.next(SECOND), Next::Await);
        course.abandon();
        assert_eq!(course.next(SECOND), Next::Over(End::Cancelled));
        let fates: Vec<_> = course.fates().iter().map(|(letter, fate)| (*letter, *fate)).collect();
        assert_eq!(fates, [(0, Fate::Applied), (1, Fate::Unknown)]);
    }

    proptest! {
        #[test]
        fn whatever_comes_back_orders_are_kept_and_it_comes_to_an_end(
            orders in proptest::collection::vec(1..4_usize, 1..12),
            canary in 0..3_usize,
            ramp in proptest::collection::vec(1..5_usize, 0..3),
            in_flight_max in 1..6_usize,
            fates in proptest::collection::vec(0..12_u8, 40),
        ) {
            let mut first = 0;
            let orders: Vec<Vec<usize>> = orders.iter().map(|count| {
                first += count;
                (first - count..first).collect()
            }).collect();
            let manner = Manner { canary, ramp, in_flight_max, ..manner() };
            let mut course = Course::new(manner, orders.clone());
            let under_way = RefCell::new(Vec::new());
            let mut sent = Vec::new();
            for step in 0..500_u32 {
                let now = SECOND * step;
                match course.next(now) {
                    Next::Over(_) => break,
                    Next::Send(letter) => {
                        prop_assert!(!sent.contains(&letter), "sent twice");
                        let order = orders.iter().find(|order| order.contains(&letter)).unwrap();
                        for before in order.iter().take_while(|it| **it != letter) {
                            prop_assert!(course.fates().get(before).is_some_and(|it| it.lets_on()));
                        }
                        sent.push(letter);
                        under_way.borrow_mut().push(letter);
                        prop_assert!(course.in_flight() <= in_flight_max);
                    }
                    Next::At(_) | Next::Await => {
                        let letter = under_way.borrow_mut().remove(0);
                        let fate = match fates[letter % fates.len()] {
                            0 => Fate::Failed,
                            1 => Fate::Superseded,
                            2..4 => Fate::AlreadyApplied,
                            _ => Fate::Applied,
                        };
                        course.heard(letter, fate, now);
                    }
                }
            }
            prop_assert!(matches!(course.next(SECOND * 500), Next::Over(_)));
            prop_assert!(under_way.borrow().is_empty());
        }
    }
}
