//! Who may send a request now: one look at all that may hold an attempt back.
//!
//! ```text
//! attempt ──▶ line ──▶ breaker ──▶ gate ──▶ pace, quota ──▶ room ──▶ turn ──▶ GET, PATCH
//!          one at a time is at its head                ◀── what the answers say ──┘
//! ```
//!
//! A waiting attempt holds no place. The decisions are those of `throttle` and `breaker`; here are
//! the clock, the lock and the bell. The lock is held for a look and never over an await.

mod breaker;
mod heard;
mod line;
mod outage;
mod pace;
mod quota;
mod singled;
mod throttle;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep_until};

pub use breaker::Breaking;
pub(super) use heard::Heard;
pub(super) use outage::Keeping;
pub use quota::{Allowance, Quota};
pub use throttle::Throttling;

use crate::protocol::Code;
use breaker::Breaker;
use line::Line;
use singled::Singled;
use throttle::Throttle;

/// What holds back and what is let through, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Why the target is taken for down, if it is, and for how long already.
    pub down: Option<(Code, Duration)>,
    /// How long nothing begins, because the target refused.
    pub shut_for: Duration,
    /// Attempts under way.
    pub in_flight: usize,
    /// Attempts that may be under way at the same time.
    pub limit: f64,
    /// Requests a second, where they are slowed down.
    pub rate: Option<f64>,
    /// Attempts that wait.
    pub waiting: usize,
}

#[derive(Debug)]
pub(super) struct Admission {
    state: Mutex<State>,
    /// Whoever is at its head is the only one that looks whether it may begin.
    line: Line,
    /// Rings when something changed that the head may wait for.
    changed: Notify,
    paused: watch::Sender<bool>,
    /// One look at the target at a time.
    look: Semaphore,
    born: Instant,
}

#[derive(Debug)]
struct State {
    throttle: Throttle,
    breaker: Breaker,
    singled: Singled,
    in_flight: usize,
    /// When the last GET was sent that showed an order, or a list of orders.
    shown: Option<Duration>,
    /// Somebody sees to it that a trouble comes to its end.
    kept: bool,
}

/// What the head of a line does next.
enum Next {
    /// It may begin.
    Go { is_probe: bool },
    /// Look again then, or when something changed.
    At(Duration),
    /// Look again when something changed.
    Later,
}

/// The right to make one attempt. Dropped when the attempt is over.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    admission: &'a Admission,
    epoch: u64,
    is_probe: bool,
    lived: bool,
    failed: bool,
}

impl Admission {
    pub(super) fn new(concurrency_max: usize, throttling: Throttling, breaking: Breaking) -> Self {
        let state = State {
            throttle: Throttle::new(throttling, concurrency_max),
            breaker: Breaker::new(breaking),
            singled: Singled::default(),
            in_flight: 0,
            shown: None,
            kept: false,
        };
        Self {
            state: Mutex::new(state),
            line: Line::new(),
            changed: Notify::new(),
            paused: watch::Sender::new(false),
            look: Semaphore::new(1),
            born: Instant::now(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.born.elapsed()
    }

    /// So many pods share the quota, this one included.
    pub(super) fn shared_by(&self, pods: usize) {
        self.state().throttle.shared_by(pods);
        self.changed.notify_waiters();
    }

    /// Whether it makes no sense to take anything new: the target is in trouble.
    pub(super) fn paused(&self) -> watch::Receiver<bool> {
        self.paused.subscribe()
    }

    pub(super) fn status(&self) -> Status {
        let (now, state) = (self.now(), self.state());
        Status {
            down: state.breaker.open().map(|open| (open.code, now.saturating_sub(open.since))),
            shut_for: state.throttle.shut_until().saturating_sub(now),
            in_flight: state.in_flight,
            limit: state.throttle.limit(),
            rate: state.throttle.rate(now),
            waiting: self.line.waiting(),
        }
    }

    /// Waits until an attempt may begin. `behind` says how many updates of its order wait behind it. May be
    /// dropped at any time.
    pub(super) async fn enter(&self, behind: impl FnOnce() -> usize) -> Turn<'_> {
        let _head = self.line.head(behind).await;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, or a change in between would be missed.
            changed.as_mut().enable();
            let (next, epoch) = self.next();
            match next {
                Next::Go { is_probe } => {
                    let (lived, failed) = (false, false);
                    return Turn { admission: self, epoch, is_probe, lived, failed };
                }
                Next::At(due) => tokio::select! { biased;
                    () = changed => {}
                    () = sleep_until(self.born + due) => {}
                },
                Next::Later => changed.await,
            }
        }
    }

    fn next(&self) -> (Next, u64) {
        let now = self.now();
        let mut state = self.state();
        let next = state.next(now);
        if matches!(next, Next::Go { is_probe: true }) {
            self.changed.notify_waiters();
        }
        (next, state.breaker.epoch())
    }

    /// When the PATCH of an attempt may be sent: now, or in a moment. An error if it must not be sent at
    /// all: the target went into trouble since the GET.
    pub(super) fn write(&self, turn: &Turn<'_>) -> Result<Instant, Code> {
        let now = self.now();
        let mut state = self.state();
        state.may_write(turn.is_probe, now)?;
        Ok(self.born + state.throttle.write(now))
    }

    /// The same for a request that has waited for its moment: much may have happened meanwhile.
    pub(super) fn may_write(&self, is_probe: bool) -> Result<(), Code> {
        let now = self.now();
        self.state().may_write(is_probe, now)
    }
}

impl State {
    fn may_write(&self, is_probe: bool, now: Duration) -> Result<(), Code> {
        match self.breaker.open() {
            Some(open) if !is_probe => return Err(open.code),
            Some(_) | None => {}
        }
        if now < self.throttle.shut_until() { Err(Code::Throttled) } else { Ok(()) }
    }

    fn next(&mut self, now: Duration) -> Next {
        let probe_due = self.breaker.probe_due();
        let due = match probe_due {
            Some(due) => due.max(self.throttle.shut_until()),
            None => self.throttle.due(),
        };
        if now < due {
            return Next::At(due);
        }
        let is_probe = probe_due.is_some();
        // A probe goes beyond the limit: requests that hang must not keep its end from being found out.
        let is_free = if is_probe {
            !self.breaker.wants_look()
        } else {
            self.throttle.has_room(self.in_flight)
        };
        if !is_free {
            return Next::Later;
        }
        if is_probe {
            self.breaker.probe(now);
        }
        self.throttle.begin(now);
        self.in_flight += 1;
        Next::Go { is_probe }
    }
}

impl Turn<'_> {
    /// Counts how often the target was down. Another number than before: what was spent says nothing.
    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether it is to find out if the target works again.
    pub(super) const fn is_probe(&self) -> bool {
        self.is_probe
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Self { admission, epoch, is_probe, lived, failed } = *self;
        let now = admission.now();
        let mut state = admission.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        if is_probe && lived && !failed {
            admission.close(&mut state, epoch, now);
        }
        drop(state);
        admission.changed.notify_waiters();
    }
}
