//! The workers: each a daemon behind links of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::Result;
use crate::link::Link;
use crate::options::Options;
use crate::process::Process;

/// A new worker connects, declares and subscribes; a restart of the broker may come in between.
const READY_MAX: Duration = Duration::from_mins(1);
/// What a drain may end with: done, or the grace ran out.
const DRAINED: [i32; 2] = [0, 75];

/// The settings of every worker. Short waits, so that a run of seconds sees many of them, and enough
/// retries that the simulator's faults exhaust none: every dead letter is somebody's mistake then.
const SETTINGS: &[(&str, &str)] = &[
    ("BROKER__HEARTBEAT", "5s"),
    ("BROKER__CONNECT_TIMEOUT", "3s"),
    ("BROKER__START_TIMEOUT", "50s"),
    ("BROKER__RECONNECT_WAIT_MIN", "50ms"),
    ("BROKER__RECONNECT_WAIT_MAX", "500ms"),
    ("BROKER__PUBLISH_TIMEOUT", "5s"),
    ("TARGET__CONNECT_TIMEOUT", "1s"),
    ("TARGET__GET_TIMEOUT", "2s"),
    ("TARGET__PATCH_TIMEOUT", "2s"),
    ("RETRY__CONFLICTS__RETRIES_MAX", "20"),
    ("RETRY__CONFLICTS__WAIT_MIN", "5ms"),
    ("RETRY__CONFLICTS__WAIT_MAX", "50ms"),
    ("RETRY__FAILURES__RETRIES_MAX", "20"),
    ("RETRY__FAILURES__WAIT_MIN", "10ms"),
    ("RETRY__FAILURES__WAIT_MAX", "200ms"),
    // Longer than the simulator goes on with any request whose client is gone.
    ("DISPATCH__SETTLE_WINDOW", "1s"),
    ("BALANCE__INTERVAL", "1s"),
    ("DRAIN__GRACE", "5s"),
    ("ADMIN__LISTEN", "127.0.0.1:0"),
    ("LOG__LEVEL", "info"),
    ("LOG__FORMAT", "json"),
];

/// The daemon's interval between heartbeats; see the settings above.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);

/// Where the workers find everything.
#[derive(Debug)]
pub(crate) struct Ground {
    /// The daemon's program.
    pub(crate) program: PathBuf,
    /// Where logs go.
    pub(crate) folder: PathBuf,
    /// The port that leads to any node of the broker.
    pub(crate) broker: SocketAddr,
    /// The broker's URL with this port.
    pub(crate) url: String,
    /// The ports of its nodes.
    pub(crate) nodes: Vec<SocketAddr>,
    /// The simulator's port.
    pub(crate) simulator: SocketAddr,
    /// First part of all names on the broker.
    pub(crate) prefix: String,
}

impl Ground {
    /// The settings of a worker that reaches broker and simulator at these addresses.
    pub(crate) fn settings(
        &self,
        options: &Options,
        name: &str,
        broker: SocketAddr,
        service: SocketAddr,
    ) -> Vec<(String, String)> {
        let broker = self.url.replace(&self.broker.to_string(), &broker.to_string());
        let (target, shards) = (format!("http://{service}/data"), options.shards.to_string());
        let own = [
            ("INSTANCE__NAME", name),
            ("BROKER__URL", &broker),
            ("TARGET__URL", &target),
            ("TOPOLOGY__PREFIX", &self.prefix),
            ("TOPOLOGY__SHARDS", &shards),
        ];
        let all = own.into_iter().chain(SETTINGS.iter().copied()).chain(options.settings());
        let mut settings: Vec<(String, String)> = Vec::new();
        for (key, value) in all {
            let key = format!("ORDERWRIGHT__{key}");
            settings.retain(|(known, _)| *known != key);
            settings.push((key, value.to_owned()));
        }
        settings
    }
}

/// A worker that runs.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) number: u64,
    pub(crate) process: Process,
    /// To the broker.
    pub(crate) link: Link,
    /// To the simulator.
    pub(crate) service: Link,
    born: Timestamp,
}

/// What is known of a worker after its end.
#[derive(Debug)]
pub(crate) struct Obituary {
    pub(crate) number: u64,
    pub(crate) born: Timestamp,
    pub(crate) died: Timestamp,
    /// How, in words.
    pub(crate) how: String,
    /// Its own account, which one that was killed cannot give.
    pub(crate) summary: Option<Value>,
}

/// All workers, dead or alive.
#[derive(Debug, Default)]
struct Roll {
    /// At nobody's hands.
    idle: Vec<Worker>,
    /// Alive, also those that a fault is at work on.
    alive: u64,
    dead: Vec<Obituary>,
    born: u64,
    complaints: Vec<String>,
}

/// Starts workers, lends them to faults, and buries them.
#[derive(Debug)]
pub(crate) struct Fleet<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) options: &'a Options,
    roll: Mutex<Roll>,
}

impl<'a> Fleet<'a> {
    pub(crate) fn new(ground: &'a Ground, options: &'a Options) -> Self {
        Self { ground, options, roll: Mutex::default() }
    }

    fn roll(&self) -> MutexGuard<'_, Roll> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a worker, waits until it consumes, and returns its number.
    pub(crate) async fn start(&self) -> Result<u64> {
        let number = {
            let mut roll = self.roll();
            roll.born += 1;
            roll.alive += 1;
            roll.born
        };
        let name = format!("worker-{number}");
        let mut nodes = self.ground.nodes.clone();
        // Each begins with another one.
        let first = usize::try_from(number).unwrap_or_default() % nodes.len().max(1);
        nodes.rotate_left(first);
        let link = Link::open_to_any(nodes).await?;
        let service = Link::open(self.ground.simulator).await?;
        let (broker, target) = (link.address(), service.address());
        let settings = self.ground.settings(self.options, &name, broker, target);
        let log = self.ground.folder.join(format!("{name}.log"));
        let born = Timestamp::now();
        let process = Process::start(&self.ground.program, &settings, &log).await?;
        let mut worker = Worker { number, process, link, service, born };
        if !worker.process.ready(READY_MAX).await {
            return Err(format!("{name} does not consume after {} s", READY_MAX.as_secs()));
        }
        self.give_back(worker);
        Ok(number)
    }

    /// A worker to do something to, or none if all are at somebody's hands.
    pub(crate) fn lend(&self, dice: &mut fastrand::Rng) -> Option<Worker> {
        let mut roll = self.roll();
        let count = roll.idle.len();
        // Sorted, so that the same dice mean the same worker.
        roll.idle.sort_unstable_by_key(|worker| worker.number);
        (count > 0).then(|| roll.idle.remove(dice.usize(0..count)))
    }

    /// The worker that has lived longest, if any is at nobody's hands.
    pub(crate) fn oldest(&self) -> Option<Worker> {
        let mut roll = self.roll();
        let oldest = roll.idle.iter().enumerate().min_by_key(|(_, worker)| worker.number)?.0;
        Some(roll.idle.remove(oldest))
    }

    /// Takes a worker back that lives on.
    pub(crate) fn give_back(&self, worker: Worker) {
        self.roll().idle.push(worker);
    }

    /// Sends a signal that ends a worker, and waits for its end.
    pub(crate) async fn end(&self, worker: Worker, signal: &str) -> Result<()> {
        let Worker { number, process, link, service, born } = worker;
        let early = process.is_over();
        process.signal(signal).await?;
        let end = process.ended().await;
        drop((link, service));
        let code = end.as_ref().and_then(|end| end.code);
        let mut roll = self.roll();
        let is_well = signal == "KILL" || code.is_some_and(|code| DRAINED.contains(&code));
        if early || !is_well {
            let when = if early { "by itself" } else { "after the signal" };
            let code = code.map_or("not".to_owned(), |code| format!("with {code}"));
            roll.complaints.push(format!("worker-{number} ended {when}: {code}"));
        }
        let how = code.map_or_else(|| format!("{signal}, hung"), |code| format!("{signal} {code}"));
        let summary = end.and_then(|end| end.summary);
        roll.dead.push(Obituary { number, born, died: Timestamp::now(), how, summary });
        roll.alive -= 1;
        Ok(())
    }

    /// How many are alive.
    pub(crate) fn alive(&self) -> u64 {
        self.roll().alive
    }

    /// Ends all that are alive, and tells everything about all.
    pub(crate) async fn finish(&self) -> Result<(Vec<Obituary>, Vec<String>)> {
        let idle = std::mem::take(&mut self.roll().idle);
        let all = idle.into_iter().map(|worker| self.end(worker, "TERM"));
        futures_util::future::try_join_all(all).await?;
        let mut roll = self.roll();
        let mut dead = std::mem::take(&mut roll.dead);
        dead.sort_unstable_by_key(|worker| worker.number);
        Ok((dead, std::mem::take(&mut roll.complaints)))
    }
}
