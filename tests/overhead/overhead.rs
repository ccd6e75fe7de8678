//! `make telemetry-measure`: what logs, metrics and traces cost, as ratios against all of them off, and the memory that
//! the daemon takes.
//!
//! ```text
//! updates ──▶ RabbitMQ ──▶ orderwright ──▶ orderwright-sim ──▶ ledger
//!              (backlog)    │ log to a file      (answers at once)
//!                           │ /metrics, asked for every second
//!                           └ OTLP to a sink
//! ```
//!
//! Each run works off a backlog as fast as it can. Processor time is the daemon's own, so the neighbours on
//! the machine count little in it; the updates a second are those of a machine that they share.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program whose result is text")]

mod sink;
mod spans;
mod table;

#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../support/broker.rs"]
mod broker;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../support/ledger.rs"]
mod ledger;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../support/process.rs"]
mod process;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../support/program.rs"]
mod program;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use broker::Broker;
use ledger::Reader;
use process::Process;
use program::Program;
use sink::Sink;
use table::{Figures, Round};

/// Different orders. More than can be at work.
const ORDERS: u64 = 2_000;
/// Updates before the part that is measured begins.
const WARM: u64 = 500;
/// How long one run may take.
const RUN_MAX: Duration = Duration::from_mins(5);
/// How often the metrics are asked for: more often than anybody does.
const SCRAPE_EVERY: Duration = Duration::from_secs(1);

/// Failures end the measurement and are read by a person, so they are sentences.
type Result<T> = std::result::Result<T, String>;

/// Measures what telemetry costs.
#[derive(Debug, clap::Parser)]
#[command(name = "overhead")]
struct Options {
    /// Updates in each run.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1_000..=1_000_000))]
    updates: u64,
    /// Runs of each kind.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(0..=100))]
    runs: u64,
    /// Keeps what was measured in this file, and counts what is in it already: for a few runs at a time.
    #[arg(long)]
    figures: Option<PathBuf>,
    /// Shards, each of which holds what `broker.prefetch` allows: what the memory depends on.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    shards: u16,
}

/// What is on.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    log: &'static str,
    is_scraped: bool,
    /// Part of the updates whose spans are sent.
    traces: Option<&'static str>,
}

const OFF: Kind = Kind { name: "nothing", log: "off", is_scraped: false, traces: None };
const KINDS: [Kind; 6] = [
    OFF,
    Kind { name: "log at info", log: "info", ..OFF },
    Kind { name: "metrics, scraped every second", is_scraped: true, ..OFF },
    Kind { name: "traces of 10 %", traces: Some("0.1"), ..OFF },
    Kind {
        name: "log, metrics and traces of 10 %",
        log: "info",
        is_scraped: true,
        traces: Some("0.1"),
    },
    Kind {
        name: "log, metrics and traces of all",
        log: "info",
        is_scraped: true,
        traces: Some("1"),
    },
];

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("overhead: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let measured = runtime.block_on(measure(&options));
    // Waits for nobody: what blocks could only be the broker's script, which ends with our pipe.
    runtime.shutdown_background();
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("overhead: {reason}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> Result<()> {
    let mut rounds = options.figures.as_deref().map(table::kept).transpose()?.unwrap_or_default();
    let (broker, sink) = (Broker::try_start().await?, Sink::open().await?);
    for _ in 0..options.runs {
        let round = round(&broker, &sink, rounds.len(), options).await?;
        if let Some(file) = &options.figures {
            table::keep(file, &round)?;
        }
        rounds.push(round);
    }
    broker.end().await;
    println!("\n{}", table::table(&rounds));
    println!("rounds: {}", rounds.len());
    let seconds = spans::off()?;
    println!("spans that nobody collects: {:.2} µs for an update", seconds * 1e6);
    Ok(())
}

/// One run of each kind, each round beginning with another one: none is always the one after the pause.
async fn round(broker: &Broker, sink: &Sink, number: usize, options: &Options) -> Result<Round> {
    let mut round = vec![None; KINDS.len()];
    for step in 0..KINDS.len() {
        let index = (number + step) % KINDS.len();
        let (Some(kind), Some(figures)) = (KINDS.get(index), round.get_mut(index)) else {
            continue;
        };
        let run = Box::pin(run(broker, sink, *kind, options));
        let run = timeout(RUN_MAX, run).await;
        let run = run.map_err(|_elapsed| format!("{}: not done in time", kind.name))??;
        println!(
            "{}: {}: {:.0} updates a second, {:.3} s of processor time for 1,000, {:.0} MiB",
            number + 1,
            kind.name,
            run.rate,
            run.processor,
            run.memory
        );
        *figures = Some(run);
    }
    round.into_iter().collect::<Option<_>>().ok_or_else(|| "not all were run".to_owned())
}

async fn run(broker: &Broker, sink: &Sink, kind: Kind, options: &Options) -> Result<Figures> {
    let updates = options.updates;
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let log = |name: &str| folder.path().join(name);
    let orders = ORDERS.to_string();
    let arguments = ["--listen", "127.0.0.1:0", "--orders", &orders, "--exit-with-stdin"];
    let mut simulator = Program::start("orderwright-sim", &arguments, &[], &log("simulator"))?;
    let line = simulator.line_with("listening").await?;
    let url = line.get("listening").and_then(|url| url.as_str()).unwrap_or_default();
    let reader = Reader::new(url)?;
    let admin = format!("127.0.0.1:{}", free_port().await?);
    let mut settings = settings(broker, sink, (url, &admin), kind);
    settings.push(("ORDERWRIGHT__TOPOLOGY__SHARDS".to_owned(), options.shards.to_string()));
    publish(&settings, updates, &log("publish")).await?;
    sink.taken();
    let arguments = ["run", "--output", "json"];
    let mut daemon = Program::start_daemon("orderwright", &arguments, &settings, &log("daemon"))?;
    daemon.event("ready").await?;
    let figures = {
        let working = count(&reader, &daemon, updates);
        let scraping = scrape(&admin, kind.is_scraped);
        tokio::select! { figures = working => figures, failed = scraping => failed }
    };
    daemon.ask_to_end();
    daemon.ended().await?;
    simulator.ask_to_end();
    simulator.ended().await?;
    let figures = figures?;
    judge(kind, sink, &log("daemon"), updates)?;
    Ok(figures)
}

async fn free_port() -> Result<u16> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|error| error.to_string())
}

fn settings(
    broker: &Broker,
    sink: &Sink,
    (simulator, admin): (&str, &str),
    kind: Kind,
) -> Vec<(String, String)> {
    let mut all = vec![
        ("BROKER__URL", broker.url().to_owned()),
        ("TARGET__URL", format!("{simulator}/data")),
        ("TOPOLOGY__PREFIX", format!("overhead-{:08x}", fastrand::u32(..))),
        ("LOG__LEVEL", kind.log.to_owned()),
        ("ADMIN__LISTEN", if kind.is_scraped { admin.to_owned() } else { String::new() }),
    ];
    if let Some(ratio) = kind.traces {
        all.push(("OTLP__ENDPOINT", sink.url()));
        all.push(("OTLP__SAMPLE_RATIO", ratio.to_owned()));
        // Those of the metrics have a row of their own.
        all.push(("OTLP__METRICS", kind.is_scraped.to_string()));
    }
    all.into_iter().map(|(name, value)| (format!("ORDERWRIGHT__{name}"), value)).collect()
}

/// Publishes the backlog, the orders one after the other.
async fn publish(settings: &[(String, String)], updates: u64, log: &Path) -> Result<()> {
    let declare = ["topology", "declare"];
    Program::start("orderwright", &declare, settings, log)?.ended().await?;
    let mut bodies = String::new();
    for number in 0..updates {
        let order = format!("SO-{:06}", 1 + number % ORDERS);
        let key = json!({"dataAreaId": "USMF", "SalesOrderNumber": order});
        let changes = json!({"UpdateSequence": 1 + number / ORDERS});
        let _infallible = writeln!(bodies, "{}", json!({"key": key, "changes": changes}));
    }
    let publish = ["publish", "--file", "-", "--unchecked", "--output", "json"];
    let mut program = Program::start("orderwright", &publish, settings, log)?;
    program.feed(&bodies).await?;
    let summary = program.line_with("confirmed").await?;
    let ended = program.ended().await?;
    if ended.success() { Ok(()) } else { Err(format!("publish: {summary}")) }
}

/// Asks for the metrics for ever, as a Prometheus does; or for nothing at all.
async fn scrape(admin: &str, is_scraped: bool) -> Result<Figures> {
    let client = reqwest::Client::builder().no_proxy().build().map_err(|it| it.to_string())?;
    let mut tick = interval(SCRAPE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if is_scraped {
            let answer = client.get(format!("http://{admin}/metrics")).send().await;
            let text = async { answer?.error_for_status()?.text().await };
            text.await.map_err(|error| format!("no metrics: {error}"))?;
        }
    }
}

/// Works the backlog off, and measures all but its beginning.
async fn count(reader: &Reader, daemon: &Program, updates: u64) -> Result<Figures> {
    let reached = async |wanted: u64| loop {
        let applied = reader.read(wanted).await?.applied_distinct;
        if applied >= wanted {
            return Ok::<_, String>((
                Instant::now(),
                applied,
                Process::of(daemon)?.processor_time()?,
            ));
        }
    };
    let (begun, first, before) = reached(WARM).await?;
    let (ended, last, after) = reached(updates).await?;
    let done = u32::try_from(last - first).map_err(|error| error.to_string())?;
    let rate = f64::from(done) / (ended - begun).as_secs_f64();
    let processor = (after - before) * 1_000.0 / f64::from(done);
    Ok(Figures { rate, processor, memory: Process::of(daemon)?.memory_peak()? })
}

/// What was not on, or not off, would make the figures worthless.
fn judge(kind: Kind, sink: &Sink, log: &Path, updates: u64) -> Result<()> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let attempts = text.lines().filter(|line| line.contains("\"attempt\"")).count();
    let attempts = u64::try_from(attempts).unwrap_or(u64::MAX);
    let (is_logged, is_sent) = (attempts >= updates, sink.taken() > 0);
    if is_logged == (kind.log == "info") && is_sent == kind.traces.is_some() {
        return Ok(());
    }
    let name = kind.name;
    Err(format!("{name}: {attempts} attempts logged, something sent: {is_sent}\n{text}"))
}
