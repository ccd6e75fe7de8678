//! Ctrl-C, heard in one place: the first asks for an end in good order, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::complain;
use crate::app::exit;

/// What was heard.
#[derive(Debug, Clone, Default)]
pub(super) struct Interrupt {
    asked: CancellationToken,
    /// How many programs of ours have the terminal.
    elsewhere: Arc<AtomicUsize>,
}

/// While it is kept, Ctrl-C is meant for another program on this terminal.
#[derive(Debug)]
pub(super) struct Elsewhere(Arc<AtomicUsize>);

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Interrupt {
    /// Cancelled by the first interrupt or termination.
    pub(super) const fn token(&self) -> &CancellationToken {
        &self.asked
    }

    /// The terminal sends Ctrl-C to all programs on it, also to this one that waits for an editor. Whoever presses
    /// it there does not mean this one, as long as what is given back is kept.
    pub(super) fn elsewhere(&self) -> Elsewhere {
        self.elsewhere.fetch_add(1, Ordering::AcqRel);
        Elsewhere(self.elsewhere.clone())
    }

    fn is_meant(&self) -> bool {
        self.elsewhere.load(Ordering::Acquire) == 0
    }
}

/// Listens for as long as the set is kept. None is lost between two waits, as it would be if each wait listened for
/// itself.
pub(super) fn listen() -> (Interrupt, JoinSet<()>) {
    let mut listener = JoinSet::new();
    let heard = Interrupt::default();
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Then the first one ends the program, as it does where nobody listens.
        return (heard, listener);
    };
    let told = heard.clone();
    listener.spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => if !told.is_meant() { continue },
                _ = terminate.recv() => {}
            }
            if told.asked.is_cancelled() {
                // No destructor may run: the library's would cancel consumers, and what is cancelled
                // returns behind what came later.
                std::process::exit(exit::GRACE.into());
            }
            complain("ending in good order; the next interrupt ends it at once");
            told.asked.cancel();
        }
    });
    (heard, listener)
}
