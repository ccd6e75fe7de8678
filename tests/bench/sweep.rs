//! One thing grows, all else stays: what an update costs then.

use std::fmt::Write as _;
use std::path::Path;

use crate::figures::Spread;
use crate::plot::{Line, plot};
use crate::scenario::{Against, BASE, REAL, Scenario};
use crate::stage::Figures;

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sweep {
    /// Shard queues, of one worker.
    Shards,
    /// Different orders.
    Orders,
    /// Updates that wait when the worker starts.
    Backlog,
    /// Unacked messages of a shard.
    Prefetch,
    /// Worker processes, where a service with latency is what is waited for.
    Workers,
}

impl Sweep {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Shards => "shards",
            Self::Orders => "orders",
            Self::Backlog => "backlog",
            Self::Prefetch => "prefetch",
            Self::Workers => "workers",
        }
    }

    /// The sizes, each with its scenario.
    pub(crate) fn points(self) -> Vec<(u32, Scenario)> {
        let base = Scenario { against: Against::Nothing, ..BASE };
        let prefetch = |size: u32| u16::try_from(size).unwrap_or(u16::MAX);
        let scenario = |size: u32| match self {
            Self::Shards => Scenario { shards: size, prefetch: 32, ..base },
            Self::Orders => Scenario { orders: size, ..base },
            Self::Backlog => Scenario { updates: size, orders: 10_000, ..base },
            Self::Prefetch => Scenario { prefetch: prefetch(size), ..base },
            Self::Workers => {
                Scenario { workers: size, shards: 64, prefetch: 32, updates: 9_000 * size, ..REAL }
            }
        };
        let sizes: &[u32] = match self {
            Self::Shards => &[1, 4, 16, 64, 256],
            Self::Orders => &[100, 1_000, 10_000, 100_000],
            Self::Backlog => &[10_000, 30_000, 100_000, 300_000],
            Self::Prefetch => &[16, 64, 256, 1_024],
            Self::Workers => &[1, 2, 4],
        };
        sizes.iter().map(|size| (*size, scenario(*size))).collect()
    }
}

/// What came of every run at one size.
pub(crate) type Measured = (u32, Vec<Figures>);

/// Ratios to the smallest size, as a table; and drawn.
pub(crate) fn told(sweep: Sweep, measured: &[Measured], folder: &Path) -> Result<String, String> {
    let middle = |figures: &[Figures], of: fn(&Figures) -> f64| {
        Spread::of(figures.iter().map(of)).map_or(f64::NAN, |spread| spread.median)
    };
    let first = measured.first().map(|(_, figures)| figures.as_slice()).unwrap_or_default();
    let ratios = |of: fn(&Figures) -> f64| -> Vec<(f64, f64)> {
        let base = middle(first, of);
        let at = |(size, figures): &Measured| (f64::from(*size), middle(figures, of) / base);
        measured.iter().map(at).collect()
    };
    let (rate, processor) = (ratios(|it| it.rate), ratios(|it| it.processor));
    let mut table = format!(
        "| {} | throughput | processor time of an update | most memory, MiB |\n| --- | --- | --- | --- |\n",
        sweep.name()
    );
    for (at, (size, figures)) in measured.iter().enumerate() {
        let [rate, processor] =
            [&rate, &processor].map(|all| all.get(at).map_or(f64::NAN, |point| point.1));
        let memory = middle(figures, |it| it.memory);
        // Writing to a String cannot fail.
        let _infallible = writeln!(table, "| {size} | {rate:.2} | {processor:.2} | {memory:.0} |");
    }
    let lines = [
        Line { name: "throughput", points: rate },
        Line { name: "processor time of an update", points: processor },
    ];
    let picture = plot(sweep.name(), &lines);
    let path = folder.join(format!("{}.svg", sweep.name()));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&path, picture))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(table)
}
