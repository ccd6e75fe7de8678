//! `orderwright publish`: sends updates the way that publishers should.

mod message;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::time::{Instant, sleep_until};

use super::{Output, complain, fail, instance, print};
use crate::app::exit;
use crate::app::intake_contract;
use crate::broker::{Bulk, Link, Sent, Topology};
use crate::config::Loaded;
use message::Builder;

/// Lines that cannot be updates and are named one by one; the rest is only counted.
const COMPLAINTS_MAX: usize = 20;

/// Longest line that is read, whatever the limit of the contract: with `--unchecked` a body over
/// that limit can be sent, to see it dead-lettered.
const LINE_BYTES_MAX: u64 = 2 * 1024 * 1024;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright publish --key USMF/SO-2025-0145 --set SalesStatus=Delivered --set DeliveryDate=2025-02-08
  orderwright publish --file updates.ndjson --rate 200
  producer | orderwright publish --file - --output json

A line of the file is one message body (docs/MESSAGES.md). Messages are persistent and mandatory, and
sent in order; each is counted once the broker has confirmed it.

Exit codes: 0 all confirmed, 65 a line is no update, 69 unreachable or not confirmed")]
pub(super) struct Arguments {
    /// Order key of a single update: the values of the key properties, joined by `/`.
    #[arg(long, value_name = "VALUES", required_unless_present = "file", conflicts_with = "file")]
    key: Option<String>,
    /// A property to write. Numbers, true, false and null are taken as such, all else as text; quote
    /// a text that looks like one: --set 'Reference="007"'.
    #[arg(long = "set", value_name = "NAME=VALUE", requires = "key")]
    set: Vec<String>,
    /// The update's number among those of its order.
    #[arg(long, requires = "key")]
    sequence: Option<u64>,
    /// NDJSON file with one message body a line; `-` reads standard input.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Send lines as they are, also those that are no updates.
    #[arg(long, requires = "file")]
    unchecked: bool,
    /// Most messages a second.
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Most messages that wait for the broker's confirm at once.
    #[arg(long, value_name = "COUNT", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    in_flight: u16,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What came of the lines.
#[derive(Debug, Default)]
struct Tally {
    read: u64,
    refused: u64,
    complaints: Vec<String>,
    by_code: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn refuse(&mut self, error: &crate::decode::Error) {
        self.refused += 1;
        *self.by_code.entry(error.code()).or_default() += 1;
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(format!("line {}: {error} ({})", self.read, error.code()));
        }
    }
}

pub(super) async fn run(arguments: &Arguments, loaded: Loaded) -> u8 {
    let settings = &loaded.settings;
    let builder = Builder {
        contract: intake_contract(settings),
        exchange: Topology::new(&settings.topology).updates(),
        unchecked: arguments.unchecked,
    };
    let name = format!("orderwright publish {}", instance(settings));
    let opening = async {
        let link = Link::new(&settings.broker, &name)?;
        let in_flight = usize::from(arguments.in_flight);
        Bulk::open(&link, settings.broker.publish_timeout, in_flight).await
    };
    let mut lines: Box<dyn AsyncBufRead + Unpin> = match single(arguments, &builder) {
        Some(Ok(body)) => Box::new(std::io::Cursor::new(body)),
        Some(Err(text)) => {
            complain(&text);
            return exit::USAGE;
        }
        None => match open(arguments.file.as_deref()).await {
            Ok(lines) => lines,
            Err(error) => return fail(exit::DATA, &error),
        },
    };
    let mut bulk = match opening.await {
        Ok(bulk) => bulk,
        Err(error) => {
            return fail(if error.may_heal() { exit::UNAVAILABLE } else { exit::CONFIG }, &error);
        }
    };
    let mut tally = Tally::default();
    let failure = send_all(&mut lines, &builder, arguments.rate, &mut bulk, &mut tally).await.err();
    let (sent, unknown) = (bulk.sent().clone(), bulk.outstanding());
    if failure.is_none() {
        bulk.close().await;
    }
    print(&summary(&tally, &sent, unknown, arguments.output));
    match failure {
        Some(error) => fail(exit::UNAVAILABLE, error.as_ref()),
        None if sent.nacked > 0 || !sent.returned.is_empty() => exit::UNAVAILABLE,
        None if tally.refused > 0 => exit::DATA,
        None => exit::OK,
    }
}

/// The body of the update that the flags describe.
fn single(arguments: &Arguments, builder: &Builder) -> Option<Result<Vec<u8>, String>> {
    let key = arguments.key.as_deref()?;
    Some(message::from_flags(&builder.contract, key, &arguments.set, arguments.sequence))
}

async fn open(path: Option<&std::path::Path>) -> std::io::Result<Box<dyn AsyncBufRead + Unpin>> {
    Ok(match path {
        Some(path) if path.as_os_str() != "-" => {
            Box::new(BufReader::new(tokio::fs::File::open(path).await?))
        }
        Some(_) | None => Box::new(BufReader::new(tokio::io::stdin())),
    })
}

async fn send_all(
    lines: &mut (dyn AsyncBufRead + Unpin),
    builder: &Builder,
    rate: Option<u32>,
    bulk: &mut Bulk,
    tally: &mut Tally,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let progress = progress();
    let begun = Instant::now();
    let mut sent: u32 = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        // One byte more than allowed, to tell a line that ends there from one that goes on.
        let read = (&mut *lines).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line).await?;
        if read == 0 {
            break;
        }
        tally.read += 1;
        if u64::try_from(line.len()).unwrap_or(u64::MAX) > LINE_BYTES_MAX {
            return Err(format!("line {} is over {LINE_BYTES_MAX} bytes", tally.read).into());
        }
        let body = line.trim_ascii();
        if body.is_empty() {
            continue;
        }
        match builder.build(body) {
            Err(error) => tally.refuse(&error),
            Ok(message) => {
                if let Some(rate) = rate {
                    // Against the start, not the last message: an error does not add up.
                    sleep_until(begun + Duration::from_secs(1) * sent / rate).await;
                }
                bulk.send(&message).await?;
                sent = sent.saturating_add(1);
            }
        }
        progress.set_position(bulk.sent().confirmed);
    }
    bulk.settle().await?;
    progress.finish_and_clear();
    Ok(())
}

/// On a terminal only.
fn progress() -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(None, target);
    let style = ProgressStyle::with_template("{spinner} {pos} confirmed, {per_sec}");
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

fn summary(tally: &Tally, sent: &Sent, unknown: usize, output: Output) -> String {
    let returned = sent.returned.len();
    match output {
        Output::Json => {
            let summary = json!({
                "confirmed": sent.confirmed,
                "returned": returned,
                "nacked": sent.nacked,
                "unknown": unknown,
                "refused": tally.refused,
                "refused_by_code": tally.by_code,
                "returned_message_ids": sent.returned,
                "complaints": tally.complaints,
            });
            format!("{summary}\n")
        }
        Output::Text => {
            let head = format!(
                "{} confirmed, {returned} returned (no queue), {} nacked (queue full), {} not sent",
                sent.confirmed, sent.nacked, tally.refused
            );
            let lost = (unknown > 0).then(|| format!("{unknown} unknown: sent, but not confirmed"));
            let complaints = tally.complaints.iter().map(|complaint| format!("  {complaint}"));
            let lines = [head].into_iter().chain(lost).chain(complaints);
            lines.collect::<Vec<_>>().join("\n") + "\n"
        }
    }
}
