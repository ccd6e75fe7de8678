//! `orderwright dead-letters discard` and `restore`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::{complain, fail, instance};
use super::desk::{Desk, Operator, failed, reason};
use super::filters::Filters;
use super::moving::{Moved, Moving, Relocation, count, relocate, told};
use super::rounds::{self, Wish};
use super::standstill::knowing;
use super::{Format, plain};
use crate::app::exit;
use crate::app::replay::{Allowed, Checker, Place};
use crate::broker::{Error, Outgoing, Parking, Publisher};
use crate::config::Loaded;
use crate::dead_letter::journal::Event;
use crate::dead_letter::{Decision, Letter, Manner, Selection, discarded, restored};

/// After so long without an outcome the service is asked, as a replay does unless told otherwise.
const ASK_AFTER: Duration = Duration::from_secs(30);

/// Orders that are named where there are many.
const SHOWN_MAX: usize = 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq discard --id 0195c2aa --because 'TICKET-7: order was cancelled'
  orderwright dlq discard --fingerprint v1-4f1d --because 'TICKET-7' --yes
  orderwright dlq discard --id 0195c2aa --because 'TICKET-7' --yes --release
  orderwright dlq ls --archived                        what can be restored
  orderwright dlq restore --id 0195c2aa --yes

A discarded letter goes to an archive queue, with who, when and why, and is deleted there after \
dead_letter.archive_retention. Each is confirmed there, and in the journal, before it leaves the queue of \
dead letters: an interrupt, or the end of this program at any point, leaves a copy and never a gap. Letters that come in \
meanwhile are not part of it.

An order that stands still behind a letter that is discarded stays so, and nothing passes: what stands behind \
would be written to the service, and that is said with --release, or later by a replay of the order.

Exit codes: 0 done, or nothing to do, or shown what would be done, 1 letters that --release sent died again, 64 \
nothing says which letters, 69 unreachable, 75 another operator is at work or it was interrupted (start it again), \
78 there is no such queue, or the settings are wrong")]
pub(super) struct Discard {
    #[command(flatten)]
    which: Which,
    /// Why; it stands in the letter from then on.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    because: String,
    #[command(flatten)]
    operator: Operator,
    /// Of an order that stands still behind a letter discarded: send what stands behind it, in order, and let
    /// the order go on.
    #[arg(long, requires = "yes")]
    release: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq restore --id 0195c2aa                what would be done
  orderwright dlq restore --all --yes                  everything in the archive

Exit codes: 0 done, or nothing to do, or shown what would be done, 64 nothing says which letters, 69 \
unreachable, 75 another operator is at work or it was interrupted (start it again), 78 there is no such \
queue, or the settings are wrong")]
pub(super) struct Restore {
    #[command(flatten)]
    which: Which,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    because: Option<String>,
    #[command(flatten)]
    operator: Operator,
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
    if arguments.release {
        // Before anything is discarded: what stands behind is judged by it.
        let settings = &loaded.settings;
        return match Checker::new(settings, &instance(settings)) {
            Ok(checker) => discarding(arguments, &selection, loaded, Some(&checker)).await,
            Err(error) => fail(exit::CONFIG, &error),
        };
    }
    discarding(arguments, &selection, loaded, None).await
}

async fn discarding(
    arguments: &Discard,
    selection: &Selection,
    loaded: Loaded,
    checker: Option<&Checker>,
) -> u8 {
    let done = async {
        let desk = Desk::open(loaded, "discard").await?;
        if !arguments.which.yes {
            let done = count(&desk, &desk.topology.dead_letters(), selection, None).await;
            desk.leave().await;
            return Ok((done?, None));
        }
        let publisher = Arc::new(desk.publisher()?);
        let done = knowing(&desk, &publisher, async |parking| {
            let heads = Mutex::new(BTreeSet::new());
            let done = put_aside(&desk, &publisher, selection, arguments, &|letter| {
                let order = letter.order.as_deref().unwrap_or_default();
                let parked = parking.and_then(|parking| parking.parked(order));
                if matches!(parked.and_then(|it| Place::of(letter, it.head)), Some(Place::Head(_)))
                    && let Ok(mut heads) = heads.lock()
                {
                    heads.insert(order.to_owned());
                }
            })
            .await?;
            let orders = heads.into_inner().unwrap_or_default();
            let sent = match checker {
                Some(checker) if !orders.is_empty() && !done.interrupted => {
                    let with = (checker, &publisher);
                    Some(let_go(&desk, with, parking, arguments, orders).await?)
                }
                // Which of them were discarded before an interrupt is not known.
                Some(_) | None if done.interrupted => None,
                Some(_) | None => {
                    still(&orders);
                    None
                }
            };
            Ok((done, sent))
        })
        .await;
        publisher.close().await;
        desk.leave().await;
        done
    };
    match done.await {
        Ok((moved, sent)) => {
            let code = ended("discarded", Ok(moved), &arguments.which);
            if code == exit::OK { sent.unwrap_or(code) } else { code }
        }
        Err(error) => ended("discarded", Err(error), &arguments.which),
    }
}

async fn put_aside(
    desk: &Desk,
    publisher: &Publisher,
    selection: &Selection,
    arguments: &Discard,
    look: &(dyn Fn(&Letter) + Sync),
) -> Result<Moved, Error> {
    let by = desk.operator(&arguments.operator);
    let decision = Decision { by: &by, because: &arguments.because, at: desk.now };
    let retention = desk.settings.dead_letter.archive_retention;
    // By its name: the archive needs no exchange.
    let archive = desk.topology.archive();
    let how = Relocation {
        from: &desk.topology.dead_letters(),
        selection,
        wear: None,
        by: &by,
        make: &|letter, held| {
            look(letter);
            let message = Outgoing {
                exchange: String::new(),
                routing_key: archive.as_str().into(),
                properties: discarded(
                    &held.properties,
                    held.routing_key.as_str(),
                    decision,
                    retention,
                ),
                body: held.body,
            };
            (message, held.receipt)
        },
        events: &|moved| {
            let event = |it: &Moving| Event::Discarded {
                letter: it.id.to_string(),
                order: it.order.clone(),
                because: arguments.because.clone(),
            };
            moved.iter().map(event).collect()
        },
    };
    relocate(desk, publisher, &how).await
}

/// Sends what stood behind a letter that is discarded, in order.
async fn let_go(
    desk: &Desk,
    tools: (&Checker, &Arc<Publisher>),
    parking: Option<&Parking>,
    arguments: &Discard,
    orders: BTreeSet<String>,
) -> Result<u8, Error> {
    let wish = Wish {
        by: &desk.operator(&arguments.operator),
        words: "what stood behind letters that were discarded",
        because: Some(&arguments.because),
        allowed: Allowed::Seen,
        limit: usize::MAX,
        manner: Manner::steady(),
        ask_after: ASK_AFTER,
        output: arguments.which.output,
    };
    let selection = Selection { orders: orders.into_iter().collect(), ..Selection::default() };
    rounds::perform(desk, tools, parking, &selection, wish).await
}

/// Nothing newer passes what stands behind: so nothing is lost by waiting for a decision.
fn still(orders: &BTreeSet<String>) {
    for order in orders.iter().take(SHOWN_MAX) {
        let order = plain(order);
        complain(&format!(
            "{order} stands still all the same: orderwright dlq replay --order '{order}' --run sends what \
             stands behind, in order, and lets it go on"
        ));
    }
    if orders.len() > SHOWN_MAX {
        complain(&format!("and {} orders more: orderwright dlq parked", orders.len() - SHOWN_MAX));
    }
}

pub(super) async fn restore(arguments: &Restore, loaded: Loaded) -> u8 {
    let Some(selection) = arguments.which.selection() else { return exit::USAGE };
    let done = async {
        let desk = Desk::open(loaded, "restore").await?;
        let (from, to) = (desk.topology.archive(), desk.topology.dead_letters());
        let done = if arguments.which.yes {
            let publisher = desk.publisher()?;
            let how = Relocation {
                from: &from,
                selection: &selection,
                wear: None,
                by: &desk.operator(&arguments.operator),
                make: &|_letter, held| {
                    let (properties, key) =
                        restored(&held.properties, held.routing_key.as_str(), desk.now);
                    let (exchange, routing_key) = (to.clone(), key.as_str().into());
                    (Outgoing { exchange, routing_key, properties, body: held.body }, held.receipt)
                },
                events: &|moved| {
                    let event = |it: &Moving| Event::Restored {
                        letter: it.id.to_string(),
                        order: it.order.clone(),
                        because: arguments.because.clone(),
                    };
                    moved.iter().map(event).collect()
                },
            };
            let moved = relocate(&desk, &publisher, &how).await;
            publisher.close().await;
            moved
        } else {
            count(&desk, &from, &selection, None).await
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
