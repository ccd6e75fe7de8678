//! Takes letters from one queue to another: published, confirmed, and only then taken out. Whoever is
//! killed in between leaves a copy, never a gap.

use std::future::pending;

use futures_util::StreamExt;
use serde_json::json;

use super::super::{instance, print};
use super::desk::{Desk, Next, progress};
use super::{Format, counted};
use crate::app::exit;
use crate::broker::{Error, Held, Link, Outgoing, Publisher, Ticket};
use crate::dead_letter::{Letter, Selection};

/// Bytes of letters that are held in memory at once; more are moved in several rounds.
const ROUND_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a letter takes besides its body: at most, headers fill a frame; mostly far less.
const HEADERS_BYTES: usize = 4 * 1024;

/// Letters that are published at once. They keep their order. Fewer than the publisher has lanes: while one
/// of them is settled nobody polls the others, and what is published then needs a lane as well.
pub(super) const AT_ONCE: usize = 16;

/// What came of it.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Moved {
    /// Letters that were meant.
    pub(super) matched: u64,
    /// Letters that are where they should be, and no more where they were.
    pub(super) done: u64,
    /// An interrupt ended it.
    pub(super) interrupted: bool,
}

/// Publishes over a connection of its own.
pub(super) fn publisher(desk: &Desk) -> Result<Publisher, Error> {
    let name = format!("orderwright dead-letters {}", instance(&desk.settings));
    let link = Link::new(&desk.settings.broker, &name)?;
    Ok(Publisher::new(link, desk.settings.broker.publish_timeout))
}

/// Publishes and waits for the confirm.
pub(super) async fn publish(publisher: &Publisher, message: &Outgoing) -> Result<(), Error> {
    let Some(lane) = publisher.lane().await else { return Err(Error::Withdrawn) };
    publisher.publish(lane, message, || true, pending()).await
}

/// How many letters are meant.
pub(super) async fn count(desk: &Desk, from: &str, selection: &Selection) -> Result<Moved, Error> {
    let mut moved = Moved::default();
    let looked = desk.look(from, selection, |_letter, _held| {
        moved.matched += 1;
        Next::More
    });
    moved.interrupted = looked.await?.interrupted;
    Ok(moved)
}

/// Moves all that are meant and were there at the beginning.
pub(super) async fn relocate(
    desk: &Desk,
    from: &str,
    selection: &Selection,
    make: &(dyn Fn(&Letter, Held) -> (Outgoing, Ticket) + Sync),
) -> Result<Moved, Error> {
    let publisher = publisher(desk)?;
    let mut all = Moved::default();
    let (mut judged, mut last) = (0, u64::MAX);
    loop {
        let mut browser = desk.browse(from).await?;
        last = last.min(browser.mark());
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let visit = |letter: Letter, held: Held| {
            bytes += held.body.len() + HEADERS_BYTES;
            batch.push(make(&letter, held));
            if bytes < ROUND_BYTES_MAX { Next::More } else { Next::Enough }
        };
        let looked = desk.go_over(&mut browser, judged..last, selection, visit).await;
        let mut round = Ok(0);
        if let Ok(looked) = looked
            && !looked.interrupted
        {
            all.matched += u64::try_from(batch.len()).unwrap_or(u64::MAX);
            round = settle(&publisher, &mut browser, batch).await;
        }
        // Also after an error: what was acked is only done for sure after a close in good order.
        let closed = desk.close(browser).await;
        let (looked, moved) = (looked?, round?);
        closed?;
        all.done += moved;
        all.interrupted = looked.interrupted;
        if looked.interrupted || looked.seen >= looked.mark || bytes < ROUND_BYTES_MAX {
            publisher.close().await;
            return Ok(all);
        }
        // Those that are left stand at the head again.
        (judged, last) = (looked.seen - moved, last - moved);
    }
}

/// Publishes a batch in order, and takes out each letter that is confirmed.
async fn settle(
    publisher: &Publisher,
    browser: &mut crate::broker::Browser,
    batch: Vec<(Outgoing, Ticket)>,
) -> Result<u64, Error> {
    let bar = progress("moved", u64::try_from(batch.len()).unwrap_or(u64::MAX));
    let sending = futures_util::stream::iter(batch)
        .map(async |(message, ticket)| publish(publisher, &message).await.map(|()| ticket));
    let mut sending = std::pin::pin!(sending.buffered(AT_ONCE));
    let mut moved = 0;
    while let Some(confirmed) = sending.next().await {
        browser.ack(confirmed?).await?;
        moved += 1;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(moved)
}

/// Prints what came of it, or what would, and says what to exit with.
pub(super) fn told(what: &str, moved: Moved, is_dry: bool, output: Format) -> u8 {
    let Moved { matched, done: count, interrupted } = moved;
    let text = match output {
        Format::Table if is_dry => {
            format!("{} would be {what}; with --yes it is done\n", counted(matched, "letter"))
        }
        Format::Table => format!("{} {what}\n", counted(count, "letter")),
        Format::Json | Format::Ndjson => {
            let line = json!({"matched": matched, "done": count, "dry_run": is_dry, "interrupted": interrupted});
            format!("{line}\n")
        }
    };
    print(&text);
    if interrupted { exit::GRACE } else { exit::OK }
}

/// Who is at work: as told, or the user and the machine.
pub(super) fn operator(told: Option<&str>, desk: &Desk) -> String {
    if let Some(told) = told.filter(|told| !told.trim().is_empty()) {
        return told.trim().chars().take(128).collect();
    }
    let user = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let user = user.filter(|user| !user.is_empty()).unwrap_or_else(|| "unknown".to_owned());
    format!("{user}@{}", instance(&desk.settings)).chars().take(128).collect()
}
