//! One line that is rewritten while the demo runs, if somebody is watching.

use std::io::{IsTerminal as _, Write as _};

/// Erases the line that the cursor is in, and goes to its beginning.
const ERASE: &str = "\r\x1b[2K";

/// Shown on a terminal only: in a log file it would be a thousand lines.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
}

impl Progress {
    /// For the terminal that stderr is, or for nobody.
    pub(crate) fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal() }
    }

    /// Replaces the line. Progress that cannot be shown is no reason to fail.
    pub(crate) fn show(&self, line: &str) {
        if self.shown {
            eprint!("{ERASE}{line}");
            drop(std::io::stderr().flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.show("");
    }
}
