//! A panic is a bug, and one line of the log: said by whoever catches it and knows what it was about, else
//! by the hook.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, Location, PanicHookInfo, catch_unwind, set_hook};
use std::pin::pin;

use futures_util::FutureExt;

use super::field;

/// Characters of what a panic says: enough to find it, and no place for a whole message's body.
const TEXT_MAX: usize = 200;

thread_local! {
    /// Whoever is running on this thread catches its panics and says so.
    static CATCHES: Cell<bool> = const { Cell::new(false) };
    /// What the hook heard, for the one who catches it.
    static HEARD: RefCell<Option<Panicked>> = const { RefCell::new(None) };
}

/// What a panic said, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} at {place}")]
pub struct Panicked {
    text: String,
    place: String,
}

impl Panicked {
    fn new(payload: &(dyn Any + Send), place: Option<&Location<'_>>) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("something that is no text").chars().take(TEXT_MAX).collect();
        Self { text, place: place.map_or_else(|| "?".to_owned(), ToString::to_string) }
    }

    /// Where it was. What it said may hold a part of what was read.
    pub fn place(&self) -> &str {
        &self.place
    }
}

/// From now on panics go to the log, and not to standard error beside it.
pub(super) fn log() {
    set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let panicked = Panicked::new(info.payload(), info.location());
        if CATCHES.get() {
            HEARD.set(Some(panicked));
        } else {
            tracing::error!({ field::ERROR } = %panicked, "a bug: a task panicked");
        }
    }));
}

/// Runs something whose panics the caller catches, and will say.
fn hearing<T>(run: impl FnOnce() -> T) -> T {
    let before = CATCHES.replace(true);
    let came = run();
    CATCHES.set(before);
    came
}

fn heard(payload: &(dyn Any + Send)) -> Panicked {
    // Without the hook, as in tests, the place is not known.
    HEARD.take().unwrap_or_else(|| Panicked::new(payload, None))
}

/// Completes with the future, or with its panic. The caller says it: with what it was about.
///
/// # Errors
/// What the panic said.
pub async fn caught<F: Future>(future: F) -> Result<F::Output, Panicked> {
    let mut future = pin!(AssertUnwindSafe(future).catch_unwind());
    let ended = poll_fn(|context| hearing(|| future.as_mut().poll(context))).await;
    ended.map_err(|payload| heard(payload.as_ref()))
}

/// The same of what waits for nothing.
///
/// # Errors
/// What the panic said.
pub fn caught_now<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    let came = hearing(|| catch_unwind(AssertUnwindSafe(run)));
    came.map_err(|payload| heard(payload.as_ref()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use serde_json::Value;

    use super::*;
    use crate::config::{self, LogFormat};
    use crate::telemetry::log;

    const CHILD: &str = "ORDERWRIGHT_TEST_PANICS";

    fn panic_in_three_ways() {
        let settings = config::Log { format: LogFormat::Json, ..config::Log::default() };
        log::init(&settings, None).unwrap();
        let told = |panicked: Panicked| tracing::error!({ field::ERROR } = %panicked, "caught");
        told(caught_now(|| panic!("the first")).unwrap_err());
        std::thread::spawn(|| panic!("the second")).join().unwrap_err();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let waited = async {
            tokio::task::yield_now().await;
            panic!("the third")
        };
        let third: Result<(), Panicked> = runtime.block_on(caught(waited));
        told(third.unwrap_err());
    }

    /// In a process of its own: there is one hook, and one log.
    #[test]
    fn panic_is_one_line_of_the_log_whether_it_is_caught_or_not_and_nothing_beside_it() {
        if std::env::var_os(CHILD).is_some() {
            return panic_in_three_ways();
        }
        let name = "telemetry::panics::tests::panic_is_one_line_of_the_log_whether_it_is_caught_or_not_\
                    and_nothing_beside_it";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<Value> =
            said.lines().map(|line| serde_json::from_str(line).expect(&said)).collect();
        let texts: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(texts, ["caught", "a bug: a task panicked", "caught"], "{said}");
        for (line, text) in lines.iter().zip(["the first", "the second", "the third"]) {
            let error = line["error"].as_str().unwrap();
            assert!(error.starts_with(&format!("{text} at src/telemetry/panics.rs:")), "{said}");
        }
    }

    #[test]
    fn panic_that_says_a_whole_body_is_cut_and_one_that_is_no_text_is_told() {
        let long = caught_now(|| panic!("{}", "x".repeat(1_000))).unwrap_err();
        assert!(long.text.len() == TEXT_MAX, "{long}");
        let odd: Result<(), _> = caught_now(|| std::panic::panic_any(7));
        assert!(odd.unwrap_err().to_string().starts_with("something that is no text at "));
        assert_eq!(caught_now(|| 7), Ok(7));
    }
}
