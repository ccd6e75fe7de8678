//! What a test says that cannot be run on this machine.

use std::io::Write as _;

/// Where it is set (`.ci/run` does so), nothing may be left out.
const NEVER: &str = "ORDERWRIGHT_SKIP_NOTHING";

/// The exit code of a script that lacks a tool, or could not fetch one.
pub(crate) const UNAVAILABLE: i32 = 69;

/// Says that something was not tried, where everybody sees it: what a test prints by `eprintln!` is shown only when it
/// fails.
pub(crate) fn skipped(what: &str, why: &str) {
    let why = why.trim();
    assert!(std::env::var_os(NEVER).is_none(), "{what} was not tried, and {NEVER} is set: {why}");
    let said = format!("\nSKIPPED: {what}: {why}\n\n");
    std::io::stderr().write_all(said.as_bytes()).unwrap();
}
