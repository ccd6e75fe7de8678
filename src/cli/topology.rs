//! `orderwright topology`: the objects on the broker.

mod reshard;

use serde_json::json;
use tokio::time::timeout;

use super::{Output, fail, instance, print};
use crate::app::exit;
use crate::app::inspection::{Inspection, inspect, of_report};
use crate::broker::doctor::{Diagnosis, Severity};
use crate::broker::{self, Generation, Link, Publisher, Topology};
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
    /// Look, make nothing: tells each object that is missing, has drifted or would lose or double
    /// messages, and what to do.
    #[command(
        after_help = "Policies, bindings, consumers, permissions and the version are looked at where \
broker.management_url is set. The order of the hash ring cannot be seen: the daemon counts what it \
misplaces (misplaced_by_ring).

Exit codes: 0 nothing stands in the way of a start (there may be warnings), 69 unreachable, 78 \
something does"
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
  orderwright topology print --format crs --cluster rabbit | kubectl apply -f -
  orderwright topology print --format commands --generation 3 --shards 128   after two reshards

Without --generation it is the first one, with the shards of the settings: what a first start needs.
After a reshard, give both as `topology reshard --shards M --dry-run` and the names of the queues tell
them. What is printed for another generation than the live one must not be imported.

An import makes bindings in no certain order, and so does the operator of custom resources, and the hash that spreads orders over shards goes by
that order. With more than one shard, `commands` or `topology declare` are therefore the better way:
after an import, many messages reach another shard's queue first and have to be forwarded.")]
    Print {
        /// In whose words.
        #[arg(long, value_enum)]
        format: Format,
        /// For custom resources: the RabbitmqCluster, in the same namespace.
        #[arg(long, value_name = "NAME", default_value = "rabbitmq")]
        cluster: String,
        /// The generation of shard queues, counted from 1.
        #[arg(long, value_name = "N", requires = "shards")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        generation: Option<u32>,
        /// How many shards that generation has.
        #[arg(long, value_name = "M", requires = "generation")]
        #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
        shards: Option<u16>,
    },
}

/// What `topology print` prints.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// A definitions file (JSON), for `rabbitmqctl import_definitions` or `load_definitions`.
    Definitions,
    /// Shell lines for `rabbitmqadmin`, the one that the management plugin offers for download.
    Commands,
    /// Custom resources (YAML) for RabbitMQ's Messaging Topology Operator.
    Crs,
}

pub(super) async fn run(arguments: &Arguments, loaded: Loaded) -> u8 {
    let settings = &loaded.settings;
    let topology = Topology::of_all(settings);
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
        Command::Print { format, cluster, generation, shards } => {
            let first = topology.generation();
            let topology = topology.of(Generation {
                number: generation.unwrap_or(first.number),
                shards: shards.unwrap_or(first.shards),
            });
            return print(&match format {
                Format::Commands => topology.commands(link.vhost()),
                Format::Crs => topology.crs(link.vhost(), cluster),
                Format::Definitions => format!("{:#}\n", topology.definitions(link.vhost())),
            });
        }
    };
    let asked = async {
        let connection = broker::connect(&link).await?;
        let found = if declare {
            let publisher = Publisher::new(link.clone(), settings.broker.publish_timeout);
            let declared = broker::declare(&connection, &publisher, &topology).await?;
            publisher.close().await;
            declared
        } else {
            broker::inspect(&connection, &topology).await?
        };
        broker::close(&connection, settings.broker.connect_timeout).await;
        Ok::<_, broker::Error>(found)
    };
    // An answer that the loss of the connection overtook would be waited for without end.
    let limit = settings.broker.start_timeout;
    let asked = match timeout(limit, asked).await {
        Ok(asked) => asked,
        Err(_elapsed) => Err(broker::Error::Unconfirmed { seconds: limit.as_secs() }),
    };
    let inspected = match asked {
        Ok((report, _)) if declare => {
            Ok(Inspection { objects: of_report(&report, false), management: Vec::new() })
        }
        Ok((report, generations)) => {
            inspect(&report, &topology, generations.as_ref(), settings).await
        }
        Err(error) => Err(error),
    };
    match inspected {
        Ok(inspection) => {
            print(&shown(&inspection, output));
            if inspection.is_refused() { exit::CONFIG } else { exit::OK }
        }
        Err(error) => fail(if error.may_heal() { exit::UNAVAILABLE } else { exit::CONFIG }, &error),
    }
}

fn shown(inspection: &Inspection, output: Output) -> String {
    let is_fine = |it: &&Diagnosis| it.severity == Severity::Fine;
    match output {
        Output::Json => inspection.all().flat_map(lines).collect(),
        Output::Text => {
            let count = inspection.objects.iter().filter(is_fine).count();
            let all = inspection.objects.len();
            let mut text = format!("{count} of {all} objects are as they should be\n");
            let looked: Vec<_> =
                inspection.management.iter().filter(is_fine).map(|it| it.object).collect();
            if !looked.is_empty() {
                push_line(
                    &mut text,
                    &format!("as they should be by the management API: {}", looked.join(", ")),
                );
            }
            for finding in inspection.all().filter(|it| !is_fine(it)) {
                let mark = match finding.severity {
                    Severity::Refuse => "refused",
                    Severity::Warn | Severity::Fine => "warning",
                };
                push_line(&mut text, &format!("  {mark}: {finding}"));
            }
            text
        }
    }
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// A line for each object, also where several share a finding.
fn lines(finding: &Diagnosis) -> impl Iterator<Item = String> + '_ {
    let Diagnosis { severity, state, object, names, what, fix } = finding;
    names.iter().map(move |name| {
        let line = json!({
            "object": object, "name": name, "severity": severity, "state": state, "what": what,
            "fix": fix,
        });
        format!("{line}\n")
    })
}
