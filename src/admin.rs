//! The listener for probes, metrics and people. Looks at everything, and decides nothing.
//!
//! It is there before the broker is connected to, and until the drain is over: a start that hangs and a
//! drain that hangs are what one wants to look at. What it shows is a [`View`] of the caller's.

mod actions;
mod chart;
mod explanation;
mod history;
mod page;
mod report;
mod routes;
mod server;
mod status;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

pub use actions::{Actions, Control};
pub use explanation::{Explanation, Parked};
pub use history::Sample;
pub use report::{Broker, Letters, Order, Parking, Report, Shard, Stuck, Target};
pub use server::{Serving, obey, serve};

use crate::telemetry::metrics::Metrics;
use history::{History, SAMPLE_EVERY};

/// How often the runtime shows that it turns over.
const BEAT: Duration = Duration::from_secs(1);
/// How long it may not show it. A machine that is short of time is late now and then.
const BEAT_MAX: Duration = Duration::from_secs(10);

/// What can be seen of a daemon that has come up.
pub trait View: Send + Sync + 'static {
    /// Everything at one moment, or nearly so. Must neither wait nor take long.
    fn report(&self) -> Report;

    /// Its counts alone. As [`Self::report`].
    fn sample(&self) -> Sample;

    /// What is known of one order, by the values of its key, joined by `/`. An error says what is wrong with
    /// them. As [`Self::report`].
    fn explain(&self, order: &str) -> Result<Explanation, String>;
}

/// Where the daemon is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Looks for the broker and its objects.
    Starting,
    /// The broker's objects are as they should be; not every shard is subscribed to yet.
    Subscribing,
    /// Every shard has been subscribed to.
    Consuming,
    /// Finishes what is on the wire.
    Draining,
}

/// Who the process is.
#[derive(Debug, Clone, Serialize)]
pub struct Identity {
    /// Its name.
    pub instance: String,
    /// Version of the program.
    pub version: &'static str,
    /// The settings in force, secrets masked.
    pub configuration: Value,
}

/// What the listener shows.
pub struct Admin {
    identity: Identity,
    phase: watch::Sender<Phase>,
    view: OnceLock<Arc<dyn View>>,
    control: OnceLock<Arc<dyn Control>>,
    metrics: Arc<Metrics>,
    born: Instant,
    /// The last sign of life of the runtime, in milliseconds after `born`.
    beat: AtomicU64,
    history: Mutex<History>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("phase", &*self.phase.borrow()).finish_non_exhaustive()
    }
}

/// What a probe says, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// What it is asked for holds.
    pub ok: bool,
    /// What does not hold; nothing if all does.
    pub because: Vec<String>,
    /// What is amiss all the same: told, and no reason for anybody to act on this pod.
    pub degraded: Vec<String>,
}

impl Health {
    fn new(because: Vec<String>, degraded: Vec<String>) -> Self {
        Self { ok: because.is_empty(), because, degraded }
    }
}

impl Admin {
    /// Nothing to see yet but that it starts.
    pub fn new(identity: Identity, metrics: Arc<Metrics>) -> Self {
        let phase = watch::Sender::new(Phase::Starting);
        let (view, control) = (OnceLock::new(), OnceLock::new());
        let (born, beat) = (Instant::now(), AtomicU64::new(0));
        let history = Mutex::default();
        Self { identity, phase, view, control, metrics, born, beat, history }
    }

    /// The daemon has come up: this is what can be seen of it.
    pub fn show(&self, view: Arc<dyn View>) {
        if self.view.set(view).is_ok() {
            self.phase.send_replace(Phase::Subscribing);
        }
    }

    /// The daemon has come up: this is who does what is asked of it.
    pub fn obey(&self, control: Arc<dyn Control>) {
        // The first one stays.
        let _again = self.control.set(control);
    }

    /// Looks at the process from time to time, for as long as it is polled.
    pub async fn watch(&self) {
        tokio::join!(self.beats(), self.samples());
    }

    /// Where it is now. A drain is never left again.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let moves = *now != Phase::Draining && *now != phase;
            if moves {
                *now = phase;
            }
            moves
        });
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    fn report(&self) -> Option<Report> {
        self.view.get().map(|view| view.report())
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a sample of the counts from time to time.
    async fn samples(&self) {
        let mut tick = tokio::time::interval(SAMPLE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Some(view) = self.view.get() {
                let sample = view.sample();
                self.history().add(self.born.elapsed(), sample);
            }
        }
    }

    /// Shows from time to time that the runtime turns over.
    async fn beats(&self) {
        let mut tick = tokio::time::interval(BEAT);
        loop {
            tick.tick().await;
            let at = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.beat.store(at, Ordering::Relaxed);
        }
    }

    /// Whether the process works at all: one that does not is to be started anew. Neither the broker nor
    /// the service is asked for: a new process would have them no better.
    fn live(&self) -> Health {
        let last = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        let still = self.born.elapsed().saturating_sub(last);
        let mut because = Vec::new();
        if still > BEAT_MAX {
            because.push(format!("the runtime has stood still for {} s", still.as_secs()));
        }
        let stuck = self.report().map(|report| report.stuck).unwrap_or_default();
        because.extend(stuck.iter().map(ToString::to_string));
        Health::new(because, Vec::new())
    }

    /// Whether it does its work, or would if there were any.
    fn ready(&self) -> Health {
        let mut because = Vec::new();
        match self.phase() {
            Phase::Starting => because.push("the broker is not reached yet".to_owned()),
            Phase::Subscribing | Phase::Consuming => {}
            Phase::Draining => because.push("it drains".to_owned()),
        }
        let Some(report) = self.report() else { return Health::new(because, Vec::new()) };
        if !report.broker.connected {
            because.push("there is no connection to the broker".to_owned());
        }
        let missing = report.shards.iter().filter(|shard| shard.is_missing);
        because.extend(missing.map(|shard| format!("{} is not subscribed to", shard.queue)));
        because.extend(report.topology.iter().cloned());
        Health::new(because, report.degraded())
    }

    /// Whether the start is over: the broker is reached, and its objects are as they should be.
    fn started(&self) -> Health {
        let because = match self.phase() {
            Phase::Starting => vec!["the broker is not reached yet".to_owned()],
            Phase::Subscribing | Phase::Consuming | Phase::Draining => Vec::new(),
        };
        Health::new(because, Vec::new())
    }
}

#[cfg(test)]
mod tests;
