//! What a run is asked for.

use std::collections::BTreeSet;

use crate::fault::{Grade, Kind};

/// The simulator's property that tells the updates of an order apart.
pub(crate) const SEQUENCE_PROPERTY: &str = "UpdateSequence";

/// Publishes updates to a cluster of daemons while things go wrong, and checks what came of it.
#[derive(Debug, clap::Parser)]
#[command(name = "chaos")]
pub(crate) struct Options {
    /// How long faults are injected. Starting, healing and checking come on top.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..=7_200))]
    pub(crate) seconds: u64,
    /// Daemons at the start; scaling moves between 2 and two more than this.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(2..=16))]
    pub(crate) workers: u64,
    /// Repeats the same faults at the same times. Drawn and printed if omitted.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Kinds of faults. All that a healthy broker must survive, if omitted.
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Kind>,
    /// Shard queues.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub(crate) shards: u64,
    /// Orders that are updated.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(20..=100_000))]
    pub(crate) orders: u64,
    /// Updates published per second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) rate: u64,
    /// More settings of the daemons, such as `DRAIN__GRACE=2s`. They win over those of the run.
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',', value_parser = pair)]
    set: Vec<(String, String)>,
    /// The daemons refuse updates that are older than the order: nothing may be out of order then.
    #[arg(long)]
    fenced: bool,
    /// Every update carries its sequence, and the daemons write it: fenced.
    #[arg(long)]
    pub(crate) sequenced: bool,
    /// Keep the logs though everything went well.
    #[arg(long)]
    pub(crate) keep_logs: bool,
}

impl Options {
    /// The kinds of faults, each once.
    pub(crate) fn kinds(&self) -> BTreeSet<Kind> {
        if self.faults.is_empty() {
            return Kind::ALL.into_iter().filter(|kind| kind.is_usual()).collect();
        }
        self.faults.iter().copied().collect()
    }

    /// Whether the daemons refuse updates that are older than the order.
    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced || self.sequenced
    }

    /// Whether an older update may be written again, together with all that came after it.
    pub(crate) fn may_replay(&self) -> bool {
        !self.is_fenced() && self.kinds().into_iter().any(|kind| kind.grade() == Grade::Hard)
    }

    /// Whether messages of one order may stand in two queues: the ring changes over a backlog, by
    /// hand or because brokers such as 3.10 and 4.0 forget it at a restart.
    fn may_split(&self) -> bool {
        let changes = |kind| matches!(kind, Kind::Ring | Kind::Broker | Kind::Crash);
        self.kinds().into_iter().any(changes)
    }

    /// Whether an older update may be written after a newer one.
    pub(crate) fn may_reorder(&self) -> bool {
        !self.is_fenced() && self.may_split()
    }

    /// Whether an update may be left out because a newer one was written before. Not where the queues
    /// keep the order: what is refused there was written already.
    pub(crate) fn may_skip(&self) -> bool {
        self.is_fenced() && self.may_split()
    }

    /// The settings given by hand or by a flag, as pairs.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        let fence = self.sequenced.then_some(("GUARD__SEQUENCE_PROPERTY", SEQUENCE_PROPERTY));
        let by_hand = self.set.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        fence.into_iter().chain(by_hand)
    }
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("a setting is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
