//! `orderwright dead-letters release`: lets one order go on.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::super::{complain, print};
use super::Format;
use super::desk::{Desk, Operator, reason};
use crate::app::exit;
use crate::app::replay::release::{self, Answer};
use crate::broker::{Error, Parking, Publisher};
use crate::dead_letter::journal::Event;
use crate::parking::{Parked, Release};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq release USMF/SO-2025-0145            what it would do
  orderwright dlq release USMF/SO-2025-0145 --yes --because 'TICKET-7: its letters are done by hand'

The order goes on with its next update; what is in the dead-letter queue stays there and is not \
applied. The release takes its place in the order's queue: what stands before it still goes to the \
dead-letter queue. If that adds a letter, the order stays parked, and the command says so.

Exit codes: 0 released, or not parked at all, or shown what would be done, 69 unreachable, 75 nobody has taken \
the release yet, or the order has got another letter meanwhile (look, and start it again), 78 dead letters do not \
park here (dead_letter.on_dead_letter), or the settings are wrong")]
pub(super) struct Arguments {
    /// The order: the values of its key, joined by `/`, as `dead-letters parked` shows it.
    #[arg(value_name = "ORDER")]
    order: String,
    /// Do it. Without, it is only said what would be done.
    #[arg(long)]
    yes: bool,
    /// How long to wait until the release has had its turn.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    because: Option<String>,
    #[command(flatten)]
    operator: Operator,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    NotParked,
    WouldBeReleased,
    Released,
    StillParked,
    Waiting,
}

impl Outcome {
    const fn code(self) -> &'static str {
        match self {
            Self::NotParked => "not_parked",
            Self::WouldBeReleased => "would_be_released",
            Self::Released => "released",
            Self::StillParked => "still_parked",
            Self::Waiting => "waiting",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::NotParked => "does not stand still",
            Self::WouldBeReleased => "would go on with its next update: say --yes",
            Self::Released => "goes on with its next update",
            Self::StillParked => "stands still: it has got another letter meanwhile",
            Self::Waiting => {
                "stands still: no pod has taken the release yet; it stays in the queue"
            }
        }
    }

    const fn exit(self) -> u8 {
        match self {
            Self::NotParked | Self::WouldBeReleased | Self::Released => exit::OK,
            Self::StillParked | Self::Waiting => exit::GRACE,
        }
    }
}

pub(super) async fn run(
    arguments: &Arguments,
    desk: &Desk,
    publisher: &Publisher,
    parking: &Parking,
) -> Result<u8, Error> {
    let order = arguments.order.as_str();
    let before = parking.parked(order);
    let outcome = match &before {
        None => Outcome::NotParked,
        Some(_) if !arguments.yes => Outcome::WouldBeReleased,
        Some(parked) => {
            let release = Release::of(order, parked);
            release::ask(publisher, &desk.topology, &release).await?;
            let event = Event::Released {
                order: order.to_owned(),
                head: parked.head.to_string(),
                letters: parked.letters,
                replay: None,
                because: arguments.because.clone(),
            };
            desk.note(publisher, &desk.operator(&arguments.operator), event).await?;
            let answer = release::answered(parking, &release);
            tokio::select! { biased;
                answer = timeout(arguments.timeout, answer) => match answer {
                    Ok(Answer::Released) => Outcome::Released,
                    Ok(Answer::StillParked) => Outcome::StillParked,
                    Err(_elapsed) => Outcome::Waiting,
                },
                () = desk.interrupt.cancelled() => Outcome::Waiting,
            }
        }
    };
    tell(order, before.as_ref(), outcome, arguments.output);
    Ok(outcome.exit())
}

fn tell(order: &str, before: Option<&Parked>, outcome: Outcome, output: Format) {
    match output {
        Format::Json | Format::Ndjson => {
            let line = json!({"order": order, "outcome": outcome.code(), "parked": before});
            let _printed = print(&format!("{line}\n"));
        }
        Format::Table if outcome.exit() == exit::OK => {
            let letters = before.map_or(0, |parked| parked.letters);
            let left = if letters == 0 {
                String::new()
            } else {
                format!(" ({letters} letter(s) stay in the dead-letter queue)")
            };
            let _printed = print(&format!("{order} {}{left}\n", outcome.text()));
        }
        Format::Table => complain(&format!("{order} {}", outcome.text())),
    }
}
