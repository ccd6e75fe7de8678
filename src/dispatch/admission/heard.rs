//! What an answer says of the target, and what of the order.

use std::time::Duration;

use tokio::time::Instant;

use super::breaker::{About, Weight};
use super::{Admission, State, Turn};
use crate::protocol::{Code, Request, Trouble, Verdict};
use crate::telemetry::field;

/// What an answer comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dispatch) struct Heard {
    /// What it means for the order.
    pub(in crate::dispatch) verdict: Verdict,
    /// The target is in trouble, and nobody sees to its end yet: the caller must.
    pub(in crate::dispatch) must_keep: bool,
    /// It was this answer that opened the breaker.
    pub(in crate::dispatch) opened: bool,
}

impl Admission {
    /// What an answer to a request for an order says, sent under this turn at `sent`. `dice` is a draw
    /// from `0.0..1.0`.
    pub(in crate::dispatch) fn heard(
        &self,
        turn: &mut Turn<'_>,
        (order, request): (u64, Request),
        sent: Instant,
        verdict: Verdict,
        dice: f64,
    ) -> Heard {
        let (now, sent) = (self.now(), sent.saturating_duration_since(self.born));
        let mut state = self.state();
        let mut heard = Heard { verdict, must_keep: false, opened: false };
        let (code, weight) = match verdict {
            Verdict::Done | Verdict::Not(Trouble::Conflict(_) | Trouble::Refused(_)) => {
                let in_flight = state.in_flight;
                state.throttle.accepted(sent, in_flight, now);
                state.singled.taken(order, request, sent);
                if request == Request::Get {
                    if verdict != Verdict::Done {
                        // Whoever answers for a service that is away may say so of every order.
                        return heard;
                    }
                    state.shown = state.shown.max(Some(sent));
                }
                state.breaker.lived(order, request, turn.epoch, [sent, now]);
                turn.lived = true;
                return heard;
            }
            Verdict::Not(Trouble::Throttled { code, retry_after }) => {
                turn.failed = true;
                let open = state.throttle.open_after(sent, retry_after, dice, now);
                if state.singled.refused((order, request), sent, open) {
                    // Nothing of it is about the target, or about others.
                    heard.verdict = Verdict::Not(Trouble::Failure(Code::ThrottledAlone));
                    return heard;
                }
                if state.throttle.refused(sent, retry_after, dice, now) {
                    state.tell_refusal(code, now);
                }
                heard.must_keep = self.trouble(&mut state);
                return heard;
            }
            Verdict::Not(Trouble::Failure(code)) => (code, Weight::Failure),
            Verdict::Not(Trouble::Systemic(code)) if code.is_alike_for_all() => {
                (code, Weight::Alike)
            }
            Verdict::Not(Trouble::Systemic(code)) => (code, Weight::Strange),
            // Only said here.
            Verdict::Not(Trouble::Outage(_)) => return heard,
        };
        turn.failed = true;
        match state.breaker.failed(order, (request, code), weight, turn.epoch, now) {
            About::Order => {}
            About::Target => heard.verdict = Verdict::Not(Trouble::Outage(code)),
            About::Opened => {
                heard.verdict = Verdict::Not(Trouble::Outage(code));
                heard.opened = true;
                heard.must_keep = self.opened(&mut state, code);
            }
        }
        heard
    }
}

impl State {
    pub(super) fn tell_refusal(&self, code: Code, now: Duration) {
        let (reason, throttle) = (code.as_str(), &self.throttle);
        let shut_for = throttle.shut_until().saturating_sub(now);
        let (limit, rate) = (throttle.limit(), throttle.rate(now));
        tracing::warn!(
            { field::REASON } = reason,
            ?shut_for,
            limit,
            rate,
            "the target refuses; nothing is sent to it"
        );
    }
}
