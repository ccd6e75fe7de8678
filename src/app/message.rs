//! A delivery, in the words of the dispatch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use lapin::types::ShortString;
use tokio::time::Instant;

use crate::broker::{Begun, Delivery};
use crate::dead_letter::FIRST_TRACE;
use crate::dispatch::{Held, settlement_lost};
use crate::properties::header;
use crate::telemetry::metrics::Took;
use crate::telemetry::trace;

/// A delivery, and how long it is at work.
#[derive(Debug)]
pub(super) struct Message {
    /// Boxed: it is large, and moved from hand to hand.
    pub(super) delivery: Box<Delivery>,
    pub(super) settle_window: Duration,
    /// When work on it began.
    pub(super) begun: OnceLock<Instant>,
    /// Counts those that waited for the settle window.
    pub(super) settle_waits: Arc<AtomicU64>,
}

impl Message {
    pub(super) fn took(&self, now: Timestamp) -> Took {
        let published = *self.delivery.properties.timestamp();
        let age = published.and_then(|at| {
            // A clock that runs ahead of ours makes no negative age.
            u64::try_from(now.as_second()).ok().map(|now| now.saturating_sub(at))
        });
        Took {
            held: self.delivery.arrived.elapsed(),
            process: self.begun.get().map(Instant::elapsed),
            age: age.map(Duration::from_secs),
        }
    }
}

/// Shorter than this, nothing was waited for.
const WAITED_MIN: Duration = Duration::from_millis(1);

impl Held for Message {
    type Begun = Begun;

    fn begin(&self) -> Option<Begun> {
        let begun = self.delivery.receipt.begin()?;
        let _first = self.begun.set(Instant::now());
        Some(begun)
    }

    fn may_begin(&self) -> bool {
        self.delivery.receipt.may_begin()
    }

    fn is_live(&self) -> bool {
        self.delivery.receipt.is_live()
    }

    fn life(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let life = self.delivery.receipt.life();
        move || life.may_ask()
    }

    async fn may_ask(&self) {
        self.delivery.receipt.may_ask().await;
    }

    async fn ending(&self) {
        self.delivery.receipt.ending().await;
    }

    async fn settled(&self) {
        // A message that was never out has no former owner.
        if self.delivery.redelivered {
            let since = Instant::now();
            self.delivery.receipt.settled(self.delivery.arrived, self.settle_window).await;
            if since.elapsed() >= WAITED_MIN {
                self.settle_waits.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn losses(&self) -> u64 {
        self.delivery.delivery_count()
    }

    fn arrived(&self) -> Instant {
        self.delivery.arrived
    }

    fn queue(&self) -> &Arc<str> {
        self.delivery.receipt.queue()
    }

    fn message_id(&self) -> Option<&str> {
        self.delivery.properties.message_id().as_ref().map(ShortString::as_str)
    }

    fn span(&self, order: Option<&str>) -> tracing::Span {
        let properties = &self.delivery.properties;
        let header = |name| header(properties, name)?.ok();
        let parent = header("traceparent");
        let carried = parent.map(|parent| trace::Carried { parent, state: header("tracestate") });
        trace::process(trace::Processed {
            order,
            queue: self.queue(),
            message_id: self.message_id(),
            carried,
            died_in: header(FIRST_TRACE),
        })
    }

    fn hurry(&self) {
        self.delivery.receipt.hurry();
    }

    fn give_up_channel(begun: &Begun) {
        begun.give_up_channel();
    }

    fn doubt(begun: &Begun) {
        begun.doubt();
    }

    async fn lost(&self) {
        self.delivery.receipt.lost().await;
    }
}

/// What the log calls a message, for longer than it is here.
pub(super) struct Name {
    order: Option<Arc<str>>,
    queue: Arc<str>,
    message_id: Option<String>,
}

impl Name {
    pub(super) fn of(held: &Message, order: Option<Arc<str>>) -> Self {
        let message_id = held.message_id().map(str::to_owned);
        Self { order, queue: held.queue().clone(), message_id }
    }

    /// It was finished, and its settlement is lost.
    pub(super) fn lost(&self, outcome: &'static str) {
        let message = (&*self.queue, self.message_id.as_deref());
        settlement_lost(self.order.as_deref(), outcome, message);
    }
}
