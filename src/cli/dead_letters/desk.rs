//! An operator's place at the queue of dead letters: one at a time, and everything goes back.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use lapin::Connection;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::{complain, fail, instance};
use super::interrupt::{self, Interrupt};
use crate::app::exit;
use crate::broker::{
    self, Ahead, Browser, Bulk, Error, Held, Link, Publisher, Topology, Wear, journal,
};
use crate::config::{Loaded, Settings};
use crate::dead_letter::journal::{Event, Record};
use crate::dead_letter::{Found, Letter, Selection};

/// Letters that are published before the first of them is confirmed.
const UNCONFIRMED_MAX: usize = 32;

/// Characters of an operator's name that are kept.
const OPERATOR_CHARACTERS_MAX: usize = 128;

/// A desk.
pub(in crate::cli) struct Desk {
    pub(in crate::cli) settings: Box<Settings>,
    pub(in crate::cli) topology: Topology,
    pub(in crate::cli) now: Timestamp,
    pub(in crate::cli) connection: Connection,
    /// Cancelled by an interrupt: it is to end in good order.
    pub(super) interrupt: CancellationToken,
    /// Who hears it.
    pub(super) signals: Interrupt,
    _listener: JoinSet<()>,
}

/// Who is at work.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Operator {
    /// Who does it, for the journal; otherwise the user and the machine.
    #[arg(long, visible_alias = "as", value_name = "NAME", env = "ORDERWRIGHT_OPERATOR")]
    operator: Option<String>,
}

/// A reason that says something.
pub(super) fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() { Err("say why".to_owned()) } else { Ok(text.to_owned()) }
}

/// What a visitor wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Next {
    /// The next letter.
    More,
    /// No more letters.
    Enough,
}

/// How a look ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Looked {
    /// Letters that were there at the beginning.
    pub(in crate::cli) mark: u64,
    /// Letters judged, those skipped included.
    pub(in crate::cli) seen: u64,
    /// An interrupt ended it.
    pub(in crate::cli) interrupted: bool,
}

impl Desk {
    pub(in crate::cli) async fn open(loaded: Loaded, what: &str) -> Result<Self, Error> {
        let settings = Box::new(loaded.settings);
        let name = format!("orderwright dead-letters {what} {}", instance(&settings));
        let link = Link::new(&settings.broker, &name)?;
        let topology = Topology::new(&settings.topology);
        let now = Timestamp::now();
        let connection = broker::connect(&link).await?;
        // Before that, nothing is held, and an interrupt may end the program as it does any.
        let (signals, listener) = interrupt::listen();
        let interrupt = signals.token().clone();
        Ok(Self { settings, topology, now, connection, interrupt, signals, _listener: listener })
    }

    /// The queue of dead letters, or of those that were discarded.
    pub(in crate::cli) fn queue(&self, archived: bool) -> String {
        if archived { self.topology.archive() } else { self.topology.dead_letters() }
    }

    /// Goes over a queue and leaves everything in its place.
    pub(in crate::cli) async fn look(
        &self,
        queue: &str,
        selection: &Selection,
        visit: impl FnMut(Letter, Held) -> Next,
    ) -> Result<Looked, Error> {
        let mut browser = self.browse(queue).await?;
        let looked = self.go_over(&mut browser, 0..u64::MAX, selection, visit).await;
        // Also after an error: what is given back in good order keeps its order.
        let closed = self.close(browser).await;
        let looked = looked?;
        closed.map(|()| looked)
    }

    pub(in crate::cli) async fn browse(&self, queue: &str) -> Result<Browser, Error> {
        self.browse_sparing(queue, None).await
    }

    /// The same for a queue that gives up what is returned too often.
    pub(super) async fn browse_sparing(
        &self,
        queue: &str,
        wear: Option<Wear>,
    ) -> Result<Browser, Error> {
        // Whether it may be looked at shows at the first one.
        let first = if wear.is_some() { 1 } else { Ahead::default().first };
        let ahead = Ahead { first, ..Ahead::default() };
        let mut browser = Browser::open(&self.connection, &self.topology, queue, ahead).await?;
        browser.spare(wear);
        if browser.others() > 0 {
            complain(&format!(
                "{} other consumer(s) on {queue}: what they hold is not shown",
                browser.others()
            ));
        }
        Ok(browser)
    }

    /// Judges letter by letter, those behind the first position and up to the last one or the mark; an
    /// interrupt ends it, or a visitor that has enough.
    pub(in crate::cli) async fn go_over(
        &self,
        browser: &mut Browser,
        positions: std::ops::Range<u64>,
        selection: &Selection,
        mut visit: impl FnMut(Letter, Held) -> Next,
    ) -> Result<Looked, Error> {
        let mark = positions.end.min(browser.mark());
        let bar = progress("looked at", mark);
        let mut looked = Looked { mark, seen: 0, interrupted: false };
        while looked.seen < mark {
            let next = tokio::select! { biased;
                () = self.interrupt.cancelled() => {
                    looked.interrupted = true;
                    break;
                }
                next = browser.next() => next?,
            };
            let Some(held) = next else { break };
            looked.seen += 1;
            bar.set_position(looked.seen);
            if held.position <= positions.start {
                continue;
            }
            let letter = read(&held);
            let headers = held.properties.headers().as_ref();
            if selection.matches(&letter, headers, &held.body, self.now)
                && visit(letter, held) == Next::Enough
            {
                break;
            }
        }
        bar.finish_and_clear();
        Ok(looked)
    }

    pub(in crate::cli) async fn close(&self, browser: Browser) -> Result<(), Error> {
        browser.close().await
    }

    /// Publishes over a connection of its own.
    pub(super) fn publisher(&self) -> Result<Publisher, Error> {
        let name = format!("orderwright dead-letters {}", instance(&self.settings));
        let link = Link::new(&self.settings.broker, &name)?;
        Ok(Publisher::new(link, self.settings.broker.publish_timeout))
    }

    /// The same for letters, which keep their order.
    pub(super) async fn bulk(&self) -> Result<Bulk, Error> {
        let name = format!("orderwright dead-letters {}", instance(&self.settings));
        let link = Link::new(&self.settings.broker, &name)?;
        Bulk::open(&link, self.settings.broker.publish_timeout, UNCONFIRMED_MAX).await
    }

    /// Writes to the journal, and waits until the broker has it.
    pub(super) async fn note(
        &self,
        publisher: &Publisher,
        by: &str,
        event: Event,
    ) -> Result<(), Error> {
        let record = Record { at: Timestamp::now(), by: by.to_owned(), event };
        let body = serde_json::to_vec(&record).unwrap_or_default();
        journal::append(publisher, &self.topology, body).await
    }

    /// Who is at work: as told, or the user and the machine.
    pub(super) fn operator(&self, told: &Operator) -> String {
        let told = told.operator.as_deref().map(str::trim).filter(|told| !told.is_empty());
        let name = told.map_or_else(|| system_user(&self.settings), str::to_owned);
        name.chars().take(OPERATOR_CHARACTERS_MAX).collect()
    }

    /// Says goodbye.
    pub(in crate::cli) async fn leave(self) {
        broker::close(&self.connection, self.settings.broker.connect_timeout).await;
    }
}

fn system_user(settings: &Settings) -> String {
    let user = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let user = user.filter(|user| !user.is_empty()).unwrap_or_else(|| "unknown".to_owned());
    format!("{user}@{}", instance(settings))
}

/// What a held message says.
pub(in crate::cli) fn read(held: &Held) -> Letter {
    Letter::read(Found {
        properties: &held.properties,
        exchange: held.exchange.as_str(),
        routing_key: held.routing_key.as_str(),
        body: &held.body,
    })
}

/// On a terminal only.
pub(in crate::cli) fn progress(doing: &str, all: u64) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(all), target);
    let template = format!("{{spinner}} {{pos}} of {{len}} {doing}, {{eta}} left{{msg}}");
    let style = ProgressStyle::with_template(&template);
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

/// Tells why nothing came of it.
pub(in crate::cli) fn failed(error: &Error) -> u8 {
    if matches!(error, Error::OperatorAtWork) {
        return fail(exit::GRACE, error);
    }
    fail(if error.may_heal() { exit::UNAVAILABLE } else { exit::CONFIG }, error)
}
