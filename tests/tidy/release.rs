//! That the changelog is kept, and that nothing is called a release which it does not tell.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use crate::files::{ROOT, read, tidy};

const CHANGELOG: &str = "CHANGELOG.md";

/// The parts of a section that Keep a Changelog knows.
const PARTS: [&str; 6] = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];

#[test]
fn changelog_has_its_sections_in_order_and_nothing_twice() {
    let (mut findings, mut versions, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    let text = read(CHANGELOG);
    for (number, line) in text.lines().enumerate() {
        let place = format!("{CHANGELOG}:{}", number + 1);
        if let Some(part) = line.strip_prefix("### ") {
            if !PARTS.contains(&part) {
                findings.push(format!("{place}: {part} is none of {PARTS:?}"));
            }
        } else if let Some(version) = line.strip_prefix("## ") {
            versions.push(version.to_owned());
        } else if line.starts_with("- ") && !seen.insert(line) {
            findings.push(format!("{place}: is there twice"));
        }
    }
    assert_eq!(versions[0], "[Unreleased]", "{CHANGELOG} begins with what is not released");
    let dated = regex::Regex::new(r"^\[(\d+)\.(\d+)\.(\d+)\] - (\d{4}-\d{2}-\d{2})$").unwrap();
    let mut before: Option<([u32; 3], String)> = None;
    for version in &versions[1..] {
        let Some(of) = dated.captures(version) else {
            findings.push(format!("{CHANGELOG}: {version} must be [1.2.3] - 2025-01-31"));
            continue;
        };
        let number = [1, 2, 3].map(|part| of[part].parse().unwrap());
        let this = (number, of[4].to_owned());
        if before.is_some_and(|it| it.0 <= this.0 || it.1 < this.1) {
            findings.push(format!("{CHANGELOG}: {version} stands behind an older one"));
        }
        before = Some(this);
    }
    tidy(&findings);
}

fn name(changelog: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("CHANGELOG.md");
    std::fs::write(&file, changelog).unwrap();
    let mut command = Command::new("bash");
    command
        .current_dir(ROOT)
        .args(["deploy/release.sh", "name"])
        .arg(&file)
        .args(["0.2.0", "abc1234"]);
    command.output().unwrap()
}

#[test]
fn what_the_changelog_does_not_tell_of_is_never_called_a_release() {
    let told =
        "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-12-01\n\n### Added\n\n- A thing.\n";
    let said = |text: &str| {
        let output = name(text);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(said(told), "orderwright-0.2.0\n");
    let other = told.replace("[0.2.0]", "[0.1.0]");
    assert_eq!(said(&other), "orderwright-0.2.0-unreleased.abc1234\n");
    // Neither one nor the other.
    for (wrong, why) in [
        (told.replace(" - 2026-12-01", ""), "wants the day"),
        (
            told.replace("[Unreleased]\n", "[Unreleased]\n\n### Fixed\n\n- Another one.\n"),
            "1 changes",
        ),
    ] {
        let output = name(&wrong);
        assert!(!output.status.success(), "{wrong}");
        assert!(output.stdout.is_empty() && String::from_utf8_lossy(&output.stderr).contains(why));
    }
}
