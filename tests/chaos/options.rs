//! What a run is asked for.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::fault::{Grade, Kind};

/// The simulator's property that tells the updates of an order apart.
pub(crate) const SEQUENCE_PROPERTY: &str = "UpdateSequence";

/// The queue that publishers use with `--inbox`.
pub(crate) const INBOX: &str = "orderwright-inbox";

/// Publishes updates to a cluster of daemons while things go wrong, and checks what came of it.
#[derive(Debug, clap::Parser)]
#[command(name = "chaos")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Options {
    /// How long faults are injected; up to half as long again until each kind has come about once in
    /// each minute of it. Starting, healing and checking come on top.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..=7_200))]
    pub(crate) seconds: u64,
    /// Daemons at the start; scaling moves between 2 and two more than this.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=16))]
    pub(crate) workers: u64,
    /// Repeats the same faults at the same times. Drawn and printed if omitted.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Kinds of faults. All that a healthy broker must survive, if omitted.
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Kind>,
    /// Shard queues.
    #[arg(long, default_value_t = 16, default_value_if("measure", "true", "64"), value_parser = clap::value_parser!(u64).range(1..=256))]
    pub(crate) shards: u64,
    /// Orders that are updated.
    #[arg(long, default_value_t = 300, default_value_if("measure", "true", "1000"), value_parser = clap::value_parser!(u64).range(20..=100_000))]
    pub(crate) orders: u64,
    /// Updates published per second.
    #[arg(long, default_value_t = 200, default_value_if("measure", "true", "400"), value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) rate: u64,
    /// More settings of the daemons, such as `DRAIN__GRACE=2s`. They win over those of the run.
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',', value_parser = pair)]
    set: Vec<(String, String)>,
    /// The daemons refuse updates that are older than the order: nothing may be out of order then.
    #[arg(long)]
    pub(crate) fenced: bool,
    /// Every update carries its sequence, and the daemons write it: fenced.
    #[arg(long)]
    pub(crate) sequenced: bool,
    /// Publishers use one queue with a single active consumer, and the daemons forward from it: no
    /// ring decides anything.
    #[arg(long, conflicts_with = "sequenced")]
    pub(crate) inbox: bool,
    /// Dead letters park their orders, and of every fifth order the service refuses one update.
    #[arg(long, conflicts_with = "sequenced")]
    pub(crate) parked: bool,
    /// Nodes of the broker. With more than one, nodes are lost one at a time instead of the broker.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=7))]
    pub(crate) cluster: u64,
    /// How long the simulator takes for a GET: median and 99th percentile.
    #[arg(long, default_value = "2ms..10ms")]
    pub(crate) get_latency: String,
    /// How long the simulator takes for a PATCH. It goes on though its client is gone.
    #[arg(long, default_value = "5ms..30ms")]
    pub(crate) patch_latency: String,
    /// Share of PATCHes just before which somebody else changes the order.
    #[arg(long, default_value_t = 0.1)]
    pub(crate) conflict_rate: f64,
    /// Run this program as the daemon, instead of the one that was built with this.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) daemon: Option<PathBuf>,
    /// Append a row of figures to this file, such as `docs/PROOF.md`.
    #[arg(long, value_name = "FILE")]
    pub(crate) proof: Option<PathBuf>,
    /// Measure how long shards are without a pod, and how even they lie, instead of making trouble.
    #[arg(long)]
    pub(crate) measure: bool,
    /// Keep the logs though everything went well.
    #[arg(long)]
    pub(crate) keep_logs: bool,
}

impl Options {
    /// The kinds of faults, each once.
    pub(crate) fn kinds(&self) -> BTreeSet<Kind> {
        if self.faults.is_empty() {
            let usual = Kind::ALL.into_iter().filter(|kind| kind.is_usual());
            return usual.filter(|kind| kind.fits(self.cluster)).collect();
        }
        self.faults.iter().copied().collect()
    }

    /// Whether the daemons refuse updates that are older than the order.
    pub(crate) const fn is_fenced(&self) -> bool {
        self.fenced || self.sequenced
    }

    /// Why these options make no sense together.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self.kinds().into_iter().find(|kind| !kind.fits(self.cluster)) {
            Some(kind) => Err(format!("{} does not go with {} nodes", kind.name(), self.cluster)),
            None => Ok(()),
        }
    }

    /// How often each kind of fault comes about at least, if the machine is not far too slow.
    pub(crate) const fn due(&self) -> u64 {
        self.seconds / Kind::SECONDS_EACH
    }

    /// For how long faults go on beyond their time at most, where a kind has come about less often than that.
    pub(crate) const fn more_seconds_max(&self) -> u64 {
        self.seconds / 2
    }

    /// Whether a copy of an update can arrive long after it was published again: what was sent to a
    /// node that froze is read when it goes on.
    pub(crate) fn may_arrive_late(&self) -> bool {
        self.kinds().contains(&Kind::Freeze)
    }

    /// Whether an older update may be written again, together with all that came after it.
    pub(crate) fn may_replay(&self) -> bool {
        !self.is_fenced() && self.kinds().into_iter().any(|kind| kind.grade() == Grade::Hard)
    }

    /// Whether messages of one order may stand in two queues: the ring changes over a backlog, by
    /// hand or because brokers such as 3.10 and 4.0 forget it at a restart.
    fn may_split(&self) -> bool {
        let changes = |kind| matches!(kind, Kind::Ring | Kind::Broker | Kind::Crash);
        !self.inbox && self.kinds().into_iter().any(changes)
    }

    /// What is done for the order of updates, in a word.
    pub(crate) const fn mode(&self) -> &'static str {
        match (self.sequenced, self.inbox, self.parked) {
            (true, _, _) => "sequenced",
            (false, true, false) => "inbox",
            (false, false, false) => "plain",
            (false, true, true) => "parked, inbox",
            (false, false, true) => "parked",
        }
    }

    /// Whether an older update may be written after a newer one.
    pub(crate) fn may_reorder(&self) -> bool {
        !self.is_fenced() && self.may_split()
    }

    /// Whether an update may be left out because a newer one was written before, and leave no letter. Not
    /// where the queues keep the order: what is refused there was written already.
    pub(crate) fn may_skip(&self) -> bool {
        self.is_fenced() && !self.sequenced && self.may_split()
    }

    /// The settings given by hand or by a flag, as pairs.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        // What is superseded leaves a letter: otherwise it could not be told from what is lost.
        let letter = self.sequenced.then_some(("GUARD__SUPERSEDED", "dead_letter"));
        let fence = self.sequenced.then_some(("GUARD__SEQUENCE_PROPERTY", SEQUENCE_PROPERTY));
        let by_hand = self.set.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let inbox = self.inbox.then_some(("TOPOLOGY__INTAKE", INBOX));
        let park = self.parked.then_some(("DEAD_LETTER__ON_DEAD_LETTER", "park"));
        fence.into_iter().chain(letter).chain(inbox).chain(park).chain(by_hand)
    }
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("a setting is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
