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
use super::sending::{Heard, Sending};
use crate::config::{BatchCounts, Settings};
use crate::dispatch::{Leave, Trail};
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

/// A request that somebody waits for. Dropped without a reply, it was not carried out.
struct Part {
    ask: Ask,
    leave: Arc<Leave>,
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

    /// Waits for the reply; `None` if leave to write was refused. May be dropped at any time.
    pub(super) async fn ask(&self, ask: Ask, leave: Arc<Leave>) -> Option<Reply> {
        let gone = CancellationToken::new();
        let _gone_on_drop = gone.clone().drop_guard();
        let (reply, answered) = oneshot::channel();
        let part = Part { ask, leave: leave.clone(), gone, reply };
        // It never fails while the task lives, which only a bug can end.
        if self.parts.send(part).await.is_err() {
            return Some(Err(Fault::Broken));
        }
        match answered.await {
            Ok(reply) => Some(reply),
            // Nobody knows what became of it.
            Err(_dropped) if leave.is_on_the_wire() => Some(Err(Fault::Broken)),
            Err(_dropped) => None,
        }
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
    fn waits_again(self) -> Option<Self> {
        self.leave.put_back();
        (!self.is_void()).then_some(self)
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
                Err(error) => tracing::error!(%error, "a bug: sending a batch panicked"),
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
    for part in came.again.into_iter().filter_map(Part::waits_again) {
        lanes.push_alone(part, now);
    }
    for (part, reply) in came.replies {
        // Whoever has left needs none.
        drop(part.reply.send(reply));
    }
}

async fn single(client: Client, part: Part) -> Came {
    let reply = tokio::select! { biased;
        () = part.gone.cancelled() => None,
        reply = client.alone(&part.ask, &part.leave) => reply,
    };
    match reply {
        Some(reply) => Came { replies: vec![(part, reply)], ..Came::default() },
        None => {
            part.leave.put_back();
            Came::default()
        }
    }
}

/// Sends a batch, and ends it when nobody waits for it any more.
async fn together(client: Client, parts: Vec<Part>, bytes_max: usize) -> Came {
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
    left_out.iter().for_each(|part| part.leave.put_back());
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
