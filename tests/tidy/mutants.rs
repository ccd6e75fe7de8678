//! That the builds which are broken on purpose can still be made: `make mutants` takes minutes and runs
//! rarely, and a patch goes stale with the line that it breaks.

use std::path::Path;
use std::process::Command;

use crate::files::{ROOT, read, tidy, walk};

const FOLDER: &str = "tests/chaos/mutants";
/// The table of the promised zeros.
const PROMISES: &str = "tests/chaos/report.rs";
const DOCUMENT: &str = "docs/PROOF.md";

fn field<'a>(patch: &'a str, name: &str) -> Option<&'a str> {
    patch.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn broken_builds_can_still_be_made_and_say_what_must_catch_them() {
    let mut patches = Vec::new();
    walk(FOLDER, &mut patches);
    assert!(patches.len() >= 5, "{FOLDER}: patches are gone");
    let (promises, document) = (read(PROMISES), read(DOCUMENT));
    let mut findings = Vec::new();
    for file in patches {
        let checked = Command::new("git").args(["-C", ROOT, "apply", "--check", &file]).output();
        let checked = checked.unwrap_or_else(|error| panic!("git: {error}"));
        if !checked.status.success() {
            let said = String::from_utf8_lossy(&checked.stderr);
            findings.push(format!("{file}: make it anew for the code as it is: {}", said.trim()));
        }
        let patch = read(&file);
        let caught_by = field(&patch, "Caught-by").unwrap_or_default();
        if !promises.contains(&format!("\"{caught_by}\"")) {
            findings.push(format!("{file}: Caught-by: names no figure of {PROMISES}"));
        }
        if !field(&patch, "Chaos").is_some_and(|flags| flags.contains("--seed ")) {
            findings.push(format!("{file}: Chaos: names no seed"));
        }
        let name = Path::new(&file).file_stem().unwrap().to_str().unwrap();
        if !document.contains(&format!("| `{name}` |")) {
            findings.push(format!("{DOCUMENT}: say what becomes of `{name}`"));
        }
    }
    tidy(&findings);
}
