//! The task of one busy order: performs the steps that the protocol asks for, one update after the
//! other, and decides nothing itself.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use super::{Attempt, Effects, Held, Job, Letter, Shared, Trail};
use crate::order::{ETag, OrderUpdate};
use crate::protocol::{
    self, Code, Complaint, Fetch, Fetching, Patching, Reply, Request, Settlement, Step, Trouble,
    Verdict, Waiting,
};
use crate::telemetry::field;

pub(super) struct Runner<E: Effects> {
    pub(super) shared: Arc<Shared<E>>,
    pub(super) key: Arc<str>,
}

/// How a walk ended.
enum Ended {
    Settled(Settlement),
    /// A drain, or the channel is gone: the broker keeps the message.
    Released,
}

impl<E: Effects> Runner<E> {
    /// Works until the order's mailbox is empty or the drain begins.
    pub(super) async fn run(self, first: Job<E::Held>) {
        let mut job = Some(first);
        while let Some(next) = job {
            self.handle(next).await;
            let stopping = self.shared.stop.is_cancelled();
            job = self.shared.router.next(&self.key, |job| !stopping && job.held.is_live());
        }
    }

    async fn handle(&self, job: Job<E::Held>) {
        let Job { update, held, first_seen } = job;
        let mut walk = Walk {
            shared: &self.shared,
            update: &update,
            held: &held,
            id: self.shared.effects.uuid(),
            attempts: Vec::new(),
            conflicts: false,
        };
        // The receipt stays out here: a panic in the walk costs this message its handling, never
        // its settlement.
        let ended = AssertUnwindSafe(walk.run()).catch_unwind().await;
        let Walk { attempts, conflicts, .. } = walk;
        let settlement = match ended {
            Ok(Ended::Settled(settlement)) => settlement,
            Ok(Ended::Released) => return self.shared.tally.released(),
            Err(_panic) => {
                tracing::error!({ field::ORDER } = %self.key, "a bug: handling this message panicked");
                Settlement::DeadLetter(Code::Bug)
            }
        };
        // A dead letter for a message that is redelivered anyway would be a second one.
        if !held.is_live() {
            return self.shared.tally.settled(settlement, conflicts, false);
        }
        let settling = AssertUnwindSafe(async {
            match settlement {
                Settlement::Applied | Settlement::AlreadyApplied => {
                    self.shared.effects.ack(held).await
                }
                Settlement::DeadLetter(code) => {
                    let letter = self.letter(code, attempts, first_seen);
                    self.shared.effects.dead_letter(held, letter).await
                }
            }
        });
        let done = settling.catch_unwind().await.unwrap_or(false);
        self.shared.tally.settled(settlement, conflicts, done);
    }

    fn letter(&self, code: Code, attempts: Vec<Attempt>, first_seen: jiff::Timestamp) -> Letter {
        let last = attempts.last();
        let detail = match last.map(|attempt| (attempt.message.as_str(), attempt)) {
            None => "the message was not tried".to_owned(),
            Some(("", attempt)) => {
                let status = attempt.patch_status.or(attempt.get_status);
                let status =
                    status.map_or("no answer".to_owned(), |status| format!("HTTP {status}"));
                format!(
                    "{} after {} attempt(s), the last one: {status}",
                    code.as_str(),
                    attempts.len()
                )
            }
            Some((message, _)) => message.to_owned(),
        };
        Letter { code: code.as_str(), detail, order: Some(self.key.clone()), attempts, first_seen }
    }
}

/// One handling of one message.
struct Walk<'a, E: Effects> {
    shared: &'a Shared<E>,
    update: &'a OrderUpdate,
    held: &'a E::Held,
    id: uuid::Uuid,
    attempts: Vec<Attempt>,
    conflicts: bool,
}

/// An attempt under way.
struct Running {
    trail: Trail,
    begun: Instant,
    record: Attempt,
}

impl<'a, E: Effects> Walk<'a, E> {
    async fn run(&mut self) -> Ended {
        let mut step = protocol::start();
        // A place among concurrency_max, held for one attempt and never while waiting.
        let mut place: Option<SemaphorePermit<'a>> = None;
        let mut running: Option<Running> = None;
        loop {
            step = match step {
                Step::Get(fetching) => {
                    // A drain begins no attempt; nor does a message that somebody else gets again.
                    place = self.place().await;
                    if place.is_none() {
                        return Ended::Released;
                    }
                    let mut attempt = self.begin();
                    let step = self.get(fetching, &mut attempt).await;
                    running = self.end_unless_patching(&step, attempt);
                    step
                }
                Step::Patch(patching) => {
                    let mut attempt = running.take().unwrap_or_else(|| self.begin());
                    let step = self.patch(patching, &mut attempt).await;
                    self.end(&step, attempt);
                    step
                }
                Step::Wait(waiting) => {
                    drop(place.take());
                    if !self.wait(&waiting).await {
                        return Ended::Released;
                    }
                    self.shared.tally.retry();
                    waiting.elapsed()
                }
                Step::Settle(settlement) => {
                    drop(place.take());
                    return Ended::Settled(settlement);
                }
            };
        }
    }

    /// Waits for a place. `None` on a drain, or when the message is no longer ours.
    async fn place(&self) -> Option<SemaphorePermit<'a>> {
        tokio::select! { biased; // Stop wins over new work.
            () = self.shared.stop.cancelled() => None,
            () = self.held.lost() => None,
            place = self.shared.places.acquire() => place.ok(),
        }
    }

    /// False on a drain, or when the message is no longer ours: a drain never waits for a backoff.
    async fn wait(&self, waiting: &Waiting) -> bool {
        let duration: Duration = waiting.duration(self.shared.effects.dice(), &self.shared.rules);
        tokio::select! { biased;
            () = self.shared.stop.cancelled() => false,
            () = self.held.lost() => false,
            () = tokio::time::sleep(duration) => true,
        }
    }

    fn begin(&self) -> Running {
        let trail = Trail { walk: self.id, attempt: self.shared.effects.uuid() };
        let number = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX).saturating_add(1);
        let record = Attempt {
            number,
            at: self.shared.effects.now(),
            milliseconds: 0,
            get_status: None,
            patch_status: None,
            etag_seen: None,
            etag_sent: None,
            outcome: "",
            message: String::new(),
            request_id: trail.attempt,
            service_request_id: None,
        };
        Running { trail, begun: Instant::now(), record }
    }

    async fn get(&mut self, fetching: Fetching, attempt: &mut Running) -> Step {
        let reply = self.shared.effects.get(self.update, attempt.trail).await;
        attempt.record.get_status = reply.as_ref().ok().map(|answer| answer.status);
        let fetch = protocol::fetch(&reply, self.update);
        match &fetch {
            Fetch::Found(etag, _) => attempt.record.etag_seen = Some(etag.clone()),
            Fetch::Missed(trouble) => self.note(*trouble, attempt),
        }
        note_reply(&reply, attempt);
        fetching.on_fetch(fetch, &self.shared.rules)
    }

    async fn patch(&mut self, patching: Patching, attempt: &mut Running) -> Step {
        let etag: ETag = patching.etag().clone();
        let reply = self.shared.effects.patch(self.update, &etag, attempt.trail).await;
        attempt.record.etag_sent = Some(etag);
        attempt.record.patch_status = reply.as_ref().ok().map(|answer| answer.status);
        let verdict = protocol::verdict::verdict(Request::Patch, &reply);
        if let Verdict::Not(trouble) = verdict {
            self.note(trouble, attempt);
        }
        note_reply(&reply, attempt);
        patching.on_verdict(verdict, &self.shared.rules)
    }

    fn note(&mut self, trouble: Trouble, attempt: &mut Running) {
        self.shared.tally.trouble(trouble);
        self.conflicts |= matches!(trouble, Trouble::Conflict(_));
        attempt.record.outcome = trouble.code().as_str();
    }

    fn end_unless_patching(&mut self, step: &Step, attempt: Running) -> Option<Running> {
        if matches!(step, Step::Patch(_)) {
            return Some(attempt);
        }
        self.end(step, attempt);
        None
    }

    fn end(&mut self, step: &Step, attempt: Running) {
        let Running { begun, mut record, .. } = attempt;
        record.milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        match step {
            Step::Settle(Settlement::Applied) => record.outcome = "applied",
            Step::Settle(Settlement::AlreadyApplied) => record.outcome = "already_applied",
            Step::Settle(Settlement::DeadLetter(code)) if record.outcome.is_empty() => {
                record.outcome = code.as_str();
            }
            Step::Settle(Settlement::DeadLetter(_))
            | Step::Get(_)
            | Step::Patch(_)
            | Step::Wait(_) => {}
        }
        self.log(&record);
        self.attempts.push(record);
    }

    fn log(&self, record: &Attempt) {
        tracing::info!(
            { field::ORDER } = %self.update.key,
            { field::ATTEMPT } = record.number,
            { field::OUTCOME } = record.outcome,
            { field::GET_STATUS } = record.get_status,
            { field::PATCH_STATUS } = record.patch_status,
            { field::ETAG_SEEN } = record.etag_seen.as_ref().map(ETag::as_str),
            { field::ETAG_SENT } = record.etag_sent.as_ref().map(ETag::as_str),
            { field::MILLISECONDS } = record.milliseconds,
            { field::REQUEST_ID } = %record.request_id,
            { field::SERVICE_REQUEST_ID } = record.service_request_id.as_deref(),
            "attempt"
        );
    }
}

/// Keeps what helps to find the request at the service, and what it said if it was no success.
fn note_reply(reply: &Reply, attempt: &mut Running) {
    let Ok(answer) = reply else { return };
    attempt.record.service_request_id.clone_from(&answer.service_request_id);
    if answer.status >= 400 {
        attempt.record.message = Complaint::read(&answer.body).message;
    }
}
