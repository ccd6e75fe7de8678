//! An operator's place at the queue of dead letters: one at a time, and everything goes back.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use lapin::Connection;
use tokio::time::timeout;

use super::super::{complain, fail, instance};
use crate::app::exit;
use crate::broker::{self, Ahead, Browser, Error, Held, Link, Topology};
use crate::config::{Loaded, Settings};
use crate::dead_letter::{Found, Letter, Selection};

/// A desk.
pub(in crate::cli) struct Desk {
    pub(in crate::cli) settings: Settings,
    pub(in crate::cli) topology: Topology,
    pub(in crate::cli) now: Timestamp,
    pub(in crate::cli) connection: Connection,
    answer_max: Duration,
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
        let settings = loaded.settings;
        let name = format!("orderwright dead-letters {what} {}", instance(&settings));
        let link = Link::new(&settings.broker, &name)?;
        let topology = Topology::new(&settings.topology);
        let (answer_max, now) = (settings.broker.start_timeout, Timestamp::now());
        let connection = broker::connect(&link).await?;
        Ok(Self { settings, topology, now, connection, answer_max })
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
        let opening = Browser::open(&self.connection, &self.topology, queue, Ahead::default());
        let browser = self.within(opening).await?;
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
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        let mut looked = Looked { mark, seen: 0, interrupted: false };
        while looked.seen < mark {
            let next = tokio::select! { biased;
                _interrupted = &mut interrupt => {
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
        self.within(browser.close()).await
    }

    /// Says goodbye.
    pub(in crate::cli) async fn leave(self) {
        broker::close(&self.connection, self.settings.broker.connect_timeout).await;
    }

    /// An answer that the loss of the connection overtook would be waited for without end.
    async fn within<T>(&self, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let seconds = self.answer_max.as_secs();
        let silent = |_elapsed| Error::Unconfirmed { seconds };
        timeout(self.answer_max, asked).await.map_err(silent)?
    }
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
    let template = format!("{{spinner}} {{pos}} of {{len}} {doing}, {{eta}} left");
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
