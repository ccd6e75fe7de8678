//! `make letters-chaos`: the operator's tool and the daemon are killed with SIGKILL at any point of browse,
//! replay, edit, discard, restore, park and release. Then the ledger and the queues are asked.
//! `make letters-measure` times the tool on a long queue.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program whose result is text")]

mod measure;
#[path = "rounds/rounds.rs"]
mod rounds;

#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../support/broker.rs"]
mod broker;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../support/ledger.rs"]
mod ledger;
#[allow(dead_code, reason = "shared with the chaos, which uses all of it")]
#[path = "../chaos/process.rs"]
mod process;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../support/program.rs"]
mod program;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use tokio::time::Instant;

use broker::Broker;
use rounds::{Ground, Verdict};

/// Failures end the run and are read by a person, so they are sentences.
type Result<T> = std::result::Result<T, String>;

/// Kills the tool and the daemon at work on dead letters, and checks what came of it.
#[derive(Debug, clap::Parser)]
#[command(name = "letters")]
struct Options {
    /// Rounds, each with a seed of its own.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// Seed of the first round.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Fills a queue with so many dead letters and measures the tool on it, instead of killing anybody.
    #[arg(long, value_name = "LETTERS", value_parser = clap::value_parser!(u64).range(1..=2_000_000))]
    measure: Option<u64>,
    /// The program that is proved, instead of the one that was built with this.
    #[arg(long, value_name = "PROGRAM")]
    daemon: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("letters: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let proved = runtime.block_on(prove(&options));
    // Waits for nobody: what blocks could only be the broker's script, which ends with our pipe.
    runtime.shutdown_background();
    match proved {
        Ok(verdict) if verdict.flaws.is_empty() => ExitCode::SUCCESS,
        Ok(_flawed) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("letters: {reason}");
            ExitCode::FAILURE
        }
    }
}

async fn prove(options: &Options) -> Result<Verdict> {
    let program = options.daemon.clone().map_or_else(built, Ok)?;
    let broker = Broker::try_start().await?;
    if let Some(letters) = options.measure {
        let measured = measure::measure(broker.url(), &program, letters).await;
        broker.end().await;
        return measured.map(|()| Verdict::default());
    }
    let ground = Ground::open(broker.url(), &program, options.seeds).await?;
    let (begun, mut all) = (Instant::now(), Verdict::default());
    for index in 0..options.seeds {
        let seed = options.first + index;
        let verdict =
            ground.round(index, seed).await.map_err(|why| format!("seed {seed}: {why}"))?;
        for flaw in &verdict.flaws {
            println!("BROKEN: seed {seed}: {flaw}");
        }
        all.add(verdict);
        eprint!(
            "\r{} of {} rounds, {} broken promises ",
            index + 1,
            options.seeds,
            all.flaws.len()
        );
    }
    let kills: Vec<_> = all.kills.iter().map(|(what, count)| format!("{what} {count}")).collect();
    eprintln!();
    println!(
        "{} rounds in {} s; killed during {}; {} updates, {} written, {} left as superseded, {} as never \
         seen, {} copies; \
         broken promises {}",
        options.seeds,
        begun.elapsed().as_secs(),
        kills.join(", "),
        all.published,
        all.written,
        all.left - all.unseen,
        all.unseen,
        all.copies,
        all.flaws.len()
    );
    drop(ground);
    broker.end().await;
    Ok(all)
}

/// `target/debug/orderwright`, beside the folder that this program is in.
fn built() -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = own.parent().and_then(std::path::Path::parent).ok_or("no target folder")?;
    Ok(folder.join("orderwright"))
}
