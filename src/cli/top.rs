//! `orderwright top`: one or many pods in a terminal, again and again.

mod view;

use std::io::{self, IsTerminal};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::pods::{self, Pods};
use super::{complain, fail, print};
use crate::app::exit;
use crate::config::Loaded;
use view::{Frame, Look};

/// Where nobody says how large the terminal is.
const SIZE: (usize, usize) = (100, 30);

/// Another screen, without a cursor; and back to the one that was there.
const BEGIN: &str = "\x1b[?1049h\x1b[?25l";
const END: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left corner; the rest of the line, and of the screen, empty.
const HOME: &str = "\x1b[H";
const LINE_END: &str = "\x1b[K\r\n";
const REST: &str = "\x1b[J";

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright top                                          the pod on this machine
  orderwright top --admin http://10.1.2.3:9464 --admin http://10.1.2.4:9464
  orderwright top --admin http://orderwright-pods:9464     every address of a name
  orderwright top --once                                   one look, for scripts and small terminals

Rates are those between two looks. Ctrl-C ends it.

Exit codes: 0 done, 64 usage, 69 no pod answered (with --once)")]
pub(super) struct Arguments {
    #[command(flatten)]
    pods: Pods,
    /// How often to look.
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=60))]
    every: u64,
    /// Look once, and end.
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(arguments: Arguments, loaded: Loaded) -> u8 {
    let roots = match arguments.pods.roots(&loaded.settings).await {
        Ok(roots) => roots,
        Err(text) => {
            complain(&text);
            return exit::USAGE;
        }
    };
    let client = match pods::client() {
        Ok(client) => client,
        Err(error) => return fail(exit::CONFIG, &error),
    };
    let look = async || {
        let answers = pods::ask(&client, &roots, "status", &[]).await;
        Look { answers, at: Instant::now() }
    };
    if arguments.once {
        let now = look().await;
        let frame = Frame { before: None, now: &now };
        print(&(frame.lines(SIZE.0, usize::MAX).join("\n") + "\n"));
        return if now.is_silent() { exit::UNAVAILABLE } else { exit::OK };
    }
    if !io::stdout().is_terminal() {
        complain("top needs a terminal: ask for --once, or for /status");
        return exit::USAGE;
    }
    print(BEGIN);
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let mut tick = interval(Duration::from_secs(arguments.every));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = None;
    loop {
        let now = tokio::select! { biased;
            _interrupted = &mut interrupt => break,
            now = async {
                tick.tick().await;
                look().await
            } => now,
        };
        let (width, height) = size();
        let frame = Frame { before: before.as_ref(), now: &now };
        let lines = frame.lines(width, height.saturating_sub(1));
        print(&format!("{HOME}{}{LINE_END}{REST}", lines.join(LINE_END)));
        before = Some(now);
    }
    print(END);
    exit::OK
}

/// Columns and rows.
fn size() -> (usize, usize) {
    let size = terminal_size::terminal_size();
    size.map_or(SIZE, |(width, height)| (usize::from(width.0), usize::from(height.0)))
}
