//! `orderwright dead-letters history` and `report`.

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::{complain, print};
use super::desk::{Desk, failed};
use super::filters::time;
use super::{Format, incident, line, lines};
use crate::app::exit;
use crate::broker::{Error, journal};
use crate::config::Loaded;
use crate::dead_letter::journal::Record;

/// Records that are looked at: the newest ones.
pub(super) const RECORDS_MAX: usize = 200_000;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq history --limit 20
  orderwright dlq history --order USMF/SO-2025-0145 --since 7d
  orderwright dlq history --letter 0195c2aa            what was done with one letter
  orderwright dlq history --operator kim --event discarded --output ndjson | jq -r .because

Looks at the newest 200,000 events that were there when it began, and shows the newest ones that are meant.

Exit codes: 0 done (also where there is none), 69 unreachable, 78 there is no journal, or the settings are \
wrong")]
pub(super) struct Arguments {
    /// Of this order (canonical key).
    #[arg(long, value_name = "KEY")]
    order: Option<String>,
    /// Of this letter: its id, or the beginning.
    #[arg(long, value_name = "ID")]
    letter: Option<String>,
    /// Of this replay.
    #[arg(long, value_name = "ID")]
    replay: Option<Uuid>,
    /// By an operator whose name has this in it.
    #[arg(long, value_name = "TEXT")]
    operator: Option<String>,
    /// Of this kind, such as replayed, discarded or edited.
    #[arg(long, value_name = "NAME")]
    event: Vec<String>,
    /// Then or later: RFC 3339, or so long ago (90m, 2h, 3d).
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Before then.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// Most events, the newest ones.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    limit: u32,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

impl Arguments {
    fn means(&self, record: &Record) -> bool {
        let Record { at, by, event } = record;
        let name = json!(event);
        let name = name.get("event").and_then(Value::as_str).unwrap_or_default();
        let is_letter = |wanted: &String| event.letters().iter().any(|it| it.starts_with(wanted));
        self.order.as_ref().is_none_or(|order| event.is_of(order))
            && self.letter.as_ref().is_none_or(is_letter)
            && self.replay.is_none_or(|replay| event.replay() == Some(replay))
            && self.operator.as_ref().is_none_or(|text| by.contains(text))
            && (self.event.is_empty() || self.event.iter().any(|wanted| wanted == name))
            && self.since.is_none_or(|since| *at >= since)
            && self.until.is_none_or(|until| *at < until)
    }
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum As {
    /// For the incident's document.
    #[default]
    Markdown,
    /// For people at a terminal.
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Ndjson,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq report 0195c2aa-7d3e-7c41-8f2a-3b1c9d0e4f55 >> incident.md
  orderwright dlq report 0195c2aa-7d3e-7c41-8f2a-3b1c9d0e4f55 --output table

Every letter of the selection is in it, also those that were not sent; how many the journal does not account \
for (of a replay that was killed, or that goes on) stands in it as well.

Exit codes: 0 done, 65 the journal knows no such replay, 69 unreachable, 78 there is no journal, or the \
settings are wrong")]
pub(super) struct Report {
    /// The replay, as it was told at its beginning.
    replay: Uuid,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: As,
}

async fn records(loaded: Loaded) -> Result<Vec<Record>, Error> {
    let desk = Desk::open(loaded, "history").await?;
    let read = journal::read(&desk.connection, &desk.topology, RECORDS_MAX).await;
    desk.leave().await;
    Ok(understood(&read?))
}

/// One that makes no sense is of a later version: it hides no other.
pub(super) fn understood(bodies: &[Vec<u8>]) -> Vec<Record> {
    bodies.iter().filter_map(|body| serde_json::from_slice(body).ok()).collect()
}

pub(super) async fn run(arguments: &Arguments, loaded: Loaded) -> u8 {
    let mut records = match records(loaded).await {
        Ok(records) => records,
        Err(error) => return failed(&error),
    };
    records.retain(|record| arguments.means(record));
    let most = usize::try_from(arguments.limit).unwrap_or(RECORDS_MAX);
    records.drain(..records.len().saturating_sub(most));
    print(&listed(&records, arguments.output))
}

fn listed(records: &[Record], output: Format) -> String {
    match output {
        Format::Json => format!("{}\n", json!(records)),
        Format::Ndjson => lines(records.iter().map(|record| json!(record).to_string())),
        Format::Table => records.iter().map(row).collect(),
    }
}

pub(super) fn row(record: &Record) -> String {
    let mut event = json!(record.event);
    let name = event.as_object_mut().and_then(|event| event.remove("event"));
    let name = name.as_ref().and_then(Value::as_str).unwrap_or_default();
    let fields = event.as_object().into_iter().flatten();
    let field = |(name, value): (&String, &Value)| {
        let text = value.as_str().map_or_else(|| named(value), str::to_owned);
        format!("{name}={text}")
    };
    let fields: Vec<_> = fields.map(field).collect();
    let (at, by) = (format!("{:.0}", record.at), line(&record.by, usize::MAX));
    format!("{at}  {by}  {name}  {}\n", line(&fields.join(" "), usize::MAX))
}

/// Letters by their ids alone; anything else as it is.
fn named(value: &Value) -> String {
    let ids = value.as_array().into_iter().flatten().filter_map(|it| it.get("letter")?.as_str());
    let ids: Vec<_> = ids.collect();
    if ids.is_empty() { value.to_string() } else { ids.join(",") }
}

pub(super) async fn report(arguments: &Report, loaded: Loaded) -> u8 {
    let mut records = match records(loaded).await {
        Ok(records) => records,
        Err(error) => return failed(&error),
    };
    records.retain(|record| record.event.replay() == Some(arguments.replay));
    if records.is_empty() {
        complain(&format!("the journal knows no replay {}", arguments.replay));
        return exit::DATA;
    }
    print(&match arguments.output {
        As::Json => {
            let account = incident::account(&records);
            let all = json!({"replay": arguments.replay, "account": account, "events": records});
            format!("{all}\n")
        }
        As::Ndjson => listed(&records, Format::Ndjson),
        As::Table => incident::table(arguments.replay, &records),
        As::Markdown => incident::markdown(arguments.replay, &records),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::dead_letter::journal::{Event, Named};

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn filters_say_which_events_are_meant() {
        let named = Named { letter: "0195c2aa-1".to_owned(), order: Some("USMF/1".to_owned()) };
        let record = Record {
            at: Timestamp::from_second(1_000).unwrap(),
            by: "kim@desk".to_owned(),
            event: Event::Unsent {
                replay: Uuid::from_u128(7),
                letters: vec![named],
                why: "not begun".to_owned(),
            },
        };
        let means = |flags: &str| {
            let line = Line::try_parse_from(std::iter::once("x").chain(flags.split_whitespace()));
            line.unwrap().arguments.means(&record)
        };
        for flags in [
            "",
            "--order USMF/1 --letter 0195c2aa --operator kim --event unsent",
            "--replay 00000000-0000-0000-0000-000000000007 --since 1970-01-01T00:16:40Z",
            "--event replayed --event unsent --until 1970-01-01T00:16:41Z",
        ] {
            assert!(means(flags), "{flags}");
        }
        for flags in [
            "--order USMF/2",
            "--letter 0195c2ab",
            "--operator joe",
            "--event replayed",
            "--replay 00000000-0000-0000-0000-000000000008",
            "--since 1970-01-01T00:16:41Z",
            "--until 1970-01-01T00:16:40Z",
        ] {
            assert!(!means(flags), "{flags}");
        }
        assert!(row(&record).ends_with(
            "unsent  letters=0195c2aa-1 replay=00000000-0000-0000-0000-000000000007 why=not begun\n"
        ));
    }
}
