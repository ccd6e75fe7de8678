//! `orderwright dead-letters show`.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::super::{complain, print};
use super::desk::{Desk, Looked, Next, failed};
use super::history::{RECORDS_MAX, row, understood};
use super::{Format, age, line, plain};
use crate::app::exit;
use crate::broker::{Error, journal};
use crate::config::Loaded;
use crate::dead_letter::journal::Record;
use crate::dead_letter::{Letter, Selection, advice};

/// Copies of one letter that are shown.
const COPIES_MAX: usize = 16;

/// How long the journal may take to be read.
const JOURNAL_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq show 0195c2aa-7d1e-7c3a-9e0b-3a0f6b1d2c44
  orderwright dlq show 0195c2aa                        the beginning will do, if no other id has it
  orderwright dlq show 0195c2aa --output json | jq -r .body

What the journal knows of the letter, and of those that it was before, is shown as well: every replay with its \
outcome, edits, discards. Of a journal that takes longer than 10 s to read, nothing is.

Exit codes: 0 done, 65 there is no such letter, or several ids begin so, 69 unreachable, 75 another \
operator is at work or it was interrupted, 78 there is no such queue, or the settings are wrong")]
pub(super) struct Arguments {
    /// Id of the letter, or its beginning.
    id: String,
    /// Among the letters that were discarded.
    #[arg(long)]
    archived: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// A letter with its body and its place.
struct Shown {
    letter: Letter,
    position: u64,
    body: Vec<u8>,
}

/// What is known of it besides.
struct Known {
    copies: usize,
    now: jiff::Timestamp,
    /// What the journal knows of it, the oldest first.
    history: Vec<Record>,
}

/// What a look found.
struct Seen {
    looked: Looked,
    now: jiff::Timestamp,
    found: Vec<Shown>,
    history: Vec<Record>,
}

pub(super) async fn run(arguments: &Arguments, loaded: Loaded) -> u8 {
    let Seen { looked, now, mut found, history } = match attempt(arguments, loaded).await {
        Ok(seen) => seen,
        Err(error) => return failed(&error),
    };
    if looked.interrupted {
        return exit::GRACE;
    }
    let Some(first) = found.pop() else {
        complain(&format!("no dead letter among {} has the id {:?}", looked.mark, arguments.id));
        return exit::DATA;
    };
    if let Some(other) = found.iter().find(|other| other.letter.id != first.letter.id) {
        let (one, other) = (first.letter.id, other.letter.id);
        complain(&format!("several ids begin with {:?}, such as {one} and {other}", arguments.id));
        return exit::DATA;
    }
    let known = Known { copies: found.len() + 1, now, history };
    print(&match arguments.output {
        Format::Table => table(&first, &known),
        Format::Json => format!("{:#}\n", object(&first, &known)),
        Format::Ndjson => format!("{}\n", object(&first, &known)),
    });
    exit::OK
}

async fn attempt(arguments: &Arguments, loaded: Loaded) -> Result<Seen, Error> {
    let desk = Desk::open(loaded, "show").await?;
    let selection = Selection { ids: vec![arguments.id.clone()], ..Selection::default() };
    let mut found = Vec::new();
    let queue = desk.queue(arguments.archived);
    let looked = desk
        .look(&queue, &selection, |letter, held| {
            found.push(Shown { letter, position: held.position, body: held.body });
            if found.len() < COPIES_MAX { Next::More } else { Next::Enough }
        })
        .await;
    let history = match found.first() {
        Some(shown) => history(&desk, &shown.letter).await,
        None => Vec::new(),
    };
    let now = desk.now;
    desk.leave().await;
    Ok(Seen { looked: looked?, now, found, history })
}

/// What the journal knows of a letter, and of those that it was before. A letter is shown without it as well.
async fn history(desk: &Desk, letter: &Letter) -> Vec<Record> {
    let reading = journal::read(&desk.connection, &desk.topology, RECORDS_MAX);
    let bodies = match timeout(JOURNAL_MAX, reading).await {
        Ok(Ok(bodies)) => bodies,
        Ok(Err(error)) => {
            complain(&format!("what was done with it is not shown: {error}"));
            return Vec::new();
        }
        Err(_elapsed) => {
            let seconds = JOURNAL_MAX.as_secs();
            complain(&format!(
                "what was done with it is not shown: the journal took more than {seconds} s"
            ));
            return Vec::new();
        }
    };
    let ids: BTreeSet<String> = letter.ids().map(|id| id.to_string()).collect();
    let mut records = understood(&bodies);
    records.retain(|record| record.event.letters().iter().any(|id| ids.contains(*id)));
    records
}

/// The JSON form.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    letter: &'a Letter,
    position: u64,
    copies: usize,
    advice: Cow<'static, str>,
    /// What the journal knows of it.
    history: &'a [Record],
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

fn object(shown: &Shown, known: &Known) -> Value {
    let Shown { letter, position, body } = shown;
    let text = std::str::from_utf8(body).ok();
    let encoded = || base64::engine::general_purpose::STANDARD.encode(body);
    json!(Whole {
        letter,
        position: *position,
        copies: known.copies,
        advice: advice(&letter.reason, letter.is_unseen()),
        history: &known.history,
        body: text,
        body_base64: text.is_none().then(encoded),
    })
}

fn table(shown: &Shown, known: &Known) -> String {
    let (Shown { letter, position, body }, now) = (shown, known.now);
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        if !value.is_empty() {
            let _infallible = writeln!(text, "{name:<14}{}", line(value, 2_000));
        }
    };
    let time = |at: Option<jiff::Timestamp>| at.map(|at| format!("{at:.3}")).unwrap_or_default();
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    row("id", &letter.id.to_string());
    if known.copies > 1 {
        let copies = known.copies;
        row("copies", &format!("{copies} letters with this id: what one is told counts for all"));
    }
    row("order", &optional(&letter.order));
    row("reason", &letter.reason);
    row("status", &letter.status.map(|status| format!("HTTP {status}")).unwrap_or_default());
    row("detail", &letter.detail);
    row("what to do", &advice(&letter.reason, letter.is_unseen()));
    row("fingerprint", &letter.fingerprint);
    let died = letter
        .dead_lettered_at
        .map(|at| format!("{at:.3}, {} ago", age(now.duration_since(at).as_secs())));
    row("died", &died.unwrap_or_default());
    row("first seen", &time(letter.first_seen));
    let from = format!(
        "exchange {:?}, key {:?}, queue {:?}",
        letter.exchange, letter.routing_key, letter.queue
    );
    row("came from", &from);
    row("message id", &optional(&letter.message_id));
    row("user", &optional(&letter.user_id));
    row("trace", &optional(&letter.traceparent));
    let by = [optional(&letter.instance), optional(&letter.version)];
    row("given up by", by.join(" ").trim());
    row("ETag seen", &optional(&letter.etag));
    if letter.base != letter.etag {
        let base = letter.base.as_deref().unwrap_or("no state that it has seen: others are newer");
        row("written over", base);
    }
    row("order then", &letter.seen.as_ref().map(ToString::to_string).unwrap_or_default());
    row("dropped", &optional(&letter.headers_dropped));
    let behind = letter.parked_behind.map(|head| head.to_string());
    row("stands behind", &behind.unwrap_or_default());
    if letter.replays.count > 0 {
        let first = letter.replays.first_dead_letter.map(|it| format!(", first died as {it}"));
        let by = letter.replays.replay_id.map(|it| format!(", last by {it}"));
        let text = format!(
            "{}{}{}",
            letter.replays.count,
            first.unwrap_or_default(),
            by.unwrap_or_default()
        );
        row("replayed", &text);
    }
    if let Some(discarded) = &letter.discarded {
        let at = time(discarded.at);
        row("discarded", &format!("{at} by {}: {}", discarded.by, discarded.because));
    }
    if let Some(edited) = &letter.edited {
        let (count, from, by) = (edited.count, edited.from, &edited.by);
        row(
            "edited",
            &format!("{count}, {} by {by}, from {from}: {}", time(edited.at), edited.diff),
        );
    }
    row("position", &position.to_string());
    for death in &letter.deaths {
        let at = time(death.at);
        row(
            "broker says",
            &format!("{at} {} in {:?}, count {}", death.reason, death.queue, death.count),
        );
    }
    text.push_str(&deaths(letter));
    text.push_str(&done(&known.history));
    text.push_str(&attempts(&letter.attempts));
    text.push_str(&content(body));
    text
}

/// What it died of before. Of many, those in the middle are left out.
fn deaths(letter: &Letter) -> String {
    let mut text = String::new();
    if !letter.earlier.is_empty() {
        text.push_str("\ndied before\n");
    }
    for it in &letter.earlier {
        let at = it.at.map(|at| format!("{at:.3}")).unwrap_or_default();
        let _infallible = writeln!(text, "  {at}  {}  as {}", line(&it.reason, 40), it.id);
    }
    text
}

/// What operators did with it, and what came of it.
fn done(history: &[Record]) -> String {
    let mut text = String::new();
    if !history.is_empty() {
        text.push_str("\ndone with it\n");
    }
    for record in history {
        let _infallible = writeln!(text, "  {}", line(row(record).trim_end(), 400));
    }
    text
}

fn attempts(all: &[Value]) -> String {
    let mut text = String::new();
    if !all.is_empty() {
        text.push_str("\nattempts\n");
    }
    for attempt in all {
        if let Some(left_out) = attempt.get("left_out").and_then(Value::as_u64) {
            let _infallible = writeln!(text, "  … {left_out} left out");
            continue;
        }
        let of = |name: &str| {
            let value = attempt.get(name).filter(|value| !value.is_null());
            let text = value.map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
            text.map_or("-".to_owned(), |text| line(&text, 400))
        };
        let at = of("at");
        let at = at.parse().map_or(at, |at: jiff::Timestamp| format!("{at:.3}"));
        let _infallible = writeln!(
            text,
            "  {:>3}  {}  {} ms  GET {}  PATCH {}  {}\n       ETag seen {}, sent {}\n       request {}, at the service {}",
            of("number"),
            at,
            of("milliseconds"),
            of("get_status"),
            of("patch_status"),
            of("outcome"),
            of("etag_seen"),
            of("etag_sent"),
            of("request_id"),
            of("service_request_id"),
        );
        for name in ["error_code", "message"] {
            if attempt.get(name).is_some_and(Value::is_string) {
                let _infallible = writeln!(text, "       {}", of(name));
            }
        }
    }
    text
}

fn content(body: &[u8]) -> String {
    let bytes = body.len();
    match std::str::from_utf8(body) {
        Ok(text) => format!("\nbody ({bytes} bytes)\n{}\n", plain(text)),
        Err(_not_text) => {
            let text = base64::engine::general_purpose::STANDARD.encode(body);
            format!("\nbody ({bytes} bytes, no UTF-8; in base64)\n{text}\n")
        }
    }
}
