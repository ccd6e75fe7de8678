//! A replay that has begun: performs what its course says, and listens to what comes of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Candidate;
use super::chain::Chain;
use super::hold::Hold;
use super::run::{Counts, Error, Run, Sent, Told};
use crate::app::notice;
use crate::broker;
use crate::dead_letter::journal::{Event, NAMED_MAX, Named};
use crate::dead_letter::{Course, End, Fate, Next};
use crate::order::Replay;
use crate::parking::Release;

/// How often it is told that nothing comes, and asked about what does not come.
const TELL_EVERY: Duration = Duration::from_secs(5);

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
        let (mut told, mut asked, mut heard) = (Instant::now(), Instant::now(), Instant::now());
        let ask_every = run.ask_after.min(TELL_EVERY);
        // No outcome comes, and asking helps: then it need not be waited for as long as otherwise.
        let mut is_mute = false;
        // What was sent while something else was awaited.
        let mut done = VecDeque::new();
        loop {
            while let Some((index, sent)) = done.pop_front() {
                let passed = match sent {
                    Sent::Published(Replay::Since(etag)) => {
                        self.bases.insert(index, etag.to_string());
                        continue;
                    }
                    Sent::Published(Replay::Unknown | Replay::Forced) => continue,
                    Sent::PassedOver(fate, why) => self.pass_over(index, fate, why),
                    Sent::Failed(error) => return Err(error.into()),
                };
                alongside(&mut sending, &mut done, passed).await?;
            }
            let wake = match self.course.next(self.begun.elapsed()) {
                Next::Over(end) => return Ok(end),
                Next::Send(index) => {
                    let Some(candidate) = candidates.get(index) else { continue };
                    if !self.hold.has(index) {
                        let why = "somebody has taken it out of the queue meanwhile".to_owned();
                        let passed = self.pass_over(index, Fate::Left, why);
                        alongside(&mut sending, &mut done, passed).await?;
                        continue;
                    }
                    let chain = self.chain_of(index).cloned().unwrap_or_default();
                    let before = (chain, !self.unsure.contains(&index));
                    if let Some(seen) = &candidate.letter.base {
                        self.bases.insert(index, seen.clone());
                    }
                    let reply_to = reply_to.clone();
                    sending.push(async move {
                        (index, run.send(index, candidate, before, reply_to).await)
                    });
                    continue;
                }
                Next::At(due) => self.begun + due,
                Next::Await => told + TELL_EVERY,
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
                    let id = reply.properties.correlation_id().as_ref();
                    let index = id.and_then(|id| id.as_str().parse::<usize>().ok());
                    let notice = serde_json::from_slice::<notice::Told>(&reply.data).ok();
                    if let (Some(index), Some(notice)) = (index, notice) {
                        (heard, is_mute) = (Instant::now(), false);
                        let hearing = self.heard(index, &notice);
                        alongside(&mut sending, &mut done, hearing).await?;
                    }
                }
                () = sleep_until(wake.min(told + TELL_EVERY).min(asked + ask_every)) => {
                    let silence = self.course.silence(self.begun.elapsed());
                    if told.elapsed() >= TELL_EVERY {
                        told = Instant::now();
                        if silence >= TELL_EVERY {
                            (self.tell)(Told::Silence(silence, self.course.in_flight()));
                        }
                    }
                    if asked.elapsed() >= ask_every {
                        let unheard = heard.elapsed().min(self.course.waiting(self.begun.elapsed()));
                        let patience = if is_mute { ask_every } else { run.ask_after };
                        if self.course.in_flight() > 0 && unheard >= patience {
                            let before = self.told.len();
                            let asking = self.ask_around();
                            alongside(&mut sending, &mut done, asking).await?;
                            is_mute |= self.told.len() > before;
                        }
                        asked = Instant::now();
                    }
                }
            }
        }
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
        if is_written || notice.outcome == "dead_lettered" {
            self.hold.ack(index).await?;
        }
        if is_written && let Some(order) = letter.order.as_deref() {
            let chain = Arc::make_mut(self.chains.entry(order).or_default());
            let changes = self.run.checker.changes(message);
            if fate == Fate::Applied {
                chain.wrote(base, changes, notice.etag.as_deref());
            } else {
                chain.found(base, changes);
            }
        }
        self.course.heard(index, fate, self.begun.elapsed());
        (self.tell)(Told::Fate(letter.id, fate));
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

    /// Writes down what is not written down yet: of every letter it must be known what came of it.
    pub(super) async fn account(&mut self, end: End) -> Result<(), Error> {
        let (mut behind, mut waiting) = (Vec::new(), Vec::new());
        for (index, Candidate { letter, .. }) in self.candidates.iter().enumerate() {
            if self.noted.contains(&index) {
                continue;
            }
            let named = Named { letter: letter.id.to_string(), order: letter.order.clone() };
            match self.course.fates().get(&index) {
                Some(Fate::Unknown) => self.unknown(index).await?,
                Some(
                    Fate::Left
                    | Fate::Applied
                    | Fate::AlreadyApplied
                    | Fate::Superseded
                    | Fate::Failed,
                ) => behind.push(named),
                None => waiting.push(named),
            }
        }
        let why = "a letter of its order before it was not written";
        self.unsent(behind, why.to_owned()).await?;
        let end = serde_json::json!(end);
        let why = format!("not begun: {}", end.as_str().unwrap_or_default());
        self.unsent(waiting, why).await
    }

    async fn unsent(&self, letters: Vec<Named>, why: String) -> Result<(), Error> {
        for letters in letters.chunks(NAMED_MAX) {
            let (replay, letters, why) = (self.run.replay, letters.to_vec(), why.clone());
            self.run.note(Event::Unsent { replay, letters, why }).await?;
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
