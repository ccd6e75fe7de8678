//! `orderwright dead-letters replay`.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::super::{fail, instance};
use super::desk::{Desk, Operator, failed, reason};
use super::plan;
use super::rounds::{self, Wish};
use super::standstill::knowing;
use crate::app::exit;
use crate::app::replay::{Allowed, Checker};
use crate::broker::Error;
use crate::config::Loaded;
use crate::dead_letter::{Manner, StopIf};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq replay --fingerprint v1-4f1d                    what it would do (as plan)
  orderwright dlq replay --fingerprint v1-4f1d --run              one first, then all, 20 a second
  orderwright dlq replay --reason rejected --run --canary 3 --ramp 5,25,100 --stop-if 'failed>5%'
  orderwright dlq replay --id 0195c2aa --run --force-superseded --because 'TICKET-7: sales agreed'
  orderwright dlq replay --reason not_found --run --never-seen --because 'TICKET-8: they are there'

Letters of one order go one after the other, by sequence or in the order in which they died first; different \
orders go side by side. Of an order that stands still (dead_letter.on_dead_letter = park), choose the first \
letter: all that stands behind it follows, and the order goes on after the last one. A letter of it that is not \
written leaves the others where they are. Each goes through the same exchange as any update. A letter leaves the \
queue when its outcome is known and in the journal; one that others of its order are behind, when the next of them \
is written. What is superseded stays where it is. While the service is \
down no outcome comes, and the replay waits. Ctrl-C sends nothing more and waits for what is on its way, at most \
30 s; start it again at any time: what was applied is found applied.

It ends by itself when the canary fails, or more than 10 % of at least 20 outcomes (--stop-if).

Exit codes: 0 every letter was seen to, 1 it came to its end and letters died again or their outcome is not \
known, 69 unreachable or broken off, 75 it ended before (canary, stop-if, Ctrl-C), or another operator is at \
work, 78 the settings are wrong")]
pub(super) struct Arguments {
    #[command(flatten)]
    plan: plan::Asked,
    /// Do it.
    #[arg(long)]
    run: bool,
    /// When to give it up: failed>5% (of the outcomes), failed>10, or never.
    #[arg(long, value_name = "LIMIT", default_value = "failed>10%")]
    stop_if: Limit,
    /// How long to wait for one outcome while others come, or while the service says that it is not written.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = humantime::parse_duration)]
    outcome_max: Duration,
    /// After so long without any outcome, ask the service about those awaited.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    ask_after: Duration,
    /// Write also where the order has moved on since. Guards and sequences still hold.
    #[arg(long, requires = "because")]
    force_superseded: bool,
    /// Write letters that never saw their order (never_seen in a plan) over the state that it has now. Say it where
    /// you know that nothing newer was written since they died. Guards and sequences still hold.
    #[arg(long, requires = "because", conflicts_with = "force_superseded")]
    never_seen: bool,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    because: Option<String>,
    #[command(flatten)]
    operator: Operator,
}

/// When a replay is given up, if ever.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Limit(Option<StopIf>);

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self(None));
        }
        text.parse().map(Some).map(Self)
    }
}

pub(super) async fn run(arguments: &Arguments, loaded: Loaded) -> u8 {
    if !arguments.run {
        return plan::plan(&arguments.plan, arguments.allowed(), loaded).await;
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
        allowed: arguments.allowed(),
        limit: usize::try_from(arguments.plan.limit).unwrap_or(usize::MAX),
        manner: arguments.manner(),
        ask_after: arguments.ask_after,
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
        let (stop_if, outcome_max) = (self.stop_if.0, self.outcome_max);
        Manner { stop_if, outcome_max, ..self.plan.manner() }
    }

    fn allowed(&self) -> Allowed {
        match (self.force_superseded, self.never_seen) {
            (true, _) => Allowed::All,
            (false, true) => Allowed::NeverSeen,
            (false, false) => Allowed::Seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn read(flags: &[&str]) -> Result<Arguments, clap::Error> {
        Line::try_parse_from(std::iter::once(&"x").chain(flags)).map(|line| line.arguments)
    }

    #[test]
    fn replay_is_given_up_by_default_and_not_only_where_somebody_thought_of_it() {
        let stop_if = |flags: &[&str]| read(flags).unwrap().manner().stop_if;
        assert_eq!(stop_if(&[]), Some(StopIf::Percent(10.0)));
        assert_eq!(stop_if(&["--stop-if", "failed>3"]), Some(StopIf::Count(3)));
        assert_eq!(stop_if(&["--stop-if", "never"]), None);
    }

    #[test]
    fn what_is_not_safe_by_itself_needs_a_reason_that_says_something() {
        for flag in ["--force-superseded", "--never-seen"] {
            assert!(read(&["--run", flag]).is_err(), "{flag}");
            assert!(read(&["--run", flag, "--because", ""]).is_err(), "{flag}");
            assert!(read(&["--run", flag, "--because", " \t"]).is_err(), "{flag}");
            assert!(read(&["--run", flag, "--because", "TICKET-7"]).is_ok(), "{flag}");
        }
    }
}
