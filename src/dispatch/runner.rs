//! The task of one busy order: performs the steps that the protocol asks for, one update after the
//! other, and decides nothing itself.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep};

use super::{Attempt, Effects, Held, Job, Letter, Shared, Trail};
use crate::order::{ETag, OrderUpdate};
use crate::protocol::{
    self, Code, Complaint, Fetch, Fetching, Judgement, Patching, Reply, Request, Settlement, Step,
    Trouble, Verdict, Waiting,
};
use crate::telemetry::field;

/// Longest wait of a suspect before it queues up for its first turn: what makes their order random.
const SUSPECT_WAIT_MAX: Duration = Duration::from_millis(500);

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
            job = self.shared.router.next(&self.key, |job| !stopping && job.held.may_begin());
        }
    }

    async fn handle(&self, job: Job<E::Held>) {
        let Job { update, held, first_seen } = job;
        // Not begun, so not counted as given back: the broker hands it out again.
        let Some(begun) = held.begin() else { return };
        let mut walk = Walk {
            shared: &self.shared,
            update: &update,
            held: &held,
            id: self.shared.effects.uuid(),
            attempts: Vec::new(),
            conflicts: false,
            unsure: false,
        };
        // The receipt stays out here: a panic in the walk costs this message its handling, never
        // its settlement.
        let ended = AssertUnwindSafe(walk.run()).catch_unwind().await;
        let Walk { attempts, conflicts, unsure, .. } = walk;
        if unsure && !matches!(ended, Ok(Ended::Settled(Settlement::Applied))) {
            E::Held::doubt(&begun);
        }
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
                Settlement::Applied | Settlement::AlreadyApplied | Settlement::Superseded => {
                    self.shared.effects.ack(held).await
                }
                Settlement::DeadLetter(code) => {
                    let letter = Letter::of(code, self.key.clone(), attempts, first_seen);
                    self.shared.effects.dead_letter(held, letter).await
                }
            }
        });
        let done = settling.catch_unwind().await.unwrap_or_else(|_panic| {
            // The receipt went with it: what waits behind this message must not overtake it.
            tracing::error!({ field::ORDER } = %self.key, "a bug: settling this message panicked");
            E::Held::give_up_channel(&begun);
            false
        });
        self.shared.tally.settled(settlement, conflicts, done);
        // That PATCH may still be at work, and it would land on the next update's state.
        if unsure && matches!(settlement, Settlement::DeadLetter(_)) {
            tokio::select! { biased;
                () = self.shared.stop.cancelled() => {}
                () = sleep(self.shared.limits.settle_window) => {}
            }
        }
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
    /// A PATCH was sent of which nobody knows what became.
    unsure: bool,
}

/// The right to make one attempt.
struct Turn<'a> {
    /// Among `concurrency_max`.
    _place: SemaphorePermit<'a>,
    /// Of a suspect: no other one is at work.
    _alone: Option<SemaphorePermit<'a>>,
}

/// An attempt under way.
struct Running {
    trail: Trail,
    begun: Instant,
    record: Attempt,
}

impl<'a, E: Effects> Walk<'a, E> {
    async fn run(&mut self) -> Ended {
        let losses = self.held.losses();
        if losses >= self.shared.limits.losses_max {
            return Ended::Settled(Settlement::DeadLetter(Code::CrashLoop));
        }
        let suspect = losses >= self.shared.limits.losses_suspect;
        let begun = async {
            self.held.settled().await;
            if suspect {
                sleep(SUSPECT_WAIT_MAX.mul_f64(self.shared.effects.dice())).await;
            }
        };
        if !self.pass(begun).await {
            return Ended::Released;
        }
        let mut step = protocol::start();
        // Held for one attempt and never while waiting.
        let mut turn: Option<Turn<'a>> = None;
        let mut running: Option<Running> = None;
        loop {
            step = match step {
                Step::Get(fetching) => {
                    // A last look comes straight after a PATCH: never wait for a turn while holding one.
                    drop(turn.take());
                    // A drain begins no attempt; nor does a message that somebody else gets again.
                    turn = self.turn(suspect).await;
                    if turn.is_none() {
                        return Ended::Released;
                    }
                    let mut attempt = self.begin();
                    let Some(step) = self.get(fetching, &mut attempt).await else {
                        return Ended::Released;
                    };
                    running = self.end_unless_patching(&step, attempt);
                    step
                }
                Step::Patch(patching) => {
                    let mut attempt = running.take().unwrap_or_else(|| self.begin());
                    let Some(step) = self.patch(patching, &mut attempt).await else {
                        return Ended::Released;
                    };
                    self.end(&step, attempt);
                    step
                }
                Step::Wait(waiting) => {
                    drop(turn.take());
                    if !self.wait(&waiting).await {
                        return Ended::Released;
                    }
                    self.shared.tally.retry();
                    waiting.elapsed()
                }
                Step::Settle(settlement) => {
                    drop(turn.take());
                    return Ended::Settled(settlement);
                }
            };
        }
    }

    /// Lets something pass. False on a drain, or when the message is to be given back: neither waits
    /// for a backoff.
    async fn pass(&self, wait: impl Future<Output = ()>) -> bool {
        tokio::select! { biased; // Stop wins over new work.
            () = self.shared.stop.cancelled() => false,
            () = self.held.ending() => false,
            () = wait => true,
        }
    }

    /// Waits for a turn. `None` as in [`Self::pass`].
    ///
    /// A message whose holders were lost again and again may be what kills them. Suspects are worked
    /// on one at a time and in random order: when the process dies, only one of them was at work, so
    /// the innocent get settled one after the other, and only the guilty one's losses go on rising.
    async fn turn(&self, suspect: bool) -> Option<Turn<'a>> {
        let mut turn = None;
        let passed = self.pass(async {
            let alone = if suspect { self.shared.alone.acquire().await.ok() } else { None };
            let place = self.shared.places.acquire().await.ok();
            turn = place.map(|place| Turn { _place: place, _alone: alone });
        });
        let passed = passed.await;
        turn.filter(|_| passed)
    }

    async fn wait(&self, waiting: &Waiting) -> bool {
        let dice = self.shared.effects.dice();
        self.pass(sleep(waiting.duration(dice, &self.shared.limits.rules))).await
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

    /// `None` if the channel was lost meanwhile: somebody else may get the message now.
    async fn get(&mut self, fetching: Fetching, attempt: &mut Running) -> Option<Step> {
        if !self.held.is_live() {
            return None;
        }
        let reply = tokio::select! { biased;
            () = self.held.lost() => return None,
            reply = self.shared.effects.get(&self.update.key, attempt.trail) => reply,
        };
        attempt.record.get_status = reply.as_ref().ok().map(|answer| answer.status);
        let fetch = protocol::fetch(&reply, self.update, &self.shared.guard);
        match &fetch {
            Fetch::Found(etag, judgement) => {
                attempt.record.etag_seen = Some(etag.clone());
                if matches!(judgement, Judgement::Superseded | Judgement::Refused(_)) {
                    let guard = &self.shared.guard;
                    attempt.record.message = protocol::objection(&reply, self.update, guard);
                }
            }
            Fetch::Missed(trouble) => self.note(*trouble, attempt),
        }
        note_reply(&reply, attempt);
        Some(fetching.on_fetch(fetch, &self.shared.limits.rules))
    }

    /// `None` as in [`Self::get`]. Looks just before the write whether the channel lives: between the
    /// GET and this line the process may have stood still for an hour.
    async fn patch(&mut self, patching: Patching, attempt: &mut Running) -> Option<Step> {
        if !self.held.is_live() {
            return None;
        }
        let (key, etag) = (&self.update.key, patching.etag().clone());
        let body = self.shared.guard.body(self.update);
        let reply = tokio::select! { biased;
            () = self.held.lost() => return None,
            reply = self.shared.effects.patch(key, &etag, &body, attempt.trail) => reply,
        };
        attempt.record.etag_sent = Some(etag);
        attempt.record.patch_status = reply.as_ref().ok().map(|answer| answer.status);
        let verdict = protocol::verdict::verdict(Request::Patch, &reply);
        if let Verdict::Not(trouble) = verdict {
            self.unsure |= matches!(trouble, Trouble::Failure { .. });
            self.note(trouble, attempt);
        }
        note_reply(&reply, attempt);
        Some(patching.on_verdict(verdict, &self.shared.limits.rules))
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
            Step::Settle(Settlement::Superseded) => record.outcome = Code::Superseded.as_str(),
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
