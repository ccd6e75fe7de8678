//! `orderwright dead-letters plan`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::super::{fail, instance, print};
use super::desk::{Desk, failed};
use super::filters::Filters;
use super::gather::{Gathered, gather};
use super::standstill::knowing;
use super::{Format, line};
use crate::app::exit;
use crate::app::replay::{Candidate, Checked, Checker, by_order};
use crate::broker::Error;
use crate::config::Loaded;

/// Characters of a text that the table shows.
const SHOWN_CHARACTERS_MAX: usize = 400;

/// Letters that the table shows for each kind.
const SHOWN_MAX: usize = 20;

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq plan --fingerprint v1-4f1d
  orderwright dlq plan --reason business_rule --rate 50 --output json
  orderwright dlq plan --offline                       how many of how many orders; asks nobody

would_apply      it would be written
already_applied  it is there; the letter would go
superseded       the order has moved on since; it would stay
order_missing    there is no such order; it would stay
refused          a guard, or the contract, does not allow it; it would stay
held             its order stands still, and it is not its turn (it says why); it would stay
unknown          the service did not say

Exit codes: 0 done, 69 unreachable, 75 another operator is at work or it was interrupted (what was asked by
then is printed), 78 the settings are wrong")]
pub(super) struct Arguments {
    #[command(flatten)]
    asked: Asked,
}

/// What is asked for, with or without a replay after it.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Asked {
    #[command(flatten)]
    pub(super) filters: Filters,
    /// Most letters in one go, oldest first.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) limit: u32,
    /// Orders asked for a second, and letters sent a second.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) rate: u32,
    /// Ask nobody: counts alone.
    #[arg(long)]
    offline: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Format,
}

pub(super) async fn run(arguments: &Arguments, loaded: Loaded) -> u8 {
    plan(&arguments.asked, loaded).await
}

pub(super) async fn plan(arguments: &Asked, loaded: Loaded) -> u8 {
    let checker = match Checker::new(&loaded.settings, &instance(&loaded.settings)) {
        Ok(checker) => checker,
        Err(error) => return fail(exit::CONFIG, &error),
    };
    match attempt(arguments, loaded, &checker).await {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

async fn attempt(arguments: &Asked, loaded: Loaded, checker: &Checker) -> Result<u8, Error> {
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let desk = Desk::open(loaded, "plan").await?;
    let publisher = Arc::new(desk.publisher()?);
    let selection = arguments.filters.selection();
    let gathered = knowing(&desk, &publisher, async |parking| {
        let gathered = gather(&desk, checker, parking, &selection, limit).await?;
        let Gathered { browser, candidates, left_over, interrupted, .. } = gathered;
        // Nothing is taken away: let others look while the service is asked.
        desk.close(browser).await?;
        Ok((candidates, left_over, interrupted))
    });
    let (candidates, left_over, mut interrupted) = gathered.await?;
    let all: Vec<&Candidate> = candidates.iter().collect();
    let orders = by_order(&all, |message| checker.sequence(message)).len();
    let mut found = Vec::new();
    let begun = Instant::now();
    for (number, candidate) in candidates.iter().enumerate() {
        if arguments.offline || interrupted {
            break;
        }
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let due = begun + Duration::from_secs(1) * number / arguments.rate;
        let looking = async {
            sleep_until(due).await;
            checker.look(candidate, false).await
        };
        tokio::select! { biased;
            () = desk.interrupt.cancelled() => interrupted = true,
            said = looking => found.push(said),
        }
    }
    publisher.close().await;
    desk.leave().await;
    let takes = candidates.len().div_ceil(usize::try_from(arguments.rate).unwrap_or(1));
    let plan = Plan { candidates: &candidates, found: &found, orders, left_over, takes };
    print(&plan.text(arguments.output));
    Ok(if interrupted { exit::GRACE } else { exit::OK })
}

struct Plan<'a> {
    candidates: &'a [Candidate],
    /// Empty where nobody was asked.
    found: &'a [Checked],
    orders: usize,
    left_over: u64,
    /// Seconds that it would take at this rate.
    takes: usize,
}

impl Plan<'_> {
    fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for checked in self.found {
            *counts.entry(checked.prospect.name()).or_default() += 1;
        }
        counts
    }

    fn summary(&self) -> Value {
        json!({
            "letters": self.candidates.len(), "orders": self.orders, "left_over": self.left_over,
            "prospects": self.counts(), "seconds_at_this_rate": self.takes,
        })
    }

    fn rows(&self) -> impl Iterator<Item = Value> + '_ {
        self.candidates.iter().zip(self.found).map(|(candidate, checked)| {
            json!({
                "id": candidate.letter.id, "order": candidate.letter.order,
                "prospect": checked.prospect, "why": checked.why, "changed": checked.changed,
            })
        })
    }

    fn text(&self, output: Format) -> String {
        match output {
            Format::Json => {
                let mut all = self.summary();
                if let Some(all) = all.as_object_mut() {
                    all.insert("plan".to_owned(), self.rows().collect());
                }
                format!("{all}\n")
            }
            Format::Ndjson => {
                let rows = self.rows().chain([self.summary()]).map(|row| row.to_string());
                rows.collect::<Vec<_>>().join("\n") + "\n"
            }
            Format::Table => self.table(),
        }
    }

    fn table(&self) -> String {
        let mut text = format!(
            "{} letters of {} orders; about {} at this rate\n",
            self.candidates.len(),
            self.orders,
            humantime::format_duration(Duration::from_secs(
                u64::try_from(self.takes).unwrap_or(u64::MAX)
            ))
        );
        if self.left_over > 0 {
            let _infallible = writeln!(text, "{} more are left for the next time", self.left_over);
        }
        for (name, count) in self.counts() {
            let _infallible = writeln!(text, "  {name:<16} {count:>7}");
            let is_news = !matches!(name, "would_apply" | "already_applied");
            let of = self.candidates.iter().zip(self.found);
            let of = of.filter(|(_, checked)| is_news && checked.prospect.name() == name);
            for (candidate, checked) in of.take(SHOWN_MAX) {
                let letter = &candidate.letter;
                let order = letter.order.as_deref().unwrap_or("-");
                // The fields say it better than two ETags do.
                let why =
                    if checked.changed.is_empty() { shown(&checked.why) } else { String::new() };
                let row = format!("    {}  {}  {why}", letter.id, shown(order));
                let _infallible = writeln!(text, "{}", row.trim_end());
                for change in &checked.changed {
                    let value = |value: &Option<Value>| {
                        shown(&value.as_ref().map_or("absent".to_owned(), Value::to_string))
                    };
                    let _infallible = writeln!(
                        text,
                        "      {}: saw {}, is {}, wants {}",
                        shown(&change.property),
                        value(&change.seen),
                        value(&change.now),
                        value(&change.wanted)
                    );
                }
            }
            if is_news && count > SHOWN_MAX {
                let _infallible = writeln!(text, "    and {} more", count - SHOWN_MAX);
            }
        }
        text
    }
}

fn shown(text: &str) -> String {
    line(text, SHOWN_CHARACTERS_MAX)
}
