//! That the builds which are broken on purpose can still be made: `make mutants` and `make sim-mutants` take
//! minutes and run rarely, and a patch goes stale with the line that it breaks.

use std::path::Path;
use std::process::Command;

use crate::files::{ROOT, read, tidy, walk};

const FOLDER: &str = "tests/chaos/mutants";
/// Those of the simulation.
const SIMULATED: &str = "tests/sim/mutants";
/// The table of the promised zeros.
const PROMISES: &str = "tests/chaos/report.rs";
const DOCUMENT: &str = "docs/PROOF.md";

fn field<'a>(patch: &'a str, name: &str) -> Option<&'a str> {
    patch.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// What `git apply` has against a patch.
fn stale(file: &str) -> Option<String> {
    let checked = Command::new("git").args(["-C", ROOT, "apply", "--check", file]).output();
    let checked = checked.unwrap_or_else(|error| panic!("git: {error}"));
    let said = String::from_utf8_lossy(&checked.stderr);
    let said = format!("{file}: make it anew for the code as it is: {}", said.trim());
    (!checked.status.success()).then_some(said)
}

/// That the document says what becomes of it.
fn untold(file: &str, document: &str) -> Option<String> {
    let name = Path::new(file).file_stem().unwrap().to_str().unwrap();
    let is_told = document.contains(&format!("| `{name}` |"));
    (!is_told).then(|| format!("{DOCUMENT}: say what becomes of `{name}`"))
}

#[test]
fn broken_builds_can_still_be_made_and_say_what_must_catch_them() {
    let mut patches = Vec::new();
    walk(FOLDER, &mut patches);
    assert!(patches.len() >= 5, "{FOLDER}: patches are gone");
    let (promises, document) = (read(PROMISES), read(DOCUMENT));
    let mut findings = Vec::new();
    for file in patches {
        findings.extend(stale(&file));
        let patch = read(&file);
        let caught_by = field(&patch, "Caught-by").unwrap_or_default();
        if !promises.contains(&format!("\"{caught_by}\"")) {
            findings.push(format!("{file}: Caught-by: names no figure of {PROMISES}"));
        }
        if !field(&patch, "Chaos").is_some_and(|flags| flags.contains("--seed ")) {
            findings.push(format!("{file}: Chaos: names no seed"));
        }
        findings.extend(untold(&file, &document));
    }
    tidy(&findings);
}

#[test]
fn broken_code_for_the_simulation_still_applies_and_names_a_complaint_of_it() {
    let (mut patches, mut sources) = (Vec::new(), Vec::new());
    walk(SIMULATED, &mut patches);
    walk("tests/sim", &mut sources);
    assert!(patches.len() >= 12, "{SIMULATED}: patches are gone");
    let is_source = |file: &&String| Path::new(file).extension().is_some_and(|it| it == "rs");
    let complaints: String = sources.iter().filter(is_source).map(|file| read(file)).collect();
    let document = read(DOCUMENT);
    let mut findings = Vec::new();
    for file in patches {
        let patch = read(&file);
        let caught_by = field(&patch, "Caught-by").unwrap_or_default();
        if caught_by.is_empty() || !complaints.contains(caught_by) {
            findings.push(format!("{file}: Caught-by: names no complaint of the simulation"));
        }
        findings.extend(stale(&file));
        findings.extend(untold(&file, &document));
    }
    tidy(&findings);
}
