//! Messages that are made up.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::super::*;

/// A message whose channel the test can take away.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) name: String,
    pub(super) channel: CancellationToken,
    pub(super) ending: CancellationToken,
    pub(super) settle: Duration,
    pub(super) losses: u64,
    pub(super) arrived: Instant,
    pub(super) queue: Arc<str>,
    /// Whether the broker was heard of.
    pub(super) heard: watch::Sender<bool>,
    /// Whose settlement waits for no other.
    pub(super) hurried: Arc<Mutex<Vec<String>>>,
}

impl Held for Message {
    type Begun = CancellationToken;

    fn begin(&self) -> Option<CancellationToken> {
        self.may_begin().then(|| self.ending.clone())
    }

    fn may_begin(&self) -> bool {
        self.is_live() && !self.ending.is_cancelled()
    }

    fn is_live(&self) -> bool {
        !self.channel.is_cancelled()
    }

    fn life(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let (channel, heard) = (self.channel.clone(), self.heard.clone());
        move || !channel.is_cancelled() && *heard.borrow()
    }

    async fn may_ask(&self) {
        let mut heard = self.heard.subscribe();
        tokio::select! {
            () = self.channel.cancelled() => {}
            _ = heard.wait_for(|heard| *heard) => {}
        }
    }

    async fn ending(&self) {
        tokio::select! {
            () = self.channel.cancelled() => {}
            () = self.ending.cancelled() => {}
        }
    }

    async fn settled(&self) {
        sleep(self.settle).await;
    }

    fn arrived(&self) -> Instant {
        self.arrived
    }

    fn queue(&self) -> &Arc<str> {
        &self.queue
    }

    fn message_id(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn span(&self, _: Option<&str>) -> tracing::Span {
        tracing::Span::none()
    }

    fn losses(&self) -> u64 {
        self.losses
    }

    fn hurry(&self) {
        self.hurried.lock().unwrap().push(self.name.clone());
    }

    fn give_up_channel(begun: &CancellationToken) {
        begun.cancel();
    }

    fn doubt(_: &CancellationToken) {}

    async fn lost(&self) {
        self.channel.cancelled().await;
    }
}
