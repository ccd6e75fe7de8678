//! Waits that end when they should.
//!
//! The runtime's timers go by whole milliseconds and end one to two of them late. A request waits twice, on its way in
//! and on its way back: of a latency of 40 ms they made 43.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// A thread that wakes whoever waits.
#[derive(Debug)]
pub(super) struct Clock(Arc<Board>);

#[derive(Debug, Default)]
struct Board {
    waits: Mutex<Waits>,
    changed: Condvar,
}

/// As many as there are requests.
#[derive(Debug, Default)]
struct Waits {
    by_end: BTreeMap<(Instant, u64), oneshot::Sender<()>>,
    /// Tells apart those that end at the same time.
    last: u64,
    is_over: bool,
}

impl Clock {
    pub(super) fn start() -> Self {
        let board = Arc::<Board>::default();
        let run = board.clone();
        // Ends with the clock.
        let _thread = thread::spawn(move || run.run());
        Self(board)
    }

    /// Completes at this time, or as soon after it as the machine has room for; never before it.
    pub(super) async fn until(&self, end: Instant) {
        if end <= Instant::now() {
            return;
        }
        let (tell, told) = oneshot::channel();
        let is_next = {
            let mut waits = self.0.waits();
            waits.last += 1;
            let key = (end, waits.last);
            waits.by_end.insert(key, tell);
            waits.by_end.first_key_value().is_some_and(|(first, _)| *first == key)
        };
        if is_next {
            self.0.changed.notify_one();
        }
        // A clock that is over lets everybody go.
        drop(told.await);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.0.waits().is_over = true;
        self.0.changed.notify_one();
    }
}

impl Board {
    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut waits = self.waits();
        while !waits.is_over {
            let now = Instant::now();
            while let Some(first) = waits.by_end.first_entry().filter(|it| it.key().0 <= now) {
                // Whoever has gone away meanwhile need not be told.
                let _gone = first.remove().send(());
            }
            waits = match waits.by_end.first_key_value() {
                None => self.changed.wait(waits).unwrap_or_else(PoisonError::into_inner),
                Some(((end, _), _)) => {
                    let wait = end.saturating_duration_since(now);
                    let waited = self.changed.wait_timeout(waits, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        waits.by_end.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn waits_end_in_the_order_of_their_times_and_none_too_early() {
        let clock = Clock::start();
        let begun = Instant::now();
        let ended = Mutex::new(Vec::new());
        let wait = async |milliseconds: u64| {
            clock.until(begun + Duration::from_millis(milliseconds)).await;
            assert!(begun.elapsed() >= Duration::from_millis(milliseconds));
            ended.lock().unwrap().push(milliseconds);
        };
        tokio::join!(wait(30), wait(10), wait(0), wait(20), wait(20));
        assert_eq!(*ended.lock().unwrap(), [0, 10, 20, 20, 30]);
    }

    #[tokio::test]
    async fn clock_that_is_over_keeps_nobody() {
        let clock = Clock::start();
        let waiting = clock.until(Instant::now() + Duration::from_hours(1));
        tokio::pin!(waiting);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        clock.0.waits().is_over = true;
        clock.0.changed.notify_one();
        waiting.await;
    }
}
