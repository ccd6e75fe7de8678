//! `orderwright dead-letters export` and `import`.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};

use super::super::{complain, fail, print};
use super::desk::{Desk, Looked, Next, Operator, failed};
use super::filters::Filters;
use super::{Format, counted};
use crate::app::exit;
use crate::broker::{self, Outgoing};
use crate::config::Loaded;
use crate::dead_letter::journal::Event;
use crate::dead_letter::{Found, Letter, Message, Selection, from_line, returned, to_line};

/// Longest line that is read: the broker's largest body, in base64, and its headers.
const LINE_BYTES_MAX: u64 = 24 * 1024 * 1024;

/// Letters that are read ahead of their publication.
const BATCH_MAX: usize = 512;
const BATCH_BYTES_MAX: usize = 32 * 1024 * 1024;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq export --file letters.ndjson
  orderwright dlq export --reason rejected | jq -r .routing_key

One letter a line, with every property, the type of every header and its body: as text, or in base64
where it is no UTF-8. The letters stay where they are.

Exit codes: 0 done, 65 the file cannot be written, 69 unreachable, 75 another operator is at work or it
was interrupted, 78 there is no such queue, or the settings are wrong")]
pub(super) struct Export {
    #[command(flatten)]
    filters: Filters,
    /// Where to; standard output otherwise. A file that exists is not overwritten.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Of the letters that were discarded.
    #[arg(long)]
    archived: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq import --file letters.ndjson
  orderwright dlq export | ORDERWRIGHT_CONFIG=other.toml orderwright dlq import --file -

Letters that are there already, by their id, are left out: an import that was interrupted can be started
again. Expiration, priority, user id, CC and BCC are left behind: they would delete a letter, copy it or have
it refused.

Exit codes: 0 all there, 65 a line is no letter (the others are there), 69 unreachable or not confirmed, 75
another operator is at work, 78 there is no such queue, or the settings are wrong")]
pub(super) struct Import {
    /// What `export` wrote; `-` reads standard input.
    #[arg(long, value_name = "PATH")]
    file: PathBuf,
    #[command(flatten)]
    operator: Operator,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Why an export stopped.
enum Stop {
    Broker(broker::Error),
    File(io::Error),
}

impl From<broker::Error> for Stop {
    fn from(error: broker::Error) -> Self {
        Self::Broker(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

pub(super) async fn export(arguments: &Export, loaded: Loaded) -> u8 {
    match write_all(arguments, loaded).await {
        Ok(looked) if looked.interrupted => exit::GRACE,
        Ok(_) => exit::OK,
        Err(Stop::Broker(error)) => failed(&error),
        Err(Stop::File(error)) => fail(exit::DATA, &error),
    }
}

async fn write_all(arguments: &Export, loaded: Loaded) -> Result<Looked, Stop> {
    let mut out: Box<dyn Write> = match &arguments.file {
        Some(path) => Box::new(io::BufWriter::new(std::fs::File::create_new(path)?)),
        None => Box::new(io::BufWriter::new(io::stdout())),
    };
    let desk = Desk::open(loaded, "export").await?;
    let queue = desk.queue(arguments.archived);
    let mut written = Ok(());
    let looked = desk
        .look(&queue, &arguments.filters.selection(), |_letter, held| {
            let message = Message {
                exchange: held.exchange.to_string(),
                routing_key: held.routing_key.to_string(),
                properties: held.properties,
                body: held.body,
            };
            let line = to_line(&message).map_err(io::Error::other);
            written = line.and_then(|line| writeln!(out, "{line}"));
            if written.is_ok() { Next::More } else { Next::Enough }
        })
        .await;
    desk.leave().await;
    written?;
    out.flush()?;
    Ok(looked?)
}

/// What came of the lines.
#[derive(Debug, Default)]
struct Tally {
    read: u64,
    imported: u64,
    already_there: u64,
    refused: u64,
}

pub(super) async fn import(arguments: &Import, loaded: Loaded) -> u8 {
    let lines = match open(&arguments.file).await {
        Ok(lines) => lines,
        Err(error) => return fail(exit::DATA, &error),
    };
    let mut tally = Tally::default();
    let done = read_all(lines, &mut tally, arguments, loaded).await;
    let Tally { imported, already_there, refused, .. } = tally;
    print(&match arguments.output {
        Format::Table => format!(
            "{} imported, {already_there} already there, {refused} refused\n",
            counted(imported, "letter")
        ),
        Format::Json | Format::Ndjson => {
            let line =
                json!({"imported": imported, "already_there": already_there, "refused": refused});
            format!("{line}\n")
        }
    });
    match done {
        Err(Stop::Broker(error)) => failed(&error),
        Err(Stop::File(error)) => fail(exit::DATA, &error),
        Ok(()) if refused > 0 => exit::DATA,
        Ok(()) => exit::OK,
    }
}

async fn open(path: &Path) -> io::Result<Box<dyn AsyncBufRead + Unpin>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(tokio::io::stdin())));
    }
    Ok(Box::new(BufReader::new(tokio::fs::File::open(path).await?)))
}

async fn read_all(
    mut lines: Box<dyn AsyncBufRead + Unpin>,
    tally: &mut Tally,
    arguments: &Import,
    loaded: Loaded,
) -> Result<(), Stop> {
    let desk = Desk::open(loaded, "import").await?;
    let (publisher, queue) = (desk.publisher()?, desk.topology.dead_letters());
    let mut bulk = desk.bulk().await?;
    let by = desk.operator(&arguments.operator);
    let mut send = async |batch: Vec<Outgoing>| {
        bulk.deliver(&batch).await?;
        let sent = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let from = arguments.file.display().to_string();
        if sent > 0 {
            desk.note(&publisher, &by, Event::Imported { letters: sent, from }).await?;
        }
        Ok::<_, broker::Error>(sent)
    };
    let mut known = BTreeSet::new();
    // Held open, so that no other operator changes what is there meanwhile.
    let mut browser = desk.browse(&queue).await?;
    let looked = desk
        .go_over(&mut browser, 0..u64::MAX, &Selection::default(), |letter, _held| {
            known.insert(letter.id);
            Next::More
        })
        .await;
    let importing = async {
        looked?;
        let (mut line, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
        loop {
            line.clear();
            let read = (&mut lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
            if read == 0 {
                tally.imported += send(batch).await?;
                return Ok(());
            }
            tally.read += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let message = match from_line(&line) {
                Ok(message) => message,
                Err(error) => {
                    tally.refused += 1;
                    complain(&format!("line {}: {error}", tally.read));
                    continue;
                }
            };
            let Message { exchange, routing_key, properties, body } = &message;
            let found = Found { properties, exchange, routing_key, body };
            if known.insert(Letter::read(found).id) {
                let outgoing = Outgoing {
                    exchange: desk.topology.dead_letters(),
                    routing_key: message.routing_key.as_str().into(),
                    properties: returned(&message.properties, desk.now),
                    body: message.body,
                };
                bytes += outgoing.body.len();
                batch.push(outgoing);
                if batch.len() >= BATCH_MAX || bytes >= BATCH_BYTES_MAX {
                    tally.imported += send(std::mem::take(&mut batch)).await?;
                    bytes = 0;
                }
            } else {
                tally.already_there += 1;
            }
        }
    };
    let imported: Result<(), Stop> = importing.await;
    let closed = desk.close(browser).await;
    bulk.close().await;
    publisher.close().await;
    desk.leave().await;
    imported?;
    Ok(closed?)
}
