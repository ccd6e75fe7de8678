//! Ctrl-C, heard in one place: the first asks for an end in good order, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::super::complain;
use crate::app::exit;

/// The shortest timer.
const TURN: Duration = Duration::from_millis(1);

/// What was heard.
#[derive(Debug, Clone, Default)]
pub(super) struct Interrupt {
    asked: CancellationToken,
    /// How many programs of ours have the terminal.
    elsewhere: Arc<AtomicUsize>,
    /// Whoever wants to know that all is heard that was sent. `None` if nobody listens.
    heard_all: Option<mpsc::Sender<oneshot::Sender<()>>>,
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

    /// Completes when what was sent before is heard: a program that ends may have been sent the same.
    pub(super) async fn caught_up(&self) {
        let Some(asks) = &self.heard_all else { return };
        // The runtime may tell of a program's end before it tells of a signal that came earlier, but it fires timers
        // after both.
        sleep(TURN).await;
        let (tell, told) = oneshot::channel();
        if asks.send(tell).await.is_ok() {
            // Without an answer nobody listens any more.
            let _told = told.await;
        }
    }

    fn is_meant(&self) -> bool {
        self.elsewhere.load(Ordering::Acquire) == 0
    }
}

/// Listens for as long as the set is kept. None is lost between two waits, as it would be if each wait listened for
/// itself.
pub(super) fn listen() -> (Interrupt, JoinSet<()>) {
    let mut listener = JoinSet::new();
    let mut heard = Interrupt::default();
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Then the first one ends the program, as it does where nobody listens.
        return (heard, listener);
    };
    let (asks, mut asked) = mpsc::channel(1);
    heard.heard_all = Some(asks);
    let told = heard.clone();
    listener.spawn(async move {
        loop {
            tokio::select! { biased; // Answers once all is heard.
                _ = interrupt.recv() => if !told.is_meant() { continue },
                _ = terminate.recv() => {}
                Some(tell) = asked.recv() => {
                    // Who asked may have gone.
                    let _gone = tell.send(());
                    continue;
                }
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
