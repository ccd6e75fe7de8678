//! `make demo`: the whole path on this machine, with nothing but loopback traffic.
//!
//! ```text
//! orderwright publish ──▶ RabbitMQ ──▶ orderwright run ──GET, PATCH──▶ orderwright-sim
//!        1,007 messages        │                                            │
//!                              └──▶ dead letters ──▶ summary ◀── ledger ────┘
//! ```
//!
//! The simulator makes trouble on purpose: other users change orders between GET and PATCH, it
//! answers errors, and it cuts connections after it has written. It also keeps a ledger of what
//! really happened to each order. The demo succeeds only if daemon, dead letters and ledger agree
//! on every single update. `KEEP=1` leaves everything running afterwards, to look around.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program whose result is text")]

mod dead_letters;
mod ledger;
mod messages;
mod program;
mod progress;
mod stage;
mod summary;

// The demo needs less of it than the tests do.
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../../../tests/support/broker.rs"]
mod broker;

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use stage::Stage;

/// Everything takes some 10 s, so whatever lasts this long hangs. The broker is not counted: its
/// script has bounds of its own, and the first run may have to download it.
const PLAY_TIME_MAX: Duration = Duration::from_mins(2);
/// The daemon drains for at most 20 s.
const CLEAR_TIME_MAX: Duration = Duration::from_secs(30);

/// Failures end the demo and are read by a person, so they are sentences.
type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("demo: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            biased;
            () = interrupted() => Err("interrupted; everything that was started is being stopped".to_owned()),
            outcome = demo() => outcome,
        }
    });
    // Waits for nobody: what blocks could only be the broker's script, which ends with our pipe.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("demo: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// The phases. Whoever drops this, at whatever point, drops the pipes that keep the programs alive.
async fn demo() -> Result<()> {
    let mut stage = Stage::build().await?;
    let played = timeout(PLAY_TIME_MAX, stage.play()).await;
    if std::env::var_os("KEEP").is_some_and(|keep| !keep.is_empty() && keep != "0") {
        stage.describe();
        if let Ok(Err(reason)) = &played {
            println!("\nThe demo did not succeed: {reason}");
        }
        // Until Ctrl-C, which drops this future.
        std::future::pending::<()>().await;
    }
    let played = played.unwrap_or_else(|_elapsed| {
        Err(format!("not finished after {} s", PLAY_TIME_MAX.as_secs()))
    });
    let result = match played {
        Ok(outcome) => match timeout(CLEAR_TIME_MAX, stage.finish_daemon()).await {
            Ok(Ok(report)) => {
                summary::print(&report, &outcome);
                summary::check(&report, &outcome)
            }
            Ok(Err(reason)) => Err(reason),
            Err(_elapsed) => Err("the daemon did not end after SIGTERM".to_owned()),
        },
        Err(reason) => Err(reason),
    };
    stage.clear(result).await
}

/// Returns at Ctrl-C, SIGTERM, or when the terminal is closed.
async fn interrupted() {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else {
        // Without handlers the signals keep their default: the process ends, the pipes close.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
