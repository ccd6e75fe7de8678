//! `orderwright dead-letters move`.

use super::desk::{Desk, Operator};
use super::discard::{Which, ended};
use super::moving::{Relocation, count, relocate};
use crate::app::exit;
use crate::broker::Outgoing;
use crate::config::Loaded;
use crate::dead_letter::adopted;
use crate::dead_letter::journal::Event;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq move --from billing.dlq --all                          how many it would be
  orderwright dlq move --from billing.dlq --reason broker_expired --yes

What is known of each letter's death (the broker's x-death) becomes headers of ours, so that it can be
grouped, shown and replayed like one of ours. Each is confirmed, and in the journal, before it leaves the
other queue.

Exit codes: 0 done, or nothing to do, or shown what would be done, 64 nothing says which letters, 69
unreachable, 75 another operator is at work or it was interrupted (start it again), 78 there is no such
queue, or the settings are wrong")]
pub(super) struct Arguments {
    /// The queue that they are taken from.
    #[arg(long, value_name = "QUEUE")]
    from: String,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    operator: Operator,
}

pub(super) async fn run(arguments: &Arguments, loaded: Loaded) -> u8 {
    let Some(selection) = arguments.which.selection() else { return exit::USAGE };
    let from = &arguments.from;
    let done = async {
        let desk = Desk::open(loaded, "move").await?;
        let to = desk.topology.dead_letters();
        if *from == to {
            // They would go round and round.
            super::super::complain("they are there already: --from names another queue");
            desk.leave().await;
            return Ok(None);
        }
        let done = if arguments.which.yes {
            let publisher = desk.publisher()?;
            let how = Relocation {
                from,
                selection: &selection,
                by: &desk.operator(&arguments.operator),
                make: &|letter, held| {
                    let message = Outgoing {
                        exchange: to.clone(),
                        routing_key: letter.routing_key.as_str().into(),
                        properties: adopted(&held.properties, letter, from, desk.now),
                        body: held.body,
                    };
                    (message, held.receipt)
                },
                events: &|moved| {
                    let letters = u64::try_from(moved.len()).unwrap_or(u64::MAX);
                    vec![Event::Moved { letters, from: from.clone() }]
                },
            };
            let moved = relocate(&desk, &publisher, &how).await;
            publisher.close().await;
            moved
        } else {
            count(&desk, from, &selection).await
        };
        desk.leave().await;
        done.map(Some)
    };
    match done.await {
        Ok(Some(moved)) => ended("moved", Ok(moved), &arguments.which),
        Ok(None) => exit::USAGE,
        Err(error) => ended("moved", Err(error), &arguments.which),
    }
}
