//! Builds the three programs up, lets the messages through, takes them down again.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::dead_letters::DeadLetters;
use crate::ledger::{Ledger, Reader};
use crate::program::Program;
use crate::progress::Progress;
use crate::summary::{Outcome, Report};
use crate::{Result, messages};

/// Few enough to see them all in the management page.
const SHARDS: &str = "8";

/// The programs, in the order in which they are dropped.
#[derive(Debug)]
pub(crate) struct Stage {
    daemon: Program,
    simulator: Program,
    broker: Broker,
    simulator_url: String,
    prefix: String,
    environment: Vec<(String, String)>,
    folder: TempDir,
}

impl Stage {
    /// Starts broker, simulator and daemon, each when the one before it is ready.
    pub(crate) async fn build() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("orderwright-demo.").tempdir();
        let folder = folder.map_err(|error| format!("no temporary folder: {error}"))?;
        let broker = Broker::try_start().await?;
        let (simulator, simulator_url) = simulator(folder.path()).await?;
        // A broker that was given may hold the queues of an earlier demo, or of somebody's work.
        let prefix = match broker.how() {
            "given" => format!("orderwright-demo-{}", std::process::id()),
            _ => "orderwright".to_owned(),
        };
        let environment = environment(broker.url(), &simulator_url, &prefix);
        let log = folder.path().join("daemon.log");
        let args = ["run", "--output", "json"];
        let daemon = Program::start_daemon("orderwright", &args, &environment, &log)?;
        let mut stage =
            Self { daemon, simulator, broker, simulator_url, prefix, environment, folder };
        match stage.daemon.event("ready").await {
            Ok(_ready) => Ok(stage),
            Err(reason) => match stage.clear(Err(reason)).await {
                Err(reason) => Err(reason),
                Ok(()) => Err("the daemon is not ready".to_owned()),
            },
        }
    }

    /// Publishes all messages and returns when each was applied or dead-lettered.
    pub(crate) async fn play(&mut self) -> Result<Outcome> {
        let queue = format!("{}.dead-letters", self.prefix);
        let mut dead_letters = DeadLetters::watch(self.broker.url(), &queue).await?;
        let begun = Instant::now();
        let published = self.publish().await?;
        let ledger = watch(&self.simulator_url, &mut dead_letters, published).await?;
        let duration = begun.elapsed();
        Ok(Outcome { published, ledger, dead_letters: dead_letters.leave().await, duration })
    }

    /// Publishes as any publisher would, but without the check that keeps bad messages back.
    async fn publish(&self) -> Result<u64> {
        let bodies = messages::all();
        let log = self.folder.path().join("publish.log");
        let args = ["publish", "--file", "-", "--unchecked", "--output", "json"];
        let mut publisher = Program::start("orderwright", &args, &self.environment, &log)?;
        publisher.feed(&(bodies.join("\n") + "\n")).await?;
        let report = publisher.line_with("confirmed").await?;
        publisher.ended().await?;
        let number = |field| report.get(field).and_then(Value::as_u64).unwrap_or_default();
        if number("confirmed") == bodies.len() as u64 && number("returned") + number("nacked") == 0
        {
            return Ok(bodies.len() as u64);
        }
        Err(format!("of {} messages not all were published: {report}", bodies.len()))
    }

    /// Sends SIGTERM to the daemon and reads what it says about its work.
    pub(crate) async fn finish_daemon(&mut self) -> Result<Report> {
        self.daemon.ask_to_end();
        let report = self.daemon.event("summary").await?;
        let status = self.daemon.ended().await?;
        if !status.success() {
            return Err(format!("the daemon ended with {status}"));
        }
        serde_json::from_value(report).map_err(|error| format!("the daemon's summary: {error}"))
    }

    /// Tells where to look while everything is running.
    pub(crate) fn describe(&self) {
        println!("\nLeft running until Ctrl-C:");
        if let Some(management) = self.broker.management() {
            println!("  RabbitMQ       {management} (guest, guest)");
        }
        println!("  AMQP           {}", self.broker.url());
        println!("  ledger         {}/sim/ledger", self.simulator_url);
        let order = "data/SalesOrderHeadersV2(dataAreaId='USMF',SalesOrderNumber='SO-000001')?cross-company=true";
        println!("  an order       {}/{order}", self.simulator_url);
        println!("  logs           {}", self.folder.path().display());
        println!("Publish another update:");
        let body = r#"{"key":{"dataAreaId":"USMF","SalesOrderNumber":"SO-000001"},"changes":{"DeliveryDate":"2025-03-01"}}"#;
        let variables = self.environment.iter().filter(|(key, _)| {
            ["BROKER__URL", "TOPOLOGY__PREFIX", "TOPOLOGY__SHARDS"]
                .iter()
                .any(|end| key.ends_with(end))
        });
        for (key, value) in variables {
            println!("  export {key}='{value}'");
        }
        println!("  echo '{body}' | cargo run --quiet -- publish --file -");
    }

    /// Stops everything. The logs stay if there is something to find in them.
    pub(crate) async fn clear(self, result: Result<()>) -> Result<()> {
        let Self { mut daemon, mut simulator, broker, folder, .. } = self;
        daemon.ask_to_end();
        simulator.ask_to_end();
        let all = async { tokio::join!(daemon.ended(), simulator.ended()) };
        // What does not end by itself now has lost its broker a moment later.
        drop(tokio::time::timeout(Duration::from_secs(5), all).await);
        broker.end().await;
        result.map_err(|reason| {
            let folder = folder.keep();
            format!("{reason}\ndemo: the logs are in {}", folder.display())
        })
    }
}

async fn simulator(folder: &Path) -> Result<(Program, String)> {
    let orders = messages::ORDERS.to_string();
    #[rustfmt::skip]
    let args = [
        "--listen", "127.0.0.1:0", "--exit-with-stdin",
        "--orders", &orders, "--seed", "7",
        "--get-latency", "10ms..40ms", "--patch-latency", "20ms..80ms",
        "--conflict-rate", "0.15", "--error-rate", "0.04", "--reset-rate", "0.02",
    ];
    let log = folder.join("simulator.log");
    let mut program = Program::start("orderwright-sim", &args, &[], &log)?;
    let listening = match program.line_with("listening").await {
        Ok(line) => line.get("listening").and_then(Value::as_str).map(str::to_owned),
        Err(reason) => {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("{reason}\n{}", said.trim_end()));
        }
    };
    Ok((program, listening.ok_or("the simulator's address is not a text")?))
}

/// Short waits, for a demo of seconds. More retries than by default, so that the trouble that the
/// simulator makes practically never exhausts them: then exactly the bad messages are dead letters.
fn environment(broker: &str, simulator: &str, prefix: &str) -> Vec<(String, String)> {
    let target = format!("{simulator}/data");
    [
        ("BROKER__URL", broker),
        // Whoever runs a daemon of their own beside the demo has the usual port.
        ("ADMIN__LISTEN", "127.0.0.1:0"),
        ("TARGET__URL", &target),
        ("TARGET__GET_TIMEOUT", "5s"),
        ("TARGET__PATCH_TIMEOUT", "5s"),
        ("TOPOLOGY__PREFIX", prefix),
        ("TOPOLOGY__SHARDS", SHARDS),
        ("RETRY__CONFLICTS__RETRIES_MAX", "8"),
        ("RETRY__CONFLICTS__WAIT_MIN", "50ms"),
        ("RETRY__CONFLICTS__WAIT_MAX", "400ms"),
        ("RETRY__FAILURES__RETRIES_MAX", "8"),
        ("RETRY__FAILURES__WAIT_MIN", "50ms"),
        ("RETRY__FAILURES__WAIT_MAX", "400ms"),
    ]
    .map(|(key, value)| (format!("ORDERWRIGHT__{key}"), value.to_owned()))
    .into()
}

/// Returns when as many updates are applied or dead-lettered as were published.
async fn watch(simulator: &str, letters: &mut DeadLetters, published: u64) -> Result<Ledger> {
    let reader = Reader::new(simulator)?;
    let progress = Progress::new();
    let mut ledger = Ledger::default();
    loop {
        let dead = letters.total();
        progress.show(&format!(
            "{} of {published} applied, {dead} dead-lettered, {} conflicts, {} faults",
            ledger.applied_distinct,
            ledger.conflicts,
            ledger.faults.total()
        ));
        if ledger.applied_distinct + dead >= published {
            return Ok(ledger);
        }
        tokio::select! {
            seen = letters.next() => seen?,
            read = reader.read(published - dead) => ledger = read?,
        }
    }
}
