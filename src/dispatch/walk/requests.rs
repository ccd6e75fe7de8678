//! The two requests of an attempt, and what is made of their replies.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::{ATTEMPTS_MAX, Failed, Turns, Walk};
use crate::dispatch::admission::Turn;
use crate::dispatch::card::Doing;
use crate::dispatch::record::{ABORTED, Running, note_reply};
use crate::dispatch::{Effects, Held, Leave, Moment, Trail};
use crate::protocol::{
    self, Code, Fetch, Fetching, Judgement, Patching, Reply, Request, Settlement, Step, Trouble,
    Verdict,
};

/// What came of a request.
enum Came {
    Reply(Reply),
    /// It was not written: the target may not be asked any more.
    NotSent,
    /// The message is given back.
    Over,
}

impl<'a, E: Effects> Walk<'a, E> {
    /// The first request of an attempt. `None` if the message is given back, or the channel was lost meanwhile.
    pub(super) async fn get(
        &mut self,
        mut fetching: Fetching,
        turns: Turns<'a>,
        running: &mut Option<Running<Turns<'a>>>,
    ) -> Option<Step> {
        let epoch = turns.turn.epoch();
        if self.epoch.replace(epoch).is_some_and(|before| before != epoch) {
            fetching = fetching.afresh();
            self.failed = None;
        }
        let trail = Trail { walk: self.id, attempt: self.shared.effects.uuid() };
        let number = self.made.saturating_add(1);
        let mut attempt = Running::new(number, trail, self.shared.effects.now(), turns);
        if !self.held.is_live() {
            return None;
        }
        let leave = self.leave(&attempt.turn.turn, Doing::Get, number);
        // All that was written together changes what this one changes, and more.
        let judged = self.company.in_doubt().unwrap_or(self.update);
        let came = self.came(self.shared.effects.get(judged, trail, &leave), &leave).await;
        let sent = leave.written();
        if sent.is_some() {
            self.shared.tally.attempt();
            self.made = number;
        }
        let reply = match came {
            Came::Reply(reply) => reply,
            Came::NotSent => return Some(Step::Get(fetching)),
            Came::Over if sent.is_some() => return self.aborted(attempt),
            Came::Over => return None,
        };
        let sent = sent.unwrap_or(attempt.begun);
        attempt.record.get_status = reply.as_ref().ok().map(|answer| answer.status);
        let (guard, texts) = (&self.shared.guard, &self.shared.texts);
        let mut fetch = protocol::fetch(&reply, self.update, guard, texts);
        if let Some(all) = self.company.in_doubt() {
            match protocol::fetch(&reply, all, guard, texts) {
                // What was written for all came about.
                found @ Fetch::Found(_, Judgement::AlreadyApplied) => {
                    (fetch, self.together) = (found, true);
                }
                Fetch::Found(..) => self.company.refuted(self.shared, self.update, self.card),
                Fetch::Missed(_) => {}
            }
        }
        self.asked = Some(sent);
        let verdict = self.hear(Request::Get, sent, fetch.verdict(), &mut attempt);
        match (&mut fetch, verdict) {
            (Fetch::Found(etag, judgement), _) => {
                self.card.saw(etag);
                attempt.record.etag_seen = Some(etag.clone());
                self.etag = Some(etag.clone());
                self.shared.note_shown(&self.update.key);
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
    pub(super) async fn patch(
        &mut self,
        patching: Patching,
        running: &mut Option<Running<Turns<'a>>>,
    ) -> Option<Step> {
        // No PATCH without its GET.
        let mut attempt = running.take()?;
        self.card.doing(Doing::Turn);
        let admission = &self.shared.admission;
        let is_probe = attempt.turn.turn.is_probe();
        let due = admission.write(&attempt.turn.turn);
        if let Ok(due) = due
            && due > Instant::now()
        {
            tokio::select! { biased;
                () = self.held.ending() => {}
                () = self.shared.stop.cancelled() => {}
                () = sleep_until(due) => {}
            }
        }
        if let Err(code) = due.and_then(|_waited| admission.may_write(is_probe)) {
            // Now it would only be refused, or be one more that nobody knows the outcome of.
            return Some(self.not_sent(patching, attempt, code.as_str()));
        }
        if !self.held.is_live() {
            return self.aborted(attempt);
        }
        let (key, etag) = (&self.update.key, patching.etag());
        let guard = &self.shared.guard;
        let all = self.company.form(self.shared, (self.update, self.held), self.card);
        let all = all.map(|all| guard.body(all).into_owned());
        let body = all.as_deref().map_or_else(|| guard.body(self.update), Cow::Borrowed);
        // Until it is answered, whatever ends the walk: a lost channel, or a panic.
        let before = std::mem::replace(&mut self.unsure, true);
        let leave = self.leave(&attempt.turn.turn, Doing::Patch, self.made);
        let patch = self.shared.effects.patch(key, etag, &body, attempt.trail, &leave);
        let came = self.came(patch, &leave).await;
        attempt.record.etag_sent = leave.written().map(|_at| etag.clone());
        let reply = match came {
            Came::Reply(reply) => reply,
            Came::NotSent => {
                self.unsure = before;
                // Where the target would take it, it was most likely the broker that was not heard of.
                let outcome = admission.may_write(is_probe).err().map_or(ABORTED, Code::as_str);
                return Some(self.not_sent(patching, attempt, outcome));
            }
            Came::Over => {
                // From now on it is not written either.
                self.unsure = before || !leave.withdraw();
                return self.aborted(attempt);
            }
        };
        let sent = leave.written().unwrap_or_else(Instant::now);
        attempt.record.patch_status = reply.as_ref().ok().map(|answer| answer.status);
        let verdict = protocol::verdict::verdict(Request::Patch, &reply, &self.shared.texts);
        let verdict = self.hear(Request::Patch, sent, verdict, &mut attempt);
        self.unsure = before || matches!(verdict, Verdict::Not(trouble) if trouble.leaves_doubt());
        if verdict == Verdict::Done {
            self.etag = reply.as_ref().ok().and_then(|answer| answer.etag.clone());
        }
        note_reply(&reply, &mut attempt.record);
        let rules = &self.shared.limits.rules;
        let step = match (verdict, all) {
            (_, None) => patching.on_verdict(verdict, rules),
            (Verdict::Done, Some(_)) => {
                self.together = true;
                patching.on_verdict(verdict, rules)
            }
            (Verdict::Not(trouble), Some(_)) => {
                self.company.met(trouble, (self.shared, self.update), self.card);
                let step = patching.on_merged(trouble, rules);
                if trouble.is_nobodys() {
                    self.over(&step, attempt);
                    return Some(step);
                }
                // It is no failure of this update alone: its letter does not tell of it.
                attempt.end(&step).log(&self.update.key, self.held);
                return Some(step);
            }
        };
        self.over(&step, attempt);
        Some(step)
    }

    /// The attempt ends without its PATCH.
    fn not_sent(
        &mut self,
        patching: Patching,
        mut attempt: Running<Turns<'a>>,
        outcome: &'static str,
    ) -> Step {
        self.company.part(self.shared, self.update, self.card);
        attempt.record.outcome = outcome;
        let step = patching.not_sent();
        self.over(&step, attempt);
        step
    }

    /// Leave for a request under this turn: as long as the channel lives, and the target may be asked.
    fn leave(&self, turn: &Turn<'_>, doing: Doing, attempt: u32) -> Arc<Leave> {
        self.card.doing(Doing::Queue);
        let (shared, card, life) = (self.shared.clone(), self.card.clone(), self.held.life());
        let is_probe = turn.is_probe();
        let may = move || life() && shared.admission.may_write(is_probe).is_ok();
        Arc::new(Leave::new(may, move |moment| match moment {
            Moment::Written => card.sent(doing, attempt),
            Moment::Waits => card.doing(Doing::Queue),
        }))
    }

    /// Waits for what comes of a request. A drain, or a message that is to be given back, waits for what is
    /// on the wire, and for nothing that is yet to be written.
    async fn came(&self, request: impl Future<Output = Option<Reply>>, leave: &Leave) -> Came {
        tokio::pin!(request);
        tokio::select! { biased;
            // Before the others: what can be written at once is.
            reply = &mut request => return reply.map_or(Came::NotSent, Came::Reply),
            () = self.held.ending() => {}
            () = self.shared.stop.cancelled() => {}
        }
        if leave.withdraw() {
            return Came::Over;
        }
        // Only now does a loss have to be told apart from any other end.
        tokio::select! { biased;
            () = self.held.lost() => Came::Over,
            reply = request => reply.map_or(Came::NotSent, Came::Reply),
        }
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

    /// The message is given back: somebody else may get it now.
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
