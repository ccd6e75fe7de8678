//! Ctrl-C, SIGTERM, and the terminal that is closed.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Result;

/// Remembers a signal that came while nobody waited for it.
#[derive(Debug)]
pub(crate) struct Interrupt {
    ctrl_c: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupt {
    /// From now on these signals no longer end the process by themselves.
    pub(crate) fn new() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|error| format!("no signal handler: {error}"));
        Ok(Self {
            ctrl_c: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Returns at the next of them.
    pub(crate) async fn came(&mut self) {
        tokio::select! {
            _ = self.ctrl_c.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
