//! The command line. One file per subcommand; each returns what the process exits with.

mod check;
pub mod config;
mod dead_letters;
mod explain;
mod healthcheck;
mod pods;
mod publish;
mod run;
mod shell;
mod top;
mod topology;
mod version;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::app::exit;
use crate::config::{Loaded, Origin, Settings, Sources};
use crate::telemetry;

/// Applies order updates from RabbitMQ to Dynamics 365 (or any OData V4 service with ETags), one
/// writer per order.
#[derive(Debug, Parser)]
#[command(
    name = "orderwright",
    version = version::text(),
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Examples:
  orderwright config check --config orderwright.toml   find every mistake before a start
  orderwright check target                             sign in, GET an order, write nothing
  orderwright topology declare                         make the exchanges and queues
  orderwright run                                      consume until SIGTERM
  orderwright explain USMF/SO-2025-0145                where an order is, and what it waits for
  orderwright publish --key USMF/SO-2025-0145 --set SalesStatus=Delivered

Exit codes: 0 done, 64 usage, 65 bad data, 69 unreachable, 70 bug, 75 grace ran out, 78 configuration"
)]
struct Cli {
    /// Settings file (TOML). The environment wins over it: ORDERWRIGHT__SECTION__KEY.
    #[arg(long, global = true, env = "ORDERWRIGHT_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Consume updates and apply them, until SIGTERM or SIGINT.
    Run(run::Arguments),
    /// Publish updates: one from flags, or many from NDJSON.
    Publish(publish::Arguments),
    /// Dead letters: what went wrong, with which orders, and what to do about it.
    #[command(visible_alias = "dlq")]
    DeadLetters(Box<dead_letters::Arguments>),
    /// Look at what the daemon will meet, and write nothing.
    Check(check::Arguments),
    /// Ask a daemon on this machine how it is: for the health checks of containers.
    Healthcheck(healthcheck::Arguments),
    /// All that is known of one order: where it is, what is done for it, its dead letters.
    Explain(Box<explain::Arguments>),
    /// One or many pods in a terminal, again and again.
    Top(top::Arguments),
    /// The exchanges, queues and bindings on the broker.
    Topology(topology::Arguments),
    /// The settings: look, check, and a reference of all keys.
    Config(ConfigArguments),
    /// Print a script that has a shell complete the commands and flags.
    Completions(shell::Completions),
    /// Write the man pages, for those who make packages.
    #[command(hide = true)]
    Man(shell::Man),
}

#[derive(Debug, clap::Args)]
struct ConfigArguments {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether the settings are valid; if not, every mistake with its key and the rule.
    Check,
    /// Show the settings in force, secrets hidden, with the origin of each.
    Show {
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        output: config::Format,
    },
    /// Print a complete settings file: every key, its meaning, its default.
    Reference,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For scripts: JSON on standard output, one object a line.
    Json,
}

/// Runs the command line and returns the exit code.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, to standard output and with success.
            let _unwritable = error.print();
            return if error.use_stderr() { exit::USAGE } else { exit::OK };
        }
    };
    let sources = Sources::of_process(cli.config);
    match cli.command {
        Command::Config(arguments) => configuration(&arguments.command, &sources),
        Command::Completions(arguments) => shell::completions(&arguments),
        Command::Man(arguments) => shell::man(&arguments),
        Command::Run(arguments) => run::start(&arguments, &sources),
        Command::Publish(arguments) => {
            with_settings(&sources, |loaded| publish::run(&arguments, loaded))
        }
        Command::DeadLetters(arguments) => {
            with_settings(&sources, |loaded| dead_letters::run(*arguments, loaded))
        }
        Command::Check(arguments) => {
            with_settings(&sources, |loaded| check::run(&arguments, loaded))
        }
        Command::Healthcheck(arguments) => {
            with_settings(&sources, |loaded| healthcheck::run(arguments, loaded))
        }
        Command::Explain(arguments) => {
            with_settings(&sources, |loaded| explain::run(*arguments, loaded))
        }
        Command::Top(arguments) => with_settings(&sources, |loaded| top::run(arguments, loaded)),
        Command::Topology(arguments) => {
            with_settings(&sources, |loaded| topology::run(&arguments, loaded))
        }
    }
}

fn configuration(command: &ConfigCommand, sources: &Sources) -> u8 {
    match command {
        ConfigCommand::Reference => print(&config::reference()),
        ConfigCommand::Check => match config::check(sources) {
            Ok(text) => print(&text),
            Err(errors) => fail(exit::CONFIG, &errors),
        },
        ConfigCommand::Show { output } => match Settings::load(sources) {
            Ok(loaded) => print(&config::show(&loaded, *output)),
            Err(errors) => fail(exit::CONFIG, &errors),
        },
    }
}

/// Loads the settings, starts the log and the runtime, and runs the command to its end.
fn with_settings<F>(sources: &Sources, command: impl FnOnce(Loaded) -> F) -> u8
where
    F: Future<Output = u8>,
{
    let loaded = match Settings::load(sources) {
        Ok(loaded) => loaded,
        Err(errors) => return fail(exit::CONFIG, &errors),
    };
    let mut log = loaded.settings.log.clone();
    // Who waits for an answer is told what is wrong, and the rest only if it was asked for.
    if *loaded.origin("log.level") == Origin::Default {
        "warn".clone_into(&mut log.level);
    }
    if let Err(error) = telemetry::log::init(&log, None) {
        return fail(exit::CONFIG, &error);
    }
    block_on(command(loaded))
}

/// Starts the runtime and runs a command to its end.
fn block_on(command: impl Future<Output = u8>) -> u8 {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(command);
            // Nothing that matters is left; a blocking read of standard input must not hold us.
            runtime.shutdown_background();
            code
        }
        Err(error) => fail(exit::BUG, &error),
    }
}

/// Writes to standard output. A reader that went away is no fault of ours.
fn print(text: &str) -> u8 {
    let _closed = io::stdout().lock().write_all(text.as_bytes());
    exit::OK
}

/// Writes an error with all its causes to standard error.
fn fail(code: u8, error: &dyn std::error::Error) -> u8 {
    let mut text = format!("orderwright: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    let _closed = writeln!(anstream::stderr().lock(), "{text}");
    code
}

/// Writes to standard error what is wrong with the command line.
fn complain(text: &str) {
    let _closed = writeln!(anstream::stderr().lock(), "orderwright: {text}");
}

/// The name of this process in logs, headers and the broker's list of connections.
fn instance(settings: &Settings) -> String {
    if settings.instance.name.is_empty() {
        // Kubernetes sets it to the pod's name; elsewhere the kernel knows.
        let kernel = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let name = std::env::var("HOSTNAME").ok().or_else(kernel).unwrap_or_default();
        let name = name.trim().chars().filter(char::is_ascii_graphic).take(64).collect::<String>();
        if name.is_empty() { "orderwright".to_owned() } else { name }
    } else {
        settings.instance.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> u8 {
        main(line.split(' ').map(OsString::from))
    }

    #[test]
    fn command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn exit_codes_tell_a_wrong_command_line_from_help() {
        assert_eq!(run("orderwright --version"), exit::OK);
        assert_eq!(run("orderwright run --help"), exit::OK);
        assert_eq!(run("orderwright fly"), exit::USAGE);
        assert_eq!(run("orderwright config check --config /nonexistent.toml"), exit::CONFIG);
    }
}
