//! Whether the broker still speaks with us.
//!
//! The broker gives a silent pod's shards away after almost three heartbeats (measured: 28 s with a
//! heartbeat of 10 s). So after two without a sign of life a pod must regard its shards as lost, and
//! must find out by its own clock: a process that was stopped and goes on sees no missed heartbeat,
//! only a clock that has moved on.
//!
//! A broker that loses us without our hearing of it (our packets are lost, and its node fails or is reset) gives
//! the shards away at once. The next owner waits out the settle window, so that no request is begun here once we
//! have not heard of the broker for as long: it would write what is older over what the next owner has written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;
use super::wire::Tie;

/// The least time without a sign of life in which requests are begun: a shorter settle window leaves the ETag alone.
const RECENT_MIN: Duration = Duration::from_secs(1);

/// When the broker was last known to speak with us.
#[derive(Debug)]
pub(super) struct Pulse {
    begun: Instant,
    /// Milliseconds after `begun`.
    heard: AtomicU64,
    /// After so long the shards are lost.
    silence_max: Duration,
    /// After so long nothing more is begun.
    recent_max: Duration,
    /// Wakes who waits for the next sign.
    news: Notify,
}

impl Pulse {
    /// Begins with a broker that has just answered. The next owner of a shard waits for `settle_window`.
    pub(super) fn new(heartbeat: Duration, settle_window: Duration) -> Self {
        let silence_max = heartbeat.saturating_mul(2);
        Self {
            begun: Instant::now(),
            heard: AtomicU64::new(0),
            silence_max,
            recent_max: settle_window.max(RECENT_MIN).min(silence_max),
            news: Notify::new(),
        }
    }

    /// Notes an answer to a question that was asked at `asked`. Not the time of the answer: it may
    /// have waited in a buffer while this process was stopped.
    pub(super) fn heard(&self, asked: Instant) {
        let after = asked.saturating_duration_since(self.begun).as_millis();
        self.heard.fetch_max(u64::try_from(after).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.news.notify_waiters();
    }

    /// Whether a request may be begun.
    pub(super) fn is_recent(&self) -> bool {
        self.remaining_of(self.recent_max) > Duration::ZERO
    }

    /// Completes once one may.
    pub(super) async fn recent(&self) {
        loop {
            let news = self.news.notified();
            if self.is_recent() {
                return;
            }
            news.await;
        }
    }

    /// Whether the last sign of life is recent enough.
    pub(super) fn is_fresh(&self) -> bool {
        self.remaining() > Duration::ZERO
    }

    /// How long the last sign of life is good for.
    pub(super) fn remaining(&self) -> Duration {
        self.remaining_of(self.silence_max)
    }

    fn remaining_of(&self, silence_max: Duration) -> Duration {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        let end = self.begun + heard + silence_max;
        end.saturating_duration_since(Instant::now())
    }

    /// How often to ask, so that an answer that takes its time is none that is missing.
    fn every(&self) -> Duration {
        self.recent_max / 4
    }
}

/// What all leases of one connection share.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) pulse: Arc<Pulse>,
    /// Acks on their way out.
    pub(super) outbox: Arc<Outbox>,
    /// The connection is gone, or silent for too long: all its leases are.
    pub(super) lost: CancellationToken,
    /// That it is lost has been said.
    told: Arc<AtomicBool>,
}

impl Session {
    /// Begins with a broker that has just answered.
    pub(super) fn new(heartbeat: Duration, settle_window: Duration, workers: usize) -> Self {
        let pulse = Arc::new(Pulse::new(heartbeat, settle_window));
        let (outbox, lost) = (Arc::new(Outbox::new(workers)), CancellationToken::new());
        Self { pulse, outbox, lost, told: Arc::default() }
    }

    /// Says that the connection is lost: once, however many shards find it out.
    pub(super) fn tell_lost(&self, error: Option<&lapin::Error>) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                error = error.map(tracing::field::display),
                "lost the connection to the broker; what was delivered comes again"
            );
        }
    }

    /// What has been said already says that it is lost.
    pub(super) fn is_told(&self) {
        self.told.store(true, Ordering::Relaxed);
    }

    /// Asks the broker for a sign of life, over and over, and gives the session up when none comes.
    pub(super) async fn watch(&self, connection: &impl Tie) {
        let mut channel = None;
        while self.pulse.is_fresh() {
            let asked = Instant::now();
            let sign = connection.sign(&mut channel);
            match timeout(self.pulse.remaining(), sign).await {
                Ok(Ok(())) => self.pulse.heard(asked),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "no sign of life");
                    break;
                }
                Err(_elapsed) => break,
            }
            sleep(self.pulse.every()).await;
        }
        self.lost.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn pulse_is_lost_after_two_heartbeats_without_a_sign() {
        let pulse = Pulse::new(Duration::from_secs(10), Duration::from_secs(5));
        advance(Duration::from_secs(19)).await;
        assert!(pulse.is_fresh());
        advance(Duration::from_secs(1)).await;
        assert!(!pulse.is_fresh(), "a process that was stopped sees it at once");
    }

    #[tokio::test(start_paused = true)]
    async fn answer_counts_from_when_it_was_asked_for() {
        let pulse = Pulse::new(Duration::from_secs(10), Duration::from_secs(5));
        advance(Duration::from_secs(15)).await;
        let asked = Instant::now();
        advance(Duration::from_secs(4)).await;
        pulse.heard(asked);
        assert_eq!(pulse.remaining(), Duration::from_secs(16));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_begun_after_the_settle_window_until_the_next_sign() {
        let pulse = Pulse::new(Duration::from_secs(10), Duration::from_secs(5));
        advance(Duration::from_millis(4999)).await;
        assert!(pulse.is_recent());
        advance(Duration::from_millis(1)).await;
        assert!(!pulse.is_recent() && pulse.is_fresh());
        let mut waiting = pin!(pulse.recent());
        assert!(timeout(Duration::from_secs(1), &mut waiting).await.is_err());
        pulse.heard(Instant::now());
        waiting.await;
        let short = Pulse::new(Duration::from_secs(10), Duration::ZERO);
        assert!(short.is_recent(), "or no request would ever be begun");
    }
}
