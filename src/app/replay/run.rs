//! Performs a replay.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Connection, Consumer};
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::chain::Chain;
use super::check::{Behind, Checker, is_in_turn};
use super::hold::Hold;
use super::message::{Sending, message};
use super::release;
use super::under_way::UnderWay;
use super::{Allowed, Candidate, Prospect, by_order};
use crate::broker::{self, Publisher, Topology, answered, journal};
use crate::dead_letter::journal::{Event, Record};
use crate::dead_letter::{Course, End, Fate, Manner};
use crate::order::Replay;
use crate::parking::Release;

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
    /// The releases that were asked for.
    pub releases: Vec<Release>,
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
    /// What its letters may be written over, besides what they saw.
    pub allowed: Allowed,
    /// Orders of which letters that are meant as well had no room.
    pub cut: &'a BTreeSet<String>,
    /// Letters that are meant as well and had no room.
    pub left_over: u64,
    /// For the reply queue.
    pub connection: &'a Connection,
    /// For the messages and the journal.
    pub publisher: &'a Publisher,
    /// The broker's objects.
    pub topology: &'a Topology,
    /// Looks at orders.
    pub checker: &'a Checker,
    /// The broker takes letters back that are held for longer: after this they are given back and taken
    /// anew.
    pub held_max: Duration,
    /// A notice may be lost: when none has come for so long, the service is asked about one letter after
    /// the other, one each time.
    pub ask_after: Duration,
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("replay", &self.replay).finish_non_exhaustive()
    }
}

/// What became of an attempt to send one.
pub(super) enum Sent {
    /// It is on its way, and this is what it may overwrite.
    Published(Replay),
    /// It is better not sent, and this is why.
    PassedOver(Fate, String),
    Failed(broker::Error),
}

impl Run<'_> {
    /// Replays the candidates, which are held, until the end or until it is to stop. `releases` are the
    /// orders that may go on once all their letters among the candidates are written, or that have none.
    /// Gives back what is left.
    ///
    /// # Errors
    /// [`Error::Broker`]. What was told is done; everything else is in the queue.
    pub async fn perform(
        &self,
        mut hold: Hold,
        (candidates, releases): (&[Candidate], Vec<Release>),
        manner: Manner,
        stop: &CancellationToken,
        tell: impl Fn(Told),
    ) -> Result<Report, Error> {
        let performed = self.hold(&mut hold, candidates, releases, manner, stop, tell).await;
        // Also after an error: what is given back in good order keeps its order.
        let closed = hold.close().await;
        let report = performed?;
        closed?;
        Ok(report)
    }

    async fn hold(
        &self,
        hold: &mut Hold,
        candidates: &[Candidate],
        releases: Vec<Release>,
        manner: Manner,
        stop: &CancellationToken,
        tell: impl Fn(Told),
    ) -> Result<Report, Error> {
        let letters = u64::try_from(candidates.len()).unwrap_or(u64::MAX);
        self.note(Event::ReplayBegun {
            replay: self.replay,
            selection: self.selection.to_owned(),
            because: self.because.map(str::to_owned),
            forced: self.allowed == Allowed::All,
            never_seen: self.allowed == Allowed::NeverSeen,
            letters,
            left_over: self.left_over,
        })
        .await?;
        let all: Vec<&Candidate> = candidates.iter().collect();
        let turns = by_order(&all, |message| self.checker.sequence(message));
        let unsure = turns.iter().flatten().filter(|turn| !turn.is_sure).map(|turn| turn.index);
        let unsure: BTreeSet<usize> = unsure.collect();
        let orders = turns.into_iter().map(|all| all.into_iter().map(|turn| turn.index).collect());
        let outcome_max = manner.outcome_max;
        let mut under_way = UnderWay {
            run: self,
            hold,
            candidates,
            course: Course::new(manner, orders),
            chains: BTreeMap::new(),
            unsure,
            parked: BTreeMap::new(),
            kept: BTreeMap::new(),
            releases: Vec::new(),
            bases: BTreeMap::new(),
            told: BTreeSet::new(),
            noted: BTreeSet::new(),
            not_yet: BTreeMap::new(),
            asked: 0,
            outcome_max,
            begun: Instant::now(),
            over_at: None,
            tell,
        };
        let ended = Box::pin(under_way.go(releases, stop)).await;
        let end = *ended.as_ref().unwrap_or(&End::BrokenOff);
        let accounted = under_way.account(end).await;
        let (counts, releases) = (under_way.counts(), std::mem::take(&mut under_way.releases));
        let why = ended.as_ref().err().map(ToString::to_string);
        let noted = self.note(Event::ReplayEnded { replay: self.replay, end, why }).await;
        let end = ended?;
        accounted?;
        noted?;
        Ok(Report { replay: self.replay, end, counts, releases })
    }

    /// Asks for the release of an order, and writes that down.
    pub(super) async fn release(&self, release: &Release) -> Result<(), Error> {
        release::ask(self.publisher, self.topology, release).await?;
        self.note(Event::Released {
            order: release.order.to_string(),
            head: release.head.to_string(),
            letters: release.letters,
            replay: Some(self.replay),
            because: self.because.map(str::to_owned),
        })
        .await
    }

    /// A queue for outcomes that goes when we go.
    pub(super) async fn replies(&self) -> Result<(ShortString, Consumer), Error> {
        let channel = answered(self.connection.create_channel()).await?;
        let queue: ShortString =
            format!("{}.replies.{}", self.topology.prefix(), self.replay).as_str().into();
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        answered(channel.queue_declare(queue.clone(), options, FieldTable::default())).await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consuming =
            channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default());
        Ok((queue, answered(consuming).await?))
    }

    /// Writes to the journal, and waits until the broker has it.
    pub(super) async fn note(&self, event: Event) -> Result<(), Error> {
        let record = Record { at: Timestamp::now(), by: self.by.to_owned(), event };
        let body = serde_json::to_vec(&record).unwrap_or_default();
        Ok(journal::append(self.publisher, self.topology, body).await?)
    }

    /// Looks at the order, and sends the letter if it is as good as ever.
    pub(super) async fn send(
        &self,
        index: usize,
        candidate: &Candidate,
        (chain, is_sure): (Arc<Chain>, bool),
        reply_to: ShortString,
    ) -> Sent {
        let behind = Behind { chain: Some(&chain), is_sure };
        let checked = self.checker.look_behind(candidate, self.allowed, behind).await;
        let passed = match checked.prospect {
            // Also what is there already: the daemon says so, by the same way as all.
            Prospect::WouldApply | Prospect::AlreadyApplied => None,
            // A target that is down: the daemon waits for it better than we could.
            Prospect::Unknown
                if is_in_turn(candidate)
                    || (!chain.is_begun() && !candidate.letter.is_unseen()) =>
            {
                None
            }
            Prospect::Superseded => Some(Fate::Superseded),
            // What is behind one that never saw its order stays as well: whoever lets it be written later would
            // write it over that.
            Prospect::NeverSeen
            | Prospect::Unknown
            | Prospect::OrderMissing
            | Prospect::Refused
            | Prospect::Held => Some(Fate::Left),
        };
        if let Some(fate) = passed {
            return Sent::PassedOver(fate, format!("{}: {}", checked.prospect.name(), checked.why));
        }
        let sending = Sending {
            replay: self.replay,
            may: &checked.may,
            seen: checked.seen.as_deref(),
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
