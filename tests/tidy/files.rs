//! The files of the repository, as the rules look at them.

use std::fs;
use std::path::Path;
use std::process::Command;

pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// These tests name everything that they ban.
pub(crate) fn is_ours(path: &str) -> bool {
    path.starts_with("tests/tidy")
}

/// One line of a file, with its place.
pub(crate) struct Line<'a> {
    pub(crate) place: String,
    pub(crate) text: &'a str,
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The tracked files, or where there is no Git all but what a build makes.
pub(crate) fn tracked() -> Vec<String> {
    let git = Command::new("git").args(["-C", ROOT, "ls-files"]).output();
    if let Ok(output) = git
        && output.status.success()
    {
        let names = String::from_utf8(output.stdout).unwrap();
        let there = |name: &&str| Path::new(ROOT).join(name).is_file();
        return names.lines().filter(there).map(str::to_owned).collect();
    }
    let mut files = Vec::new();
    walk("", &mut files);
    files
}

pub(crate) fn walk(folder: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(Path::new(ROOT).join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if [".git", ".cache", "target"].contains(&name.as_str()) {
            continue;
        }
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if entry.file_type().unwrap().is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

/// Rust files below these folders, in order.
pub(crate) fn rust(folders: &[&str]) -> Vec<String> {
    let mut files = Vec::new();
    for folder in folders {
        walk(folder, &mut files);
    }
    let path = Path::new;
    files.retain(|file| path(file).extension().is_some_and(|it| it == "rs") && !is_ours(file));
    files.sort();
    assert!(!files.is_empty(), "nothing to look at in {folders:?}");
    files
}

pub(crate) fn is_tests(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// Up to where the unit tests begin.
pub(crate) fn before_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default()
}

/// Lines that are no comments.
pub(crate) fn code<'a>(path: &str, text: &'a str) -> Vec<Line<'a>> {
    let place = |number: usize| format!("{path}:{}", number + 1);
    let lines = text.lines().enumerate();
    let lines = lines.map(|(number, text)| Line { place: place(number), text });
    lines.filter(|line| !line.text.trim_start().starts_with("//")).collect()
}

pub(crate) fn tidy(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}
