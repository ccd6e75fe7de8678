//! Leave to write a request, which is taken at the moment of writing: by then the request may have waited
//! long for its token, for others to go with, or for a quota.
//!
//! ```text
//! waits ── take ──▶ written ── put back: nothing was carried out ──▶ waits
//!   └── withdraw ──▶ withdrawn: it is not written any more
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Whether a request may be written.
pub struct Leave {
    stage: Mutex<Stage>,
    may: Box<dyn Fn() -> bool + Send + Sync>,
    tell: Box<dyn Fn(Moment) + Send + Sync>,
}

/// What those are told who want to know where a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It is written now.
    Written,
    /// It waits to be written once more.
    Waits,
}

#[derive(Debug, Clone, Copy)]
struct Stage {
    is: Is,
    /// When it was written last.
    written: Option<Instant>,
    /// Should it wait once more, it is withdrawn.
    is_unwanted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Waiting,
    Written,
    Withdrawn,
}

impl std::fmt::Debug for Leave {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leave").field("stage", &*self.stage()).finish_non_exhaustive()
    }
}

impl Leave {
    /// Leave that is given for as long as `may` says so. `tell` hears what becomes of it. Neither waits.
    pub fn new(
        may: impl Fn() -> bool + Send + Sync + 'static,
        tell: impl Fn(Moment) + Send + Sync + 'static,
    ) -> Self {
        let stage = Mutex::new(Stage { is: Is::Waiting, written: None, is_unwanted: false });
        Self { stage, may: Box::new(may), tell: Box::new(tell) }
    }

    /// Leave for what may be written whenever it is.
    #[must_use]
    pub fn granted() -> Self {
        Self::new(|| true, |_| {})
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asked by whoever writes it, just before. False: it is not to be written. It may be written again
    /// where the first time carried nothing out, as after a token that was refused.
    pub fn take(&self) -> bool {
        let is_first = {
            let mut stage = self.stage();
            if stage.is == Is::Withdrawn || !(self.may)() {
                return false;
            }
            stage.written = Some(Instant::now());
            std::mem::replace(&mut stage.is, Is::Written) == Is::Waiting
        };
        if is_first {
            (self.tell)(Moment::Written);
        }
        true
    }

    /// Whether it would be refused now: there is no sense in waiting on.
    pub fn is_void(&self) -> bool {
        self.stage().is == Is::Withdrawn || !(self.may)()
    }

    /// It was written, nothing of it was carried out, and it waits again.
    pub fn put_back(&self) {
        let was_written = {
            let mut stage = self.stage();
            let was_written = stage.is == Is::Written;
            if was_written {
                stage.is = if stage.is_unwanted { Is::Withdrawn } else { Is::Waiting };
            }
            was_written
        };
        if was_written {
            (self.tell)(Moment::Waits);
        }
    }

    /// It is not to be written from now on. False if it is on the wire already; then it is not written a
    /// second time.
    pub fn withdraw(&self) -> bool {
        let mut stage = self.stage();
        stage.is_unwanted = true;
        if stage.is == Is::Waiting {
            stage.is = Is::Withdrawn;
        }
        stage.is == Is::Withdrawn
    }

    /// Whether it may be carried out at the moment.
    pub fn is_on_the_wire(&self) -> bool {
        self.stage().is == Is::Written
    }

    /// When it was written last, if it was.
    pub fn written(&self) -> Option<Instant> {
        self.stage().written
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn what_is_withdrawn_is_not_written_and_what_is_written_cannot_be_withdrawn() {
        let leave = Leave::granted();
        assert!(leave.withdraw() && leave.is_void() && !leave.take());
        assert_eq!(leave.written(), None);
        let leave = Leave::granted();
        assert!(leave.take() && !leave.withdraw() && leave.is_on_the_wire());
        leave.put_back();
        assert!(!leave.is_on_the_wire() && leave.is_void() && !leave.take());
        assert!(leave.written().is_some(), "it was, though it is not now");
        let leave = Leave::granted();
        assert!(leave.take());
        leave.put_back();
        assert!(leave.withdraw() && !leave.take());
    }

    #[test]
    fn leave_is_asked_for_each_time_and_told_once_for_each_time_that_it_goes_out() {
        let (may, told) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
        let (asked, heard) = (may.clone(), told.clone());
        let tell = move |moment| heard.lock().unwrap().push(moment);
        let leave = Leave::new(move || asked.load(Ordering::SeqCst), tell);
        assert!(leave.take() && leave.take());
        leave.put_back();
        leave.put_back();
        may.store(false, Ordering::SeqCst);
        assert!(leave.is_void() && !leave.take());
        may.store(true, Ordering::SeqCst);
        assert!(!leave.is_void() && leave.take());
        let (written, waits) = (Moment::Written, Moment::Waits);
        assert_eq!(*told.lock().unwrap(), [written, waits, written]);
    }
}
