//! `orderwright dead-letters`: what went wrong, and what to do about it.

mod filters;
mod gather;
mod history;
mod plan;
mod replay;

use crate::config::Loaded;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq replay --reason business_rule               what a replay would do
  orderwright dlq replay --reason business_rule --run         do it
  orderwright dlq history                                     what was done
  orderwright dlq report 0195c2aa-7d3e-7c41-8f2a-3b1c9d0e4f55 for the incident's document")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// What a replay would do: asks the service for each order, and writes nothing.
    Plan(plan::Arguments),
    /// Send dead letters once more. Says what it would do, unless --run is given.
    Replay(replay::Arguments),
    /// What was done with dead letters, by whom, and what came of it.
    History(history::Arguments),
    /// One replay, letter by letter.
    Report(history::Report),
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Ndjson,
}

pub(super) async fn run(arguments: Arguments, loaded: Loaded) -> u8 {
    match arguments.command {
        Command::Plan(arguments) => plan::run(&arguments, &loaded.settings).await,
        Command::Replay(arguments) => replay::run(&arguments, &loaded.settings).await,
        Command::History(arguments) => history::run(&arguments, &loaded.settings).await,
        Command::Report(arguments) => history::report(&arguments, &loaded.settings).await,
    }
}
