//! A replay that has begun: performs what its course says, and listens to what comes of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use super::Candidate;
use super::check::Chain;
use super::run::{Counts, Error, Run, Sent, Told};
use crate::app::notice;
use crate::broker::{self, Browser, Ticket};
use crate::dead_letter::journal::Event;
use crate::dead_letter::{Course, End, Fate, Next};
use crate::order::Replay;

/// How often it is told that nothing comes.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// After an interrupt, what is on its way is awaited for no longer than this.
const GOODBYE_MAX: Duration = Duration::from_secs(30);

/// A replay that has begun.
pub(super) struct UnderWay<'a, T> {
    pub(super) run: &'a Run<'a>,
    pub(super) browser: &'a mut Browser,
    pub(super) candidates: &'a [Candidate],
    pub(super) tickets: Vec<Option<Ticket>>,
    pub(super) course: Course,
    /// By order.
    pub(super) chains: BTreeMap<&'a str, Chain>,
    pub(super) begun: Instant,
    /// When what is on its way is given up.
    pub(super) over_at: Option<Instant>,
    pub(super) tell: T,
}

impl<T: Fn(Told)> UnderWay<'_, T> {
    pub(super) async fn go(&mut self, interrupts: impl AsyncFn()) -> Result<End, Error> {
        let (reply_to, mut replies) = self.run.replies().await?;
        let (run, candidates) = (self.run, self.candidates);
        let mut sending = FuturesUnordered::new();
        // What each was sent to overwrite.
        let mut bases: BTreeMap<usize, String> = BTreeMap::new();
        let held_until = self.begun + run.held_max;
        let mut told = Instant::now();
        // What was sent while something else was awaited.
        let mut done = VecDeque::new();
        loop {
            while let Some((index, sent)) = done.pop_front() {
                let passed = match sent {
                    Sent::Published(Replay::Since(etag)) => {
                        bases.insert(index, etag.to_string());
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
                    let chain = self.chain_of(index).cloned().unwrap_or_default();
                    if let Some(seen) = &candidate.letter.etag {
                        bases.insert(index, seen.clone());
                    }
                    let reply_to = reply_to.clone();
                    sending.push(async move {
                        (index, run.send(index, candidate, chain, reply_to).await)
                    });
                    continue;
                }
                Next::At(due) => self.begun + due,
                Next::Await => self.begun + run.held_max,
            };
            let over_at = self.over_at.unwrap_or(held_until + GOODBYE_MAX);
            tokio::select! { biased;
                () = interrupts() => {
                    // The second one does not wait for what is on its way.
                    let wait = if self.over_at.is_some() { Duration::ZERO } else { GOODBYE_MAX };
                    self.over_at = Some(Instant::now() + wait);
                    self.course.cancel();
                }
                () = sleep_until(over_at) => self.course.abandon(),
                () = sleep_until(held_until), if self.over_at.is_none() => {
                    self.over_at = Some(Instant::now() + GOODBYE_MAX);
                    self.course.cancel();
                }
                Some(sent) = sending.next(), if !sending.is_empty() => done.push_back(sent),
                reply = replies.next() => {
                    let lost = || broker::Error::NoQueue { queue: reply_to.to_string() };
                    let reply = reply.ok_or_else(lost)?.map_err(broker::Error::from)?;
                    let id = reply.properties.correlation_id().as_ref();
                    let index = id.and_then(|id| id.as_str().parse::<usize>().ok());
                    let notice = serde_json::from_slice::<notice::Told>(&reply.data).ok();
                    if let (Some(index), Some(notice)) = (index, notice) {
                        let heard = self.heard(index, &notice, bases.remove(&index));
                        alongside(&mut sending, &mut done, heard).await?;
                    }
                }
                () = sleep_until(wake.min(told + TELL_EVERY)) => {
                    if told.elapsed() >= TELL_EVERY {
                        told = Instant::now();
                        let silence = self.course.silence(self.begun.elapsed());
                        if silence >= TELL_EVERY {
                            (self.tell)(Told::Silence(silence, self.course.in_flight()));
                        }
                    }
                }
            }
        }
    }

    fn chain_of(&self, index: usize) -> Option<&Chain> {
        let order = self.candidates.get(index)?.letter.order.as_deref()?;
        self.chains.get(order)
    }

    async fn pass_over(&mut self, index: usize, fate: Fate, why: String) -> Result<(), Error> {
        let Some(Candidate { letter, .. }) = self.candidates.get(index) else { return Ok(()) };
        self.run
            .note(Event::Left {
                replay: self.run.replay,
                letter: letter.id.to_string(),
                order: letter.order.clone(),
                why,
            })
            .await?;
        self.course.passed_over(index, fate);
        (self.tell)(Told::Fate(letter.id, fate));
        Ok(())
    }

    /// An outcome: written down first, and only then the letter is taken away.
    async fn heard(
        &mut self,
        index: usize,
        notice: &notice::Told,
        base: Option<String>,
    ) -> Result<(), Error> {
        let Some(candidate) = self.candidates.get(index) else { return Ok(()) };
        // Told twice: an ack of the daemon's was lost, and it came again.
        let Some(ticket) = self.tickets.get_mut(index).and_then(Option::take) else {
            return Ok(());
        };
        let letter = &candidate.letter;
        let fate = match (notice.outcome.as_str(), notice.reason.as_deref()) {
            ("applied", _) => Fate::Applied,
            ("already_applied", _) => Fate::AlreadyApplied,
            ("superseded", _) | ("dead_lettered", Some("superseded")) => Fate::Superseded,
            ("dead_lettered", _) => Fate::Failed,
            // Of a later version: the letter stays.
            (_, _) => Fate::Unknown,
        };
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
        // Done unwritten, for its sequence is overtaken: it is left for an operator to discard.
        let is_elsewhere = matches!(fate, Fate::Applied | Fate::AlreadyApplied)
            || notice.outcome == "dead_lettered";
        if is_elsewhere {
            self.browser.ack(ticket).await?;
        }
        if matches!(fate, Fate::Applied | Fate::AlreadyApplied)
            && let Some(order) = letter.order.as_deref()
        {
            let chain = self.chains.entry(order).or_default();
            chain.bases.extend(base);
            chain.wrote.push(self.run.checker.changes(&candidate.message));
            chain.etag.clone_from(&notice.etag);
        }
        self.course.heard(index, fate, self.begun.elapsed());
        (self.tell)(Told::Fate(letter.id, fate));
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
