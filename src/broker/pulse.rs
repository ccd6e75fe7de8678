//! Whether the broker still speaks with us.
//!
//! The broker gives a silent pod's shards away after almost three heartbeats (measured: 28 s with a
//! heartbeat of 10 s). So after two without a sign of life a pod must regard its shards as lost, and
//! must find out by its own clock: a process that was stopped and goes on sees no missed heartbeat,
//! only a clock that has moved on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::wire::Tie;

/// When the broker was last known to speak with us.
#[derive(Debug)]
pub(super) struct Pulse {
    begun: Instant,
    /// Milliseconds after `begun`.
    heard: AtomicU64,
    silence_max: Duration,
}

impl Pulse {
    /// Begins with a broker that has just answered.
    pub(super) fn new(heartbeat: Duration) -> Self {
        let silence_max = heartbeat.saturating_mul(2);
        Self { begun: Instant::now(), heard: AtomicU64::new(0), silence_max }
    }

    /// Notes an answer to a question that was asked at `asked`. Not the time of the answer: it may
    /// have waited in a buffer while this process was stopped.
    pub(super) fn heard(&self, asked: Instant) {
        let after = asked.saturating_duration_since(self.begun).as_millis();
        self.heard.fetch_max(u64::try_from(after).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether the last sign of life is recent enough.
    pub(super) fn is_fresh(&self) -> bool {
        self.remaining() > Duration::ZERO
    }

    /// How long the last sign of life is good for.
    pub(super) fn remaining(&self) -> Duration {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        let end = self.begun + heard + self.silence_max;
        end.saturating_duration_since(Instant::now())
    }
}

/// What all leases of one connection share.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) pulse: Arc<Pulse>,
    /// The connection is gone, or silent for too long: all its leases are.
    pub(super) lost: CancellationToken,
    /// That it is lost has been said.
    told: Arc<AtomicBool>,
}

impl Session {
    /// Begins with a broker that has just answered.
    pub(super) fn new(heartbeat: Duration) -> Self {
        let (pulse, lost) = (Arc::new(Pulse::new(heartbeat)), CancellationToken::new());
        Self { pulse, lost, told: Arc::default() }
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
    pub(super) async fn watch(&self, connection: &impl Tie, heartbeat: Duration) {
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
            sleep(heartbeat / 2).await;
        }
        self.lost.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn pulse_is_lost_after_two_heartbeats_without_a_sign() {
        let pulse = Pulse::new(Duration::from_secs(10));
        advance(Duration::from_secs(19)).await;
        assert!(pulse.is_fresh());
        advance(Duration::from_secs(1)).await;
        assert!(!pulse.is_fresh(), "a process that was stopped sees it at once");
    }

    #[tokio::test(start_paused = true)]
    async fn answer_counts_from_when_it_was_asked_for() {
        let pulse = Pulse::new(Duration::from_secs(10));
        advance(Duration::from_secs(15)).await;
        let asked = Instant::now();
        advance(Duration::from_secs(4)).await;
        pulse.heard(asked);
        assert_eq!(pulse.remaining(), Duration::from_secs(16));
    }
}
