//! While the target is in trouble: how it is found out, who sees to its end, and what follows.

use tokio::sync::SemaphorePermit;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use std::time::Duration;

use super::breaker::{Open, Works};
use super::{Admission, Heard, State};
use crate::protocol::{Code, Request, Trouble, Verdict};
use crate::telemetry::field;

/// What is done while the target is in trouble.
pub(in crate::dispatch) enum Keeping {
    /// Look whether it works.
    Look {
        /// For [`Admission::looked`].
        epoch: u64,
    },
    /// Look again then, or when something changed.
    At(Instant),
    /// The trouble is over.
    Done,
}

impl Admission {
    /// Whether the target works, as far as is known, for an order that has spent all its failures: the
    /// last one by this request, in this epoch. The first one was at `times[0]`, the last but one at
    /// `times[1]`. `None`: look.
    pub(in crate::dispatch) fn works(
        &self,
        order: u64,
        last: (Request, Code),
        times: [Instant; 2],
        epoch: u64,
    ) -> (Option<bool>, Heard) {
        let now = self.now();
        let times = times.map(|at| at.saturating_duration_since(self.born));
        let mut state = self.state();
        let verdict = Verdict::Not(Trouble::Outage(last.1));
        let mut heard = Heard { verdict, must_keep: false, opened: false };
        let works = match state.breaker.works(order, last, times, epoch, now) {
            Works::Yes => Some(true),
            Works::No => Some(false),
            Works::Unknown => None,
            Works::Opened => {
                heard.opened = true;
                heard.must_keep = self.opened(&mut state, last.1);
                Some(false)
            }
        };
        (works, heard)
    }

    /// Whether the target shows orders, as far as is known, for one that it refused to show to a GET sent
    /// at `sent`, in this epoch. `None`: look.
    pub(in crate::dispatch) fn shows(&self, sent: Instant, epoch: u64) -> Option<bool> {
        let sent = sent.saturating_duration_since(self.born);
        let state = self.state();
        if epoch != state.breaker.epoch() {
            return Some(false);
        }
        // Sent after it: what was shown before it says nothing of the time in which it was refused.
        state.shown.is_some_and(|shown| shown >= sent).then_some(true)
    }

    /// One look at the target at a time.
    pub(in crate::dispatch) async fn looking(&self) -> Option<SemaphorePermit<'_>> {
        self.look.acquire().await.ok()
    }

    /// What a look at the target came to. Whether it works is `None` where it refused to say.
    pub(in crate::dispatch) fn looked(
        &self,
        epoch: u64,
        verdict: Verdict,
        sent: Instant,
        dice: f64,
    ) -> (Option<bool>, Heard) {
        let (now, sent) = (self.now(), sent.saturating_duration_since(self.born));
        let mut state = self.state();
        let mut heard = Heard { verdict, must_keep: false, opened: false };
        let works = match verdict {
            Verdict::Done => {
                state.shown = state.shown.max(Some(sent));
                state.breaker.seen(epoch, now);
                self.close(&mut state, epoch, now);
                Some(true)
            }
            Verdict::Not(Trouble::Throttled { code, retry_after }) => {
                if state.throttle.refused(sent, retry_after, dice, now) {
                    state.tell_refusal(code, now);
                }
                heard.must_keep = self.trouble(&mut state);
                None
            }
            // A refusal as well: there is no order that it could be about.
            Verdict::Not(
                Trouble::Failure(code)
                | Trouble::Systemic(code)
                | Trouble::Outage(code)
                | Trouble::Conflict(code)
                | Trouble::Refused(code),
            ) => {
                if state.breaker.looked_dead(code, epoch, now) {
                    heard.opened = true;
                    heard.must_keep = self.opened(&mut state, code);
                }
                Some(false)
            }
        };
        (works, heard)
    }

    /// What is to be done about the target's trouble.
    pub(in crate::dispatch) fn keep(&self) -> Keeping {
        let now = self.now();
        let is_waited_for = self.line.waiting() > 0;
        let mut state = self.state();
        let shut_until = state.throttle.shut_until();
        let Some(due) = state.breaker.probe_due().map(|due| due.max(shut_until)) else {
            if now < shut_until {
                return Keeping::At(self.born + shut_until);
            }
            state.kept = false;
            self.paused.send_replace(false);
            return Keeping::Done;
        };
        if now < due {
            return Keeping::At(self.born + due);
        }
        if is_waited_for && !state.breaker.wants_look() {
            // An update goes first. Should it not, look again soon.
            return Keeping::At(self.born + now + Duration::from_millis(100));
        }
        state.breaker.probe(now);
        self.changed.notify_waiters();
        Keeping::Look { epoch: state.breaker.epoch() }
    }

    /// Completes when something changed. To be registered before the look.
    pub(in crate::dispatch) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    pub(super) fn opened(&self, state: &mut State, code: Code) -> bool {
        let reason = code.as_str();
        match state.breaker.open().map_or(Request::Get, |open| open.cause) {
            Request::Get => tracing::warn!(
                { field::REASON } = reason,
                "the target does not work; everything waits for it"
            ),
            Request::Patch => tracing::warn!(
                { field::REASON } = reason,
                "the target does not work: writes fail, and none is answered; everything waits for one \
                 that is. Should these orders be bad by themselves, one update of another tells"
            ),
        }
        self.trouble(state)
    }

    /// True where somebody must begin to see to its end.
    pub(super) fn trouble(&self, state: &mut State) -> bool {
        self.paused.send_replace(true);
        self.changed.notify_waiters();
        !std::mem::replace(&mut state.kept, true)
    }

    pub(super) fn close(&self, state: &mut State, epoch: u64, now: Duration) {
        if let Some(Open { since, .. }) = state.breaker.close(epoch, now) {
            let down_for = now.saturating_sub(since);
            tracing::warn!(?down_for, "the target works again");
            state.throttle.slow_start();
            self.changed.notify_waiters();
        }
    }
}
