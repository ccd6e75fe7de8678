//! One request that is sent, or several together, and what comes of it for each that is in it.

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::batch::{self, Ask, Outcome};
use super::client::Client;
use super::lanes::Waits;
use super::sending::{Heard, Sending};
use crate::dispatch::{Leave, Trail};
use crate::protocol::{Answer, Fault, Reply};
use crate::telemetry::field;

/// A request that somebody waits for. Dropped without a reply, it was not carried out.
pub(super) struct Part {
    pub(super) ask: Ask,
    pub(super) leave: Arc<Leave>,
    /// Whoever waited has left.
    pub(super) gone: CancellationToken,
    pub(super) reply: oneshot::Sender<Reply>,
}

/// What came of one that was sent.
#[derive(Default)]
pub(super) struct Came {
    /// Requests in it, where it was a batch.
    pub(super) sent: usize,
    pub(super) replies: Vec<(Part, Reply)>,
    /// To be sent by themselves.
    pub(super) again: Vec<Part>,
    /// To be sent by themselves if they come again.
    pub(super) loners: Vec<Uuid>,
    pub(super) says: Option<Says>,
}

/// What it says of batches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// It was one, and was answered as it should be.
    Batch,
    /// It was one, and came to nothing; the status, if there was one.
    Spoilt(Option<u16>),
    /// It was a single request, and was answered as it should be.
    Single,
    /// The service takes none.
    Refused(u16),
    /// It does not take this one whole.
    TooMuch(u16),
}

impl Waits for Part {
    fn walk(&self) -> Uuid {
        self.ask.trail.walk
    }

    fn writes(&self) -> bool {
        self.ask.change.is_some()
    }

    fn bytes(&self) -> usize {
        self.ask.bytes()
    }

    fn is_void(&self) -> bool {
        self.gone.is_cancelled() || self.leave.is_void()
    }
}

impl Part {
    /// Asked at the moment of writing, and at no other.
    fn is_written_now(&self) -> bool {
        !self.gone.is_cancelled() && self.leave.take()
    }

    /// Nothing of it was carried out.
    pub(super) fn waits_again(self) -> Option<Self> {
        self.leave.put_back();
        (!self.is_void()).then_some(self)
    }
}

/// Sends a request by itself, as long as somebody waits for it.
pub(super) async fn single(client: Client, part: Part) -> Came {
    let reply = tokio::select! { biased;
        () = part.gone.cancelled() => None,
        reply = client.alone(&part.ask, &part.leave) => reply,
    };
    let Some(reply) = reply else {
        part.leave.put_back();
        return Came::default();
    };
    let is_answered = reply.as_ref().is_ok_and(is_answered);
    let says = is_answered.then_some(Says::Single);
    Came { replies: vec![(part, reply)], says, ..Came::default() }
}

/// Whether the service itself has answered a request, be it that somebody else was quicker.
fn is_answered(answer: &Answer) -> bool {
    matches!(answer.status, 200..=299 | 404 | 409 | 412)
}

/// Sends a batch, and ends it when nobody waits for it any more.
pub(super) async fn together(client: Client, parts: Vec<Part>, bytes_max: usize) -> Came {
    // `None` as long as nothing was written: then what comes of it is for all.
    let mut written: Option<Vec<usize>> = None;
    let heard = tokio::select! { biased;
        _all = join_all(parts.iter().map(|part| part.gone.cancelled())) => return Came::default(),
        heard = send(&client, &parts, &mut written, bytes_max) => heard,
    };
    let (mut kept, mut left_out) = (Vec::new(), Vec::new());
    for (at, part) in parts.into_iter().enumerate() {
        let is_kept = written.as_ref().is_none_or(|written| written.contains(&at));
        if is_kept { kept.push(part) } else { left_out.push(part) }
    }
    // Whoever waits for these is told that they were not written. They may have been, before their token
    // was refused.
    for part in left_out {
        part.leave.put_back();
    }
    let sent = kept.len();
    let outcome = match heard {
        // The token for writing could not be had: this says nothing of batches.
        Ok(Some(heard)) if heard.is_look => return Came { again: kept, ..Came::default() },
        Ok(Some(heard)) => {
            let (boundary, most) = (heard.boundary.as_deref(), client.body_bytes_max);
            batch::read(heard.answer, boundary, sent, most, Timestamp::now())
        }
        Ok(None) => return Came::default(),
        Err(fault) => Outcome::Alike(Err(fault)),
    };
    dealt(outcome, kept)
}

async fn send(
    client: &Client,
    parts: &[Part],
    written: &mut Option<Vec<usize>>,
    bytes_max: usize,
) -> Result<Option<Heard>, Fault> {
    let Some(first) = parts.first() else { return Ok(None) };
    let timeout = if first.writes() { client.patch_timeout } else { client.get_timeout };
    let (look, prefer_minimal) = (client.look(&first.ask)?, client.prefer_minimal);
    let id = || uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid();
    let trail = Trail { walk: id(), attempt: id() };
    let boundary = format!("batch_{}", trail.attempt.simple());
    let write = || {
        // Now, and not when they were gathered: the wait for a token may have been long.
        let now: Vec<_> = (0..).zip(parts).filter(|(_, part)| part.is_written_now()).collect();
        *written = Some(now.iter().map(|(at, _)| *at).collect());
        let asks = now.iter().map(|(_, part)| &part.ask);
        let body = batch::write(asks, &boundary, prefer_minimal);
        let attempts = || now.iter().map(|(_, part)| part.ask.trail.attempt).collect::<Vec<_>>();
        tracing::debug!(
            { field::REQUEST_ID } = %trail.attempt,
            request_ids = ?attempts(),
            "a batch is sent"
        );
        if now.is_empty() { Ok(None) } else { client.batch(body, &boundary, trail).map(Some) }
    };
    let deadline = Instant::now() + timeout;
    client.send_with_tokens(Sending { write, look: Some(look), bytes_max, deadline }).await
}

/// What the answers to the parts say of batches. A service that stops at the first part that it refuses leaves
/// those behind it without an answer: that is no fault of batches.
fn said(answers: &[Option<Answer>]) -> Says {
    let mut known = answers.iter().flatten();
    let is_whole = answers.iter().all(Option::is_some);
    if is_whole || known.any(|answer| answer.status >= 400) {
        Says::Batch
    } else {
        Says::Spoilt(Some(200))
    }
}

/// Gives every part what the batch came to.
fn dealt(outcome: Outcome, parts: Vec<Part>) -> Came {
    let mut came = Came { sent: parts.len(), ..Came::default() };
    let is_doubtful = outcome.is_doubtful();
    match outcome {
        Outcome::Refused(status) => {
            came.says = Some(Says::Refused(status));
            came.again = parts;
        }
        Outcome::TooMuch(status) => {
            came.says = Some(Says::TooMuch(status));
            came.again = parts;
        }
        Outcome::Alike(reply) => {
            if is_doubtful {
                came.loners = parts.iter().map(Waits::walk).collect();
                came.says = Some(Says::Spoilt(reply.as_ref().ok().map(|answer| answer.status)));
            }
            came.replies = parts.into_iter().map(|part| (part, reply.clone())).collect();
        }
        Outcome::Parts(answers) => {
            came.says = Some(said(&answers));
            for (part, answer) in parts.into_iter().zip(answers) {
                match answer {
                    // Nothing was written. By itself its token is renewed as for any other.
                    Some(Answer { status: 401, .. }) => came.again.push(part),
                    Some(answer) => came.replies.push((part, Ok(answer))),
                    None => {
                        came.loners.push(part.walk());
                        came.replies.push((part, Err(Fault::Broken)));
                    }
                }
            }
        }
    }
    came
}
