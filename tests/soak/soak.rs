//! `make soak`: two daemons, a broker and the simulator as processes, a steady stream of updates, and what
//! the daemons hold meanwhile: memory and descriptors. Neither may grow. Leaves a picture.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "a program whose result is text and a picture"
)]

mod plot;

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

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use broker::Broker;
use ledger::Reader;
use plot::Line;
use process::Process;
use program::Program;

/// Different orders.
const ORDERS: u64 = 500;
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A daemon may hold so much more memory in the last third than in the second one: the allocator's pages
/// come and go.
const GROWTH_MAX: f64 = 1.10;
/// And so many descriptors more, where it has the most: a connection is made anew now and then.
const DESCRIPTORS_MAX: u32 = 4;
/// How long the rest may take when no more is published.
const REST_MAX: Duration = Duration::from_mins(2);

type Result<T> = std::result::Result<T, String>;

/// Runs the parts for a while, and looks at what they hold.
#[derive(Debug, clap::Parser)]
#[command(name = "soak")]
struct Options {
    /// For how long.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// Updates a second.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: u64,
    /// Daemons.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    workers: u8,
    /// Where the picture goes.
    #[arg(long, default_value = ".cache/soak.svg")]
    picture: PathBuf,
}

/// What a daemon held at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    mebibytes: f64,
    descriptors: u32,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("soak: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    // The start, the time that is asked for, and the rest that comes after it.
    let most = Duration::from_secs(options.minutes * 60) + 2 * REST_MAX;
    let soaked = runtime.block_on(async {
        let soaked = timeout(most, soak(&options)).await;
        soaked.unwrap_or_else(|_elapsed| Err("it came to no end".to_owned()))
    });
    runtime.shutdown_background();
    match soaked {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("soak: {reason}");
            ExitCode::FAILURE
        }
    }
}

async fn soak(options: &Options) -> Result<()> {
    let broker = Broker::try_start().await?;
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let log = |name: &str| folder.path().join(name);
    let orders = ORDERS.to_string();
    let arguments = ["--listen", "127.0.0.1:0", "--orders", &orders, "--exit-with-stdin"];
    let slow = ["--get-latency", "10ms..60ms", "--patch-latency", "20ms..120ms"];
    let arguments = [&arguments[..], &slow, &["--conflict-rate", "0.02"]].concat();
    let mut simulator = Program::start("orderwright-sim", &arguments, &[], &log("simulator"))?;
    let line = simulator.line_with("listening").await?;
    let url = line.get("listening").and_then(|url| url.as_str()).unwrap_or_default().to_owned();
    let reader = Reader::new(&url)?;
    let prefix = format!("soak-{:08x}", fastrand::u32(..));
    let mut daemons = Vec::new();
    for number in 1..=options.workers {
        let settings: Vec<(String, String)> = [
            ("BROKER__URL", broker.url().to_owned()),
            ("TARGET__URL", format!("{url}/data")),
            ("TOPOLOGY__PREFIX", prefix.clone()),
            ("TOPOLOGY__SHARDS", "16".to_owned()),
            ("INSTANCE__NAME", format!("soak-{number}")),
            ("ADMIN__LISTEN", "127.0.0.1:0".to_owned()),
        ]
        .map(|(name, value)| (format!("ORDERWRIGHT__{name}"), value))
        .to_vec();
        let arguments = ["run", "--output", "json"];
        let name = format!("daemon-{number}");
        let mut daemon = Program::start_daemon("orderwright", &arguments, &settings, &log(&name))?;
        daemon.event("ready").await?;
        daemons.push(daemon);
    }
    let (samples, published) = watch(options, broker.url(), &prefix, &daemons).await?;
    let written = timeout(REST_MAX, all_written(&reader, published)).await;
    written.map_err(|_elapsed| "not all was written in time".to_owned())??;
    for daemon in &mut daemons {
        daemon.ask_to_end();
        let ended = daemon.ended().await?;
        println!("a daemon ended: {ended}");
    }
    simulator.ask_to_end();
    simulator.ended().await?;
    broker.end().await;
    println!("{published} published, all of them written");
    draw(options, &samples)?;
    judge(&samples)
}

/// Completes once so many different updates are written.
async fn all_written(reader: &Reader, updates: u64) -> Result<()> {
    // A look waits for a moment only. The caller bounds how many there are.
    while reader.read(updates).await?.applied_distinct < updates {}
    Ok(())
}

/// Publishes at a steady rate, and looks at the daemons.
async fn watch(
    options: &Options,
    url: &str,
    prefix: &str,
    daemons: &[Program],
) -> Result<(Vec<Vec<Sample>>, u64)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await;
    let connection = connection.map_err(|error| error.to_string())?;
    let channel = connection.create_channel().await.map_err(|error| error.to_string())?;
    let confirms = channel.confirm_select(ConfirmSelectOptions::default()).await;
    confirms.map_err(|error| error.to_string())?;
    let (begun, length) = (Instant::now(), Duration::from_secs(options.minutes * 60));
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut samples, mut published) = (vec![Vec::new(); daemons.len()], 0);
    let mut looked = None;
    while begun.elapsed() < length {
        tick.tick().await;
        for _ in 0..options.rate {
            published += 1;
            publish(&channel, prefix, published).await?;
        }
        if looked.is_none_or(|at: Instant| at.elapsed() >= LOOK_EVERY) {
            looked = Some(Instant::now());
            for (daemon, samples) in daemons.iter().zip(&mut samples) {
                samples.push(look(daemon, begun.elapsed())?);
            }
        }
    }
    Ok((samples, published))
}

async fn publish(channel: &Channel, prefix: &str, number: u64) -> Result<()> {
    let order = format!("SO-{:06}", 1 + number % ORDERS);
    let key = json!({"dataAreaId": "USMF", "SalesOrderNumber": order});
    let body = json!({"key": key, "changes": {"UpdateSequence": 1 + number / ORDERS}}).to_string();
    let properties = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (exchange, routing_key) = (format!("{prefix}.updates"), format!("USMF/{order}"));
    let sent = channel.basic_publish(
        exchange.as_str().into(),
        routing_key.as_str().into(),
        options,
        body.as_bytes(),
        properties,
    );
    let confirm = sent.await.map_err(|error| error.to_string())?;
    drop(confirm.await.map_err(|error| error.to_string())?);
    Ok(())
}

fn look(daemon: &Program, at: Duration) -> Result<Sample> {
    let daemon = Process::of(daemon)?;
    let (mebibytes, descriptors) = (daemon.memory()?, daemon.descriptors()?);
    Ok(Sample { at, mebibytes, descriptors })
}

fn draw(options: &Options, samples: &[Vec<Sample>]) -> Result<()> {
    let line = |samples: &Vec<Sample>, of: fn(&Sample) -> f64| -> Line {
        samples.iter().map(|it| (it.at.as_secs_f64() / 60.0, of(it))).collect()
    };
    let memory: Vec<Line> = samples.iter().map(|it| line(it, |it| it.mebibytes)).collect();
    let open: Vec<Line> =
        samples.iter().map(|it| line(it, |it| f64::from(it.descriptors))).collect();
    let picture = plot::picture(&[("memory in use, MiB", &memory), ("descriptors", &open)]);
    if let Some(folder) = options.picture.parent() {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    }
    std::fs::write(&options.picture, picture).map_err(|error| error.to_string())?;
    println!("picture: {}", options.picture.display());
    Ok(())
}

/// The last third against the one before it: the first one is for the start.
fn judge(samples: &[Vec<Sample>]) -> Result<()> {
    for (number, samples) in (1..).zip(samples) {
        let third = samples.len() / 3;
        let (Some(middle), Some(last)) = (samples.get(third..2 * third), samples.get(2 * third..))
        else {
            return Err("too short to say anything".to_owned());
        };
        let mean =
            |of: &[Sample]| of.iter().map(|it| it.mebibytes).sum::<f64>() / of.len().max(1) as f64;
        let most = |of: &[Sample]| of.iter().map(|it| it.descriptors).max().unwrap_or_default();
        let memory = (mean(middle), mean(last));
        let open = (most(middle), most(last));
        println!(
            "daemon {number}: memory {:.1} MiB, then {:.1}; descriptors at most {}, then {}",
            memory.0, memory.1, open.0, open.1
        );
        if memory.1 > memory.0 * GROWTH_MAX {
            return Err(format!("daemon {number} takes more and more memory"));
        }
        if open.1 > open.0 + DESCRIPTORS_MAX {
            return Err(format!("daemon {number} opens more and more descriptors"));
        }
    }
    println!("flat");
    Ok(())
}
