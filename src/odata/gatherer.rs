//! Gathers requests of different orders into batches, and gives each its own reply.
//!
//! ```text
//! get, patch ──▶ channel ──▶ lanes ──▶ one: by itself ────────▶ reply
//!   (waits)     (bounded)    (pure) └─▶ several: a batch ──┬──▶ a reply for each
//!                              ▲                           │
//!                              └── refused as a whole ◀────┘   each by itself
//! ```
//!
//! One task, which ends with the last client. Who asks waits as for a single request, and may leave at any
//! time: what is not written yet is then not written at all; of what is on the wire only the waiting ends.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::batch::{self, Ask, Outcome};
use super::client::Client;
use super::lanes::{Lanes, Rules, Waits};
use super::sending::Sending;
use crate::config::{BatchCounts, Settings};
use crate::dispatch::Trail;
use crate::protocol::{Answer, Fault, Reply};
use crate::telemetry::field;

/// How much is gathered, and how much at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    rules: Rules,
    quota: Option<(f64, Duration)>,
    /// Requests that may wait. No more are asked for at a time.
    asked_max: usize,
    /// Requests that may be on the wire, a batch being one.
    wire_max: usize,
}

/// Whether a request may still be written.
type MayWrite = Box<dyn Fn() -> bool + Send + Sync>;

/// A request that somebody waits for.
struct Part {
    ask: Ask,
    may_write: MayWrite,
    /// Whoever waited has left.
    gone: CancellationToken,
    reply: oneshot::Sender<Reply>,
}

/// Where requests are handed in.
#[derive(Debug, Clone)]
pub(super) struct Gatherer {
    parts: mpsc::Sender<Part>,
    /// Ends with the last of us.
    _task: Arc<JoinSet<()>>,
}

/// What came of one that was sent.
#[derive(Default)]
struct Came {
    /// Requests in it, where it was a batch.
    sent: usize,
    replies: Vec<(Part, Reply)>,
    /// To be sent by themselves.
    again: Vec<Part>,
    /// To be sent by themselves if they come again.
    loners: Vec<Uuid>,
    refusal: Option<Refusal>,
}

/// A batch that was refused as a whole.
enum Refusal {
    Always(u16),
    TooMuch(u16),
}

impl Limits {
    pub(super) fn new(settings: &Settings) -> Self {
        let (batch, throttle) = (&settings.target.batch, &settings.throttle);
        let asked_max = settings.dispatch.concurrency_max;
        Self {
            rules: Rules {
                // More do not come together: with so many, nobody else can be waited for.
                operations_max: batch.operations_max.min(asked_max),
                bytes_max: batch.body_bytes_max,
                wait: batch.wait,
                refused_for: batch.refused_for,
                counts_operations: batch.counts_as == BatchCounts::Operations,
            },
            quota: throttle.quota_share().map(|share| (share, throttle.quota_window)),
            asked_max,
            wire_max: batch.requests_max,
        }
    }
}

impl Gatherer {
    pub(super) fn spawn(client: Client, limits: Limits) -> Self {
        let (parts, asked) = mpsc::channel(limits.asked_max);
        let mut task = JoinSet::new();
        task.spawn(gather(client, limits, asked));
        Self { parts, _task: Arc::new(task) }
    }

    /// Waits for the reply. May be dropped at any time.
    pub(super) async fn ask(&self, ask: Ask, may_write: MayWrite) -> Reply {
        let gone = CancellationToken::new();
        let _gone_on_drop = gone.clone().drop_guard();
        let (reply, answered) = oneshot::channel();
        let part = Part { ask, may_write, gone, reply };
        // Neither ever fails while the task lives; if a bug ended it, nobody knows what was sent.
        self.parts.send(part).await.map_err(|_ended| Fault::Broken)?;
        answered.await.map_err(|_ended| Fault::Broken)?
    }
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

    fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }
}

impl Part {
    /// Asked at the moment of writing, and at no other.
    fn is_to_be_written(&self) -> bool {
        !self.is_gone() && (self.may_write)()
    }
}

async fn gather(client: Client, limits: Limits, mut asked: mpsc::Receiver<Part>) {
    let born = Instant::now();
    let mut lanes = Lanes::new(limits.rules, limits.quota);
    let mut wire: JoinSet<Came> = JoinSet::new();
    loop {
        let is_full = lanes.len() >= limits.asked_max && lanes.purge() >= limits.asked_max;
        let has_wire = wire.len() < limits.wire_max;
        let due = lanes.due(born.elapsed()).filter(|_| has_wire).map(|due| born + due);
        tokio::select! { biased; // What came of one may decide how the next one goes.
            Some(came) = wire.join_next(), if !wire.is_empty() => match came {
                Ok(came) => take_in(came, &mut lanes, born.elapsed(), &limits),
                // A bug, which the log has.
                Err(_panicked) => {}
            },
            part = asked.recv(), if !is_full => match part {
                Some(part) => lanes.push(part, born.elapsed()),
                None => return,
            },
            () = sleep_until(due.unwrap_or(born)), if due.is_some() => {
                let mut parts = lanes.take(born.elapsed());
                match parts.len() {
                    0 => {}
                    1 => {
                        if let Some(part) = parts.pop() {
                            wire.spawn(single(client.clone(), part));
                        }
                    }
                    _ => {
                        wire.spawn(together(client.clone(), parts, limits.rules.bytes_max));
                    }
                }
            }
        }
    }
}

/// Learns from what came back before anybody can ask again, and gives everyone the reply.
fn take_in(came: Came, lanes: &mut Lanes<Part>, now: Duration, limits: &Limits) {
    for walk in came.loners {
        lanes.part_from_others(walk);
    }
    let refused_for = limits.rules.refused_for;
    match came.refusal {
        None => {}
        Some(Refusal::Always(status)) => {
            let is_news = lanes.stop_batching(now);
            if is_news {
                tracing::warn!(status, ?refused_for, "the target takes no $batch: one by one");
            }
        }
        Some(Refusal::TooMuch(status)) => {
            let (sent, most) = (came.sent, lanes.shrink(came.sent, now));
            tracing::warn!(status, sent, most, ?refused_for, "the target refuses a batch whole");
        }
    }
    for part in came.again {
        lanes.push_alone(part, now);
    }
    for (part, reply) in came.replies {
        // Whoever has left needs none.
        drop(part.reply.send(reply));
    }
}

async fn single(client: Client, part: Part) -> Came {
    if !part.is_to_be_written() {
        return Came::default();
    }
    tokio::select! { biased;
        () = part.gone.cancelled() => Came::default(),
        reply = client.alone(&part.ask) => {
            Came { replies: vec![(part, reply)], ..Came::default() }
        }
    }
}

/// Sends a batch, and ends it when nobody waits for it any more.
async fn together(client: Client, parts: Vec<Part>, bytes_max: usize) -> Came {
    let mut written = Vec::new();
    let heard = tokio::select! { biased;
        _all = join_all(parts.iter().map(|part| part.gone.cancelled())) => return Came::default(),
        heard = send(&client, &parts, &mut written, bytes_max) => heard,
    };
    // What was not written has nobody who waits, or is given up by whoever does.
    let mut place = 0..;
    let mut parts = parts;
    parts.retain(|_| place.next().is_some_and(|at: usize| written.contains(&at)));
    let sent = parts.len();
    let outcome = match heard {
        // The token for writing could not be had: this says nothing of batches.
        Ok(heard) if heard.is_look => return Came { again: parts, ..Came::default() },
        Ok(heard) => {
            let (boundary, most) = (heard.boundary.as_deref(), client.body_bytes_max);
            batch::read(heard.answer, boundary, sent, most, Timestamp::now())
        }
        Err(fault) => Outcome::Alike(Err(fault)),
    };
    dealt(outcome, parts)
}

async fn send(
    client: &Client,
    parts: &[Part],
    written: &mut Vec<usize>,
    bytes_max: usize,
) -> Result<super::sending::Heard, Fault> {
    let Some(first) = parts.first() else { return Err(Fault::Broken) };
    let timeout = if first.writes() { client.patch_timeout } else { client.get_timeout };
    let (look, prefer_minimal) =
        (client.look(&first.ask.url, first.ask.trail)?, client.prefer_minimal);
    let id = || uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid();
    let trail = Trail { walk: id(), attempt: id() };
    let boundary = format!("batch_{}", trail.attempt.simple());
    let write = || {
        // Now, and not when they were gathered: the wait for a token may have been long.
        let now: Vec<_> = (0..).zip(parts).filter(|(_, part)| part.is_to_be_written()).collect();
        *written = now.iter().map(|(at, _)| *at).collect();
        let asks = now.iter().map(|(_, part)| &part.ask);
        let body = batch::write(asks, &boundary, prefer_minimal);
        let attempts = || now.iter().map(|(_, part)| part.ask.trail.attempt).collect::<Vec<_>>();
        tracing::debug!(
            { field::REQUEST_ID } = %trail.attempt,
            request_ids = ?attempts(),
            "a batch is sent"
        );
        if now.is_empty() { None } else { client.batch(body, &boundary, trail) }
    };
    let deadline = Instant::now() + timeout;
    client.perform(Sending { write, look: Some(look), bytes_max, deadline }).await
}

/// Gives every part what the batch came to.
fn dealt(outcome: Outcome, parts: Vec<Part>) -> Came {
    let mut came = Came { sent: parts.len(), ..Came::default() };
    let is_doubtful = outcome.is_doubtful();
    match outcome {
        Outcome::Refused(status) => {
            came.refusal = Some(Refusal::Always(status));
            came.again = parts;
        }
        Outcome::TooMuch(status) => {
            came.refusal = Some(Refusal::TooMuch(status));
            came.again = parts;
        }
        Outcome::Alike(reply) => {
            if is_doubtful {
                came.loners = parts.iter().map(Waits::walk).collect();
            }
            came.replies = parts.into_iter().map(|part| (part, reply.clone())).collect();
        }
        Outcome::Parts(answers) => {
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
