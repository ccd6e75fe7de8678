//! `orderwright dead-letters replay`.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::super::{complain, fail, instance, print};
use super::Format;
use super::gather::{Gathered, gather, within};
use super::plan;
use crate::app::exit;
use crate::app::replay::{Checker, Report, Run, Told};
use crate::broker::{self, Link, Publisher, Topology};
use crate::config::Settings;
use crate::dead_letter::{End, Manner, StopIf, letter_id};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq replay --fingerprint v1-4f1d                    what it would do (as plan)
  orderwright dlq replay --fingerprint v1-4f1d --run              one first, then all, 20 a second
  orderwright dlq replay --reason rejected --run --canary 3 --ramp 5,25,100 --stop-if 'failed>5%'
  orderwright dlq replay --id 0195c2aa --run --force-superseded --because 'TICKET-7: agreed with sales'

Letters of one order go one after the other, by sequence or by their first death; different orders go
side by side. Each goes through the same exchange as any update. A letter leaves the queue when its
outcome is known and in the journal. What is superseded stays where it is. While the service is down no
outcome comes, and the replay waits. Ctrl-C sends nothing more and waits for what is on its way, at most
30 s; start it again at any time: what was applied is found applied.

Exit codes: 0 every letter was seen to, 69 unreachable or broken off, 75 it ended before (canary, stop-if,
Ctrl-C), or another operator is at work, 78 the settings are wrong")]
pub(super) struct Arguments {
    #[command(flatten)]
    plan: plan::Asked,
    /// Do it.
    #[arg(long)]
    run: bool,
    /// So many first: all must be applied before the rest begins. 0 for none.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    canary: usize,
    /// Then so many, step by step: each step is over before the next begins. Then all others.
    #[arg(long, value_name = "COUNTS", value_delimiter = ',')]
    ramp: Vec<usize>,
    /// Most letters whose outcome is awaited at once.
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    max_in_flight: u16,
    /// When to give it up: failed>5% (of the outcomes), or failed>10.
    #[arg(long, value_name = "LIMIT")]
    stop_if: Option<StopIf>,
    /// How long to wait for one outcome while others come.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = humantime::parse_duration)]
    outcome_max: Duration,
    /// Write also where the order has moved on since. Guards and sequences still hold.
    #[arg(long, requires = "because")]
    force_superseded: bool,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    because: Option<String>,
    /// Who, for the journal. The user and the host unless given.
    #[arg(long = "as", value_name = "NAME", env = "ORDERWRIGHT_OPERATOR")]
    by: Option<String>,
}

pub(super) async fn run(arguments: &Arguments, settings: &Settings) -> u8 {
    if !arguments.run {
        return plan::plan(&arguments.plan, settings).await;
    }
    let checker = match Checker::new(settings, &instance(settings)) {
        Ok(checker) => checker,
        Err(error) => return fail(exit::CONFIG, &error),
    };
    let limit = usize::try_from(arguments.plan.limit).unwrap_or(usize::MAX);
    let gathered = match gather(settings, &arguments.plan.filters, limit).await {
        Ok(gathered) => gathered,
        Err(error) => return plan::failed(&error),
    };
    let Gathered { connection, mut browser, candidates, tickets, left_over } = gathered;
    let topology = Topology::new(&settings.topology);
    let name = format!("orderwright replay {}", instance(settings));
    let link = match Link::new(&settings.broker, &name) {
        Ok(link) => link,
        Err(error) => return fail(exit::CONFIG, &error),
    };
    let publisher = Publisher::new(link, settings.broker.publish_timeout);
    let replay = letter_id(jiff::Timestamp::now(), fastrand::u128(..));
    let selection = arguments.plan.filters.selection().to_string();
    complain(&format!("replay {replay}: {} letters", candidates.len()));
    let run = Run {
        replay,
        by: &arguments.by.clone().unwrap_or_else(|| operator(settings)),
        selection: &selection,
        because: arguments.because.as_deref(),
        forced: arguments.force_superseded,
        connection: &connection,
        publisher: &publisher,
        topology: &topology,
        checker: &checker,
        held_max: settings.broker.consumer_timeout / 2,
    };
    let output = arguments.plan.output;
    let interrupts = async || {
        let _interrupted = tokio::signal::ctrl_c().await;
    };
    let performing =
        run.perform(&mut browser, &candidates, tickets, arguments.manner(), interrupts, |told| {
            tell(&told, output);
        });
    let performed = performing.await;
    // Also after an error: what is given back in good order keeps its order.
    let closed = within(settings.broker.start_timeout, browser.close()).await;
    publisher.close().await;
    broker::close(&connection, settings.broker.connect_timeout).await;
    match (performed, closed) {
        (Ok(report), Ok(())) => {
            print(&summary(&report, left_over, output));
            if report.end == End::Done { exit::OK } else { exit::GRACE }
        }
        (Err(error), _) => fail(exit::UNAVAILABLE, &error),
        (Ok(report), Err(error)) => {
            print(&summary(&report, left_over, output));
            fail(exit::UNAVAILABLE, &error)
        }
    }
}

impl Arguments {
    fn manner(&self) -> Manner {
        Manner {
            canary: self.canary,
            ramp: self.ramp.clone(),
            rate: Some(self.plan.rate),
            in_flight_max: usize::from(self.max_in_flight),
            stop_if: self.stop_if,
            outcome_max: self.outcome_max,
        }
    }
}

/// Who sits there, as far as the system says.
fn operator(settings: &Settings) -> String {
    let user = std::env::var("USER").or_else(|_unset| std::env::var("LOGNAME"));
    format!("{}@{}", user.unwrap_or_else(|_unset| "unknown".to_owned()), instance(settings))
}

fn tell(told: &Told, output: Format) {
    match (told, output) {
        (Told::Fate(id, fate), Format::Ndjson) => {
            print(&format!("{}\n", json!({"letter": id, "outcome": fate})));
        }
        (Told::Fate(id, fate), Format::Table) => {
            print(&format!("{id}  {}\n", json!(fate).as_str().unwrap_or_default()));
        }
        (Told::Fate(..), Format::Json) => {}
        (Told::Silence(silence, awaited), _) => complain(&format!(
            "nothing heard for {} s of {awaited} letters: the service is down, or no daemon runs; waiting",
            silence.as_secs()
        )),
    }
}

fn summary(report: &Report, left_over: u64, output: Format) -> String {
    let replay: Uuid = report.replay;
    match output {
        Format::Json | Format::Ndjson => {
            let counts: serde_json::Map<_, _> = report
                .counts
                .iter()
                .map(|(fate, count)| {
                    (json!(fate).as_str().unwrap_or_default().to_owned(), json!(count))
                })
                .collect();
            let all = json!({"replay": replay, "end": report.end, "counts": counts, "left_over": left_over});
            format!("{all}\n")
        }
        Format::Table => {
            let end = json!(report.end);
            let mut text = format!("{}: ", end.as_str().unwrap_or_default());
            let count = |(fate, count): (&crate::dead_letter::Fate, &usize)| {
                format!("{count} {}", json!(fate).as_str().unwrap_or_default())
            };
            text.push_str(&report.counts.iter().map(count).collect::<Vec<_>>().join(", "));
            if left_over > 0 {
                text += "; ";
                text += &left_over.to_string();
                text += " more are left for the next time";
            }
            format!("{text}\norderwright dlq report {replay}\n")
        }
    }
}
