//! One handling of one message: from its first GET to what comes of it.

mod requests;

use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep};

use super::admission::Turn;
use super::card::{Card, Doing};
use super::company::Company;
use super::record::{Ended, Running, Walked};
use super::{Attempt, Effects, Held, Shared};
use crate::order::{ETag, OrderUpdate};
use crate::protocol::{self, Asking, Code, Question, Request, Settlement, Step, Waiting};

/// Longest wait of a suspect before it queues up for its first turn: what makes their order random.
const SUSPECT_WAIT_MAX: Duration = Duration::from_millis(500);
/// Most attempts that are kept. The budgets allow fewer; an outage is waited out at every length.
const ATTEMPTS_MAX: usize = 64;

/// One handling of one message.
pub(super) struct Walk<'a, E: Effects> {
    shared: &'a Arc<Shared<E>>,
    update: &'a OrderUpdate,
    held: &'a E::Held,
    /// Tells those who ask.
    card: &'a Arc<Card>,
    /// Who may be written together with it.
    company: &'a mut Company<E::Held>,
    /// Whether it ended together with them.
    together: bool,
    id: uuid::Uuid,
    /// Tells orders apart for the breaker.
    order: u64,
    attempts: Vec<Attempt>,
    /// Attempts so far, those that are not kept included.
    made: u32,
    conflicts: bool,
    /// A PATCH was sent of which nobody knows what became.
    unsure: bool,
    /// The order's, as far as is known.
    etag: Option<ETag>,
    /// What the update would change, as the last GET showed it.
    seen: Option<String>,
    /// The last failure, and when the one before it was.
    failed: Option<Failed>,
    /// How often the target had been down when the last attempt began.
    epoch: Option<u64>,
    /// When the last GET was sent.
    asked: Option<Instant>,
}

/// A failure of the target, or of this order at it.
#[derive(Clone, Copy)]
struct Failed {
    /// The first one of these that have been spent.
    begun: Instant,
    at: Instant,
    since: Instant,
    request: Request,
}

/// The right to make one attempt.
pub(super) struct Turns<'a> {
    /// Among all that may be sent to the target.
    turn: Turn<'a>,
    /// Of a suspect: no other one is at work.
    _alone: Option<SemaphorePermit<'a>>,
}

impl<'a, E: Effects> Walk<'a, E> {
    pub(super) fn new(
        shared: &'a Arc<Shared<E>>,
        (update, held): (&'a OrderUpdate, &'a E::Held),
        card: &'a Arc<Card>,
        company: &'a mut Company<E::Held>,
    ) -> Self {
        let mut hasher = DefaultHasher::new();
        update.key.canonical().hash(&mut hasher);
        Self {
            shared,
            update,
            held,
            card,
            company,
            together: false,
            id: shared.effects.uuid(),
            order: hasher.finish(),
            attempts: Vec::new(),
            made: 0,
            conflicts: false,
            unsure: false,
            etag: None,
            seen: None,
            failed: None,
            epoch: None,
            asked: None,
        }
    }

    pub(super) fn end(self) -> Walked {
        let Self { attempts, conflicts, unsure, etag, seen, together, .. } = self;
        Walked { attempts, conflicts, unsure, etag, seen, together }
    }

    pub(super) async fn run(&mut self) -> Ended {
        let losses = self.held.losses();
        if losses >= self.shared.limits.losses_max {
            return Ended::Settled(Settlement::DeadLetter(Code::CrashLoop));
        }
        let suspect = losses >= self.shared.limits.losses_suspect;
        if suspect {
            // The guilty one may be what its ack would wait for.
            self.held.hurry();
        }
        if self.undisturbed(suspect).await.is_none() {
            return Ended::Released;
        }
        let mut step = protocol::start();
        // With its turn: held for one attempt and never while waiting.
        let mut running: Option<Running<Turns<'a>>> = None;
        loop {
            let next = match step {
                Step::Get(fetching) => match self.begin(suspect).await {
                    // What is done with a turn is boxed: few have one, and the others wait with less.
                    Some(turns) => Box::pin(self.get(fetching, turns, &mut running)).await,
                    None => None,
                },
                Step::Patch(patching) => Box::pin(self.patch(patching, &mut running)).await,
                Step::Wait(waiting) => self.wait(waiting).await,
                // Rare, and large.
                Step::Ask(asking) => Box::pin(self.ask(asking)).await,
                Step::Settle(settlement) => return Ended::Settled(settlement),
            };
            match next {
                Some(next) => step = next,
                None => return Ended::Released,
            }
        }
    }

    /// As [`Shared::pass`].
    fn pass<T>(&self, wait: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
        self.shared.pass(self.held, wait)
    }

    /// Waits until nobody else can be at work on the message, and a suspect for a moment of chance. `None` as in
    /// [`Self::pass`].
    async fn undisturbed(&self, suspect: bool) -> Option<()> {
        let settled = pin!(async {
            self.held.settled().await;
            if suspect {
                sleep(SUSPECT_WAIT_MAX.mul_f64(self.shared.effects.dice())).await;
            }
        });
        self.pass(settled).await
    }

    /// Waits until an attempt may begin. `None` as in [`Self::pass`]: a drain begins no attempt, nor does a message
    /// that somebody else gets again.
    async fn begin(&self, suspect: bool) -> Option<Turns<'a>> {
        // Not with a turn in hand: others may be asked for.
        tokio::select! { biased;
            () = self.held.may_ask() => {}
            () = self.held.ending() => {}
            () = self.shared.stop.cancelled() => {}
        }
        self.turn(suspect).await
    }

    /// Waits for a turn. `None` as in [`Self::pass`].
    ///
    /// A message whose holders were lost again and again may be what kills them. Suspects are worked
    /// on one at a time and in random order: when the process dies, only one of them was at work, so
    /// the innocent get settled one after the other, and only the guilty one's losses go on rising.
    async fn turn(&self, suspect: bool) -> Option<Turns<'a>> {
        let shared: &'a Shared<E> = self.shared;
        self.card.doing(Doing::Turn);
        let turns = pin!(async {
            let alone = if suspect { shared.alone.acquire().await.ok() } else { None };
            let behind = || shared.router.behind(self.update.key.canonical());
            Turns { turn: shared.admission.enter(behind).await, _alone: alone }
        });
        self.pass(turns).await
    }

    async fn wait(&self, waiting: Waiting) -> Option<Step> {
        self.card.doing(Doing::Backoff);
        let dice = self.shared.effects.dice();
        self.pass(sleep(waiting.duration(dice, &self.shared.limits.rules))).await?;
        self.shared.tally.retry();
        Some(waiting.elapsed())
    }

    /// Is it the target, or this order?
    async fn ask(&self, asking: Asking) -> Option<Step> {
        let Some(epoch) = self.epoch else { return Some(asking.on_answer(true)) };
        self.card.doing(Doing::Asking);
        let is_so = match (asking.question(), self.failed, self.asked) {
            (Question::Works, Some(failed), _) => {
                let last = (failed.request, asking.code());
                let times = [failed.begun, failed.since];
                self.pass(self.shared.works(self.order, last, times, epoch)).await?
            }
            (Question::Shows, _, Some(sent)) => self.pass(self.shared.shows(sent, epoch)).await?,
            (Question::Works | Question::Shows, _, _) => true,
        };
        Some(asking.on_answer(is_so))
    }
}
