//! `orderwright dead-letters history` and `report`.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::{complain, print};
use super::desk::{Desk, failed};
use super::{Format, line};
use crate::app::exit;
use crate::broker::{Error, journal};
use crate::config::Loaded;
use crate::dead_letter::journal::{Event, Record};

/// Records that are looked at: the newest ones.
const RECORDS_MAX: usize = 200_000;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq history --limit 20
  orderwright dlq history --output ndjson | jq 'select(.event == \"replay_ended\")'")]
pub(super) struct Arguments {
    /// Most events, the newest ones.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    limit: u32,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum As {
    /// For the incident's document.
    #[default]
    Markdown,
    /// One JSON document.
    Json,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq report 0195c2aa-7d3e-7c41-8f2a-3b1c9d0e4f55 >> incident.md")]
pub(super) struct Report {
    /// The replay, as it was told at its beginning.
    replay: Uuid,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: As,
}

async fn records(loaded: Loaded, most: usize) -> Result<Vec<Record>, Error> {
    let desk = Desk::open(loaded, "history").await?;
    let read = journal::read(&desk.connection, &desk.topology, most).await;
    desk.leave().await;
    // One that makes no sense is of a later version: it hides no other.
    Ok(read?.iter().filter_map(|body| serde_json::from_slice(body).ok()).collect())
}

pub(super) async fn run(arguments: &Arguments, loaded: Loaded) -> u8 {
    let most = usize::try_from(arguments.limit).unwrap_or(RECORDS_MAX);
    let records = match records(loaded, most).await {
        Ok(records) => records,
        Err(error) => return failed(&error),
    };
    let text = match arguments.output {
        Format::Json => format!("{}\n", json!(records)),
        Format::Ndjson => {
            let lines: Vec<_> = records.iter().map(|record| json!(record).to_string()).collect();
            lines.join("\n") + "\n"
        }
        Format::Table => records.iter().map(row).collect(),
    };
    print(&text)
}

fn row(record: &Record) -> String {
    let mut event = json!(record.event);
    let name = event.as_object_mut().and_then(|event| event.remove("event"));
    let name = name.as_ref().and_then(Value::as_str).unwrap_or_default();
    let fields = event.as_object().into_iter().flatten();
    let field = |(name, value): (&String, &Value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{name}={text}")
    };
    let fields: Vec<_> = fields.map(field).collect();
    let (at, by) = (format!("{:.0}", record.at), shown(&record.by));
    format!("{at}  {by}  {name}  {}\n", shown(&fields.join(" ")))
}

pub(super) async fn report(arguments: &Report, loaded: Loaded) -> u8 {
    let mut records = match records(loaded, RECORDS_MAX).await {
        Ok(records) => records,
        Err(error) => return failed(&error),
    };
    records.retain(|record| record.event.replay() == Some(arguments.replay));
    if records.is_empty() {
        complain(&format!("the journal knows no replay {}", arguments.replay));
        return exit::DATA;
    }
    print(&match arguments.output {
        As::Json => format!("{}\n", json!({"replay": arguments.replay, "events": records})),
        As::Markdown => markdown(arguments.replay, &records),
    })
}

/// A text on one line, whole.
fn shown(text: &str) -> String {
    line(text, usize::MAX)
}

/// A text for a cell of a table.
fn cell(text: &str) -> String {
    shown(text).replace('|', "\\|")
}

fn markdown(replay: Uuid, records: &[Record]) -> String {
    let mut text = format!("## Replay {replay}\n\n");
    let mut rows = String::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for record in records {
        let (at, by) = (format!("{:.0}", record.at), cell(&record.by));
        let written = match &record.event {
            Event::ReplayBegun { selection, because, forced, letters, .. } => {
                let because = because.as_deref().map(cell).unwrap_or_default();
                let forced = if *forced { ", forced" } else { "" };
                writeln!(
                    text,
                    "- {at}: begun by {by}{forced}: {letters} letters. {because}\n- selection: `{}`",
                    shown(selection).replace('`', "'")
                )
            }
            Event::ReplayEnded { end, why, .. } => {
                let why = why.as_deref().map(cell).unwrap_or_default();
                let end = json!(end);
                let said = format!("{} {why}", end.as_str().unwrap_or_default());
                writeln!(text, "- {at}: {}", said.trim_end())
            }
            Event::Replayed { letter, order, outcome, reason, new_letter, .. } => {
                *counts.entry(outcome.clone()).or_default() += 1;
                let order = order.as_deref().map(cell).unwrap_or_default();
                let reason = reason.as_deref().map(cell).unwrap_or_default();
                let new = new_letter.as_deref().map(cell).unwrap_or_default();
                let why = format!("{reason} {new}");
                writeln!(rows, "| {at} | {order} | {letter} | {} | {} |", cell(outcome), why.trim())
            }
            Event::Left { letter, order, why, .. } => {
                *counts.entry("left".to_owned()).or_default() += 1;
                let order = order.as_deref().map(cell).unwrap_or_default();
                writeln!(rows, "| {at} | {order} | {letter} | left | {} |", cell(why))
            }
            Event::Released { order, letters, .. } => {
                let order = cell(order);
                writeln!(text, "- {at}: {order} goes on, after {letters} letters")
            }
            Event::Discarded { .. }
            | Event::Restored { .. }
            | Event::Edited { .. }
            | Event::Imported { .. }
            | Event::Moved { .. } => Ok(()),
        };
        debug_assert!(written.is_ok(), "a text takes everything");
    }
    for (outcome, count) in counts {
        let _infallible = writeln!(text, "- {outcome}: {count}");
    }
    format!(
        "{text}\n| when | order | dead letter | outcome | why |\n| --- | --- | --- | --- | --- |\n{rows}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_says_who_when_what_and_what_came_of_each_letter() {
        let replay = Uuid::from_u128(7);
        let events = [
            Event::ReplayBegun {
                replay,
                selection: "reason rejected".to_owned(),
                because: Some("TICKET-7".to_owned()),
                forced: true,
                letters: 2,
            },
            Event::Replayed {
                replay,
                letter: "l-1".to_owned(),
                order: Some("USMF/a|b".to_owned()),
                outcome: "applied".to_owned(),
                reason: None,
                new_letter: None,
                etag: None,
            },
            Event::Left {
                replay,
                letter: "l-2".to_owned(),
                order: None,
                why: "superseded: the ETag".to_owned(),
            },
            Event::ReplayEnded { replay, end: crate::dead_letter::End::Done, why: None },
        ];
        let record =
            |event| Record { at: jiff::Timestamp::UNIX_EPOCH, by: "kim@desk".into(), event };
        let text = markdown(replay, &events.map(record));
        for part in [
            "begun by kim@desk, forced: 2 letters. TICKET-7",
            "- selection: `reason rejected`",
            "- 1970-01-01T00:00:00Z: done",
            "- applied: 1\n- left: 1\n",
            "| 1970-01-01T00:00:00Z | USMF/a\\|b | l-1 | applied |",
            "| l-2 | left | superseded: the ETag |",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
