//! `orderwright dead-letters replay`.

use std::sync::Arc;
use std::time::Duration;

use super::super::{fail, instance};
use super::desk::{Desk, Operator, failed};
use super::plan;
use super::rounds::{self, Wish};
use super::standstill::knowing;
use crate::app::exit;
use crate::app::replay::Checker;
use crate::broker::Error;
use crate::config::Loaded;
use crate::dead_letter::{Manner, StopIf};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq replay --fingerprint v1-4f1d                    what it would do (as plan)
  orderwright dlq replay --fingerprint v1-4f1d --run              one first, then all, 20 a second
  orderwright dlq replay --reason rejected --run --canary 3 --ramp 5,25,100 --stop-if 'failed>5%'
  orderwright dlq replay --id 0195c2aa --run --force-superseded --because 'TICKET-7: agreed with sales'

Letters of one order go one after the other, by sequence or by their first death; different orders go
side by side. Of an order that stands still (dead_letter.on_dead_letter = park), choose the first letter:
all that stands behind it follows, and the order goes on after the last one. A letter of it that is not
written leaves the others where they are. Each goes through the same exchange as any update. A letter leaves the queue when its
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
    #[command(flatten)]
    operator: Operator,
}

pub(super) async fn run(arguments: &Arguments, loaded: Loaded) -> u8 {
    if !arguments.run {
        return plan::plan(&arguments.plan, loaded).await;
    }
    let checker = match Checker::new(&loaded.settings, &instance(&loaded.settings)) {
        Ok(checker) => checker,
        Err(error) => return fail(exit::CONFIG, &error),
    };
    match attempt(arguments, loaded, &checker).await {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

async fn attempt(arguments: &Arguments, loaded: Loaded, checker: &Checker) -> Result<u8, Error> {
    let desk = Desk::open(loaded, "replay").await?;
    let publisher = Arc::new(desk.publisher()?);
    let selection = arguments.plan.filters.selection();
    let wish = Wish {
        by: &desk.operator(&arguments.operator),
        words: &selection.to_string(),
        because: arguments.because.as_deref(),
        forced: arguments.force_superseded,
        limit: usize::try_from(arguments.plan.limit).unwrap_or(usize::MAX),
        manner: arguments.manner(),
        output: arguments.plan.output,
    };
    let done = knowing(&desk, &publisher, async |parking| {
        rounds::perform(&desk, (checker, &publisher), parking, &selection, wish).await
    })
    .await;
    publisher.close().await;
    desk.leave().await;
    done
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
