//! `make batch-measure`: updates a second with `$batch` and without, as a ratio.
//!
//! ```text
//! updates ──▶ RabbitMQ ──▶ orderwright ──relay (a long way)──▶ orderwright-sim ──▶ ledger
//!              (backlog)                                        (takes its time, counts requests)
//! ```
//!
//! Each run publishes more than it can work off, lets the daemon get going, and counts in the simulator's
//! ledger what was written in the time that is measured. The quota is one of requests, of which a batch is
//! one; the simulator refuses what is more than a quarter beyond, and then nothing is measured.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program whose result is text")]

mod relay;

#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../support/broker.rs"]
mod broker;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../support/ledger.rs"]
mod ledger;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../support/program.rs"]
mod program;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use serde_json::json;
use tokio::time::{Instant, timeout};

use broker::Broker;
use ledger::{Ledger, Reader};
use program::Program;
use relay::Relay;

/// Different orders. More than can be at work.
const ORDERS: u64 = 2_000;
/// Updates before the time that is measured begins.
const WARM: u64 = 100;
/// How long one run may take besides.
const RUN_EXTRA_MAX: Duration = Duration::from_mins(2);
/// Window of the quota.
const WINDOW: &str = "10s";

/// Failures end the measurement and are read by a person, so they are sentences.
type Result<T> = std::result::Result<T, String>;

/// Measures updates a second with batches and without.
#[derive(Debug, clap::Parser)]
#[command(name = "batch")]
struct Options {
    /// How long each run is measured.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(2..=600))]
    seconds: u64,
    /// Runs of each kind.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=20))]
    runs: u64,
    /// Requests in 10 s, where there is a quota.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(10..=100_000))]
    quota: u64,
    /// Most requests in a batch.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=1_000))]
    operations: u64,
}

/// Where the latency is, and whether there is a quota.
#[derive(Debug, Clone, Copy)]
struct Setting {
    name: &'static str,
    /// There and back.
    way: Duration,
    /// What the service takes for a request, be it in a batch or not.
    work: &'static str,
    has_quota: bool,
}

const FAR: Setting = Setting {
    name: "100 ms there and back, 5 ms of work for a request",
    way: Duration::from_millis(100),
    work: "5ms",
    has_quota: false,
};
const SLOW: Setting = Setting {
    name: "no way to speak of, 100 ms of work for a request",
    way: Duration::ZERO,
    work: "100ms",
    has_quota: false,
};

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("batch: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let measured = runtime.block_on(measure(&options));
    // Waits for nobody: what blocks could only be the broker's script, which ends with our pipe.
    runtime.shutdown_background();
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("batch: {reason}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> Result<()> {
    let broker = Broker::try_start().await?;
    let mut table = String::from(
        "| latency | quota | one by one | in batches | ratio |\n| --- | --- | --- | --- | --- |\n",
    );
    for setting in [FAR, SLOW] {
        for has_quota in [true, false] {
            let setting = Setting { has_quota, ..setting };
            let (mut alone, mut batched) = (Vec::new(), Vec::new());
            // In turn, so that a machine that gets slower slows down both.
            for _ in 0..options.runs {
                alone.push(run(&broker, setting, false, options).await?);
                batched.push(run(&broker, setting, true, options).await?);
            }
            let quota = if has_quota {
                format!("{} requests in {WINDOW}", options.quota)
            } else {
                "none".to_owned()
            };
            let ratio = median(&mut batched) / median(&mut alone);
            let (alone, batched) = (spread(&alone), spread(&batched));
            // Writing to a String cannot fail.
            let _infallible = writeln!(
                table,
                "| {} | {quota} | {alone} | {batched} | {ratio:.2} |",
                setting.name
            );
        }
    }
    println!("\nupdates a second: median (lowest to highest of {} runs)\n\n{table}", options.runs);
    broker.end().await;
    Ok(())
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

/// Of what is sorted.
fn spread(rates: &[f64]) -> String {
    let at = |index: usize| rates.get(index).copied().unwrap_or_default();
    let last = rates.len().saturating_sub(1);
    format!("{:.1} ({:.1} to {:.1})", at(rates.len() / 2), at(0), at(last))
}

/// Updates a second.
async fn run(broker: &Broker, setting: Setting, batch: bool, options: &Options) -> Result<f64> {
    let longest = Duration::from_secs(options.seconds) + RUN_EXTRA_MAX;
    let measured = timeout(longest, Box::pin(measured(broker, setting, batch, options))).await;
    measured.map_err(|_elapsed| format!("not measured after {} s", longest.as_secs()))?
}

async fn measured(
    broker: &Broker,
    setting: Setting,
    batch: bool,
    options: &Options,
) -> Result<f64> {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let orders = ORDERS.to_string();
    let arguments = [
        ["--listen", "127.0.0.1:0"],
        ["--orders", &orders],
        ["--get-latency", setting.work],
        ["--patch-latency", setting.work],
    ];
    let arguments = [&arguments.concat()[..], &["--exit-with-stdin"]].concat();
    let log = |name: &str| folder.path().join(name);
    let mut simulator = Program::start("orderwright-sim", &arguments, &[], &log("simulator"))?;
    let line = simulator.line_with("listening").await?;
    let url = line.get("listening").and_then(|url| url.as_str()).unwrap_or_default();
    let reader = Reader::new(url)?;
    if setting.has_quota {
        // On its way a request may take longer than the next one, and the two arrive closer together.
        let most = options.quota + options.quota / 4;
        let limits = json!({"throttle": {"requests": most, "window": WINDOW}});
        reader.faults(&limits).await?;
    }
    let address = url.strip_prefix("http://").and_then(|it| it.parse().ok());
    let relay = Relay::open(address.ok_or("no address")?, setting.way / 2).await?;
    let settings = settings(broker, &relay, setting, batch, options);
    publish(&settings, options, &log("publish")).await?;
    let run = ["run", "--output", "json"];
    let mut daemon = Program::start_daemon("orderwright", &run, &settings, &log("daemon"))?;
    daemon.event("ready").await?;
    let counted = count(&reader, options).await;
    daemon.ask_to_end();
    daemon.ended().await?;
    simulator.ask_to_end();
    simulator.ended().await?;
    let (rate, ledger) = counted?;
    judge(&ledger, batch, folder.path())?;
    println!(
        "{}{}, {}: {rate:.1} a second, {} requests for {} GETs and PATCHes, {} refused",
        setting.name,
        if setting.has_quota { ", quota" } else { "" },
        if batch { "in batches" } else { "one by one" },
        ledger.requests,
        ledger.gets + ledger.patches,
        ledger.throttled,
    );
    Ok(rate)
}

fn settings(
    broker: &Broker,
    relay: &Relay,
    setting: Setting,
    batch: bool,
    options: &Options,
) -> Vec<(String, String)> {
    let quota = if setting.has_quota { options.quota } else { 0 };
    let all = [
        ("BROKER__URL", broker.url().to_owned()),
        ("TARGET__URL", format!("http://{}/data", relay.address())),
        ("TARGET__BATCH__MODE", if batch { "on" } else { "off" }.to_owned()),
        // At most 52 requests at the same time either way.
        ("TARGET__BATCH__REQUESTS_MAX", "52".to_owned()),
        ("TARGET__BATCH__OPERATIONS_MAX", options.operations.to_string()),
        ("DISPATCH__CONCURRENCY_MAX", if batch { 52 * options.operations } else { 52 }.to_string()),
        ("BROKER__PREFETCH", "128".to_owned()),
        ("THROTTLE__QUOTA_REQUESTS", quota.to_string()),
        ("THROTTLE__QUOTA_WINDOW", WINDOW.to_owned()),
        ("TOPOLOGY__PREFIX", format!("batch-{:08x}", fastrand::u32(..))),
        ("TOPOLOGY__SHARDS", "8".to_owned()),
        ("LOG__LEVEL", "warn".to_owned()),
    ];
    all.into_iter().map(|(name, value)| (format!("ORDERWRIGHT__{name}"), value)).collect()
}

/// Publishes more than can be worked off, the orders one after the other.
async fn publish(settings: &[(String, String)], options: &Options, log: &Path) -> Result<()> {
    let declare = ["topology", "declare"];
    Program::start("orderwright", &declare, settings, log)?.ended().await?;
    let mut bodies = String::new();
    for number in 0..(options.seconds + 5) * 300 {
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

/// Updates a second, and the ledger at the end.
async fn count(reader: &Reader, options: &Options) -> Result<(f64, Ledger)> {
    let mut first = reader.read(WARM).await?;
    while first.applied_distinct < WARM {
        first = reader.read(WARM).await?;
    }
    let begun = Instant::now();
    loop {
        // Nobody writes so many: it answers after a moment.
        let ledger = reader.read(u64::MAX).await?;
        let time = begun.elapsed();
        if time >= Duration::from_secs(options.seconds) {
            let written = ledger.applied_distinct - first.applied_distinct;
            let written = u32::try_from(written).map_err(|error| error.to_string())?;
            return Ok((f64::from(written) / time.as_secs_f64(), ledger));
        }
    }
}

/// What went wrong would make the figures worthless.
fn judge(ledger: &Ledger, batch: bool, folder: &Path) -> Result<()> {
    let is_batched = ledger.requests < ledger.gets + ledger.patches;
    let wrong = ledger.overlaps + ledger.out_of_order + ledger.applied_twice + ledger.throttled;
    if wrong > 0 || is_batched != batch {
        let log = std::fs::read_to_string(folder.join("daemon")).unwrap_or_default();
        return Err(format!("something went wrong: {ledger:?}\n{log}"));
    }
    Ok(())
}
