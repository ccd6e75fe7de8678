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
mod interrupt;
mod messages;
mod progress;
mod stage;
mod summary;

// The demo needs less of it than the tests do.
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../../../tests/support/broker.rs"]
mod broker;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../../../tests/support/ledger.rs"]
mod ledger;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../../../tests/support/program.rs"]
mod program;

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::timeout;

use interrupt::Interrupt;
use stage::Stage;
use summary::Outcome;

/// Everything takes some 10 s, so whatever lasts this long hangs. The broker is not counted: its
/// script has bounds of its own, and the first run may have to download it.
const PLAY_TIME_MAX: Duration = Duration::from_mins(2);
/// The daemon drains for at most 20 s.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(30);

const INTERRUPTED: &str = "interrupted; all that was started ends";

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
    let outcome = runtime.block_on(demo());
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

/// The phases. However this ends, the pipes that keep the programs alive end with it.
async fn demo() -> Result<()> {
    let mut interrupt = Interrupt::new()?;
    let mut stage = tokio::select! {
        () = interrupt.came() => return Err(INTERRUPTED.to_owned()),
        built = Stage::build() => built?,
    };
    let played = tokio::select! {
        () = interrupt.came() => None,
        played = timeout(PLAY_TIME_MAX, stage.play()) => Some(played.unwrap_or_else(|_elapsed| {
            Err(format!("not finished after {} s", PLAY_TIME_MAX.as_secs()))
        })),
    };
    let Some(played) = played else {
        stage.clear(Ok(())).await?;
        return Err(INTERRUPTED.to_owned());
    };
    if std::env::var_os("KEEP").is_some_and(|keep| !keep.is_empty() && keep != "0") {
        match &played {
            Ok(outcome) => summary::print_settled(outcome),
            Err(reason) => println!("The demo did not succeed: {reason}"),
        }
        stage.describe();
        interrupt.came().await;
        // What was published by hand since then is in no sum, so the sums are not checked.
        return stage.clear(played.map(drop)).await;
    }
    let result = match played {
        Ok(outcome) => account(&mut stage, &outcome).await,
        Err(reason) => Err(reason),
    };
    stage.clear(result).await
}

/// Ends the daemon, shows what came of it all, and compares the accounts.
async fn account(stage: &mut Stage, outcome: &Outcome) -> Result<()> {
    let report = timeout(DRAIN_TIME_MAX, stage.finish_daemon())
        .await
        .map_err(|_elapsed| "the daemon did not end after SIGTERM".to_owned())??;
    summary::print(&report, outcome);
    summary::check(&report, outcome)
}
