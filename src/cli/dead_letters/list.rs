//! `orderwright dead-letters ls`.

use std::io::{self, Write};

use serde_json::json;

use super::desk::{Desk, Looked, Next, failed};
use super::filters::Filters;
use super::{Format, line};
use crate::app::exit;
use crate::broker::Error;
use crate::config::Loaded;
use crate::dead_letter::Letter;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq ls --limit 20
  orderwright dlq ls --reason business_rule --older-than 1h
  orderwright dlq ls --pointer /changes/SalesStatus=Delivered --output ndjson | jq -r .order

Letters stand in the order of their queue. Replay goes by the sequence of each order, or by when its \
letters died.

Exit codes: 0 done (also where there is none), 69 unreachable, 75 another operator is at work or it was \
interrupted, 78 there is no such queue, or the settings are wrong")]
pub(super) struct Arguments {
    #[command(flatten)]
    filters: Filters,
    /// Most letters that are shown.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Of the letters that were discarded.
    #[arg(long)]
    archived: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

pub(super) async fn run(arguments: &Arguments, loaded: Loaded) -> u8 {
    match attempt(arguments, loaded).await {
        Ok(looked) if looked.interrupted => exit::GRACE,
        Ok(_) => exit::OK,
        Err(error) => failed(&error),
    }
}

async fn attempt(arguments: &Arguments, loaded: Loaded) -> Result<Looked, Error> {
    let desk = Desk::open(loaded, "ls").await?;
    let selection = arguments.filters.selection();
    let limit = arguments.limit.unwrap_or(u64::MAX);
    // Line by line as they come: there may be a hundred thousand.
    let mut out = io::BufWriter::new(io::stdout());
    let mut shown = 0;
    let mut write = |text: String| out.write_all(text.as_bytes()).is_ok();
    write(head(arguments.output).to_owned());
    let queue = desk.queue(arguments.archived);
    let looked = desk
        .look(&queue, &selection, |letter, held| {
            shown += 1;
            let is_read = write(row(&letter, held.position, shown == 1, arguments.output));
            // A reader that went away wants no more.
            if shown < limit && is_read { Next::More } else { Next::Enough }
        })
        .await;
    write(foot(arguments.output).to_owned());
    let _closed = out.flush();
    desk.leave().await;
    looked
}

const fn head(output: Format) -> &'static str {
    match output {
        Format::Table => {
            "DIED                  REASON                 HTTP  REPLAYS  FINGERPRINT      ID                                    ORDER\n"
        }
        Format::Json => "[",
        Format::Ndjson => "",
    }
}

const fn foot(output: Format) -> &'static str {
    match output {
        Format::Table | Format::Ndjson => "",
        Format::Json => "]\n",
    }
}

fn row(letter: &Letter, position: u64, is_first: bool, output: Format) -> String {
    let object = || {
        json!({
            "position": position, "id": letter.id, "fingerprint": letter.fingerprint,
            "reason": letter.reason, "status": letter.status, "order": letter.order,
            "dead_lettered_at": letter.dead_lettered_at, "message_id": letter.message_id,
            "detail": letter.detail, "attempts": letter.attempts.len(), "writer": letter.writer,
            "replays": letter.replays, "routing_key": letter.routing_key, "bytes": letter.bytes,
        })
    };
    match output {
        Format::Ndjson => format!("{}\n", object()),
        Format::Json if is_first => format!("\n{}", object()),
        Format::Json => format!(",\n{}", object()),
        Format::Table => {
            let died = letter.dead_lettered_at.map(|at| format!("{at:.0}")).unwrap_or_default();
            let status = letter.status.map(|it| it.to_string()).unwrap_or_default();
            let order = line(letter.order.as_deref().unwrap_or("-"), 60);
            format!(
                "{died:<20}  {:<21}  {status:<4}  {:>7}  {:<15}  {}  {order}\n",
                line(&letter.reason, 21),
                letter.replays.count,
                letter.fingerprint,
                letter.id,
            )
        }
    }
}
