//! A replay that has begun: performs what its course says, and listens to what comes of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::message::Delivery;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Candidate;
use super::chain::Chain;
use super::hold::Hold;
use super::pulse::{Pulse, TELL_EVERY};
use super::run::{Counts, Error, Run, Sent, Told};
use crate::app::notice;
use crate::broker;
use crate::dead_letter::journal::Event;
use crate::dead_letter::{Course, End, Fate, Next};
use crate::order::Replay;
use crate::parking::Release;

/// After an interrupt, what is on its way is awaited for no longer than this.
const GOODBYE_MAX: Duration = Duration::from_secs(30);

/// A replay that has begun.
pub(super) struct UnderWay<'a, T> {
    pub(super) run: &'a Run<'a>,
    pub(super) hold: &'a mut Hold,
    pub(super) candidates: &'a [Candidate],
    pub(super) course: Course,
    /// By order.
    pub(super) chains: BTreeMap<&'a str, Arc<Chain>>,
    /// Letters that are not known for certain to be newer than those before them.
    pub(super) unsure: BTreeSet<usize>,
    /// By order that stands still: its letters that are not written yet, and what lets it go on then.
    pub(super) parked: BTreeMap<&'a str, (usize, Release)>,
    /// By order, the newest letter that is written and still in the queue.
    pub(super) kept: BTreeMap<&'a str, usize>,
    /// The releases that were asked for.
    pub(super) releases: Vec<Release>,
    /// What each that is on its way was sent to overwrite.
    pub(super) bases: BTreeMap<usize, String>,
    /// Letters whose outcome has come.
    pub(super) told: BTreeSet<usize>,
    /// Letters of which the journal knows what came of them.
    pub(super) noted: BTreeSet<usize>,
    /// Letters that the service was asked about, and since when it says that they are not written.
    pub(super) not_yet: BTreeMap<usize, Instant>,
    /// How many were asked about.
    pub(super) asked: usize,
    /// The longest that an outcome is waited for.
    pub(super) outcome_max: Duration,
    pub(super) begun: Instant,
    /// When what is on its way is given up.
    pub(super) over_at: Option<Instant>,
    pub(super) tell: T,
}

impl<T: Fn(Told)> UnderWay<'_, T> {
    pub(super) async fn go(
        &mut self,
        releases: Vec<Release>,
        stop: &CancellationToken,
    ) -> Result<End, Error> {
        self.hold.watch(self.run.replay).await?;
        self.await_orders(releases).await?;
        let (reply_to, mut replies) = self.run.replies().await?;
        let (run, candidates) = (self.run, self.candidates);
        let mut sending = FuturesUnordered::new();
        let mut held_until = self.begun + run.held_max;
        let mut pulse = Pulse::new(run.ask_after);
        // What was sent while something else was awaited.
        let mut done = VecDeque::new();
        loop {
            while let Some((index, sent)) = done.pop_front() {
                alongside(&mut sending, &mut done, self.sent(index, sent)).await?;
            }
            let wake = match self.course.next(self.begun.elapsed()) {
                Next::Over(end) => return Ok(end),
                Next::Send(index) if !self.hold.has(index) => {
                    let why = "somebody has taken it out of the queue meanwhile".to_owned();
                    let passed = self.pass_over(index, Fate::Left, why);
                    alongside(&mut sending, &mut done, passed).await?;
                    continue;
                }
                Next::Send(index) => {
                    let Some(candidate) = candidates.get(index) else { continue };
                    let (before, reply_to) = (self.begin(index, candidate), reply_to.clone());
                    sending.push(async move {
                        (index, run.send(index, candidate, before, reply_to).await)
                    });
                    continue;
                }
                Next::At(due) => (self.begun + due).min(pulse.due()),
                Next::Await => pulse.due(),
            };
            tokio::select! { biased;
                () = stop.cancelled(), if self.over_at.is_none() => {
                    self.over_at = Some(Instant::now() + GOODBYE_MAX);
                    self.course.cancel();
                }
                () = sleep_until(self.over_at.unwrap_or(held_until)), if self.over_at.is_some() => {
                    self.course.abandon();
                }
                () = sleep_until(held_until) => {
                    let renewed = self.hold.renew(run.connection, run.topology, candidates);
                    let renewed = Box::pin(renewed);
                    alongside(&mut sending, &mut done, async { Ok(renewed.await?) }).await?;
                    held_until = Instant::now() + run.held_max;
                }
                Some(sent) = sending.next(), if !sending.is_empty() => done.push_back(sent),
                reply = replies.next() => {
                    let lost = || broker::Error::NoQueue { queue: reply_to.to_string() };
                    let reply = reply.ok_or_else(lost)?.map_err(broker::Error::from)?;
                    if let Some((index, notice)) = understood(&reply) {
                        pulse.heard();
                        alongside(&mut sending, &mut done, self.heard(index, &notice)).await?;
                    }
                }
                () = sleep_until(wake) => {
                    alongside(&mut sending, &mut done, self.tick(&mut pulse)).await?;
                }
            }
        }
    }

    /// What it is sent behind; and until it is, it may overwrite what its letter saw.
    fn begin(&mut self, index: usize, candidate: &Candidate) -> (Arc<Chain>, bool) {
        if let Some(seen) = &candidate.letter.base {
            self.bases.insert(index, seen.clone());
        }
        (self.chain_of(index).cloned().unwrap_or_default(), !self.unsure.contains(&index))
    }

    async fn sent(&mut self, index: usize, sent: Sent) -> Result<(), Error> {
        match sent {
            Sent::Published(Replay::Since(etag)) => {
                // Its outcome may have come before this is known.
                if !self.told.contains(&index) {
                    self.bases.insert(index, etag.to_string());
                }
                Ok(())
            }
            Sent::Published(Replay::Unknown | Replay::Forced) => Ok(()),
            Sent::PassedOver(fate, why) => self.pass_over(index, fate, why).await,
            Sent::Failed(error) => Err(error.into()),
        }
    }

    /// Tells that nothing comes, and asks about what does not come.
    async fn tick(&mut self, pulse: &mut Pulse) -> Result<(), Error> {
        let now = self.begun.elapsed();
        let silence = self.course.silence(now);
        if pulse.is_time_to_tell() && silence >= TELL_EVERY {
            (self.tell)(Told::Silence(silence, self.course.in_flight()));
        }
        if pulse.is_time_to_ask(self.course.waiting(now)) {
            let before = self.told.len();
            self.ask_around().await?;
            pulse.asked(self.told.len() > before);
        }
        Ok(())
    }

    /// Counts the letters of each order that stands still. One that has none goes on at once.
    async fn await_orders(&mut self, releases: Vec<Release>) -> Result<(), Error> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for Candidate { letter, place, .. } in self.candidates {
            if let (Some(order), Some(_)) = (letter.order.as_deref(), place.unparks()) {
                *counts.entry(order).or_default() += 1;
            }
        }
        for release in releases {
            if let Some((order, count)) = counts.get_key_value(&*release.order) {
                self.parked.insert(order, (*count, release));
            } else {
                self.run.release(&release).await?;
                self.releases.push(release);
            }
        }
        Ok(())
    }

    pub(super) fn chain_of(&self, index: usize) -> Option<&Arc<Chain>> {
        let order = self.candidates.get(index)?.letter.order.as_deref()?;
        self.chains.get(order)
    }

    async fn pass_over(&mut self, index: usize, fate: Fate, why: String) -> Result<(), Error> {
        let Some(Candidate { letter, place, .. }) = self.candidates.get(index) else {
            return Ok(());
        };
        if place.unparks().is_some() {
            self.course.hold_back(index);
        }
        self.run
            .note(Event::Left {
                replay: self.run.replay,
                letter: letter.id.to_string(),
                order: letter.order.clone(),
                why,
            })
            .await?;
        self.noted.insert(index);
        self.let_go(index, fate).await?;
        self.course.passed_over(index, fate);
        (self.tell)(Told::Fate(letter.id, fate));
        Ok(())
    }

    /// An outcome: written down first, and only then the letter is taken away.
    pub(super) async fn heard(&mut self, index: usize, notice: &notice::Told) -> Result<(), Error> {
        let base = self.bases.remove(&index);
        let Some(Candidate { letter, message, place, .. }) = self.candidates.get(index) else {
            return Ok(());
        };
        // Told twice: an ack of the daemon's was lost, and it came again.
        if !self.told.insert(index) {
            return Ok(());
        }
        let fate = fate(notice);
        self.run
            .note(Event::Replayed {
                replay: self.run.replay,
                letter: letter.id.to_string(),
                order: letter.order.clone(),
                outcome: notice.outcome.clone(),
                reason: notice.reason.clone(),
                new_letter: notice.dead_letter_id.clone(),
                etag: notice.etag.clone(),
            })
            .await?;
        self.noted.insert(index);
        let is_written = matches!(fate, Fate::Applied | Fate::AlreadyApplied);
        if place.unparks().is_some() {
            if is_written {
                // Before the last letter goes: while one is there, somebody will see to its order.
                self.one_less(letter.order.as_deref()).await?;
            } else {
                self.course.hold_back(index);
            }
        }
        // Done unwritten, for its sequence is overtaken: it is left for an operator to discard.
        if notice.outcome == "dead_lettered" {
            self.hold.ack(index).await?;
        }
        self.let_go(index, fate).await?;
        if is_written && let Some(order) = letter.order.as_deref() {
            let chain = Arc::make_mut(self.chains.entry(order).or_default());
            let changes = self.run.checker.changes(message);
            if letter.former.is_some() && base != letter.base {
                chain.learn_former(letter.base.clone());
            }
            chain.learn(fate, base, changes, notice.etag.as_deref());
        }
        self.course.heard(index, fate, self.begun.elapsed());
        (self.tell)(Told::Fate(letter.id, fate));
        Ok(())
    }

    /// A letter that is written leaves the queue once the next one of its order is written as well, or none is behind
    /// it. Until then it tells whoever replays those behind it, should this replay end here, that the order has not
    /// been changed by anybody else.
    async fn let_go(&mut self, index: usize, fate: Fate) -> Result<(), Error> {
        let Some(Candidate { letter, place, .. }) = self.candidates.get(index) else {
            return Ok(());
        };
        // What stands behind the head of an order is held to no state that it saw.
        let order = letter.order.as_deref().filter(|_| place.unparks().is_none());
        let is_written = matches!(fate, Fate::Applied | Fate::AlreadyApplied);
        let is_cut = |order| self.run.cut.contains(order);
        let has_behind = order.is_some_and(|it| self.course.has_behind(index) || is_cut(it));
        let is_over = fate == Fate::Superseded && !has_behind;
        if let Some(before) =
            order.filter(|_| is_written || is_over).and_then(|it| self.kept.remove(it))
        {
            self.hold.ack(before).await?;
        }
        if let Some(order) = order.filter(|_| is_written && has_behind) {
            self.kept.insert(order, index);
        } else if is_written {
            self.hold.ack(index).await?;
        }
        Ok(())
    }

    /// One letter of an order that stands still is written: with the last one, the order may go on.
    async fn one_less(&mut self, order: Option<&str>) -> Result<(), Error> {
        let Some((order, (left, _))) = order.and_then(|it| self.parked.get_key_value(it)) else {
            return Ok(());
        };
        let (order, left) = (*order, left.saturating_sub(1));
        if left > 0 {
            if let Some((count, _)) = self.parked.get_mut(order) {
                *count = left;
            }
        } else if let Some((_, release)) = self.parked.remove(order) {
            self.run.release(&release).await?;
            self.releases.push(release);
        }
        Ok(())
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for index in 0..self.candidates.len() {
            let fate = self.course.fates().get(&index).copied().unwrap_or(Fate::Left);
            *counts.entry(fate).or_default() += 1;
        }
        counts
    }
}

/// Which letter it is about, and what became of it.
fn understood(reply: &Delivery) -> Option<(usize, notice::Told)> {
    let id = reply.properties.correlation_id().as_ref()?;
    Some((id.as_str().parse().ok()?, serde_json::from_slice(&reply.data).ok()?))
}

fn fate(notice: &notice::Told) -> Fate {
    match (notice.outcome.as_str(), notice.reason.as_deref()) {
        ("applied", _) => Fate::Applied,
        ("already_applied", _) => Fate::AlreadyApplied,
        ("superseded", _) | ("dead_lettered", Some("superseded")) => Fate::Superseded,
        ("dead_lettered", _) => Fate::Failed,
        // Of a later version: the letter stays.
        (_, _) => Fate::Unknown,
    }
}

/// Awaits something, and lets go on what is being sent: it holds lanes of the publisher that others wait for.
async fn alongside<F: Future>(
    sending: &mut FuturesUnordered<F>,
    done: &mut VecDeque<F::Output>,
    work: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    tokio::pin!(work);
    loop {
        tokio::select! { biased;
            finished = &mut work => return finished,
            Some(sent) = sending.next(), if !sending.is_empty() => done.push_back(sent),
        }
    }
}
