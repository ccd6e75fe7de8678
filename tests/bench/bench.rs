//! `make bench`: the daemon beside a bare pipeline that does the same requests and nothing else.
//!
//! ```text
//! updates ──▶ RabbitMQ ──▶ orderwright, or bare ──▶ orderwright-sim ──▶ ledger
//!              (backlog)   log to a pipe, metrics on   (answers after so long)
//! ```
//!
//! Both are run in turn, so that a machine that gets slower slows down both, and what is printed is the median of the
//! ratios of each two runs. A scenario that is judged by another one runs in turn with that one. Processor time counts for
//! the workers alone.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program whose result is text")]

mod figures;
mod idle;
mod plot;
mod scenario;
mod stage;
mod sweep;

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
use tokio::time::timeout;

use broker::Broker;
use figures::Outcome;
use scenario::{Against, SCENARIOS, Scenario};
use stage::{Figures, Kind, Stage};
use sweep::Sweep;

/// How long one run may take: the million takes longest.
const RUN_MAX: Duration = Duration::from_mins(20);

/// Failures end the measurement and are read by a person, so they are sentences.
type Result<T> = std::result::Result<T, String>;

/// Measures the daemon beside a bare pipeline.
#[derive(Debug, clap::Parser)]
#[command(name = "bench")]
struct Options {
    /// Scenarios, with commas between; all but `deep` if absent. `list` prints them.
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Runs of each.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    runs: u32,
    /// Updates of each run; the scenario's own if absent.
    #[arg(long, value_parser = clap::value_parser!(u32).range(100..))]
    updates: Option<u32>,
    /// Instead: let one thing grow, and draw what an update costs then.
    #[arg(long, value_delimiter = ',')]
    sweep: Vec<Sweep>,
    /// Where the pictures of a sweep go.
    #[arg(long, default_value = "docs/performance")]
    pictures: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.scenarios.iter().any(|name| name == "list") {
        for it in &SCENARIOS {
            println!("{:18} {}", it.name, it.about);
        }
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bench: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let measured = runtime.block_on(async {
        if options.sweep.is_empty() { measure(&options).await } else { sweep(&options).await }
    });
    // Waits for nobody: what blocks could only be the broker's script, which ends with our pipe.
    runtime.shutdown_background();
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("bench: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// The scenarios that are asked for.
fn chosen(options: &Options) -> Result<Vec<Scenario>> {
    let is_asked = |it: &Scenario| match options.scenarios.as_slice() {
        [] => it.name != "deep",
        names => names.iter().any(|name| name == it.name),
    };
    let known = |name: &String| SCENARIOS.iter().any(|it| it.name == name);
    if let Some(name) = options.scenarios.iter().find(|name| !known(name)) {
        return Err(format!("no scenario {name}; `--scenarios list` prints them"));
    }
    let mut chosen: Vec<_> = SCENARIOS.into_iter().filter(is_asked).collect();
    for it in &mut chosen {
        it.updates = options.updates.unwrap_or(it.updates);
    }
    Ok(chosen)
}

async fn measure(options: &Options) -> Result<()> {
    let broker = Broker::try_start().await?;
    let mut outcomes = Vec::new();
    for scenario in chosen(options)? {
        println!("{}: {}", scenario.name, scenario.about);
        if scenario.name == "idle" {
            idle::measure(&scenario, &broker, options.runs).await?;
            continue;
        }
        let rival = rival(&scenario, options)?;
        let mut outcome = Outcome::default();
        for run in 0..options.runs {
            // In turn, so that a machine that gets slower slows down both.
            for is_rival in [run % 2 == 0, run % 2 == 1] {
                if !is_rival {
                    outcome.add(measured(&scenario, &broker, Kind::Daemon).await?);
                } else if let Some((rival, kind)) = &rival {
                    outcome.add_rival(measured(rival, &broker, *kind).await?);
                }
            }
        }
        outcomes.push((scenario, outcome));
    }
    println!("\n{}", figures::table(&outcomes));
    broker.end().await;
    Ok(())
}

/// What runs in turn with this one, for it to be compared with.
fn rival(scenario: &Scenario, options: &Options) -> Result<Option<(Scenario, Kind)>> {
    match scenario.against {
        Against::Bare => Ok(Some((*scenario, Kind::Bare))),
        Against::Other(name) => {
            let other = SCENARIOS.into_iter().find(|it| it.name == name);
            let mut other = other.ok_or_else(|| format!("no scenario {name} to compare with"))?;
            other.updates = options.updates.unwrap_or(other.updates);
            Ok(Some((other, Kind::Daemon)))
        }
        Against::Bound | Against::Nothing => Ok(None),
    }
}

/// One run, which is printed.
async fn measured(scenario: &Scenario, broker: &Broker, kind: Kind) -> Result<Figures> {
    let figures = one(scenario, broker, kind).await?;
    let who = if kind == Kind::Bare { kind.name() } else { scenario.name };
    println!("  {}", figures::line(who, &figures));
    Ok(figures)
}

async fn sweep(options: &Options) -> Result<()> {
    let broker = Broker::try_start().await?;
    for sweep in &options.sweep {
        let mut points: Vec<_> =
            sweep.points().into_iter().map(|(size, it)| (size, it, Vec::new())).collect();
        // Round by round, so that a machine that gets slower slows down all sizes.
        for _ in 0..options.runs {
            for (size, scenario, figures) in &mut points {
                scenario.updates = options.updates.unwrap_or(scenario.updates);
                let done = one(scenario, &broker, Kind::Daemon).await?;
                println!("  {}", figures::line(&format!("{size} {}", sweep.name()), &done));
                figures.push(done);
            }
        }
        let measured: Vec<_> =
            points.into_iter().map(|(size, _, figures)| (size, figures)).collect();
        println!("\n{}", sweep::told(*sweep, &measured, &options.pictures)?);
    }
    broker.end().await;
    Ok(())
}

async fn one(scenario: &Scenario, broker: &Broker, kind: Kind) -> Result<Figures> {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let run = async {
        let stage = Stage::set(scenario, broker, folder.path()).await?;
        let hottest = stage.publish().await?;
        let figures = stage.measure(kind, hottest).await;
        stage.end().await?;
        figures
    };
    timeout(RUN_MAX, run).await.map_err(|_elapsed| "not done in time".to_owned())?
}

async fn free_port() -> Result<u16> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|error| error.to_string())
}
