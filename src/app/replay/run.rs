//! Performs a replay.

use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Connection, Consumer};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::check::{Chain, Checker, Prospect};
use super::message::{Sending, message};
use super::{Candidate, by_order};
use crate::app::notice;
use crate::broker::{self, Browser, Publisher, Ticket, Topology, journal};
use crate::dead_letter::journal::{Event, Record};
use crate::dead_letter::{Course, End, Fate, Manner, Next};
use crate::order::Replay;

/// How often it is told that nothing comes.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// After an interrupt, what is on its way is awaited for no longer than this.
const GOODBYE_MAX: Duration = Duration::from_secs(30);

/// Why a replay broke off. What is not told as done is in the queue still.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker went away, or did not take something.
    #[error("the replay broke off; start it again: what was applied is found applied")]
    Broker(#[from] broker::Error),
}

/// What is told while it goes on.
#[derive(Debug, Clone)]
pub enum Told {
    /// Something came of a letter.
    Fate(Uuid, Fate),
    /// Nothing has come for so long.
    Silence(Duration, usize),
}

/// Letters by what came of them.
pub type Counts = BTreeMap<Fate, usize>;

/// What came of a replay.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Its id.
    pub replay: Uuid,
    /// Why it ended.
    pub end: End,
    /// What came of the letters.
    pub counts: Counts,
}

/// A replay that is about to begin.
pub struct Run<'a> {
    /// Its id.
    pub replay: Uuid,
    /// Who wants it.
    pub by: &'a str,
    /// The filters, as they were given.
    pub selection: &'a str,
    /// Why; given where it is forced.
    pub because: Option<&'a str>,
    /// Whether ETags are not compared.
    pub forced: bool,
    /// For the reply queue.
    pub connection: &'a Connection,
    /// For the messages and the journal.
    pub publisher: &'a Publisher,
    /// The broker's objects.
    pub topology: &'a Topology,
    /// Looks at orders.
    pub checker: &'a Checker,
    /// The broker takes letters back that are held for longer than this.
    pub held_max: Duration,
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("replay", &self.replay).finish_non_exhaustive()
    }
}

/// What became of an attempt to send one.
enum Sent {
    /// It is on its way, and this is what it may overwrite.
    Published(Replay),
    /// It is better not sent, and this is why.
    PassedOver(Fate, String),
    Failed(broker::Error),
}

impl Run<'_> {
    /// Replays the candidates, which `browser` holds, until the end or until an interrupt. `tickets` are
    /// the rights to take them out of the queue, in their order.
    ///
    /// # Errors
    /// [`Error::Broker`]. What was told is done; everything else is in the queue.
    pub async fn perform(
        &self,
        browser: &mut Browser,
        candidates: &[Candidate],
        tickets: Vec<Ticket>,
        manner: Manner,
        interrupts: impl AsyncFn(),
        tell: impl Fn(Told),
    ) -> Result<Report, Error> {
        let letters = u64::try_from(candidates.len()).unwrap_or(u64::MAX);
        self.note(Event::ReplayBegun {
            replay: self.replay,
            selection: self.selection.to_owned(),
            because: self.because.map(str::to_owned),
            forced: self.forced,
            letters,
        })
        .await?;
        let mut under_way = UnderWay {
            run: self,
            browser,
            candidates,
            tickets: tickets.into_iter().map(Some).collect(),
            course: Course::new(manner, by_order(candidates, self.checker)),
            chains: BTreeMap::new(),
            begun: Instant::now(),
            over_at: None,
            tell,
        };
        let ended = under_way.go(interrupts).await;
        let counts = under_way.counts();
        let (end, why) = match &ended {
            Ok(end) => (*end, None),
            Err(error) => (End::BrokenOff, Some(error.to_string())),
        };
        let noted = self.note(Event::ReplayEnded { replay: self.replay, end, why }).await;
        let end = ended?;
        noted?;
        Ok(Report { replay: self.replay, end, counts })
    }

    /// A queue for outcomes that goes when we go.
    async fn replies(&self) -> Result<(ShortString, Consumer), Error> {
        let ended = |error: lapin::Error| Error::Broker(error.into());
        let channel = self.connection.create_channel().await.map_err(ended)?;
        let queue: ShortString =
            format!("{}.replies.{}", self.topology.prefix(), self.replay).as_str().into();
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(queue.clone(), options, FieldTable::default())
            .await
            .map_err(ended)?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consuming =
            channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default());
        Ok((queue, consuming.await.map_err(ended)?))
    }

    /// Writes to the journal, and waits until the broker has it.
    async fn note(&self, event: Event) -> Result<(), Error> {
        let record = Record { at: Timestamp::now(), by: self.by.to_owned(), event };
        let body = serde_json::to_vec(&record).unwrap_or_default();
        Ok(journal::append(self.publisher, self.topology, body).await?)
    }

    /// Looks at the order, and sends the letter if it is as good as ever.
    async fn send(
        &self,
        index: usize,
        candidate: &Candidate,
        chain: Chain,
        reply_to: ShortString,
    ) -> Sent {
        let letter = &candidate.letter;
        let looking = self.checker.look_behind(letter, &candidate.message, self.forced, &chain);
        let checked = looking.await;
        let passed = match checked.prospect {
            // Also what is there already: the daemon says so, by the same way as all.
            Prospect::WouldApply | Prospect::AlreadyApplied => None,
            // A target that is down: the daemon waits for it better than we could.
            Prospect::Unknown if chain.bases.is_empty() => None,
            Prospect::Superseded => Some(Fate::Superseded),
            Prospect::Unknown | Prospect::OrderMissing | Prospect::Refused => Some(Fate::Left),
        };
        if let Some(fate) = passed {
            return Sent::PassedOver(fate, format!("{}: {}", checked.prospect.name(), checked.why));
        }
        let sending = Sending {
            replay: self.replay,
            may: &checked.may,
            reply_to,
            correlation_id: index.to_string().as_str().into(),
        };
        let outgoing = message(self.topology, candidate, sending);
        let Some(lane) = self.publisher.lane().await else {
            return Sent::Failed(broker::Error::Withdrawn);
        };
        match self.publisher.publish(lane, &outgoing, || true, pending()).await {
            Ok(()) => Sent::Published(checked.may),
            Err(error) => Sent::Failed(error),
        }
    }
}

/// A replay that has begun.
struct UnderWay<'a, T> {
    run: &'a Run<'a>,
    browser: &'a mut Browser,
    candidates: &'a [Candidate],
    tickets: Vec<Option<Ticket>>,
    course: Course,
    /// By order.
    chains: BTreeMap<&'a str, Chain>,
    begun: Instant,
    /// When what is on its way is given up.
    over_at: Option<Instant>,
    tell: T,
}

impl<T: Fn(Told)> UnderWay<'_, T> {
    async fn go(&mut self, interrupts: impl AsyncFn()) -> Result<End, Error> {
        let (reply_to, mut replies) = self.run.replies().await?;
        let (run, candidates) = (self.run, self.candidates);
        let mut sending = FuturesUnordered::new();
        // What each was sent to overwrite.
        let mut bases: BTreeMap<usize, String> = BTreeMap::new();
        let held_until = self.begun + run.held_max;
        let mut told = Instant::now();
        loop {
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
                Some((index, sent)) = sending.next(), if !sending.is_empty() => match sent {
                    Sent::Published(Replay::Since(etag)) => {
                        bases.insert(index, etag.to_string());
                    }
                    Sent::Published(Replay::Unknown | Replay::Forced) => {}
                    Sent::PassedOver(fate, why) => self.pass_over(index, fate, why).await?,
                    Sent::Failed(error) => return Err(error.into()),
                },
                reply = replies.next() => {
                    let lost = || broker::Error::NoQueue { queue: reply_to.to_string() };
                    let reply = reply.ok_or_else(lost)?.map_err(broker::Error::from)?;
                    let id = reply.properties.correlation_id().as_ref();
                    let index = id.and_then(|id| id.as_str().parse::<usize>().ok());
                    let notice = serde_json::from_slice::<notice::Told>(&reply.data).ok();
                    if let (Some(index), Some(notice)) = (index, notice) {
                        self.heard(index, &notice, bases.remove(&index)).await?;
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

    fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for index in 0..self.candidates.len() {
            let fate = self.course.fates().get(&index).copied().unwrap_or(Fate::Left);
            *counts.entry(fate).or_default() += 1;
        }
        counts
    }
}
