//! `orderwright topology`: the objects on the broker.

mod reshard;

use serde_json::json;
use tokio::time::timeout;

use super::{Output, fail, instance, print};
use crate::app::{self, exit};
use crate::broker::{self, Finding, Link, Publisher, Report, Topology};
use crate::config::Loaded;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make what is missing. Changes nothing that exists; can be run at any time.
    #[command(
        after_help = "Exit codes: 0 all is there, 69 unreachable, 78 something has another shape"
    )]
    Declare {
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Look, make nothing: tells each object that is missing or has drifted, and what to do.
    #[command(
        after_help = "Bindings cannot be seen over AMQP: `topology declare` makes sure of them.

Exit codes: 0 all is as it should be, 69 unreachable, 78 something is missing or has another shape"
    )]
    Check {
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Change the number of shards while messages flow, or restore a scrambled ring.
    Reshard(reshard::Arguments),
    /// Print the objects for RabbitMQ's own tools, for those who declare them themselves. Needs no
    /// broker.
    #[command(after_help = "Examples:
  orderwright topology print --format definitions > orderwright.json
  rabbitmqctl import_definitions orderwright.json
  orderwright topology print --format commands | sh

An import makes bindings in no certain order, and the hash that spreads orders over shards goes by
that order. With more than one shard, `commands` or `topology declare` are therefore the better way:
after an import, many messages reach another shard's queue first and have to be forwarded.")]
    Print {
        /// In whose words.
        #[arg(long, value_enum)]
        format: Format,
    },
}

/// What `topology print` prints.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// A definitions file (JSON), for `rabbitmqctl import_definitions` or `load_definitions`.
    Definitions,
    /// Shell lines for `rabbitmqadmin`, the one that the management plugin offers for download.
    Commands,
}

pub(super) async fn run(arguments: &Arguments, loaded: Loaded) -> u8 {
    let settings = &loaded.settings;
    let topology = Topology::new(&settings.topology);
    let name = format!("orderwright topology {}", instance(settings));
    let link = match Link::new(&settings.broker, &name) {
        Ok(link) => link,
        Err(error) => return fail(exit::CONFIG, &error),
    };
    let (declare, output) = match &arguments.command {
        Command::Declare { output } => (true, *output),
        Command::Check { output } => (false, *output),
        Command::Reshard(arguments) => {
            return reshard::run(arguments, settings, &topology, &link).await;
        }
        Command::Print { format: Format::Commands } => {
            return print(&topology.commands(link.vhost()));
        }
        Command::Print { format: Format::Definitions } => {
            return print(&format!("{:#}\n", topology.definitions(link.vhost())));
        }
    };
    let asked = async {
        let connection = broker::connect(&link).await?;
        let (report, _) = if declare {
            let publisher = Publisher::new(link.clone(), settings.broker.publish_timeout);
            let declared = broker::declare(&connection, &publisher, &topology).await?;
            publisher.close().await;
            declared
        } else {
            broker::inspect(&connection, &topology).await?
        };
        broker::close(&connection, settings.broker.connect_timeout).await;
        Ok::<_, broker::Error>(report)
    };
    // An answer that the loss of the connection overtook would be waited for without end.
    let limit = settings.broker.start_timeout;
    let asked = match timeout(limit, asked).await {
        Ok(asked) => asked,
        Err(_elapsed) => Err(broker::Error::Unconfirmed { seconds: limit.as_secs() }),
    };
    match asked {
        Ok(report) => {
            print(&shown(&report, output));
            if app::is_fine(&report) { exit::OK } else { exit::CONFIG }
        }
        Err(error) => fail(if error.may_heal() { exit::UNAVAILABLE } else { exit::CONFIG }, &error),
    }
}

fn shown(report: &Report, output: Output) -> String {
    match output {
        Output::Json => {
            let line = |(what, name, finding): &(&'static str, String, Finding)| {
                let (state, broker_says) = state(finding);
                let line = json!({"object": what, "name": name, "state": state, "broker_says": broker_says});
                format!("{line}\n")
            };
            report.findings.iter().map(line).collect()
        }
        Output::Text => {
            let fine = |finding: &&(&str, String, Finding)| finding.2 == Finding::Fine;
            let count = report.findings.iter().filter(fine).count();
            let mut text =
                format!("{count} of {} objects are as they should be\n", report.findings.len());
            for finding in report.findings.iter().filter(|finding| !fine(finding)) {
                text.push_str(&app::explain(finding));
                text.push('\n');
            }
            text
        }
    }
}

fn state(finding: &Finding) -> (&'static str, Option<&str>) {
    match finding {
        Finding::Fine => ("fine", None),
        Finding::Missing => ("missing", None),
        Finding::Drifted(text) => ("drifted", Some(text)),
        Finding::Unverified(text) => ("unverified", Some(text)),
        Finding::Denied(text) => ("denied", Some(text)),
        Finding::NoPlugin(text) => ("no_plugin", Some(text)),
    }
}
