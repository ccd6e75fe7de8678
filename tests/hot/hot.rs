//! `make counts`: how many instructions and allocations each piece of the pure work for one update
//! takes, held to `tests/hot/baseline.txt`. Counts do not depend on what else the machine does.
//!
//! Instructions are counted by Valgrind around this program: once with many rounds, once with none. What
//! is between them is the work.

#![expect(clippy::print_stdout, reason = "a program whose result is text")]

mod cases;

use std::hint::black_box;

/// What to count.
#[derive(Debug, clap::Parser)]
#[command(name = "hot")]
enum Command {
    /// Prints the names of the cases.
    List,
    /// Does one of them so many times.
    Run {
        /// Which.
        case: String,
        /// How many times.
        rounds: u32,
    },
    /// Prints how often one of them allocates.
    Allocations {
        /// Which.
        case: String,
    },
}

fn main() {
    let cases = cases::cases();
    let find = |name: &str| cases.iter().find(|case| case.name == name);
    match <Command as clap::Parser>::parse() {
        Command::List => cases.iter().for_each(|case| println!("{}", case.name)),
        Command::Run { case, rounds } => {
            let Some(case) = find(&case) else { return };
            for _ in 0..rounds {
                (black_box(case).work)();
            }
        }
        Command::Allocations { case } => {
            let Some(case) = find(&case) else { return };
            // What is made once is made.
            (case.work)();
            let counted = allocation_counter::measure(|| (case.work)());
            println!("{}", counted.count_total);
        }
    }
}
