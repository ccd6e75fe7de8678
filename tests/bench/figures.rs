//! Medians, spreads and ratios.

use std::fmt::Write as _;

use crate::scenario::{Against, Scenario};
use crate::stage::Figures;

/// What all runs of a scenario came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    own: Vec<Figures>,
    /// What it is judged by, run by run.
    rival: Vec<Figures>,
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
    /// Takes a run of the scenario.
    pub(crate) fn add(&mut self, figures: Figures) {
        self.own.push(figures);
    }

    /// Takes a run of what it is judged by.
    pub(crate) fn add_rival(&mut self, figures: Figures) {
        self.rival.push(figures);
    }

    fn of(&self, of: fn(&Figures) -> f64) -> Option<Spread> {
        Spread::of(self.own.iter().map(of))
    }

    /// Run by run, as a ratio to the rival's run just before or after it.
    fn beside(&self, of: fn(&Figures) -> f64) -> Option<Spread> {
        Spread::of(self.own.iter().zip(&self.rival).map(|(own, rival)| of(own) / of(rival)))
    }
}

/// One run, for whoever waits.
pub(crate) fn line(who: &str, figures: &Figures) -> String {
    let Figures { rate, processor, memory, of_bound } = figures;
    let mut line = format!(
        "{who:16} {rate:6.0} updates a second, {processor:.4} s of processor time for 1,000, \
         {memory:.0} MiB"
    );
    if *of_bound > 0.0 {
        let _infallible = write!(line, ", {of_bound:.3} of the bound");
    }
    line
}

/// All scenarios: ratios, with the spread over the runs.
pub(crate) fn table(outcomes: &[(Scenario, Outcome)]) -> String {
    let mut table = String::from(
        "| scenario | throughput | processor time | most memory, MiB |\n\
         | --- | --- | --- | --- |\n",
    );
    for (it, outcome) in outcomes {
        let shown = |spread: Option<Spread>, decimals: usize, what: &str| {
            spread.map(|it| format!("{} {what}", it.shown(decimals))).unwrap_or_default()
        };
        let ratios = |what: &str| {
            [
                shown(outcome.beside(|it| it.rate), 2, what),
                shown(outcome.beside(|it| it.processor), 2, what),
            ]
        };
        let [throughput, processor] = match it.against {
            Against::Bare => ratios("of bare"),
            Against::Other(other) => ratios(&format!("times {other}")),
            Against::Bound => {
                [shown(outcome.of(|it| it.of_bound), 3, "of the bound"), String::new()]
            }
            Against::Nothing => Default::default(),
        };
        let memory = outcome.of(|it| it.memory).map(|it| it.shown(0)).unwrap_or_default();
        let Scenario { name, about, .. } = it;
        // Writing to a String cannot fail.
        let _infallible =
            writeln!(table, "| `{name}`: {about} | {throughput} | {processor} | {memory} |");
    }
    table
}
