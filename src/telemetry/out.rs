//! Where log lines go: to standard error, with one call for all that has gathered meanwhile.
//!
//! A line of its own call each would hold up every thread that has something to say while one waits for
//! the kernel. Here the first one to come writes for all who come while it writes. A line is out, or in the
//! hands of somebody who writes it, when the call returns: there is no thread that could die with lines.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// Bytes that may gather behind a reader that stands still. Whoever comes then waits, as with a call of its
/// own.
const GATHERED_MAX: usize = 1 << 20;

/// Gathers lines for one writer.
#[derive(Debug)]
pub(super) struct Out<W>(Arc<Shared<W>>);

#[derive(Debug)]
struct Shared<W> {
    gathered: Mutex<Gathered>,
    /// There is room again.
    room: Condvar,
    to: W,
}

#[derive(Debug, Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// Used again for the next ones.
    spare: Vec<u8>,
    /// Somebody is at it.
    is_written: bool,
}

impl<W> Clone for Out<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<W> Out<W> {
    pub(super) fn new(to: W) -> Self {
        let (gathered, room) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { gathered, room, to }))
    }
}

impl<W> Write for &Out<W>
where
    for<'a> &'a W: Write,
{
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Shared { gathered, room, to } = &*self.0;
        let lock = || gathered.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = lock();
        while all.is_written && all.bytes.len() >= GATHERED_MAX {
            all = room.wait(all).unwrap_or_else(PoisonError::into_inner);
        }
        all.bytes.extend_from_slice(line);
        if all.is_written {
            return Ok(line.len());
        }
        all.is_written = true;
        let mut outcome = Ok(line.len());
        while !all.bytes.is_empty() {
            let empty = std::mem::take(&mut all.spare);
            let mut bytes = std::mem::replace(&mut all.bytes, empty);
            drop(all);
            room.notify_all();
            let mut to: &W = to;
            // What cannot be written is gone, as a line by a call of its own would be.
            if let Err(error) = to.write_all(&bytes) {
                outcome = Err(error);
            }
            bytes.clear();
            all = lock();
            all.spare = bytes;
        }
        all.is_written = false;
        outcome
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, W: 'static> MakeWriter<'a> for Out<W>
where
    for<'b> &'b W: Write,
{
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}
