//! Where log lines go: to standard error, with one call for all that has gathered meanwhile.
//!
//! A line of its own call each would hold up every thread that has something to say while one waits for
//! the kernel, and wake whoever reads them for each. Here the first one to come writes for all who come while it
//! writes. While the daemon runs, lines that say that all is well wait for a moment, so that more go with them;
//! a warning takes along at once what waits before it. Nothing waits behind a thread that could die with it: whoever
//! has something to say that cannot wait, or too much, writes, and so does the end. Those who come for what waits do
//! it beside the runtime, and the end does not wait without end: a reader that stands still holds up neither a drain
//! nor the second signal.

use std::io::{self, Write};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that may gather behind a reader that stands still. Whoever comes then waits, as with a call of its
/// own.
const GATHERED_MAX: usize = 1 << 20;

/// Bytes that wait for others: half of what a pipe holds.
const WAITING_MAX: usize = 1 << 15;

/// How long lines wait for others.
const WAIT: Duration = Duration::from_millis(5);

/// How long the end waits for a reader of its last lines.
const LAST_MAX: Duration = Duration::from_millis(500);

/// Gathers lines for one writer.
#[derive(Debug)]
pub(super) struct Out<W>(Arc<Shared<W>>);

#[derive(Debug)]
struct Shared<W> {
    gathered: Mutex<Gathered>,
    /// There is room again.
    room: Condvar,
    /// There is a line that waits.
    due: Notify,
    to: W,
}

#[derive(Debug, Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// Used again for the next ones.
    spare: Vec<u8>,
    /// Somebody is at it.
    is_written: bool,
    /// Somebody comes for what waits.
    waits: bool,
}

impl<W> Clone for Out<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<W> Out<W> {
    pub(super) fn new(to: W) -> Self {
        let (gathered, room, due) = (Mutex::default(), Condvar::new(), Notify::new());
        Self(Arc::new(Shared { gathered, room, due, to }))
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.0.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Send + Sync + 'static> Out<W>
where
    for<'a> &'a W: Write,
{
    fn add(&self, line: &[u8], is_urgent: bool) -> io::Result<usize> {
        let mut all = self.gathered();
        while all.is_written && all.bytes.len() >= GATHERED_MAX {
            all = self.0.room.wait(all).unwrap_or_else(PoisonError::into_inner);
        }
        let is_first = all.bytes.is_empty();
        all.bytes.extend_from_slice(line);
        if all.waits && !is_urgent && all.bytes.len() < WAITING_MAX {
            if is_first {
                self.0.due.notify_one();
            }
            return Ok(line.len());
        }
        self.write(all).map(|()| line.len())
    }

    /// Writes what has gathered, and waits for whoever is at it.
    fn flush(&self) -> io::Result<()> {
        let mut all = self.gathered();
        while all.is_written {
            all = self.0.room.wait(all).unwrap_or_else(PoisonError::into_inner);
        }
        self.write(all)
    }

    /// The same, but for no longer than a moment.
    pub(super) fn end(&self) {
        let (out, (done, written)) = (self.clone(), mpsc::channel());
        let writing = thread::Builder::new().spawn(move || {
            // As with every line: there is nobody to tell that nothing can be told.
            let _written = out.flush();
            let _nobody_waits = done.send(());
        });
        if writing.is_ok() {
            let _in_time = written.recv_timeout(LAST_MAX);
        }
    }

    fn write<'a>(&'a self, mut all: MutexGuard<'a, Gathered>) -> io::Result<()> {
        if all.is_written {
            // By somebody who goes on until nothing is left.
            return Ok(());
        }
        all.is_written = true;
        let mut outcome = Ok(());
        while !all.bytes.is_empty() {
            let empty = std::mem::take(&mut all.spare);
            let mut bytes = std::mem::replace(&mut all.bytes, empty);
            drop(all);
            self.0.room.notify_all();
            let mut to: &W = &self.0.to;
            // What cannot be written is gone, as a line by a call of its own would be.
            if let Err(error) = to.write_all(&bytes) {
                outcome = Err(error);
            }
            bytes.clear();
            all = self.gathered();
            all.spare = bytes;
        }
        all.is_written = false;
        self.0.room.notify_all();
        outcome
    }

    /// Lets lines wait for each other, until it is dropped.
    pub(super) async fn gather(&self) {
        let _waiting = Waiting::begin(self);
        loop {
            self.0.due.notified().await;
            sleep(WAIT).await;
            let out = self.clone();
            // As in the end.
            let _written = spawn_blocking(move || out.flush()).await;
        }
    }
}

/// While it lives, lines wait.
struct Waiting<'a, W: Send + Sync + 'static>(&'a Out<W>)
where
    for<'b> &'b W: Write;

impl<'a, W: Send + Sync + 'static> Waiting<'a, W>
where
    for<'b> &'b W: Write,
{
    fn begin(out: &'a Out<W>) -> Self {
        out.gathered().waits = true;
        Self(out)
    }
}

impl<W: Send + Sync + 'static> Drop for Waiting<'_, W>
where
    for<'b> &'b W: Write,
{
    fn drop(&mut self) {
        self.0.gathered().waits = false;
        self.0.end();
    }
}

/// Writes one line.
#[derive(Debug)]
pub(super) struct Pen<'a, W> {
    out: &'a Out<W>,
    is_urgent: bool,
}

impl<W: Send + Sync + 'static> Write for Pen<'_, W>
where
    for<'a> &'a W: Write,
{
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.out.add(line, self.is_urgent)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, W: Send + Sync + 'static> MakeWriter<'a> for Out<W>
where
    for<'b> &'b W: Write,
{
    type Writer = Pen<'a, W>;

    fn make_writer(&'a self) -> Self::Writer {
        Pen { out: self, is_urgent: true }
    }

    fn make_writer_for(&'a self, line: &Metadata<'_>) -> Self::Writer {
        Pen { out: self, is_urgent: *line.level() <= Level::WARN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps each call's text.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Kept {
        fn all(&self) -> Vec<String> {
            self.0.lock().unwrap().clone()
        }
    }

    impl Write for &Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lines_go_out_together_after_a_moment_and_a_warning_takes_them_along() {
        let kept = Kept::default();
        let out = Out::new(kept.clone());
        let gathering = out.gather();
        tokio::pin!(gathering);
        assert!(futures_util::poll!(gathering.as_mut()).is_pending());
        out.add(b"one\n", false).unwrap();
        out.add(b"two\n", false).unwrap();
        assert!(kept.all().is_empty());
        tokio::select! { biased;
            () = &mut gathering => {}
            () = sleep(WAIT + Duration::from_millis(1)) => {}
        }
        assert_eq!(kept.all(), ["one\ntwo\n"]);
        out.add(b"three\n", false).unwrap();
        out.add(b"a warning\n", true).unwrap();
        assert_eq!(kept.all(), ["one\ntwo\n", "three\na warning\n"]);
    }

    #[tokio::test(start_paused = true)]
    async fn lines_wait_only_while_somebody_comes_for_them() {
        let kept = Kept::default();
        let out = Out::new(kept.clone());
        out.add(b"before\n", false).unwrap();
        assert_eq!(kept.all(), ["before\n"]);
        {
            let gathering = out.gather();
            tokio::pin!(gathering);
            assert!(futures_util::poll!(gathering.as_mut()).is_pending());
            out.add(b"last\n", false).unwrap();
        }
        out.add(b"after\n", false).unwrap();
        assert_eq!(kept.all(), ["before\n", "last\n", "after\n"]);
    }

    /// Takes nothing while somebody holds the other end.
    #[derive(Debug)]
    struct Stuck(Mutex<mpsc::Receiver<()>>);

    impl Write for &Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().recv().unwrap_err();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn reader_that_stands_still_holds_up_neither_the_runtime_nor_the_end() {
        let (hold, stuck) = mpsc::channel();
        let out = Out::new(Stuck(Mutex::new(stuck)));
        {
            let gathering = out.gather();
            tokio::pin!(gathering);
            assert!(futures_util::poll!(gathering.as_mut()).is_pending());
            out.add(b"one\n", false).unwrap();
            tokio::select! { biased;
                () = &mut gathering => {}
                () = out.taken() => {}
            }
            out.add(b"two\n", false).unwrap();
        }
        assert!(out.gathered().is_written, "whoever writes is still at it");
        drop(hold);
    }

    impl<W> Out<W> {
        /// Completes when somebody has begun to write.
        async fn taken(&self) {
            while !self.gathered().is_written {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_too_much_to_say_writes() {
        let kept = Kept::default();
        let out = Out::new(kept.clone());
        let gathering = out.gather();
        tokio::pin!(gathering);
        assert!(futures_util::poll!(gathering.as_mut()).is_pending());
        let line = [b'x'; 1024];
        for _ in 0..WAITING_MAX / line.len() {
            assert!(kept.all().is_empty());
            out.add(&line, false).unwrap();
        }
        assert_eq!(kept.all().len(), 1);
    }
}
