//! Acks on their way out, those of a connection together.
//!
//! Each ack by itself would wake the library's thread, be a packet of its own, and wake the broker's reader: under
//! load that was a third of what the broker had to do. Here the first one goes out at once, and those that come
//! within a moment after it go together. Each is still an ack of its own: none is said for others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::lease::Lease;

/// How long acks gather behind one that went out; the timer makes it one to two milliseconds. Those of a process that
/// dies meanwhile are not sent: their messages come again, as after any death between a settlement and its ack.
const MOMENT: Duration = Duration::from_millis(1);

/// Acks that gather at most; whoever brings the last one sends them.
const GATHERED_MAX: usize = 64;

/// From then on whoever brings another one sends them: nobody else came for them.
const LATE: Duration = Duration::from_millis(50);

/// The acks of one connection.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    gathered: Mutex<Gathered>,
    due: Notify,
}

#[derive(Debug, Default)]
struct Gathered {
    acks: Vec<(Arc<Lease>, u64)>,
    /// When the first of them came.
    since: Option<Instant>,
}

impl Outbox {
    /// Takes an ack. It is sent in a moment, or by [`Self::send`].
    pub(super) fn add(&self, lease: &Arc<Lease>, tag: u64) {
        let (now, mut gathered) = (Instant::now(), self.gathered());
        let since = *gathered.since.get_or_insert(now);
        gathered.acks.push((lease.clone(), tag));
        let count = gathered.acks.len();
        if count >= GATHERED_MAX || now.saturating_duration_since(since) >= LATE {
            gathered.send();
        } else if count == 1 {
            drop(gathered);
            self.due.notify_one();
        }
    }

    /// Puts all that has gathered into the line of what is to be sent, behind which the close of a channel comes.
    pub(super) fn send(&self) {
        // Under the lock: what is told to be sent stands in the line.
        self.gathered().send();
    }

    /// Sends them, until it is dropped.
    pub(super) async fn run(&self) {
        loop {
            self.due.notified().await;
            self.send();
            sleep(MOMENT).await;
        }
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathered {
    fn send(&mut self) {
        self.since = None;
        for (lease, tag) in self.acks.drain(..) {
            lease.pass(tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use tokio::sync::watch;
    use tokio::time::advance;
    use tokio_util::sync::CancellationToken;

    use super::super::clean::Inheritance;
    use super::super::pulse::Pulse;
    use super::super::wire::{Acker, Acks};
    use super::*;

    /// Keeps what is acked.
    #[derive(Debug, Default)]
    struct Channel(Mutex<Vec<u64>>);

    impl Acks for Channel {
        fn is_open(&self) -> bool {
            true
        }

        fn ack(&self, tag: u64, multiple: bool) -> bool {
            assert!(!multiple, "it would be said for others");
            self.0.lock().unwrap().push(tag);
            true
        }
    }

    fn leased() -> (Arc<Outbox>, Arc<Lease>, Arc<Channel>) {
        let (outbox, channel) = (Arc::<Outbox>::default(), Arc::<Channel>::default());
        let pulse = Arc::new(Pulse::new(Duration::from_secs(10), Duration::from_secs(5)));
        let lost = CancellationToken::new();
        let carried = (pulse, outbox.clone());
        let lease =
            Lease::new(0, "shard".into(), lost, carried, Inheritance::new(watch::channel(None).1));
        lease.acker.set(Acker::Simulated(channel.clone())).unwrap();
        (outbox, Arc::new(lease), channel)
    }

    fn sent(channel: &Channel) -> Vec<u64> {
        std::mem::take(&mut channel.0.lock().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn first_ack_goes_out_at_once_and_those_of_the_next_moment_together() {
        let (outbox, lease, channel) = leased();
        let running = outbox.run();
        tokio::pin!(running);
        assert!(poll!(running.as_mut()).is_pending());
        outbox.add(&lease, 1);
        assert!(poll!(running.as_mut()).is_pending());
        assert_eq!(sent(&channel), [1]);
        for tag in [2, 4, 3] {
            outbox.add(&lease, tag);
            assert!(poll!(running.as_mut()).is_pending());
        }
        assert!(sent(&channel).is_empty(), "they wait for each other");
        advance(2 * MOMENT).await;
        assert!(poll!(running.as_mut()).is_pending());
        assert_eq!(sent(&channel), [2, 4, 3], "in the order in which they came");
    }

    #[tokio::test(start_paused = true)]
    async fn acks_are_sent_without_the_task_where_they_are_asked_for_too_many_or_too_late() {
        let (outbox, lease, channel) = leased();
        outbox.add(&lease, 1);
        outbox.send();
        assert_eq!(sent(&channel), [1]);
        for tag in 0..GATHERED_MAX - 1 {
            outbox.add(&lease, u64::try_from(tag).unwrap());
        }
        assert!(sent(&channel).is_empty());
        outbox.add(&lease, 99);
        assert_eq!(sent(&channel).len(), GATHERED_MAX);
        outbox.add(&lease, 100);
        advance(LATE).await;
        outbox.add(&lease, 101);
        assert_eq!(sent(&channel), [100, 101]);
    }

    #[tokio::test(start_paused = true)]
    async fn message_is_settled_only_once_its_ack_stands_in_the_line() {
        let (outbox, lease, _channel) = leased();
        let message =
            serde_json::from_value(serde_json::json!({"message": 7, "count": 0})).unwrap();
        lease.unsettled.add(1, Instant::now(), message);
        outbox.add(&lease, 1);
        assert_eq!(lease.unsettled.len(), 1, "a marker behind it must wait for that");
        outbox.send();
        assert_eq!(lease.unsettled.len(), 0);
    }
}
