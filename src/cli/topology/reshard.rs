//! `orderwright topology reshard`: another number of shards, while messages flow.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::super::{Output, fail, instance, print};
use crate::app::exit;
use crate::broker::{
    self, Error, Generation, Generations, Link, Patience, Progress, Publisher, Step, Topology,
    Wanted,
};
use crate::config::Settings;

/// Between two attempts, after a broker that was lost.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  orderwright topology reshard --shards 128 --dry-run   what would be done
  orderwright topology reshard --shards 128
  orderwright topology reshard --shards 64 --new-ring   also where there are 64 already: a new ring,
                                                        for one that a restart of the broker scrambled

Where there are so many shards already, nothing is done without --new-ring. New messages wait in the
new queues until all the old ones are settled, so it takes about as long as the pods need for what
waits now. Pods learn of it by themselves. It can be stopped at any time and started again with the
same number: it goes on where it stopped; until then, what came in after the switch waits. The setting
topology.shards counts at the first start only.

Exit codes: 0 done, 69 unreachable, 75 the time is over, or somebody
else is at it (start it again), 78 another reshard has to be
finished first, or something is in the way")]
pub(super) struct Arguments {
    /// How many shards there are to be.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    shards: u16,
    /// Make new queues, whose ring is in order, also where there are so many shards already.
    #[arg(long)]
    new_ring: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Stop waiting after this time.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    timeout: Duration,
    /// Wait this long for messages that are late before the old queues are deleted.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    linger: Duration,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

pub(super) async fn run(
    arguments: &Arguments,
    settings: &Settings,
    topology: &Topology,
    link: &Link,
) -> u8 {
    let publisher = Publisher::new(
        link.named(&format!("orderwright topology reshard {}", instance(settings))),
        settings.broker.publish_timeout,
    );
    let begun = Instant::now();
    let mut goal = None;
    loop {
        let left = arguments.timeout.saturating_sub(begun.elapsed());
        let one = once(arguments, settings, topology, link, &publisher, &mut goal);
        match timeout(left, one).await {
            Ok(Ok(())) => return exit::OK,
            Ok(Err(error)) if !error.may_heal() => return fail(exit::CONFIG, &error),
            // Somebody else's, from the beginning: theirs is to be waited for, not to be done again.
            Ok(Err(error @ Error::Locked)) if goal.is_none() => return fail(exit::GRACE, &error),
            // Nobody to be found at the first attempt: a wrong address, rather than a fault.
            Ok(Err(error @ Error::Unreachable { .. })) if arguments.dry_run => {
                return fail(exit::UNAVAILABLE, &error);
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "going on as soon as the broker is there again");
            }
            Err(_elapsed) => {
                let late = Error::Unfinished { shards: arguments.shards };
                return fail(exit::GRACE, &late);
            }
        }
        sleep(AGAIN).await;
    }
}

async fn once(
    arguments: &Arguments,
    settings: &Settings,
    topology: &Topology,
    link: &Link,
    publisher: &Publisher,
    goal: &mut Option<Generation>,
) -> Result<(), Error> {
    let connection = broker::connect(link).await?;
    let done = attempt(arguments, settings, topology, &connection, publisher, goal).await;
    broker::close(&connection, settings.broker.connect_timeout).await;
    done
}

async fn attempt(
    arguments: &Arguments,
    settings: &Settings,
    topology: &Topology,
    connection: &lapin::Connection,
    publisher: &Publisher,
    goal: &mut Option<Generation>,
) -> Result<(), Error> {
    let output = arguments.output;
    let answer_max = settings.broker.start_timeout;
    let wanted = Wanted {
        shards: arguments.shards,
        new_ring: arguments.new_ring,
        both_max: settings.shards_max(),
    };
    let late = |_elapsed| Error::Unconfirmed { seconds: answer_max.as_secs() };
    if arguments.dry_run {
        let looking = broker::inspect(connection, topology);
        let (_, known) = timeout(answer_max, looking).await.map_err(late)??;
        let now = known.unwrap_or_else(|| Generations::begun(topology.generation()));
        let steps = broker::steps(&now, wanted)?;
        if steps.is_empty() {
            print(&told(&Progress::Already(now.live), output));
        }
        for step in steps {
            print(&told(&Progress::Begun(step), output));
        }
        return Ok(());
    }
    let patience = Patience { answer_max, linger: arguments.linger };
    let tell = |progress: Progress| {
        print(&told(&progress, output));
    };
    let live =
        broker::reshard(connection, publisher, topology, wanted, goal, patience, &tell).await?;
    let text = match output {
        Output::Text => format!("done: generation {} has {} shards\n", live.number, live.shards),
        Output::Json => format!("{}\n", json!({"step": "done", "generation": live})),
    };
    print(&text);
    Ok(())
}

/// One line.
fn told(progress: &Progress, output: Output) -> String {
    match output {
        Output::Text => text(progress),
        Output::Json => format!("{}\n", line(progress)),
    }
}

fn text(progress: &Progress) -> String {
    match progress {
        Progress::Already(live) => format!(
            "nothing to do: generation {} has {} shards already; --new-ring makes another one, with its \
             ring in order\n",
            live.number, live.shards
        ),
        Progress::Begun(Step::Open(next)) => {
            format!("make the queues of generation {}: {} shards\n", next.number, next.shards)
        }
        Progress::Begun(Step::Switch(next)) => {
            format!("let new messages go to generation {}, where they wait\n", next.number)
        }
        Progress::Begun(Step::Drain(old, round)) => format!(
            "wait until everything in the {} shards of generation {} is settled (look {round} of 2)\n",
            old.shards, old.number
        ),
        Progress::Begun(Step::Start(next)) => {
            format!("let the pods work on generation {}\n", next.number)
        }
        Progress::Begun(Step::Retire(old)) => {
            format!("delete generation {}, once whatever strayed into it is sent on\n", old.number)
        }
        Progress::Waiting { shards, ready, unattended } => {
            let alone = if *unattended > 0 {
                format!("  no pod takes from {unattended} of them: is `orderwright run` running?\n")
            } else {
                String::new()
            };
            let shards = named(shards);
            format!(
                "  waiting for {shards}: {ready} messages ready, and what is delivered\n{alone}"
            )
        }
    }
}

/// The first few by number.
fn named(shards: &[u16]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<_> = shards.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = shards.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{} shards ({}{more})", shards.len(), shown.join(", "))
}

fn line(progress: &Progress) -> Value {
    match progress {
        Progress::Already(live) => json!({"step": "already", "generation": live}),
        Progress::Begun(Step::Open(next)) => json!({"step": "open", "generation": next}),
        Progress::Begun(Step::Switch(next)) => json!({"step": "switch", "generation": next}),
        Progress::Begun(Step::Drain(old, round)) => {
            json!({"step": "drain", "generation": old, "round": round})
        }
        Progress::Begun(Step::Start(next)) => json!({"step": "start", "generation": next}),
        Progress::Begun(Step::Retire(old)) => json!({"step": "retire", "generation": old}),
        Progress::Waiting { shards, ready, unattended } => {
            json!({"step": "waiting", "shards": shards, "ready": ready, "unattended": unattended})
        }
    }
}
