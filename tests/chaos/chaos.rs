//! `make chaos`: several daemons at work while workers, links and the broker fail, and the proof
//! that no order had two writers, no update was lost, and none was overtaken.
//!
//! ```text
//! publisher ──▶ RabbitMQ ──link──▶ worker 1 ──┐
//!               (restarts) ──link──▶ worker 2 ──┼──▶ orderwright-sim ──▶ ledger ──▶ verdict
//!                  ▲       ──link──▶ …        ──┘      (conflicts, 503s, resets)      ▲
//!                  └── faults: a seeded schedule ───────── what was published ───────┘
//! ```
//!
//! The workers are real processes; nothing in them knows of this. The links are small TCP proxies
//! that can fall silent. `report.rs` holds the table of the zeros that are promised. The same seed
//! draws the same faults at the same times; what they hit still depends on the machine.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program whose result is text")]

mod audit;
mod fault;
mod flaws;
mod fleet;
mod history;
mod holders;
mod link;
mod measure;
mod options;
mod overlap;
mod parked;
mod process;
mod proof;
mod publisher;
mod report;
mod reshard;
mod ring;
mod stage;
mod trouble;

#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../support/broker.rs"]
mod broker;
#[path = "../../deploy/local/demo/interrupt.rs"]
mod interrupt;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../support/ledger.rs"]
mod ledger;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../support/program.rs"]
mod program;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use tokio::time::timeout;

use interrupt::Interrupt;
use options::Options;
use stage::Stage;

/// What a run takes beside the time in which it makes trouble: start, last fault, rest, end.
const EXTRA_TIME_MAX: Duration = Duration::from_mins(6);

const INTERRUPTED: &str = "interrupted; all that was started ends";

/// Failures end the run and are read by a person, so they are sentences.
type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("chaos: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let kept = runtime.block_on(chaos(&options));
    // Waits for nobody: what blocks could only be the broker's script, which ends with our pipe.
    runtime.shutdown_background();
    match kept {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("chaos: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// The phases. However this ends, the pipes that keep the programs alive end with it.
async fn chaos(options: &Options) -> Result<bool> {
    options.check()?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let nodes =
        if options.cluster > 1 { format!(", {} nodes", options.cluster) } else { String::new() };
    println!("chaos: seed {seed}, {} s, {} workers{nodes}", options.seconds, options.workers);
    let mut interrupt = Interrupt::new()?;
    let stage = tokio::select! {
        () = interrupt.came() => return Err(INTERRUPTED.to_owned()),
        built = Box::pin(Stage::build(options, seed)) => built?,
    };
    if options.measure {
        let measured = tokio::select! {
            () = interrupt.came() => Err(INTERRUPTED.to_owned()),
            measured = Box::pin(measure::measure(&stage, options, seed)) => measured,
        };
        stage.clear(false).await;
        return measured.map(|()| true);
    }
    let time_max =
        Duration::from_secs(options.seconds + options.more_seconds_max()) + EXTRA_TIME_MAX;
    let played = tokio::select! {
        () = interrupt.came() => {
            stage.clear(false).await;
            return Err(INTERRUPTED.to_owned());
        }
        played = Box::pin(timeout(time_max, stage.play(options, seed))) => played,
    };
    let played = played
        .unwrap_or_else(|_elapsed| Err(format!("not finished after {} s", time_max.as_secs())));
    let kept = played.and_then(|outcome| report::tell(options, seed, &outcome));
    let logs = stage.clear(options.keep_logs || kept != Ok(true)).await;
    if let Some(folder) = logs {
        println!("the logs of the workers are in {}", folder.display());
    }
    kept.map_err(|reason| format!("{reason} (seed {seed})"))
}
