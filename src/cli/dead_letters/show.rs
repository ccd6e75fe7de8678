//! `orderwright dead-letters show`.

use std::fmt::Write as _;

use base64::Engine as _;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::{complain, print};
use super::desk::{Desk, Looked, Next, failed};
use super::{Format, age, line, plain};
use crate::app::exit;
use crate::broker::Error;
use crate::config::Loaded;
use crate::dead_letter::{Letter, Selection, advice};

/// Copies of one letter that are shown.
const COPIES_MAX: usize = 16;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq show 0195c2aa-7d1e-7c3a-9e0b-3a0f6b1d2c44
  orderwright dlq show 0195c2aa                        the beginning will do, if no other id has it
  orderwright dlq show 0195c2aa --output json | jq -r .body

Exit codes: 0 done, 65 there is no such letter, or several ids begin so, 69 unreachable, 75 another
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

pub(super) async fn run(arguments: &Arguments, loaded: Loaded) -> u8 {
    let (looked, now, mut found) = match attempt(arguments, loaded).await {
        Ok(all) => all,
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
    print(&match arguments.output {
        Format::Table => table(&first, found.len(), now),
        Format::Json => format!("{:#}\n", object(&first, found.len())),
        Format::Ndjson => format!("{}\n", object(&first, found.len())),
    });
    exit::OK
}

async fn attempt(
    arguments: &Arguments,
    loaded: Loaded,
) -> Result<(Looked, jiff::Timestamp, Vec<Shown>), Error> {
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
    let now = desk.now;
    desk.leave().await;
    Ok((looked?, now, found))
}

/// The JSON form.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    letter: &'a Letter,
    position: u64,
    copies: usize,
    advice: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

fn object(shown: &Shown, copies: usize) -> Value {
    let Shown { letter, position, body } = shown;
    let text = std::str::from_utf8(body).ok();
    let encoded = || base64::engine::general_purpose::STANDARD.encode(body);
    json!(Whole {
        letter,
        position: *position,
        copies: copies + 1,
        advice: advice(&letter.reason),
        body: text,
        body_base64: text.is_none().then(encoded),
    })
}

fn table(shown: &Shown, copies: usize, now: jiff::Timestamp) -> String {
    let Shown { letter, position, body } = shown;
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        if !value.is_empty() {
            let _infallible = writeln!(text, "{name:<14}{}", line(value, 2_000));
        }
    };
    let time = |at: Option<jiff::Timestamp>| at.map(|at| format!("{at:.3}")).unwrap_or_default();
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    row("id", &letter.id.to_string());
    if copies > 0 {
        row(
            "copies",
            &format!("{} letters with this id: what one is told counts for all", copies + 1),
        );
    }
    row("order", &optional(&letter.order));
    row("reason", &letter.reason);
    row("status", &letter.status.map(|status| format!("HTTP {status}")).unwrap_or_default());
    row("detail", &letter.detail);
    row("what to do", advice(&letter.reason));
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
    text.push_str(&attempts(&letter.attempts));
    text.push_str(&content(body));
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
