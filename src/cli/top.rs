//! `orderwright top`: one or many pods in a terminal, again and again.

mod screen;
mod view;

use std::io::{self, IsTerminal};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::pods::{self, Pods};
use super::{complain, fail, print};
use crate::app::exit;
use crate::config::Loaded;
use screen::{Screen, Wish, Wishes};
use view::{Frame, Look};

/// Where nobody says how large the terminal is.
const SIZE: (usize, usize) = (100, 30);

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright top                                          the pod on this machine
  orderwright top --admin http://10.1.2.3:9464 --admin http://10.1.2.4:9464
  orderwright top --admin http://orderwright-pods:9464     every address of a name
  orderwright top --once                                   one look, for scripts and small terminals

Rates are those between two looks. q or Ctrl-C ends it.

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
    // What ends it is heard before there is anything to put back.
    let mut wishes = match Wishes::listen() {
        Ok(wishes) => wishes,
        Err(error) => return fail(exit::BUG, &error),
    };
    let mut screen = Screen::enter();
    let mut tick = interval(Duration::from_secs(arguments.every));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = None;
    loop {
        let now = tokio::select! { biased;
            wish = wishes.next() => match wish {
                Wish::End => return exit::OK,
                Wish::Pause => {
                    screen.pause();
                    continue;
                }
            },
            now = async {
                tick.tick().await;
                look().await
            } => now,
        };
        let (width, height) = size();
        let frame = Frame { before: before.as_ref(), now: &now };
        screen::show(&frame.lines(width, height.saturating_sub(1)));
        before = Some(now);
    }
}

/// Columns and rows.
fn size() -> (usize, usize) {
    let size = terminal_size::terminal_size();
    size.map_or(SIZE, |(width, height)| (usize::from(width.0), usize::from(height.0)))
}
