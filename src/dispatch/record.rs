//! Writes down what an attempt does, while it does it.

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{Attempt, Trail};
use crate::order::{ETag, OrderKey};
use crate::protocol::{Code, Complaint, Reply, Settlement, Step};
use crate::telemetry::{field, trace};

/// Characters of the service's error code that are kept.
const CODE_CHARACTERS_MAX: usize = 128;

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
            | Step::Wait(_)
            | Step::Ask(_) => {}
        }
        record
    }
}

impl Attempt {
    pub(super) fn log(&self, order: &OrderKey) {
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
