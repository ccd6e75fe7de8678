//! Several pods on one thread in virtual time: the daemon's own code from the delivery to the ack, a broker
//! and a network that are values, and the simulator's own world as target. A seed is a cluster, a load and a
//! schedule of faults, and gives the same run every time. `make sim`, `docs/PROOF.md`.
//!
//! ```text
//! plan ─▶ run ─▶ pods: wire ─▶ stage: network ─▶ broker     after every step: the book
//!                      target ─▶        network ─▶ world
//! ```

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a simulation that cannot go on must fail, and what it found is printed"
)]

mod book;
mod broker;
mod clerk;
mod desk;
mod fault;
mod gate;
mod network;
mod plan;
mod press;
mod run;
mod stage;
mod strike;
mod swarm;
mod target;
#[cfg(test)]
mod tests;
mod trace;
mod visits;
mod wire;

use std::process::ExitCode;

use clap::Parser;

/// Looks for orderings that break a promise.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Options {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Replays this seed alone, and tells what happens.
    #[arg(long)]
    seed: Option<u64>,
    /// Of its faults only these, counted from 0.
    #[arg(long)]
    keep: Option<String>,
    /// Of its updates only the first ones.
    #[arg(long)]
    updates: Option<usize>,
    /// Threads; as many as there are cores if absent.
    #[arg(long)]
    threads: Option<usize>,
    /// Ends with the first seed that breaks a promise in these words, and shrinks nothing.
    #[arg(long)]
    until: Option<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let is_fine = if let Some(seed) = options.seed {
        let number = |text: &str| text.trim().parse().expect("a number of a fault");
        let texts = |keep: &str| keep.split(',').filter(|it| !it.is_empty()).map(number).collect();
        let keep: Option<Vec<usize>> = options.keep.as_deref().map(texts);
        swarm::replay(seed, keep.as_deref(), options.updates)
    } else {
        let threads = options.threads.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        });
        swarm::swarm((options.first, options.seeds), threads, options.until.as_deref())
    };
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
