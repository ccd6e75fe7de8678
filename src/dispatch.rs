//! One order, one task: a mailbox per busy order, one runner per mailbox, one limit over all.
//!
//! ```text
//! update ──▶ router ──▶ mailbox of its order ──▶ runner ──▶ attempt ──▶ settle ──▶ next in mailbox
//!            (the map)  (a queue, at most one runner)  └── waits until the admission lets it begin
//! ```
//!
//! A mailbox belongs to the process. It outlives the channel its messages came by: when a shard is
//! lost and comes back while a runner is still at work, the redelivered copies queue behind it.
//! Nothing here opens a socket: what a step does to the world is an [`Effects`] of the caller's.

mod admission;
mod attempt;
mod card;
mod company;
mod held;
mod item;
mod keeper;
mod leave;
mod letter;
mod mailbox;
pub(crate) mod measured;
mod outcome;
mod pass;
mod record;
mod router;
mod runner;
mod story;
mod tally;
mod walk;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

pub use admission::{Allowance, Breaking, Quota, Status, Throttling};
pub use attempt::Attempt;
pub use card::{Busy, Doing};
pub use held::Held;
pub use item::Job;
pub use leave::{Leave, Moment};
pub use letter::{Letter, PARKED_BEHIND};
pub use outcome::Outcome;
pub use router::Mailboxes;
pub use story::settlement_lost;
pub use tally::{Snapshot, Tally};

use crate::order::{ETag, OrderKey, OrderUpdate};
use crate::protocol::{Guard, Reply, Rules, Texts};
use crate::telemetry::field;
use crate::telemetry::panics::caught;
use admission::Admission;
use item::Item;
use router::{Routed, Router};
use runner::Runner;

/// Identifies one attempt to the service: in its logs, and in our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trail {
    /// One walk: one handling of one message. The same for all its attempts.
    pub walk: uuid::Uuid,
    /// One attempt: its GET and its PATCH.
    pub attempt: uuid::Uuid,
}

/// Whether an update may be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// It may, as a letter of an order that stands still and nobody else's update has passed since.
    Next,
    /// Its order stands still behind this dead letter.
    Behind(uuid::Uuid),
}

/// What the steps do to the world. Each performs once and retries nothing, except for the
/// publication of a dead letter and what belongs to it.
pub trait Effects: Send + Sync + 'static {
    /// The message, and the right to settle it.
    type Held: Held;

    /// Whether an update of this order may be begun. Waits for as long as that is not known, and may be
    /// given up at any time.
    fn gate(&self, held: &Self::Held, order: &str) -> impl Future<Output = Gate> + Send;

    /// Lets an order that stands still go on as the message asks, then acks. False if that did not come
    /// about: the broker redelivers.
    fn release(&self, held: Self::Held) -> impl Future<Output = bool> + Send;

    /// One GET of the update's order: at least of what it is judged by. Leave is taken at the moment of writing; `None` where it was refused, and
    /// nothing was carried out.
    fn get(
        &self,
        update: &OrderUpdate,
        trail: Trail,
        leave: &Arc<Leave>,
    ) -> impl Future<Output = Option<Reply>> + Send;

    /// One PATCH of the order under `If-Match`, likewise.
    fn patch(
        &self,
        key: &OrderKey,
        etag: &ETag,
        body: &str,
        trail: Trail,
        leave: &Arc<Leave>,
    ) -> impl Future<Output = Option<Reply>> + Send;

    /// One GET of a list of one order, or of this order: whether the service works at all.
    fn probe(&self, order: Option<&OrderKey>, trail: Trail) -> impl Future<Output = Reply> + Send;

    /// Acks. False if the settlement was lost with its channel: the broker redelivers.
    fn ack(&self, held: Self::Held, outcome: Outcome) -> impl Future<Output = bool> + Send;

    /// Publishes the dead letter, waits for the confirm, then acks. False if that did not come
    /// about: the message is then not settled, and the broker redelivers.
    fn dead_letter(&self, held: Self::Held, letter: Letter) -> impl Future<Output = bool> + Send;

    /// The wall clock, for records that people read.
    fn now(&self) -> Timestamp;

    /// A draw from `0.0..1.0`.
    fn dice(&self) -> f64;

    /// A fresh identifier.
    fn uuid(&self) -> uuid::Uuid;

    /// Where a task of this process runs: in a simulation a process may stand still.
    fn task<F: Future + Send>(
        &self,
        task: F,
    ) -> impl Future<Output = F::Output> + Send + use<Self, F> {
        task
    }
}

/// Limits of the dispatch.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Attempts under way at once, over all orders. A waiting order holds none.
    pub concurrency_max: usize,
    /// How a target that refuses is treated.
    pub throttling: Throttling,
    /// When a target is taken for down.
    pub breaking: Breaking,
    /// Retries and waits.
    pub rules: Rules,
    /// How long a PATCH of unknown outcome may still be at work in the service.
    pub settle_window: Duration,
    /// Longest body of a PATCH for several updates of one order, in bytes. `None`: each has its own.
    pub merged_bytes_max: Option<usize>,
    /// Losses of its holder from which on a message may be what kills its holders.
    pub losses_suspect: u64,
    /// Losses from which on it is taken for that, and dead-lettered instead of begun.
    pub losses_max: u64,
}

/// Takes updates and sees each to its end.
pub struct Dispatch<E: Effects> {
    shared: Arc<Shared<E>>,
}

struct Shared<E: Effects> {
    effects: E,
    limits: Limits,
    guard: Guard,
    texts: Texts,
    /// An order that was shown lately, and when.
    shown: Mutex<Option<(Instant, OrderKey)>>,
    /// Suspects are worked on one at a time: held for an attempt, and never while waiting.
    alone: Semaphore,
    router: Router<Item<E::Held>>,
    /// Fair: neither can a hot order shut out the others, nor they keep it from being worked off.
    admission: Admission,
    runners: TaskTracker,
    /// Begin nothing new.
    stop: CancellationToken,
    tally: Arc<Tally>,
}

impl<E: Effects> Shared<E> {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runners.spawn(self.effects.task(task));
    }
}

impl<E: Effects> std::fmt::Debug for Dispatch<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatch").field("runners", &self.shared.runners.len()).finish()
    }
}

impl<E: Effects> Dispatch<E> {
    /// Creates a dispatch that begins nothing new once `stop` is cancelled.
    pub fn new(
        effects: E,
        limits: Limits,
        (guard, texts): (Guard, Texts),
        tally: Arc<Tally>,
        stop: CancellationToken,
    ) -> Self {
        let Limits { concurrency_max, throttling, breaking, .. } = limits;
        let shared = Shared {
            effects,
            limits,
            guard,
            texts,
            shown: Mutex::default(),
            alone: Semaphore::new(1),
            router: Router::default(),
            admission: Admission::new(concurrency_max, throttling, breaking),
            runners: TaskTracker::new(),
            stop,
            tally,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Hands an update to its order's mailbox. Never waits: the prefetch bounds what is held.
    pub fn accept(&self, job: Job<E::Held>) {
        self.push(job.update.key.canonical().clone(), Item::Update(Box::new(job)));
    }

    /// Hands a message that asks for the release of this order to its mailbox.
    pub fn release(&self, order: Arc<str>, held: E::Held) {
        self.push(order, Item::Release(held));
    }

    fn push(&self, key: Arc<str>, item: Item<E::Held>) {
        let is_live = |item: &Item<E::Held>| item.held().may_begin();
        let routed = self.shared.router.push(&key, item, is_live);
        if let Routed::Start(item, card) = routed {
            let runner = Runner { shared: self.shared.clone(), key, card };
            // Boxed: on its way into the runtime a task is moved again and again.
            self.shared.spawn(Box::pin(runner.run(item)));
        }
    }

    /// Dead-letters a message that cannot be decoded. It belongs to no order, so it waits for none
    /// and holds up none.
    pub fn refuse(&self, held: E::Held, letter: Letter) {
        let shared = self.shared.clone();
        let span = held.span(letter.order.as_deref());
        let refusing = async move {
            let code = letter.code;
            let Some(begun) = held.begin() else { return };
            let settled = caught(shared.effects.dead_letter(held, letter)).await;
            let done = settled.unwrap_or_else(|panicked| {
                tracing::error!(
                    { field::REASON } = code,
                    { field::ERROR } = %panicked,
                    "a bug: settling this message panicked"
                );
                E::Held::give_up_channel(&begun);
                false
            });
            shared.tally.settled_letter(code, done);
        };
        self.shared.spawn(refusing.instrument(span));
    }

    /// Waits until every runner has ended. Call after `stop`: runners then end as soon as what is
    /// on the wire is finished.
    pub async fn drained(&self) {
        self.shared.runners.close();
        self.shared.runners.wait().await;
    }

    /// Whether the target is in trouble, so that nothing new should be taken.
    pub fn paused(&self) -> watch::Receiver<bool> {
        self.shared.admission.paused()
    }

    /// So many pods send requests to the target, this one included.
    pub fn shared_by(&self, pods: usize) {
        self.shared.admission.shared_by(pods);
    }

    /// What is held back at the moment, and why.
    pub fn status(&self) -> Status {
        self.shared.admission.status()
    }

    /// How much is held.
    pub fn mailboxes(&self) -> Mailboxes {
        self.shared.router.mailboxes()
    }

    /// Every busy order, in no certain order.
    pub fn busy(&self) -> Vec<Busy> {
        self.shared.router.busy(Item::arrived)
    }

    /// One order by its canonical key, if it is busy.
    pub fn one(&self, key: &str) -> Option<Busy> {
        self.shared.router.one(key, Item::arrived)
    }

    /// Runners at work.
    pub fn running(&self) -> usize {
        self.shared.runners.len()
    }
}

#[cfg(test)]
mod tests;
