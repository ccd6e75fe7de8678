//! What is shipped for others' tools, by the tools' own validators.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::skip::{UNAVAILABLE, skipped};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests.sh");
/// It fetches 200 MB of validators the first time.
const VALIDATION_MAX: Duration = Duration::from_mins(15);

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_shipped_passes_the_validators_of_the_tools_that_read_it() {
    let mut command = Command::new("bash");
    command.arg(SCRIPT).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(VALIDATION_MAX, command.output()).await.expect("an end").unwrap();
    let said = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap()).concat();
    if output.status.code() == Some(UNAVAILABLE) {
        skipped("some of what tests/manifests.sh looks at", &said);
    } else {
        assert!(output.status.success(), "{said}");
        assert!(said.ends_with("manifests: passed\n"), "{said}");
    }
}
