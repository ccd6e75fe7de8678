//! `orderwright check`: a look at what the daemon will meet, before it meets it.

use std::fmt::Write as _;

use serde_json::json;

use super::{Output, complain, fail, instance, print};
use crate::app::{exit, target};
use crate::config::Loaded;
use crate::odata::{State, Step};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Sign in to the service, GET an order, and say step by step what works. Writes nothing.
    Target(Target),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright check target --key USMF/SO-000001   everything that an update of this order needs to read
  orderwright check target                        the same for the first order that the service shows
  orderwright check target --output json          one object a line: step, state, detail, hint, ms

Steps: dns, tcp, tls, certificate, token, permission, entity_set, key, order, etag, latency. The first
one that fails is the last.
A permission to write cannot be seen without writing.

Exit codes: 0 all fine, 64 usage, 65 there is no such order, 69 unreachable or in trouble, 78 the settings
or the service's permissions must change")]
struct Target {
    /// The order to look at: the values of its key, joined by `/`.
    #[arg(long, value_name = "VALUES")]
    key: Option<String>,
    /// How to print the steps.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(arguments: &Arguments, loaded: Loaded) -> u8 {
    let Command::Target(arguments) = &arguments.command;
    let settings = &loaded.settings;
    let steps = match target::probe(settings, &instance(settings), arguments.key.as_deref()).await {
        Ok(Ok(steps)) => steps,
        Ok(Err(text)) => {
            complain(&text);
            return exit::USAGE;
        }
        Err(error) => return fail(exit::CONFIG, &error),
    };
    print(&steps.iter().map(|step| line(step, arguments.output)).collect::<String>());
    steps.iter().map(|step| code(step.state)).find(|code| *code != exit::OK).unwrap_or(exit::OK)
}

const fn code(state: State) -> u8 {
    match state {
        State::Fine | State::Skipped => exit::OK,
        State::Unavailable => exit::UNAVAILABLE,
        State::Wrong => exit::CONFIG,
        State::NoOrder => exit::DATA,
    }
}

const fn word(state: State) -> &'static str {
    match state {
        State::Fine => "fine",
        State::Skipped => "skipped",
        State::Unavailable => "unavailable",
        State::Wrong => "wrong",
        State::NoOrder => "no_order",
    }
}

fn line(step: &Step, output: Output) -> String {
    let milliseconds = u64::try_from(step.took.as_millis()).unwrap_or(u64::MAX);
    match output {
        Output::Json => {
            let step = json!({
                "step": step.name,
                "state": word(step.state),
                "detail": step.detail,
                "hint": step.hint,
                "milliseconds": milliseconds,
            });
            format!("{step}\n")
        }
        Output::Text => {
            let (name, state) = (step.name, word(step.state));
            let mut text =
                format!("{name:<11} {state:<12} {milliseconds:>6} ms  {}\n", step.detail);
            if !step.hint.is_empty() {
                // Writing to a String cannot fail.
                let _infallible = writeln!(text, "{:<36}{}", "", step.hint);
            }
            text
        }
    }
}
