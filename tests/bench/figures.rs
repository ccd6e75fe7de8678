//! Medians, spreads and ratios.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::scenario::{Against, Scenario};
use crate::stage::{Figures, Kind};

/// What all runs of a scenario came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    daemon: Vec<Figures>,
    bare: Vec<Figures>,
}

/// The middle one of several figures, between the least and the most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let median = *values.get(values.len() / 2)?;
        Some(Self { least: *values.first()?, median, most: *values.last()? })
    }

    fn shown(self, decimals: usize) -> String {
        let Self { least, median, most } = self;
        format!("{median:.decimals$} ({least:.decimals$} to {most:.decimals$})")
    }
}

impl Outcome {
    pub(crate) fn add(&mut self, kind: Kind, figures: Figures) {
        match kind {
            Kind::Daemon => self.daemon.push(figures),
            Kind::Bare => self.bare.push(figures),
        }
    }

    fn of(&self, of: fn(&Figures) -> f64) -> Option<Spread> {
        Spread::of(self.daemon.iter().map(of))
    }

    /// Run by run, with the one of the other kind beside it.
    fn beside_bare(&self, of: fn(&Figures) -> f64) -> Option<Spread> {
        let pairs = self.daemon.iter().zip(&self.bare);
        Spread::of(pairs.map(|(daemon, bare)| of(daemon) / of(bare)))
    }
}

/// One run, for whoever waits.
pub(crate) fn line(kind: Kind, figures: &Figures) -> String {
    let Figures { rate, processor, memory, of_bound } = figures;
    let mut line = format!(
        "{:11} {rate:6.0} updates a second, {processor:.4} s of processor time for 1,000, \
         {memory:.0} MiB",
        kind.name()
    );
    if *of_bound > 0.0 {
        let _infallible = write!(line, ", {of_bound:.3} of the bound");
    }
    line
}

/// All scenarios: ratios, with the spread over the runs.
pub(crate) fn table(scenarios: &[Scenario], outcomes: &BTreeMap<&str, Outcome>) -> String {
    let mut table = String::from(
        "| scenario | throughput | processor time | most memory, MiB |\n\
         | --- | --- | --- | --- |\n",
    );
    for it in scenarios {
        let Some(outcome) = outcomes.get(it.name) else { continue };
        let shown = |spread: Option<Spread>, what: &str| {
            spread.map(|it| format!("{} {what}", it.shown(2))).unwrap_or_default()
        };
        let beside = |other: &str, of: fn(&Figures) -> f64| {
            let base = outcomes.get(other).and_then(|it| it.of(of));
            outcome.of(of).zip(base).map(|(own, base)| Spread {
                least: own.least / base.median,
                median: own.median / base.median,
                most: own.most / base.median,
            })
        };
        let throughput = match it.against {
            Against::Bare => shown(outcome.beside_bare(|it| it.rate), "of bare"),
            Against::Bound => {
                let bound = outcome.of(|it| it.of_bound);
                bound.map(|it| format!("{} of the bound", it.shown(3))).unwrap_or_default()
            }
            Against::Other(other) => shown(beside(other, |it| it.rate), &format!("times {other}")),
            Against::Nothing => String::new(),
        };
        let processor = match it.against {
            Against::Bare => shown(outcome.beside_bare(|it| it.processor), "of bare"),
            Against::Other(other) => {
                shown(beside(other, |it| it.processor), &format!("times {other}"))
            }
            Against::Bound | Against::Nothing => String::new(),
        };
        let memory = outcome.of(|it| it.memory).map(|it| it.shown(0)).unwrap_or_default();
        let about = it.about;
        // Writing to a String cannot fail.
        let _infallible =
            writeln!(table, "| `{}`: {about} | {throughput} | {processor} | {memory} |", it.name);
    }
    table
}
