//! One run as a row of a table in Markdown, for `docs/PROOF.md`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;

use crate::Result;
use crate::options::Options;
use crate::report::Figure;
use crate::stage::Outcome;

/// Date, commit, broker, options, faults of each kind, updates, what was found that may not be, verdict.
pub(crate) fn row(options: &Options, seed: u64, outcome: &Outcome, figures: &[Figure]) -> String {
    let found = |name: &str| figures.iter().find(|it| it.name == name).map_or(0, |it| it.found);
    let kinds = options.kinds().into_iter();
    let faults: Vec<_> =
        kinds.map(|kind| format!("{} {}", kind.name(), outcome.count(kind))).collect();
    let promised: Vec<_> = figures.iter().filter(|it| it.is_promised_zero).collect();
    let broken = promised.iter().filter(|it| it.found > 0);
    let broken: Vec<_> = broken.map(|it| format!("{} {}", it.name, it.found)).collect();
    let late = found("late requests");
    let verdict = match (broken.is_empty(), late) {
        (true, 0) => "kept".to_owned(),
        (true, late) => format!("kept; late requests {late}"),
        (false, _) => format!("BROKEN: {}", broken.join(", ")),
    };
    let nodes =
        if options.cluster > 1 { format!(" × {}", options.cluster) } else { String::new() };
    let cells = [
        Timestamp::now().strftime("%Y-%m-%d").to_string(),
        commit(),
        format!("{}{nodes}", outcome.version),
        seed.to_string(),
        options.seconds.to_string(),
        format!("{}, {}", options.workers, options.mode()),
        faults.join(", "),
        found("published").to_string(),
        found("applied").to_string(),
        format!("{} / {}", found("replayed"), found("repeated")),
        format!("{} of {}", promised.len() - broken.len(), promised.len()),
        verdict,
    ];
    format!("| {} |", cells.join(" | "))
}

/// Which commit the program was built from, as the tree says; `-dirty` if it was changed since.
fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=8"]);
    let said = git.args(["--exclude=*"]).output().ok().filter(|output| output.status.success());
    let said = said.and_then(|output| String::from_utf8(output.stdout).ok());
    said.map_or("-".to_owned(), |said| said.trim().to_owned())
}

/// Appends a row to a file that ends with such a table.
pub(crate) fn append(file: &Path, row: &str) -> Result<()> {
    let appended = OpenOptions::new().append(true).create(true).open(file);
    let appended = appended.and_then(|mut file| writeln!(file, "{row}"));
    appended.map_err(|error| format!("{}: {error}", file.display()))
}
