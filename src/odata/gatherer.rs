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

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::batch::Ask;
use super::client::Client;
use super::dealing::{Came, Part, Says, single, together};
use super::lanes::{Lanes, Rules};
use crate::config::{BatchCounts, Settings};
use crate::dispatch::{Allowance, Leave};
use crate::protocol::{Fault, Reply};

/// How much is gathered, and how much at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    rules: Rules,
    quota: Option<Allowance>,
    /// Requests that may wait. No more are asked for at a time.
    asked_max: usize,
    /// Requests that may be on the wire, a batch being one.
    wire_max: usize,
}

/// Where requests are handed in.
#[derive(Debug, Clone)]
pub(super) struct Gatherer {
    parts: mpsc::Sender<Part>,
    /// Ends with the last of us.
    _task: Arc<JoinSet<()>>,
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
            quota: Allowance::new(
                throttle.quota_requests,
                throttle.quota_window,
                throttle.quota_pods,
            ),
            asked_max,
            wire_max: batch.requests_max,
        }
    }
}

impl Gatherer {
    /// `pods` says how many share the quota.
    pub(super) fn spawn(client: Client, limits: Limits, pods: watch::Receiver<usize>) -> Self {
        let (parts, asked) = mpsc::channel(limits.asked_max);
        let mut task = JoinSet::new();
        task.spawn(gather(client, limits, asked, pods));
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

async fn gather(
    client: Client,
    limits: Limits,
    mut asked: mpsc::Receiver<Part>,
    mut pods: watch::Receiver<usize>,
) {
    let born = Instant::now();
    let mut lanes = Lanes::new(limits.rules, limits.quota);
    lanes.shared_by(*pods.borrow_and_update());
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
            // Once nobody tells any more, it stays as it is.
            Ok(()) = pods.changed() => lanes.shared_by(*pods.borrow_and_update()),
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
    match came.says {
        Some(Says::Batch) => lanes.batch_answered(),
        Some(Says::Single) => lanes.single_answered(),
        Some(Says::Spoilt(status)) => {
            let is_news = lanes.batch_spoilt() && lanes.stop_batching(now);
            if is_news {
                tracing::warn!(
                    status,
                    ?refused_for,
                    "single requests are answered, and no $batch is: one by one"
                );
            }
        }
        Some(Says::Refused(status)) => {
            let is_news = lanes.stop_batching(now);
            if is_news {
                tracing::warn!(status, ?refused_for, "the target takes no $batch: one by one");
            }
        }
        Some(Says::TooMuch(status)) => {
            let (sent, most) = (came.sent, lanes.shrink(came.sent, now));
            tracing::warn!(status, sent, most, ?refused_for, "the target refuses a batch whole");
        }
        None => {}
    }
    for part in came.again.into_iter().filter_map(Part::waits_again) {
        lanes.push_alone(part, now);
    }
    for (part, reply) in came.replies {
        // Whoever has left needs none.
        drop(part.reply.send(reply));
    }
}
