//! A terminal's other screen, and what whoever sits before it wants.

use std::io::{self, IsTerminal, Read, Write};
use std::thread;

use rustix::process::{Signal as Kill, getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Another screen, without a cursor; and back to the one that was there.
const BEGIN: &str = "\x1b[?1049h\x1b[?25l";
const END: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left corner; the rest of the line, and of the screen, empty.
const HOME: &str = "\x1b[H";
const LINE_END: &str = "\x1b[K\r\n";
const REST: &str = "\x1b[J";

/// What Ctrl-Z sends: 20 on Linux and on the BSDs' heirs alike.
fn terminal_stop() -> SignalKind {
    SignalKind::from_raw(Kill::TSTP.as_raw())
}

/// The screen while it is ours. Whatever ends it, it is put back when this is dropped.
pub(super) struct Screen {
    /// How the keyboard was, if there is one.
    keyboard: Option<Termios>,
}

impl Screen {
    pub(super) fn enter() -> Self {
        let mut screen = Self { keyboard: None };
        screen.take();
        screen
    }

    fn take(&mut self) {
        self.keyboard = tcgetattr(io::stdin()).ok();
        if let Some(mut modes) = self.keyboard.clone() {
            // Keys as they are pressed, and unseen. Ctrl-C stays a signal.
            modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            let _gone = tcsetattr(io::stdin(), OptionalActions::Now, &modes);
        }
        write(BEGIN);
    }

    /// Ctrl-Z: the shell has the terminal as it was, until we are asked to go on.
    pub(super) fn pause(&mut self) {
        self.leave();
        let _cannot_fail_on_itself = kill_process(getpid(), Kill::STOP);
        self.take();
    }

    fn leave(&mut self) {
        write(END);
        if let Some(keyboard) = self.keyboard.take() {
            // A terminal that is gone needs nothing.
            let _gone = tcsetattr(io::stdin(), OptionalActions::Now, &keyboard);
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

pub(super) fn show(lines: &[String]) {
    write(&format!("{HOME}{}{LINE_END}{REST}", lines.join(LINE_END)));
}

/// At once, and whoever has gone misses nothing.
fn write(text: &str) {
    let mut out = io::stdout().lock();
    let _gone = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    End,
    Pause,
}

/// Hears it: by a key, or by a signal.
pub(super) struct Wishes {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    stop: Signal,
    /// `None` where nobody can press a key.
    quit: Option<oneshot::Receiver<()>>,
}

impl Wishes {
    pub(super) fn listen() -> io::Result<Self> {
        let quit = io::stdin().is_terminal().then(keys).transpose()?;
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            stop: signal(terminal_stop())?,
            quit,
        })
    }

    pub(super) async fn next(&mut self) -> Wish {
        let Self { interrupt, terminate, hangup, stop, quit } = self;
        tokio::select! {
            _ = interrupt.recv() => Wish::End,
            _ = terminate.recv() => Wish::End,
            _ = hangup.recv() => Wish::End,
            _ = stop.recv() => Wish::Pause,
            () = pressed(quit.as_mut()) => Wish::End,
        }
    }
}

async fn pressed(quit: Option<&mut oneshot::Receiver<()>>) {
    match quit {
        // Nobody asks again after that.
        Some(quit) => drop(quit.await),
        None => std::future::pending().await,
    }
}

/// Says when to quit. The thread waits in a read for as long as we live, and ends with the process.
fn keys() -> io::Result<oneshot::Receiver<()>> {
    let (pressed, quit) = oneshot::channel();
    thread::Builder::new().name("keys".to_owned()).spawn(|| {
        read_keys();
        let _nobody_waits = pressed.send(());
    })?;
    Ok(quit)
}

/// Returns when `q` is pressed, or when there is no keyboard any more.
fn read_keys() {
    let mut pressed = [0; 64];
    loop {
        let count = match io::stdin().read(&mut pressed) {
            Ok(count @ 1..) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => return,
        };
        if pressed.iter().take(count).any(|key| key.eq_ignore_ascii_case(&b'q')) {
            return;
        }
    }
}
