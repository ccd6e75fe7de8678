//! `orderwright dead-letters move`.

use super::super::complain;
use super::desk::{Desk, Operator, reason};
use super::discard::{Which, ended};
use super::moving::{Relocation, count, named, relocate, relocate_all};
use crate::app::exit;
use crate::broker::{Error, Management, Outgoing, Wear};
use crate::config::Loaded;
use crate::dead_letter::adopted;
use crate::dead_letter::journal::Event;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq move --from billing.dlq --all                          how many it would be
  orderwright dlq move --from billing.dlq --reason broker_expired --yes
  orderwright dlq move --from billing.dlq --all --yes --because 'TICKET-7: billing is ours now'

What is known of each letter's death (the broker's x-death) becomes headers of ours, so that it can be \
grouped, shown and replayed like one of ours. Each is confirmed, and in the journal, before it leaves the \
other queue.

Filters look at every letter and return it, and RabbitMQ 4 gives a message up that was returned too often: 20 \
times, unless its queue says otherwise (broker.management_url tells; without it, 20 is assumed). So nothing more \
is looked at once one was returned nearly as often. --all returns none.

Exit codes: 0 done, or nothing to do, or shown what would be done, 64 nothing says which letters, 69 \
unreachable, 75 another operator is at work or it was interrupted (start it again), 78 there is no such \
queue, or the settings are wrong")]
pub(super) struct Arguments {
    /// The queue that they are taken from.
    #[arg(long, value_name = "QUEUE")]
    from: String,
    #[command(flatten)]
    which: Which,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    because: Option<String>,
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
            complain("they are there already: --from names another queue");
            desk.leave().await;
            return Ok(None);
        }
        let wear = wear(&desk, from).await?;
        let done = if arguments.which.yes {
            let publisher = desk.publisher()?;
            let how = Relocation {
                from,
                selection: &selection,
                wear,
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
                    vec![Event::Moved {
                        letters: u64::try_from(moved.len()).unwrap_or(u64::MAX),
                        named: named(moved),
                        from: from.clone(),
                        selection: Some(selection.to_string()),
                        because: arguments.because.clone(),
                    }]
                },
            };
            let moved = if selection.is_all() {
                relocate_all(&desk, &publisher, &how).await
            } else {
                relocate(&desk, &publisher, &how).await
            };
            publisher.close().await;
            moved
        } else {
            count(&desk, from, &selection, wear).await
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

/// Of a quorum queue of RabbitMQ 4, unless something else is said.
const RETURNS_DEFAULT: u64 = 20;

/// How often messages of this queue may be returned, as far as anybody tells.
async fn wear(desk: &Desk, queue: &str) -> Result<Option<Wear>, Error> {
    let Some(management) = Management::new(&desk.settings.broker)? else {
        return Ok(Some(Wear::new(RETURNS_DEFAULT)));
    };
    match management.returns_max(queue).await {
        Ok(limit) => Ok(limit.map(Wear::new)),
        Err(why) => {
            complain(&format!(
                "how often a message of {queue} may be returned is not known ({why}): \
                 {RETURNS_DEFAULT} times are assumed"
            ));
            Ok(Some(Wear::new(RETURNS_DEFAULT)))
        }
    }
}
