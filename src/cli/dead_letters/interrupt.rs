//! Ctrl-C, heard in one place: the first asks for an end in good order, the second ends at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::complain;
use crate::app::exit;

/// Listens for as long as the set is kept.
///
/// The token is cancelled by the first interrupt or termination. None is lost between two waits, as it would
/// be if each wait listened for itself.
pub(super) fn listen() -> (CancellationToken, JoinSet<()>) {
    let mut listener = JoinSet::new();
    let asked = CancellationToken::new();
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Then the first one ends the program, as it does where nobody listens.
        return (asked, listener);
    };
    let heard = asked.clone();
    listener.spawn(async move {
        for is_second in [false, true] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if is_second {
                // No destructor may run: the library's would cancel consumers, and what is cancelled
                // returns behind what came later.
                std::process::exit(exit::GRACE.into());
            }
            complain("ending in good order; the next interrupt ends it at once");
            heard.cancel();
        }
    });
    (asked, listener)
}
