//! `orderwright dead-letters edit`.

use std::path::PathBuf;

use lapin::BasicProperties;
use lapin::types::ShortString;
use serde_json::json;
use uuid::Uuid;

use super::super::{complain, fail, print};
use super::desk::{Desk, Next, Operator, failed, reason};
use super::moving::publish;
use super::{Format, editor, plain};
use crate::app::replay::edit as lock;
use crate::app::replay::former::former;
use crate::app::{exit, intake_contract};
use crate::broker::{Error, Outgoing, Ticket};
use crate::config::Loaded;
use crate::dead_letter::journal::Event;
use crate::dead_letter::{
    Body, BodyChange, BodyError, Edition, Letter, Selection, edited, letter_id,
};
use crate::decode::Envelope;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq edit 0195c2aa                                   in $VISUAL or $EDITOR
  orderwright dlq edit 0195c2aa --set /changes/SalesStatus=Delivered --dry-run
  orderwright dlq edit 0195c2aa --remove /changes/Colour --set /changes/Amount=12.50
  orderwright dlq edit 0195c2aa --with mended.json --because 'TICKET-7: wrong unit'

The body is looked at as a publisher's message is. Its key and its sequence are locked, and so is all around \
it: message id, routing key, headers. The edited letter takes the place of the old one under an id of its \
own, and says what it replaces, who changed it, when, and what. It is not sent: orderwright dlq replay does that, \
and judges it as it would have judged the old one.

The new letter is confirmed, and in the journal, before the old one leaves the queue. If this program ends in \
between, both are there; a replay leaves the old one where it is, and the same edit once more finishes the work.

Exit codes: 0 done, or nothing to change, or shown what would be changed, 64 neither an editor nor a change, 65 no \
such letter, several ids begin so, or the body is refused, 69 unreachable, 75 another operator is at work or it was \
interrupted, 78 there is no such queue, or the settings are wrong")]
pub(super) struct Arguments {
    /// Id of the letter, or its beginning.
    id: String,
    /// The whole body, from a file.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["set", "remove"])]
    with: Option<PathBuf>,
    /// Put a value (JSON, else a text) at a JSON pointer.
    #[arg(long, value_name = "/PATH=VALUE", value_parser = set)]
    set: Vec<(String, String)>,
    /// Take away what is at a JSON pointer. Done before any --set.
    #[arg(long, value_name = "/PATH")]
    remove: Vec<String>,
    /// Show what would be changed.
    #[arg(long)]
    dry_run: bool,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    because: Option<String>,
    #[command(flatten)]
    operator: Operator,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

impl Arguments {
    const fn is_by_hand(&self) -> bool {
        self.with.is_none() && self.set.is_empty() && self.remove.is_empty()
    }
}

fn set(text: &str) -> Result<(String, String), String> {
    let (path, value) = text.split_once('=').ok_or("write /PATH=VALUE")?;
    if !path.starts_with('/') {
        return Err(format!("{path:?} is no JSON pointer: it begins with a slash"));
    }
    Ok((path.to_owned(), value.to_owned()))
}

/// Why nothing was changed.
enum Stop {
    Broker(Error),
    /// It is told already.
    Told(u8),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Broker(error)
    }
}

/// The letter as it is.
struct Original {
    letter: Letter,
    properties: BasicProperties,
    routing_key: ShortString,
    body: Vec<u8>,
}

/// The body as it is to be.
struct Edit {
    body: Vec<u8>,
    diff: Vec<String>,
}

pub(super) async fn run(arguments: &Arguments, loaded: Loaded) -> u8 {
    let done = async {
        let desk = Desk::open(loaded, "edit").await?;
        let done = attempt(&desk, arguments).await;
        desk.leave().await;
        done
    };
    match Box::pin(done).await {
        Ok(code) | Err(Stop::Told(code)) => code,
        Err(Stop::Broker(error)) => failed(&error),
    }
}

async fn attempt(desk: &Desk, arguments: &Arguments) -> Result<u8, Stop> {
    let original = find(desk, &arguments.id).await?;
    let body = wanted(desk, arguments, &original).await?;
    let edit = judged(desk, &original, body, arguments.is_by_hand())?;
    let mut new = None;
    if !arguments.dry_run && !edit.diff.is_empty() {
        let publisher = desk.publisher()?;
        let by = desk.operator(&arguments.operator);
        let who = (&*by, arguments.because.as_deref());
        let replaced = replace(desk, &publisher, who, (&original, &edit)).await;
        publisher.close().await;
        new = Some(replaced?);
    }
    told(&original.letter, &edit, new, arguments);
    Ok(exit::OK)
}

async fn find(desk: &Desk, id: &str) -> Result<Original, Stop> {
    let selection = Selection { ids: vec![id.to_owned()], ..Selection::default() };
    let mut found: Option<Original> = None;
    let mut other = None;
    let looked = desk
        .look(&desk.queue(false), &selection, |letter, held| {
            match &found {
                Some(first) if first.letter.id != letter.id => other = Some(letter.id),
                // A copy of it: it goes as well.
                Some(_) => {}
                None => {
                    let (properties, routing_key) = (held.properties, held.routing_key);
                    found = Some(Original { letter, properties, routing_key, body: held.body });
                }
            }
            Next::More
        })
        .await?;
    if looked.interrupted {
        return Err(Stop::Told(exit::GRACE));
    }
    match (found, other) {
        (Some(found), None) => Ok(found),
        (Some(found), Some(other)) => {
            let one = found.letter.id;
            complain(&format!("several ids begin with {id:?}, such as {one} and {other}"));
            Err(Stop::Told(exit::DATA))
        }
        (None, _) => {
            complain(&format!("no dead letter among {} has the id {id:?}", looked.mark));
            Err(Stop::Told(exit::DATA))
        }
    }
}

/// What the operator makes of it.
async fn wanted(desk: &Desk, arguments: &Arguments, original: &Original) -> Result<Vec<u8>, Stop> {
    let refused = |error: &dyn std::error::Error| Stop::Told(fail(exit::DATA, error));
    if let Some(path) = &arguments.with {
        let most = desk.settings.order.body_bytes_max;
        return editor::read(path, most).await.map_err(|error| refused(&error));
    }
    if arguments.is_by_hand() {
        let is_over = || desk.interrupt.is_cancelled();
        let _ctrl_c_is_the_editors = desk.signals.elsewhere();
        let edited = editor::edit(&original.body, desk.settings.order.body_bytes_max).await;
        // While Ctrl-C is the editor's still.
        desk.signals.caught_up().await;
        return match edited {
            _ if is_over() => Err(Stop::Told(exit::GRACE)),
            Ok(body) => Ok(body),
            Err(error) => Err(Stop::Told(fail(error.exit(), &error))),
        };
    }
    let changed = || {
        let mut body = Body::read(&original.body)?;
        for path in &arguments.remove {
            body.change(path, &BodyChange::Remove)?;
        }
        for (path, value) in &arguments.set {
            body.change(path, &BodyChange::Set(value.clone()))?;
        }
        Ok::<_, BodyError>(body.text(false).into_bytes())
    };
    changed().map_err(|error| refused(&error))
}

fn judged(desk: &Desk, original: &Original, body: Vec<u8>, by_hand: bool) -> Result<Edit, Stop> {
    let properties = &original.properties;
    let envelope = |body| Envelope {
        content_type: properties.content_type().as_ref().map(ShortString::as_str),
        content_encoding: properties.content_encoding().as_ref().map(ShortString::as_str),
        body,
    };
    let contract = intake_contract(&desk.settings);
    let letter = &original.letter;
    let order = letter.order.as_deref().unwrap_or(&letter.routing_key);
    let diff = match Body::read(&body) {
        Ok(after) => Body::difference(Body::read(&original.body).ok().as_ref(), &after),
        // Refused below, with a better word for it.
        Err(_no_json) => Vec::new(),
    };
    if let Err(error) = lock::check(&contract, envelope(&original.body), envelope(&body), order) {
        let code = fail(exit::DATA, &error);
        if by_hand && let Some(path) = editor::keep(&body) {
            complain(&format!("what you wrote is kept: mend it, and give it by --with {path}"));
        }
        return Err(Stop::Told(code));
    }
    Ok(Edit { body, diff })
}

/// Puts the edited letter in the place of the old one.
async fn replace(
    desk: &Desk,
    publisher: &crate::broker::Publisher,
    (by, because): (&str, Option<&str>),
    (original, edit): (&Original, &Edit),
) -> Result<Uuid, Stop> {
    let queue = desk.queue(false);
    let mut browser = desk.browse(&queue).await?;
    let replaced = async {
        let mut old: Vec<Ticket> = Vec::new();
        let mut before: Vec<(Uuid, Vec<u8>, Ticket)> = Vec::new();
        let visit = |letter: Letter, held: crate::broker::Held| {
            if letter.id == original.letter.id && held.body == original.body {
                old.push(held.receipt);
            } else if letter.edited.is_some_and(|it| it.from == original.letter.id) {
                before.push((letter.id, held.body, held.receipt));
            }
            Next::More
        };
        let all = Selection::default();
        let looked = desk.go_over(&mut browser, 0..u64::MAX, &all, visit).await?;
        if looked.interrupted {
            return Err(Stop::Told(exit::GRACE));
        }
        if old.is_empty() {
            complain("the letter is not in the queue any more: somebody was faster");
            return Err(Stop::Told(exit::DATA));
        }
        // An edit that was cut short: the same once more finishes it, another one takes its place.
        let same = before.iter().position(|(_, body, _)| *body == edit.body);
        let id = match same.map(|at| before.swap_remove(at)) {
            Some((id, _, _)) => id,
            None => sent(desk, publisher, by, (original, edit)).await?,
        };
        let event = Event::Edited {
            letter: original.letter.id.to_string(),
            new_letter: id.to_string(),
            order: original.letter.order.clone(),
            diff: edit.diff.join("\n"),
            because: because.map(str::to_owned),
        };
        desk.note(publisher, by, event).await?;
        for ticket in old.into_iter().chain(before.into_iter().map(|(_, _, ticket)| ticket)) {
            browser.ack(ticket).await?;
        }
        Ok(id)
    };
    let replaced = replaced.await;
    // Also after an error: what is given back in good order keeps its order.
    let closed = desk.close(browser).await;
    let id = replaced?;
    closed?;
    Ok(id)
}

/// Publishes the edited letter, and waits until the broker has it.
async fn sent(
    desk: &Desk,
    publisher: &crate::broker::Publisher,
    by: &str,
    (original, edit): (&Original, &Edit),
) -> Result<Uuid, Error> {
    let now = jiff::Timestamp::now();
    let id = letter_id(now, fastrand::u128(..));
    let former = former(&original.letter, &original.body, &edit.body);
    let (diff, former) = (edit.diff.join("\n"), former.as_deref());
    let edition = Edition { id, by, at: now, diff: &diff, former };
    let queue = desk.queue(false);
    let message = Outgoing {
        exchange: desk.topology.dead_letters(),
        routing_key: original.routing_key.clone(),
        properties: edited(&original.properties, &original.letter, &queue, edition),
        body: edit.body.clone(),
    };
    publish(publisher, &message).await?;
    Ok(id)
}

fn told(letter: &Letter, edit: &Edit, new: Option<Uuid>, arguments: &Arguments) {
    let text = match arguments.output {
        Format::Json | Format::Ndjson => {
            let line = json!({
                "letter": letter.id, "new_letter": new, "diff": edit.diff,
                "dry_run": arguments.dry_run,
            });
            format!("{line}\n")
        }
        Format::Table => {
            let diff: String = edit.diff.iter().map(|line| plain(line) + "\n").collect();
            let end = match (new, edit.diff.is_empty()) {
                (_, true) => "nothing is changed".to_owned(),
                (None, false) => "without --dry-run, the letter is changed so".to_owned(),
                (Some(new), false) => {
                    let flags =
                        if letter.is_unseen() { " --never-seen --because '…'" } else { "" };
                    format!("{} is {new} now\norderwright dlq replay --id {new}{flags}", letter.id)
                }
            };
            format!("{diff}{end}\n")
        }
    };
    print(&text);
}
