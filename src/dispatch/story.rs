//! What became of a message where the line of its last attempt does not say it. Told at `info`, because each
//! is the end of one story, and what is behind many of them is told where it happens.

use super::Held;
use crate::telemetry::{field, trace};

/// Work on it had begun, and it was given back to the broker: a drain, or its channel is gone or about to
/// be given back.
pub(super) fn given_back(order: &str, held: &impl Held) {
    trace::settled("given_back", None);
    tracing::info!(
        { field::ORDER } = order,
        { field::MESSAGE_ID } = held.message_id(),
        { field::QUEUE } = &**held.queue(),
        { field::TRACE_ID } = trace::trace_id(),
        "given back; it comes again"
    );
}

/// It was written together with the update before it, whose attempts tell the rest.
pub(super) fn followed(order: &str, outcome: &'static str, held: &impl Held) {
    tracing::info!(
        { field::ORDER } = order,
        { field::OUTCOME } = outcome,
        { field::MESSAGE_ID } = held.message_id(),
        { field::QUEUE } = &**held.queue(),
        { field::TRACE_ID } = trace::trace_id(),
        "written together with the update before it"
    );
}

/// It was finished, and its settlement got lost with its channel. `outcome` is what it would have been.
pub fn settlement_lost(
    order: Option<&str>,
    outcome: &'static str,
    (queue, message_id): (&str, Option<&str>),
) {
    trace::settled("settlement_lost", Some("settlement_lost"));
    tracing::info!(
        { field::ORDER } = order,
        { field::OUTCOME } = outcome,
        { field::MESSAGE_ID } = message_id,
        { field::QUEUE } = queue,
        { field::TRACE_ID } = trace::trace_id(),
        "finished, but not settled; it comes again"
    );
}
