//! One handling of one message: from its first GET to what comes of it.

use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until};

use super::admission::Turn;
use super::card::{Card, Doing};
use super::record::{Ended, Running, Walked, note_reply};
use super::{Attempt, Effects, Held, Shared, Trail};
use crate::order::{ETag, OrderUpdate};
use crate::protocol::{
    self, Asking, Code, Fetch, Fetching, Judgement, Patching, Request, Settlement, Step, Trouble,
    Verdict, Waiting,
};

/// Longest wait of a suspect before it queues up for its first turn: what makes their order random.
const SUSPECT_WAIT_MAX: Duration = Duration::from_millis(500);
/// Most attempts that are kept. The budgets allow fewer; an outage is waited out at every length.
const ATTEMPTS_MAX: usize = 64;

/// One handling of one message.
pub(super) struct Walk<'a, E: Effects> {
    shared: &'a Arc<Shared<E>>,
    update: &'a OrderUpdate,
    held: &'a E::Held,
    /// Tells those who ask.
    card: &'a Card,
    id: uuid::Uuid,
    /// Tells orders apart for the breaker.
    order: u64,
    attempts: Vec<Attempt>,
    /// Attempts so far, those that are not kept included.
    made: u32,
    conflicts: bool,
    /// A PATCH was sent of which nobody knows what became.
    unsure: bool,
    /// The order's, as far as is known.
    etag: Option<ETag>,
    /// What the update would change, as the last GET showed it.
    seen: Option<String>,
    /// The last failure, and when the one before it was.
    failed: Option<Failed>,
    /// How often the target had been down when the last attempt began.
    epoch: Option<u64>,
}

/// A failure of the target, or of this order at it.
#[derive(Clone, Copy)]
struct Failed {
    /// The first one of these that have been spent.
    begun: Instant,
    at: Instant,
    since: Instant,
    request: Request,
}

/// The right to make one attempt.
pub(super) struct Turns<'a> {
    /// Among all that may be sent to the target.
    turn: Turn<'a>,
    /// Of a suspect: no other one is at work.
    _alone: Option<SemaphorePermit<'a>>,
}

impl<'a, E: Effects> Walk<'a, E> {
    pub(super) fn new(
        shared: &'a Arc<Shared<E>>,
        (update, held): (&'a OrderUpdate, &'a E::Held),
        card: &'a Card,
    ) -> Self {
        let mut hasher = DefaultHasher::new();
        update.key.canonical().hash(&mut hasher);
        Self {
            shared,
            update,
            held,
            card,
            id: shared.effects.uuid(),
            order: hasher.finish(),
            attempts: Vec::new(),
            made: 0,
            conflicts: false,
            unsure: false,
            etag: None,
            seen: None,
            failed: None,
            epoch: None,
        }
    }

    pub(super) fn end(self) -> Walked {
        let Self { attempts, conflicts, unsure, etag, seen, .. } = self;
        Walked { attempts, conflicts, unsure, etag, seen }
    }

    pub(super) async fn run(&mut self) -> Ended {
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
        if self.pass(begun).await.is_none() {
            return Ended::Released;
        }
        let mut step = protocol::start();
        // With its turn: held for one attempt and never while waiting.
        let mut running: Option<Running<Turns<'a>>> = None;
        loop {
            let next = match step {
                Step::Get(fetching) => self.get(fetching, suspect, &mut running).await,
                Step::Patch(patching) => self.patch(patching, &mut running).await,
                Step::Wait(waiting) => self.wait(waiting).await,
                // Rare, and large.
                Step::Ask(asking) => Box::pin(self.ask(asking)).await,
                Step::Settle(settlement) => return Ended::Settled(settlement),
            };
            match next {
                Some(next) => step = next,
                None => return Ended::Released,
            }
        }
    }

    /// As [`Shared::pass`].
    async fn pass<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        self.shared.pass(self.held, wait).await
    }

    /// Waits for a turn. `None` as in [`Self::pass`].
    ///
    /// A message whose holders were lost again and again may be what kills them. Suspects are worked
    /// on one at a time and in random order: when the process dies, only one of them was at work, so
    /// the innocent get settled one after the other, and only the guilty one's losses go on rising.
    async fn turn(&self, suspect: bool) -> Option<Turns<'a>> {
        let shared: &'a Shared<E> = self.shared;
        self.card.doing(Doing::Turn);
        self.pass(async {
            let alone = if suspect { shared.alone.acquire().await.ok() } else { None };
            Turns { turn: shared.admission.enter().await, _alone: alone }
        })
        .await
    }

    async fn wait(&self, waiting: Waiting) -> Option<Step> {
        self.card.doing(Doing::Backoff);
        let dice = self.shared.effects.dice();
        self.pass(sleep(waiting.duration(dice, &self.shared.limits.rules))).await?;
        self.shared.tally.retry();
        Some(waiting.elapsed())
    }

    /// All that may fail has failed: is it the target, or this order?
    async fn ask(&self, asking: Asking) -> Option<Step> {
        let (Some(failed), Some(epoch)) = (self.failed, self.epoch) else {
            return Some(asking.on_answer(true));
        };
        self.card.doing(Doing::Asking);
        let last = (failed.request, asking.code());
        let times = [failed.begun, failed.since];
        let works = self.pass(self.shared.works(self.order, last, times, epoch)).await?;
        Some(asking.on_answer(works))
    }

    /// Begins an attempt. `None` as in [`Self::pass`]: a drain begins no attempt, nor does a message that
    /// somebody else gets again; or if the channel was lost meanwhile.
    async fn get(
        &mut self,
        mut fetching: Fetching,
        suspect: bool,
        running: &mut Option<Running<Turns<'a>>>,
    ) -> Option<Step> {
        let turns = self.turn(suspect).await?;
        let epoch = turns.turn.epoch();
        if self.epoch.replace(epoch).is_some_and(|before| before != epoch) {
            fetching = fetching.afresh();
            self.failed = None;
        }
        self.shared.tally.attempt();
        self.card.attempt();
        let trail = Trail { walk: self.id, attempt: self.shared.effects.uuid() };
        self.made = self.made.saturating_add(1);
        let mut attempt = Running::new(self.made, trail, self.shared.effects.now(), turns);
        if !self.held.is_live() {
            return self.aborted(attempt);
        }
        let reply = tokio::select! { biased;
            () = self.held.lost() => return self.aborted(attempt),
            reply = self.shared.effects.get(&self.update.key, trail) => reply,
        };
        attempt.record.get_status = reply.as_ref().ok().map(|answer| answer.status);
        let (guard, texts) = (&self.shared.guard, &self.shared.texts);
        let mut fetch = protocol::fetch(&reply, self.update, guard, texts);
        let sent = attempt.begun;
        let verdict = self.hear(Request::Get, sent, fetch.verdict(), &mut attempt);
        match (&mut fetch, verdict) {
            (Fetch::Found(etag, judgement), _) => {
                self.card.saw(etag);
                attempt.record.etag_seen = Some(etag.clone());
                self.etag = Some(etag.clone());
                if !matches!(judgement, Judgement::Outdated | Judgement::AlreadyApplied) {
                    attempt.record.message = protocol::objection(&reply, self.update, guard, etag);
                }
                attempt.order = reply.as_ref().ok().map(|answer| answer.body.clone());
            }
            (Fetch::Missed(trouble), Verdict::Not(heard)) => *trouble = heard,
            (Fetch::Missed(_), Verdict::Done) => {}
        }
        note_reply(&reply, &mut attempt.record);
        let step = fetching.on_fetch(fetch, &self.shared.limits.rules);
        if matches!(step, Step::Patch(_)) {
            *running = Some(attempt);
        } else {
            self.over(&step, attempt);
        }
        Some(step)
    }

    /// `None` if the channel was lost meanwhile: somebody else may get the message now. Looks just before
    /// the write whether it lives: between the GET and this line the process may have stood still for an
    /// hour.
    async fn patch(
        &mut self,
        patching: Patching,
        running: &mut Option<Running<Turns<'a>>>,
    ) -> Option<Step> {
        // No PATCH without its GET.
        let mut attempt = running.take()?;
        self.card.doing(Doing::Turn);
        let admission = &self.shared.admission;
        let due = admission.write(&attempt.turn.turn);
        if let Ok(due) = due {
            tokio::select! { biased;
                () = self.held.ending() => {}
                () = self.shared.stop.cancelled() => {}
                () = sleep_until(due) => {}
            }
        }
        if let Err(code) = due.and_then(|_waited| admission.may_write(&attempt.turn.turn)) {
            // Now it would only be refused, or be one more that nobody knows the outcome of.
            attempt.record.outcome = code.as_str();
            let step = patching.not_sent();
            self.over(&step, attempt);
            return Some(step);
        }
        if !self.held.is_live() {
            return self.aborted(attempt);
        }
        let (key, etag, sent) = (&self.update.key, patching.etag(), Instant::now());
        attempt.record.etag_sent = Some(etag.clone());
        let body = self.shared.guard.body(self.update);
        // Until it is answered, whatever ends the walk: a lost channel, or a panic.
        let before = std::mem::replace(&mut self.unsure, true);
        self.card.doing(Doing::Patch);
        let reply = tokio::select! { biased;
            () = self.held.lost() => return self.aborted(attempt),
            reply = self.shared.effects.patch(self.held, key, etag, &body, attempt.trail) => reply,
        };
        attempt.record.patch_status = reply.as_ref().ok().map(|answer| answer.status);
        let verdict = protocol::verdict::verdict(Request::Patch, &reply, &self.shared.texts);
        let verdict = self.hear(Request::Patch, sent, verdict, &mut attempt);
        self.unsure = before || matches!(verdict, Verdict::Not(trouble) if trouble.leaves_doubt());
        if verdict == Verdict::Done {
            self.etag = reply.as_ref().ok().and_then(|answer| answer.etag.clone());
        }
        note_reply(&reply, &mut attempt.record);
        let step = patching.on_verdict(verdict, &self.shared.limits.rules);
        self.over(&step, attempt);
        Some(step)
    }

    /// Tells what an answer says of the target, and learns what it says of the order.
    fn hear(
        &mut self,
        request: Request,
        sent: Instant,
        verdict: Verdict,
        attempt: &mut Running<Turns<'a>>,
    ) -> Verdict {
        let Turns { turn, .. } = &mut attempt.turn;
        let verdict = self.shared.hear(turn, (self.order, request), sent, verdict);
        let Verdict::Not(trouble) = verdict else { return verdict };
        self.shared.tally.trouble(trouble);
        self.conflicts |= matches!(trouble, Trouble::Conflict(_));
        if matches!(trouble, Trouble::Failure(_) | Trouble::Systemic(_)) {
            let at = Instant::now();
            let (begun, since) =
                self.failed.map_or((at, attempt.begun), |before| (before.begun, before.at));
            self.failed = Some(Failed { begun, at, since, request });
        }
        attempt.record.outcome = trouble.code().as_str();
        verdict
    }

    /// The channel was lost: somebody else may get the message now.
    fn aborted(&self, attempt: Running<Turns<'a>>) -> Option<Step> {
        attempt.abort().log(&self.update.key, self.held);
        None
    }

    /// An attempt is over, and its turn with it.
    fn over(&mut self, step: &Step, mut attempt: Running<Turns<'a>>) {
        // Only a dead letter shows it, and this may become one.
        let is_done =
            matches!(step, Step::Settle(settled) if !matches!(settled, Settlement::DeadLetter(_)));
        if let Some(order) = attempt.order.take().filter(|_| !is_done) {
            self.seen = protocol::concerned(&order, self.update, &self.shared.guard);
        }
        let record = attempt.end(step);
        record.log(&self.update.key, self.held);
        if self.attempts.len() >= ATTEMPTS_MAX {
            // The first one is kept: it tells how it began.
            self.attempts.remove(1);
        }
        self.attempts.push(record);
    }
}
