//! `orderwright dead-letters discard` and `restore`.

use super::super::complain;
use super::Format;
use super::desk::{Desk, failed};
use super::filters::Filters;
use super::moving::{Moved, count, operator, relocate, told};
use crate::app::exit;
use crate::broker::{Error, Outgoing};
use crate::config::Loaded;
use crate::dead_letter::{Decision, Selection, discarded, restored};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq discard --id 0195c2aa --because 'TICKET-7: order was cancelled'
  orderwright dlq discard --fingerprint v1-4f1d --because 'TICKET-7' --yes
  orderwright dlq ls --archived                        what can be restored
  orderwright dlq restore --id 0195c2aa --yes

A discarded letter goes to an archive queue, with who, when and why, and is deleted there after
dead_letter.archive_retention. Each is confirmed there before it leaves the queue of dead letters: an
interrupt, or the end of this program at any point, leaves a copy and never a gap. Letters that come in
meanwhile are not part of it.

Exit codes: 0 done, or nothing to do, or shown what would be done, 64 nothing says which letters, 69
unreachable, 75 another operator is at work or it was interrupted (start it again), 78 there is no such
queue, or the settings are wrong")]
pub(super) struct Discard {
    #[command(flatten)]
    which: Which,
    /// Why; it stands in the letter from then on.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    because: String,
    /// Who discards them; otherwise the user and the machine.
    #[arg(long, value_name = "NAME", env = "ORDERWRIGHT_OPERATOR")]
    operator: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq restore --id 0195c2aa                what would be done
  orderwright dlq restore --all --yes                  everything in the archive

Exit codes: 0 done, or nothing to do, or shown what would be done, 64 nothing says which letters, 69
unreachable, 75 another operator is at work or it was interrupted (start it again), 78 there is no such
queue, or the settings are wrong")]
pub(super) struct Restore {
    #[command(flatten)]
    which: Which,
}

/// Which letters, and whether it is meant.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    #[command(flatten)]
    pub(super) filters: Filters,
    /// Every letter that is there.
    #[arg(long)]
    pub(super) all: bool,
    /// Do it. Otherwise it is only said how many it would be.
    #[arg(long)]
    pub(super) yes: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Format,
}

impl Which {
    /// Nothing for everything by mistake.
    pub(super) fn selection(&self) -> Option<Selection> {
        let selection = self.filters.selection();
        if self.all || !selection.is_all() {
            return Some(selection);
        }
        complain("say which letters: by filters, or --all");
        None
    }
}

pub(super) async fn discard(arguments: &Discard, loaded: Loaded) -> u8 {
    let Some(selection) = arguments.which.selection() else { return exit::USAGE };
    let done = async {
        let desk = Desk::open(loaded, "discard").await?;
        let from = desk.topology.dead_letters();
        let done = if arguments.which.yes {
            let by = operator(arguments.operator.as_deref(), &desk);
            let decision = Decision { by: &by, because: &arguments.because, at: desk.now };
            let retention = desk.settings.dead_letter.archive_retention;
            // By its name: the archive needs no exchange.
            let archive = desk.topology.archive();
            relocate(&desk, &from, &selection, &|_letter, held| {
                let key = held.routing_key.as_str();
                let message = Outgoing {
                    exchange: String::new(),
                    routing_key: archive.as_str().into(),
                    properties: discarded(&held.properties, key, decision, retention),
                    body: held.body,
                };
                (message, held.receipt)
            })
            .await
        } else {
            count(&desk, &from, &selection).await
        };
        desk.leave().await;
        done
    };
    ended("discarded", done.await, &arguments.which)
}

pub(super) async fn restore(arguments: &Restore, loaded: Loaded) -> u8 {
    let Some(selection) = arguments.which.selection() else { return exit::USAGE };
    let done = async {
        let desk = Desk::open(loaded, "restore").await?;
        let (from, to) = (desk.topology.archive(), desk.topology.dead_letters());
        let done = if arguments.which.yes {
            relocate(&desk, &from, &selection, &|_letter, held| {
                let (properties, key) = restored(&held.properties, held.routing_key.as_str());
                let (exchange, routing_key) = (to.clone(), key.as_str().into());
                (Outgoing { exchange, routing_key, properties, body: held.body }, held.receipt)
            })
            .await
        } else {
            count(&desk, &from, &selection).await
        };
        desk.leave().await;
        done
    };
    ended("restored", done.await, &arguments.which)
}

pub(super) fn ended(done: &str, result: Result<Moved, Error>, which: &Which) -> u8 {
    match result {
        Ok(moved) => told(done, moved, !which.yes, which.output),
        Err(error) => failed(&error),
    }
}
