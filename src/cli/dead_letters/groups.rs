//! `orderwright dead-letters groups`.

use std::fmt::Write as _;

use serde_json::json;

use super::super::print;
use super::desk::{Desk, Looked, Next, failed};
use super::filters::Filters;
use super::{Format, age, counted, line};
use crate::app::exit;
use crate::broker::Error;
use crate::config::Loaded;
use crate::dead_letter::{Group, Groups};

/// Characters of a sample's detail on a terminal.
const DETAIL_CHARACTERS_MAX: usize = 160;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq groups
  orderwright dlq groups --since 2h                    the trouble of the last two hours
  orderwright dlq groups --status 5xx --output json

A fingerprint stands for reason, HTTP status, error code and the message without ids, numbers and \
values: the same trouble of different orders has the same one, today and after an upgrade.

Exit codes: 0 done (also where there is none), 69 unreachable, 75 another operator is at work or it was \
interrupted (what was seen by then is printed), 78 there is no such queue, or the settings are wrong")]
pub(super) struct Arguments {
    #[command(flatten)]
    filters: Filters,
    /// Of the letters that were discarded.
    #[arg(long)]
    archived: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

pub(super) async fn run(arguments: &Arguments, loaded: Loaded) -> u8 {
    match attempt(arguments, loaded).await {
        Ok((looked, groups, letters)) => {
            print(&shown(&groups, letters, looked, arguments.output));
            if looked.interrupted { exit::GRACE } else { exit::OK }
        }
        Err(error) => failed(&error),
    }
}

async fn attempt(
    arguments: &Arguments,
    loaded: Loaded,
) -> Result<(Looked, Vec<Group>, u64), Error> {
    let desk = Desk::open(loaded, "groups").await?;
    let mut groups = Groups::default();
    let selection = arguments.filters.selection();
    let queue = desk.queue(arguments.archived);
    let looked = desk
        .look(&queue, &selection, |letter, _held| {
            groups.add(&letter);
            Next::More
        })
        .await;
    let now = desk.now;
    desk.leave().await;
    let letters = groups.letters();
    Ok((looked?, groups.finish(now), letters))
}

fn shown(groups: &[Group], letters: u64, looked: Looked, output: Format) -> String {
    let is_whole = looked.seen == looked.mark;
    match output {
        Format::Json => {
            let all = json!({
                "letters": letters, "seen": looked.seen, "mark": looked.mark, "groups": groups,
            });
            format!("{all:#}\n")
        }
        Format::Ndjson => {
            let mut text = String::new();
            for group in groups {
                let _infallible = writeln!(text, "{}", json!(group));
            }
            text
        }
        Format::Table => {
            let kinds = u64::try_from(groups.len()).unwrap_or(u64::MAX);
            let mut text = format!(
                "{}, {} of trouble\n",
                counted(letters, "dead letter"),
                counted(kinds, "kind")
            );
            if !is_whole {
                let Looked { seen, mark, .. } = looked;
                let _infallible = writeln!(text, "only {seen} of {mark} were looked at");
            }
            for group in groups {
                text.push_str(&block(group));
            }
            text
        }
    }
}

fn block(group: &Group) -> String {
    let status = group.status.map(|status| format!("  HTTP {status}")).unwrap_or_default();
    let orders = u64::try_from(group.orders).unwrap_or(u64::MAX);
    let oldest = group.oldest_seconds.map(|it| format!("  oldest {}", age(it))).unwrap_or_default();
    let replayed = match group.replayed {
        0 => String::new(),
        some => format!("  {some} came back from a replay"),
    };
    let name = if group.fingerprint.is_empty() { "(others)" } else { &group.fingerprint };
    let mut text = format!(
        "\n{name}  {} of {}  {}{status}{oldest}{replayed}\n",
        counted(group.letters, "letter"),
        counted(orders, "order"),
        line(&group.reason, 40),
    );
    if let (Some(first), Some(last)) = (group.first, group.last) {
        let _infallible = writeln!(text, "  {first:.0} … {last:.0}");
    }
    let order = group.sample_order.as_deref().unwrap_or("no order");
    let detail = line(&group.detail, DETAIL_CHARACTERS_MAX);
    let _infallible = writeln!(text, "  {detail}\n  e.g. {}  {}", group.sample, line(order, 80));
    if !group.advice.is_empty() {
        let _infallible = writeln!(text, "  → {}", group.advice);
    }
    text
}
