//! What a test says that cannot be run on this machine.

use std::io::Write as _;
use std::path::PathBuf;

use tokio::process::Command;

/// Where it is set, nothing may be left out.
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

/// The path that a script in `deploy/local` prints, of a program that is not ours. Where it can be had neither on this
/// machine nor from the registries, that is said.
pub(crate) async fn tool(script: &str) -> Option<PathBuf> {
    let path = format!("{}/deploy/local/{script}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("bash").arg(path).output().await.unwrap();
    let why = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(UNAVAILABLE) {
        skipped(&format!("a test that needs what {script} fetches"), &why);
        return None;
    }
    assert!(output.status.success(), "{script}: {:?}: {why}", output.status);
    Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()))
}
