//! `orderwright dead-letters import`.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use serde_json::json;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use uuid::Uuid;

use super::super::{complain, fail, print};
use super::desk::{Desk, Next, Operator, failed, progress, reason};
use super::export::Stop;
use super::{Format, counted};
use crate::app::exit;
use crate::broker::{Bulk, Outgoing, Publisher};
use crate::config::Loaded;
use crate::dead_letter::journal::{Event, NAMED_MAX, Named};
use crate::dead_letter::{Found, Letter, Message, Selection, from_line, returned};

/// Longest line that is read: the broker's largest body, in base64, and its headers.
const LINE_BYTES_MAX: u64 = 24 * 1024 * 1024;

/// Letters that are read ahead of their publication: so many as one record of the journal names.
const BATCH_MAX: usize = NAMED_MAX;
const BATCH_BYTES_MAX: usize = 32 * 1024 * 1024;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq import --file letters.ndjson
  orderwright dlq import --file letters.ndjson --because 'TICKET-7: taken out by mistake'
  orderwright dlq export | ORDERWRIGHT_CONFIG=other.toml orderwright dlq import --file -

Letters that are there already, by their id, are left out: an import that was interrupted can be started \
again. Ctrl-C ends it between two batches of at most 200. Expiration, priority, user id, CC and BCC are left \
behind: they would delete a letter, copy it or have it refused.

Exit codes: 0 all there, 65 a line is no letter (the others are there), 69 unreachable or not confirmed, 75 \
another operator is at work or it was interrupted, 78 there is no such queue, or the settings are wrong")]
pub(super) struct Import {
    /// What `export` wrote; `-` reads standard input.
    #[arg(long, value_name = "PATH")]
    file: PathBuf,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    because: Option<String>,
    #[command(flatten)]
    operator: Operator,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// What came of the lines.
#[derive(Debug, Default)]
struct Tally {
    read: u64,
    imported: u64,
    already_there: u64,
    refused: u64,
    interrupted: bool,
}

pub(super) async fn import(arguments: &Import, loaded: Loaded) -> u8 {
    let (lines, bytes) = match open(&arguments.file).await {
        Ok(opened) => opened,
        Err(error) => return fail(exit::DATA, &error),
    };
    let mut tally = Tally::default();
    let done = perform((lines, bytes), &mut tally, arguments, loaded).await;
    let Tally { imported, already_there, refused, interrupted, .. } = tally;
    print(&match arguments.output {
        Format::Table => format!(
            "{} imported, {already_there} already there, {refused} refused\n",
            counted(imported, "letter")
        ),
        Format::Json | Format::Ndjson => {
            let line = json!({
                "imported": imported, "already_there": already_there, "refused": refused,
                "interrupted": interrupted,
            });
            format!("{line}\n")
        }
    });
    match done {
        Err(Stop::Broker(error)) => failed(&error),
        Err(Stop::File(error)) => fail(exit::DATA, &error),
        Ok(()) if interrupted => exit::GRACE,
        Ok(()) if refused > 0 => exit::DATA,
        Ok(()) => exit::OK,
    }
}

type Lines = Box<dyn AsyncBufRead + Unpin>;

/// The lines, and how many bytes they are; of standard input nobody knows.
async fn open(path: &Path) -> io::Result<(Lines, u64)> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(BufReader::new(tokio::io::stdin())), 0));
    }
    let file = tokio::fs::File::open(path).await?;
    let bytes = file.metadata().await?.len();
    Ok((Box::new(BufReader::new(file)), bytes))
}

async fn perform(
    (lines, bytes): (Lines, u64),
    tally: &mut Tally,
    arguments: &Import,
    loaded: Loaded,
) -> Result<(), Stop> {
    let desk = Desk::open(loaded, "import").await?;
    let (publisher, queue) = (desk.publisher()?, desk.topology.dead_letters());
    let mut sender = Sender {
        desk: &desk,
        bulk: desk.bulk().await?,
        publisher: &publisher,
        by: desk.operator(&arguments.operator),
        arguments,
        bar: progress("bytes imported", bytes),
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
    let imported = match looked {
        // Which letters are there is not known, and those that are would come a second time.
        Ok(looked) if looked.interrupted => {
            tally.interrupted = true;
            Ok(())
        }
        Ok(_) => sender.all(lines, tally, known).await,
        Err(error) => Err(error.into()),
    };
    let closed = desk.close(browser).await;
    sender.bar.finish_and_clear();
    sender.bulk.close().await;
    publisher.close().await;
    desk.leave().await;
    imported?;
    Ok(closed?)
}

struct Sender<'a> {
    desk: &'a Desk,
    bulk: Bulk,
    publisher: &'a Publisher,
    by: String,
    arguments: &'a Import,
    bar: ProgressBar,
}

impl Sender<'_> {
    /// Line by line, until the end or an interrupt.
    async fn all(
        &mut self,
        mut lines: Lines,
        tally: &mut Tally,
        mut known: BTreeSet<Uuid>,
    ) -> Result<(), Stop> {
        let (mut line, mut batch, mut bytes, mut position) = (Vec::new(), Vec::new(), 0, 0);
        loop {
            line.clear();
            let mut next = (&mut lines).take(LINE_BYTES_MAX);
            // Standard input may be silent for ever.
            let read = tokio::select! { biased;
                () = self.desk.interrupt.cancelled() => {
                    tally.interrupted = true;
                    return Ok(());
                }
                read = next.read_until(b'\n', &mut line) => read?,
            };
            if read == 0 {
                return self.send(batch, tally, position).await;
            }
            position += u64::try_from(read).unwrap_or_default();
            tally.read += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let message = match from_line(&line) {
                Ok(message) => message,
                Err(error) => {
                    tally.refused += 1;
                    let number = tally.read;
                    self.bar.suspend(|| complain(&format!("line {number}: {error}")));
                    continue;
                }
            };
            let Message { exchange, routing_key, properties, body } = &message;
            let letter = Letter::read(Found { properties, exchange, routing_key, body });
            if !known.insert(letter.id) {
                tally.already_there += 1;
                continue;
            }
            bytes += message.body.len();
            batch.push((letter, message));
            if batch.len() >= BATCH_MAX || bytes >= BATCH_BYTES_MAX {
                self.send(std::mem::take(&mut batch), tally, position).await?;
                bytes = 0;
            }
        }
    }

    /// Published, confirmed, and written down.
    async fn send(
        &mut self,
        batch: Vec<(Letter, Message)>,
        tally: &mut Tally,
        position: u64,
    ) -> Result<(), Stop> {
        if batch.is_empty() {
            return Ok(());
        }
        let (now, to) = (self.desk.now, self.desk.topology.dead_letters());
        let (mut named, mut copies) = (Vec::new(), Vec::new());
        for (letter, message) in batch {
            named.push(Named { letter: letter.id.to_string(), order: letter.order });
            copies.push(Outgoing {
                exchange: to.clone(),
                routing_key: message.routing_key.as_str().into(),
                properties: returned(&message.properties, now),
                body: message.body,
            });
        }
        self.bulk.deliver(&copies).await?;
        let letters = u64::try_from(copies.len()).unwrap_or(u64::MAX);
        let (from, because) =
            (self.arguments.file.display().to_string(), self.arguments.because.clone());
        let event = Event::Imported { letters, named, from, because };
        self.desk.note(self.publisher, &self.by, event).await?;
        tally.imported += letters;
        self.bar.set_position(position);
        Ok(())
    }
}
