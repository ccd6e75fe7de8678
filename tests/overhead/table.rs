//! What the runs came to: ratios within each round, because what a machine does beside them changes from
//! round to round.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{KINDS, Result};

/// What one run came to.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Updates a second.
    pub(crate) rate: f64,
    /// Seconds of processor time of the daemon for 1,000 updates.
    pub(crate) processor: f64,
    /// Most memory that the daemon had in use, in MiB.
    pub(crate) memory: f64,
}

/// One run of each kind, in the order of the kinds. The first has nothing on.
pub(crate) type Round = Vec<Figures>;

/// Rounds that were kept by earlier runs of the same build.
pub(crate) fn kept(file: &Path) -> Result<Vec<Round>> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("{}: {error}", file.display())),
    };
    let round = |line: &str| {
        let round: Round = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if round.len() == KINDS.len() { Ok(round) } else { Err("another table's round".to_owned()) }
    };
    text.lines().map(round).collect::<Result<_>>().map_err(|it| format!("{}: {it}", file.display()))
}

/// Adds a round to them.
pub(crate) fn keep(file: &Path, round: &Round) -> Result<()> {
    let failed = |error: std::io::Error| format!("{}: {error}", file.display());
    let mut out = OpenOptions::new().create(true).append(true).open(file).map_err(failed)?;
    let line = serde_json::to_string(round).map_err(|error| error.to_string())?;
    writeln!(out, "{line}").map_err(failed)
}

/// A median, the quarters between which half of the values lie, and the ends.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    median: f64,
    lower: f64,
    upper: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let last = values.len().saturating_sub(1);
        let at = |quarter: usize| values.get(last * quarter / 4).copied().unwrap_or_default();
        Self { median: at(2), lower: at(1), upper: at(3), least: at(0), most: at(4) }
    }

    fn ratio(self) -> String {
        let Self { median, lower, upper, .. } = self;
        format!("{median:.2} ({lower:.2} to {upper:.2})")
    }

    /// What is asked for must be enough for the worst of them.
    fn memory(self) -> String {
        let Self { median, least, most, .. } = self;
        format!("{median:.0} MiB ({least:.0} to {most:.0})")
    }
}

/// Medians over the rounds; each ratio is that of a run to the one with nothing on in the same round.
pub(crate) fn table(rounds: &[Round]) -> String {
    let mut table = String::from(
        "| what is on | updates a second | ratio | processor time for 1,000 | ratio | peak memory |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for (index, kind) in KINDS.iter().enumerate() {
        let each = |of: fn(&Figures, &Figures) -> f64| {
            let values =
                rounds.iter().filter_map(|round| Some(of(round.get(index)?, round.first()?)));
            Spread::of(values.collect())
        };
        let (rate, processor) = (each(|it, _| it.rate), each(|it, _| it.processor));
        let (rates, processors) =
            (each(|it, off| it.rate / off.rate), each(|it, off| it.processor / off.processor));
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            table,
            "| {} | {:.0} | {} | {:.3} s | {} | {} |",
            kind.name,
            rate.median,
            rates.ratio(),
            processor.median,
            processors.ratio(),
            each(|it, _| it.memory).memory(),
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_within_a_round() {
        // Each round is slower than the one before, and the second kind takes a tenth of each.
        let round = |speed: f64| {
            let kind = |share: f64| Figures {
                rate: speed * share,
                processor: 1.0 / (speed * share),
                memory: speed / 10.0,
            };
            let mut round = vec![kind(1.0), kind(0.9)];
            round.resize(KINDS.len(), kind(0.5));
            round
        };
        let rounds: Vec<_> = [1000.0, 500.0, 250.0].map(round).into();
        let table = table(&rounds);
        let rows: Vec<_> = table.lines().skip(2).collect();
        assert!(rows[0].contains("| 500 | 1.00 (1.00 to 1.00) |"), "{table}");
        assert!(rows[1].contains("| 450 | 0.90 (0.90 to 0.90) |"), "{table}");
        assert!(rows[1].ends_with("| 1.11 (1.11 to 1.11) | 50 MiB (25 to 100) |"), "{table}");
    }

    #[test]
    fn half_of_the_values_lie_between_the_quarters() {
        let spread = Spread::of(vec![9.0, 1.0, 3.0, 7.0, 5.0]);
        let wanted = Spread { median: 5.0, lower: 3.0, upper: 7.0, least: 1.0, most: 9.0 };
        assert_eq!(spread, wanted);
    }
}
