//! Writes down what an attempt does, while it does it.

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{Attempt, Held, Trail};
use crate::order::{ETag, OrderKey};
use crate::protocol::{Code, Complaint, Reply, Settlement, Step};
use crate::telemetry::{field, trace};

/// Characters of the service's error code that are kept.
const CODE_CHARACTERS_MAX: usize = 128;
/// The outcome of an attempt that was broken off, by no word of the service: its channel was lost, or the broker was not heard
/// of for too long to write what it had seen.
pub(super) const ABORTED: &str = "aborted";

/// How a walk ended.
pub(super) enum Ended {
    Settled(Settlement),
    /// A drain, or the channel is gone: the broker keeps the message.
    Released,
}

/// What a walk leaves behind.
pub(super) struct Walked {
    pub(super) attempts: Vec<Attempt>,
    /// Whether it met a conflict.
    pub(super) conflicts: bool,
    /// Whether a PATCH was sent of which nobody knows what became.
    pub(super) unsure: bool,
    /// The order's ETag at its end, as far as is known.
    pub(super) etag: Option<ETag>,
    /// What the update would change, as the last GET showed it, unless that was settled.
    pub(super) seen: Option<String>,
    /// Whether those who were written together with it have come to the same end.
    pub(super) together: bool,
}

/// An attempt under way, with the right to make it.
pub(super) struct Running<T> {
    pub(super) trail: Trail,
    pub(super) begun: Instant,
    pub(super) record: Attempt,
    /// What the GET brought.
    pub(super) order: Option<Bytes>,
    pub(super) turn: T,
}

impl<T> Running<T> {
    pub(super) fn new(number: u32, trail: Trail, at: Timestamp, turn: T) -> Self {
        let record = Attempt {
            number,
            at,
            milliseconds: 0,
            get_status: None,
            patch_status: None,
            etag_seen: None,
            etag_sent: None,
            outcome: "",
            message: String::new(),
            request_id: trail.attempt,
            service_request_id: None,
            error_code: None,
        };
        Self { trail, begun: Instant::now(), record, order: None, turn }
    }

    /// It is over, and this is the step that follows.
    pub(super) fn end(self, step: &Step) -> Attempt {
        let Self { begun, mut record, .. } = self;
        record.milliseconds = milliseconds(begun);
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
            | Step::Wait(_)
            | Step::Ask(_) => {}
        }
        record
    }

    /// It was given up with its channel: whether what it sent came about, nobody will know.
    pub(super) fn abort(self) -> Attempt {
        let Self { begun, record, .. } = self;
        Attempt { outcome: ABORTED, milliseconds: milliseconds(begun), ..record }
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Attempt {
    /// Tells the whole story where it is the only attempt: what came, from where and when, and what came
    /// of it.
    pub(super) fn log(&self, order: &OrderKey, held: &impl Held) {
        tracing::info!(
            { field::ORDER } = %order,
            { field::ATTEMPT } = self.number,
            { field::OUTCOME } = self.outcome,
            { field::GET_STATUS } = self.get_status,
            { field::PATCH_STATUS } = self.patch_status,
            { field::ETAG_SEEN } = self.etag_seen.as_ref().map(ETag::as_str),
            { field::ETAG_SENT } = self.etag_sent.as_ref().map(ETag::as_str),
            { field::MILLISECONDS } = self.milliseconds,
            { field::REQUEST_ID } = %self.request_id,
            { field::SERVICE_REQUEST_ID } = self.service_request_id.as_deref(),
            { field::MESSAGE_ID } = held.message_id(),
            { field::QUEUE } = &**held.queue(),
            { field::HELD_MILLISECONDS } = milliseconds(held.arrived()),
            { field::TRACE_ID } = trace::trace_id(),
            "attempt"
        );
    }
}

/// Keeps what helps to find the request at the service, and what it said if it was no success.
pub(super) fn note_reply(reply: &Reply, record: &mut Attempt) {
    let Ok(answer) = reply else { return };
    record.service_request_id.clone_from(&answer.service_request_id);
    if answer.status >= 400 {
        let Complaint { message, kind, code } = Complaint::read(&answer.body);
        record.message = message;
        // The type says more where there is one; Finance & Operations gives no code.
        let code = [kind, code].into_iter().find(|text| !text.is_empty());
        record.error_code = code.map(|code| code.chars().take(CODE_CHARACTERS_MAX).collect());
    }
}
