//! Takes letters from one queue to another: published, confirmed, and only then taken out. Whoever is
//! killed in between leaves a copy, never a gap.

use std::collections::VecDeque;
use std::future::pending;

use futures_util::{StreamExt, TryStreamExt};
use serde_json::json;
use uuid::Uuid;

use super::super::print;
use super::desk::{Desk, Next, progress, read};
use super::{Format, counted};
use crate::app::exit;
use crate::broker::{Browser, Bulk, Error, Held, Outgoing, Publisher, Taker, Ticket, Wear};
use crate::dead_letter::journal::{Event, Named};
use crate::dead_letter::{Letter, Selection};

/// Bytes of letters that are held in memory at once; more are moved in several rounds.
const ROUND_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a letter takes besides its body: at most, headers fill a frame; mostly far less.
const HEADERS_BYTES: usize = 4 * 1024;

/// Records of the journal that are written at once.
const AT_ONCE: usize = 16;

/// Letters that leave together: so many may be there twice after a crash.
const TOGETHER: usize = 128;

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

/// Publishes and waits for the confirm.
pub(super) async fn publish(publisher: &Publisher, message: &Outgoing) -> Result<(), Error> {
    let Some(lane) = publisher.lane().await else { return Err(Error::Withdrawn) };
    publisher.publish(lane, message, || true, pending()).await
}

/// How many letters are meant. Where all are, nobody looks at them.
pub(super) async fn count(
    desk: &Desk,
    from: &str,
    selection: &Selection,
    wear: Option<Wear>,
) -> Result<Moved, Error> {
    let mut moved = Moved::default();
    let mut browser = desk.browse_sparing(from, wear).await?;
    if selection.is_all() {
        moved.matched = browser.mark();
        return desk.close(browser).await.map(|()| moved);
    }
    let looked = desk
        .go_over(&mut browser, 0..u64::MAX, selection, |_letter, _held| {
            moved.matched += 1;
            Next::More
        })
        .await;
    let closed = desk.close(browser).await;
    moved.interrupted = looked?.interrupted;
    closed.map(|()| moved)
}

/// Those of a batch, by their names.
pub(super) fn named(some: &[Moving]) -> Vec<Named> {
    let named = |it: &Moving| Named { letter: it.id.to_string(), order: it.order.clone() };
    some.iter().map(named).collect()
}

/// A letter on its way.
pub(super) struct Moving {
    pub(super) id: Uuid,
    pub(super) order: Option<String>,
    /// What is published in its place.
    pub(super) copy: Outgoing,
    /// The right to take the old one away.
    pub(super) ticket: Ticket,
}

/// What is to be moved, and what is said of it.
pub(super) struct Relocation<'a> {
    pub(super) from: &'a str,
    pub(super) selection: &'a Selection,
    /// How often its messages may be returned, where that is limited.
    pub(super) wear: Option<Wear>,
    pub(super) by: &'a str,
    /// The copy of a letter, and the right to take the old one away.
    pub(super) make: &'a (dyn Fn(&Letter, Held) -> (Outgoing, Ticket) + Sync),
    /// What the journal keeps of letters whose copies are confirmed.
    pub(super) events: &'a (dyn Fn(&[Moving]) -> Vec<Event> + Sync),
}

/// Moves all that are meant and were there at the beginning.
pub(super) async fn relocate(
    desk: &Desk,
    publisher: &Publisher,
    how: &Relocation<'_>,
) -> Result<Moved, Error> {
    let mut bulk = desk.bulk().await?;
    let moved = rounds(desk, (publisher, &mut bulk), how).await;
    bulk.close().await;
    moved
}

/// The same for all of them: each is delivered once, and none is returned.
pub(super) async fn relocate_all(
    desk: &Desk,
    publisher: &Publisher,
    how: &Relocation<'_>,
) -> Result<Moved, Error> {
    let mut bulk = desk.bulk().await?;
    let mut taker = Taker::open(&desk.connection, &desk.topology, how.from).await?;
    let moved = taken(desk, (publisher, &mut bulk), &mut taker, how).await;
    let closed = taker.close().await;
    bulk.close().await;
    let moved = moved?;
    closed.map(|()| moved)
}

async fn taken(
    desk: &Desk,
    (publisher, bulk): (&Publisher, &mut Bulk),
    taker: &mut Taker,
    how: &Relocation<'_>,
) -> Result<Moved, Error> {
    let mut moved = Moved::default();
    let bar = progress("moved", taker.mark());
    loop {
        let mut some = Vec::new();
        while some.len() < Taker::HELD_MAX && !desk.interrupt.is_cancelled() {
            let Some(held) = taker.next().await? else { break };
            let letter = read(&held);
            let (copy, ticket) = (how.make)(&letter, held);
            some.push(Moving { id: letter.id, order: letter.order, copy, ticket });
        }
        // Between two of them, an interrupt finds nothing half done: what was only taken returns.
        moved.interrupted = desk.interrupt.is_cancelled();
        let many = u64::try_from(some.len()).unwrap_or(u64::MAX);
        moved.matched += many;
        if some.is_empty() || moved.interrupted {
            bar.finish_and_clear();
            return Ok(moved);
        }
        written(desk, (publisher, &mut *bulk), how, &some).await?;
        if let Some(last) = some.pop() {
            taker.ack_up_to(last.ticket).await?;
        }
        moved.done += many;
        bar.inc(many);
    }
}

/// Copies are confirmed, and then the journal has it.
async fn written(
    desk: &Desk,
    (publisher, bulk): (&Publisher, &mut Bulk),
    how: &Relocation<'_>,
    some: &[Moving],
) -> Result<(), Error> {
    bulk.deliver(some.iter().map(|moving| &moving.copy)).await?;
    let notes = (how.events)(some).into_iter().map(|it| desk.note(publisher, how.by, it));
    futures_util::stream::iter(notes).buffered(AT_ONCE).try_collect::<()>().await
}

async fn rounds(
    desk: &Desk,
    (publisher, bulk): (&Publisher, &mut Bulk),
    how: &Relocation<'_>,
) -> Result<Moved, Error> {
    let mut all = Moved::default();
    let (mut judged, mut last) = (0, u64::MAX);
    loop {
        let mut browser = desk.browse_sparing(how.from, how.wear).await?;
        last = last.min(browser.mark());
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let visit = |letter: Letter, held: Held| {
            bytes += held.body.len() + HEADERS_BYTES;
            let (copy, ticket) = (how.make)(&letter, held);
            batch.push(Moving { id: letter.id, order: letter.order, copy, ticket });
            if bytes < ROUND_BYTES_MAX { Next::More } else { Next::Enough }
        };
        let looked = desk.go_over(&mut browser, judged..last, how.selection, visit).await;
        let mut round = Ok(0);
        if let Ok(looked) = looked
            && !looked.interrupted
        {
            all.matched += u64::try_from(batch.len()).unwrap_or(u64::MAX);
            round = settle((desk, publisher, &mut *bulk), &mut browser, how, batch).await;
        }
        // Also after an error: what was acked is only done for sure after a close in good order.
        let closed = desk.close(browser).await;
        let (looked, moved) = (looked?, round?);
        closed?;
        all.done += moved;
        all.interrupted = desk.interrupt.is_cancelled();
        if all.interrupted || looked.seen >= looked.mark || bytes < ROUND_BYTES_MAX {
            return Ok(all);
        }
        // Those that are left stand at the head again.
        (judged, last) = (looked.seen - moved, last - moved);
    }
}

/// A few at once, in order: copies are confirmed, then the journal has it, then the letters go.
async fn settle(
    (desk, publisher, bulk): (&Desk, &Publisher, &mut Bulk),
    browser: &mut Browser,
    how: &Relocation<'_>,
    batch: Vec<Moving>,
) -> Result<u64, Error> {
    let bar = progress("moved", u64::try_from(batch.len()).unwrap_or(u64::MAX));
    let mut batch = VecDeque::from(batch);
    let mut moved = 0;
    // Between two of them, an interrupt finds nothing half done.
    while !batch.is_empty() && !desk.interrupt.is_cancelled() {
        let some: Vec<Moving> = batch.drain(..batch.len().min(TOGETHER)).collect();
        written(desk, (publisher, &mut *bulk), how, &some).await?;
        for moving in some {
            browser.ack(moving.ticket).await?;
            moved += 1;
            bar.inc(1);
        }
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
