//! Whose turn is next.
//!
//! ```text
//! few updates wait behind it   ──▶ a line ──┐
//!                                           ├──▶ head, one from either in turn
//! many updates wait behind it  ──▶ a line ──┘
//! ```
//!
//! An order's updates go one after the other, so it is the longest chain that says when a backlog is done. In a
//! single line an order would wait behind all others before each of them. The other half of the turns is for all
//! others, whatever comes.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// So many updates behind the one at work are many: few orders at a time have them, so that their half of the turns
/// comes to each of them soon, and below it a chain is soon done anyway.
const MANY: usize = 8;

/// Two lines, each fair, and their common head.
#[derive(Debug)]
pub(super) struct Line {
    few: Semaphore,
    many: Semaphore,
    /// Fair: while somebody stands at the front of both lines, they take turns.
    head: Semaphore,
    waiting: AtomicUsize,
}

/// At the head, alone.
#[derive(Debug)]
pub(super) struct Head<'a> {
    // Next in its line before the head is free: or a newcomer might find it so.
    _line: Option<SemaphorePermit<'a>>,
    _alone: Option<SemaphorePermit<'a>>,
    _waits: Waits<'a>,
}

/// One that waits.
#[derive(Debug)]
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Line {
    pub(super) fn new() -> Self {
        let one = || Semaphore::new(1);
        Self { few: one(), many: one(), head: one(), waiting: AtomicUsize::new(0) }
    }

    /// How many wait, whoever is at the head included.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits until this one is at the head. `behind` says how many updates wait behind it, and is asked
    /// where others wait. May be dropped at any time.
    pub(super) async fn head(&self, behind: impl FnOnce() -> usize) -> Head<'_> {
        let others = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waits = Waits(&self.waiting);
        // None of them is ever closed.
        let line = if others > 0 {
            let line = if behind() < MANY { &self.few } else { &self.many };
            line.acquire().await.ok()
        } else {
            None
        };
        let alone = self.head.acquire().await.ok();
        Head { _line: line, _alone: alone, _waits: waits }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn who_leaves_the_line_leaves_no_gap() {
        let line = Line::new();
        let head = line.head(|| 0).now_or_never().unwrap();
        let mut waits: Vec<_> = (0..3).map(|_| Box::pin(line.head(|| 0))).collect();
        for wait in &mut waits {
            assert!(wait.now_or_never().is_none());
        }
        assert_eq!(line.waiting(), 4);
        // One at the front of its line, and one behind it.
        drop(waits.drain(..2));
        assert_eq!(line.waiting(), 2);
        drop(head);
        assert!(waits.remove(0).now_or_never().is_some());
        assert_eq!(line.waiting(), 0);
    }
}
