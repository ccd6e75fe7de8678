//! One run: a simulator, a backlog, workers, and what came of it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::ledger::{Ledger, Reader};
use crate::process::Process;
use crate::program::Program;
use crate::scenario::{MERGED, Scenario};
use crate::{Result, free_port};

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Daemon,
    Bare,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Daemon => "orderwright",
            Self::Bare => "bare",
        }
    }
}

/// What one run came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// Updates a second.
    pub(crate) rate: f64,
    /// Seconds of processor time of all workers for 1,000 updates.
    pub(crate) processor: f64,
    /// Most memory of a worker, in MiB.
    pub(crate) memory: f64,
    /// Part of the best rate that arithmetic allows.
    pub(crate) of_bound: f64,
}

/// A simulator with its orders, and the broker's objects.
pub(crate) struct Stage<'a> {
    scenario: &'a Scenario,
    broker: &'a Broker,
    pub(crate) prefix: String,
    folder: PathBuf,
    simulator: Program,
    pub(crate) url: String,
    pub(crate) reader: Reader,
}

impl<'a> Stage<'a> {
    pub(crate) async fn set(
        scenario: &'a Scenario,
        broker: &'a Broker,
        folder: &Path,
    ) -> Result<Self> {
        let orders = scenario.orders.to_string();
        let [get, patch] = scenario.latency.map(|it| format!("{}ms", it.as_millis()));
        let mut arguments =
            vec!["--listen", "127.0.0.1:0", "--orders", &orders, "--exit-with-stdin"];
        arguments.extend(["--get-latency", &get, "--patch-latency", &patch]);
        arguments.extend(scenario.simulator);
        let log = folder.join("simulator");
        let mut simulator = Program::start("orderwright-sim", &arguments, &[], &log)?;
        let line = simulator.line_with("listening").await?;
        let url = line.get("listening").and_then(|url| url.as_str()).unwrap_or_default();
        let (url, reader) = (url.to_owned(), Reader::new(url)?);
        let prefix = format!("bench-{:08x}", fastrand::u32(..));
        let folder = folder.to_owned();
        let stage = Self { scenario, broker, prefix, folder, simulator, url, reader };
        let declare = ["topology", "declare"];
        let settings = stage.settings("");
        let log = stage.folder.join("declare");
        Program::start("orderwright", &declare, &settings, &log)?.ended().await?;
        Ok(stage)
    }

    /// The daemon's settings: its production defaults, but for what the scenario says.
    fn settings(&self, admin: &str) -> Vec<(String, String)> {
        let it = self.scenario;
        let mut all = vec![
            ("BROKER__URL", self.broker.url().to_owned()),
            ("BROKER__PREFETCH", it.prefetch.to_string()),
            ("TARGET__URL", format!("{}/data", self.url)),
            ("TARGET__POOL_IDLE_MAX", it.concurrency.to_string()),
            ("TOPOLOGY__PREFIX", self.prefix.clone()),
            ("TOPOLOGY__SHARDS", it.shards.to_string()),
            ("DISPATCH__CONCURRENCY_MAX", it.concurrency.to_string()),
            ("ADMIN__LISTEN", admin.to_owned()),
        ];
        all.extend(it.settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        all.into_iter().map(|(name, value)| (format!("ORDERWRIGHT__{name}"), value)).collect()
    }

    /// Fills the queues. Gives the updates of the order that has most.
    pub(crate) async fn publish(&self) -> Result<u32> {
        let it = self.scenario;
        let (spread, mut dice) = (it.spread(), fastrand::Rng::with_seed(1));
        let mut sequences = vec![0_u32; usize::try_from(it.orders).unwrap_or(0)];
        let mut bodies = String::new();
        for number in 0..it.updates {
            let order = it.order(number, &spread, &mut dice);
            let Some(sequence) = sequences.get_mut(order as usize) else { continue };
            *sequence += 1;
            let body = body(order, *sequence);
            // Writing to a String cannot fail.
            let _infallible = writeln!(bodies, "{body}");
        }
        let publish = ["publish", "--file", "-", "--unchecked", "--output", "json"];
        let log = self.folder.join("publish");
        let mut program = Program::start("orderwright", &publish, &self.settings(""), &log)?;
        program.feed(&bodies).await?;
        let summary = program.line_with("confirmed").await?;
        let ended = program.ended().await?;
        if ended.success() {
            Ok(sequences.into_iter().max().unwrap_or(0))
        } else {
            Err(format!("publish: {summary}"))
        }
    }

    /// Starts a worker, with its production telemetry: metrics that somebody asks for, and a log that
    /// somebody takes from a pipe.
    pub(crate) async fn worker(&self, kind: Kind) -> Result<Program> {
        let it = self.scenario;
        let mut worker = match kind {
            Kind::Daemon => {
                let settings = self.settings(&format!("127.0.0.1:{}", free_port().await?));
                let arguments = ["run", "--output", "json"];
                Program::start_daemon_piped("orderwright", &arguments, &settings)?
            }
            Kind::Bare => {
                let (prefetch, concurrency) = (it.prefetch.to_string(), it.concurrency.to_string());
                let target = format!("{}/data/", self.url);
                let mut arguments = vec!["--broker", self.broker.url(), "--target", &target];
                arguments.extend(["--prefetch", &prefetch, "--concurrency", &concurrency]);
                let queues: Vec<_> = (0..it.shards)
                    .map(|number| format!("{}.shard.g1.{number:03}", self.prefix))
                    .collect();
                arguments.extend(queues.iter().flat_map(|queue| ["--queue", queue]));
                Program::start_daemon_piped("examples/bare", &arguments, &[])?
            }
        };
        worker.event("ready").await?;
        Ok(worker)
    }

    /// Works the backlog off, and measures all but its beginning and its end.
    pub(crate) async fn measure(&self, kind: Kind, hottest: u32) -> Result<Figures> {
        let it = self.scenario;
        let mut workers = Vec::new();
        for _ in 0..it.workers {
            workers.push(self.worker(kind).await?);
        }
        let mut processes = Vec::new();
        for worker in &workers {
            processes.push(Process::of(worker)?);
        }
        let used = || processes.iter().map(|it| it.processor_time()).sum::<Result<f64>>();
        let warm = u64::from(it.updates / 10);
        let (begun, first, before) = (self.reached(warm).await?, Instant::now(), used()?);
        // The first order has the most. Its chain is as long as what is left of it.
        let left = u64::from(hottest).saturating_sub(self.of_hottest(&["applied"]).await?);
        let left = u32::try_from(left).map_err(|error| error.to_string())?;
        let (ended, last, after) =
            (self.reached(it.measured().into()).await?, Instant::now(), used()?);
        self.reached(it.updates.into()).await?;
        let mut memory = 0_f64;
        for process in &processes {
            memory = memory.max(process.memory_peak()?);
        }
        for worker in &mut workers {
            worker.ask_to_end();
        }
        for worker in &mut workers {
            worker.ended().await?;
        }
        self.judge(&self.reader.read(0).await?, kind)?;
        let done = ended - begun;
        let done = u32::try_from(done).map_err(|error| error.to_string())?;
        let seconds = (last - first).as_secs_f64();
        let bound = it.bound(done, left);
        Ok(Figures {
            rate: f64::from(done) / seconds,
            processor: (after - before) * 1_000.0 / f64::from(done),
            memory,
            of_bound: bound / seconds,
        })
    }

    /// A figure of the order that has most.
    async fn of_hottest(&self, path: &[&str]) -> Result<u64> {
        let view = self.reader.order("USMF", &order(0)).await?;
        let found = path.iter().try_fold(&view, |view, name| view.get(name));
        // As long as it was not written, it may be null.
        let figure = found.map(|it| it.as_u64().unwrap_or_default());
        figure.ok_or_else(|| format!("no {path:?}: {view}"))
    }

    /// So many updates are done: written, or where several are written as one, written over by the last of them.
    async fn done(&self, wanted: u64) -> Result<u64> {
        if self.scenario.settings.contains(&MERGED) {
            let (writes, path) = (self.reader.read(0).await?, ["properties", "UpdateSequence"]);
            let done = self.of_hottest(&path).await?;
            if done < wanted {
                // Until the next write.
                self.reader.read(writes.applied_distinct + 1).await?;
            }
            return Ok(done);
        }
        Ok(self.reader.read(wanted).await?.applied_distinct)
    }

    async fn reached(&self, wanted: u64) -> Result<u64> {
        let begun = Instant::now();
        let mut last = (Instant::now(), 0);
        loop {
            let done = self.done(wanted).await?;
            if done >= wanted {
                return Ok(done);
            }
            if done > last.1 {
                last = (Instant::now(), done);
            }
            if last.0.elapsed() > Duration::from_secs(30) {
                let seconds = begun.elapsed().as_secs();
                return Err(format!("stuck at {} of {wanted} after {seconds} s", last.1));
            }
        }
    }

    /// A rate counts for nothing where the work was not done well.
    fn judge(&self, ledger: &Ledger, kind: Kind) -> Result<()> {
        let bad = ledger.overlaps + ledger.out_of_order + ledger.applied_twice;
        if kind == Kind::Daemon && bad > 0 {
            return Err(format!(
                "{}: not one writer for each order: {ledger:?}",
                self.scenario.name
            ));
        }
        Ok(())
    }

    pub(crate) async fn end(mut self) -> Result<()> {
        self.simulator.ask_to_end();
        self.simulator.ended().await.map(drop)
    }
}

/// The order of this number.
fn order(number: u32) -> String {
    format!("SO-{:06}", number + 1)
}

/// A message for the order of this number.
pub(crate) fn body(number: u32, sequence: u32) -> serde_json::Value {
    let number = order(number);
    let key = json!({"dataAreaId": "USMF", "SalesOrderNumber": number});
    json!({"key": key, "changes": {"UpdateSequence": sequence}})
}
