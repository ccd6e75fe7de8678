//! The kinds of faults, and the seeded deck that they are drawn from.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

/// What can be done to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub(crate) enum Kind {
    /// SIGKILL to a worker; a new one starts.
    Kill,
    /// SIGTERM to a worker; a new one starts when it has ended.
    Term,
    /// One worker more, or one fewer.
    Scale,
    /// A worker's connections to the broker are reset.
    Reset,
    /// SIGSTOP to a worker until the broker has given it up, then SIGCONT.
    Stop,
    /// A worker's connections to the broker fall silent, and come back.
    Cut,
    /// A worker's connections to the service fall silent, and come back.
    Mute,
    /// A queue in the middle of the consistent-hash ring is unbound and bound again.
    Ring,
    /// The broker is restarted in good order.
    Broker,
    /// The broker is killed and started again.
    Crash,
}

/// What a fault does to messages on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grade {
    /// Nothing that was settled is lost, so nothing may be done again.
    Graceful,
    /// Acks may be lost: what was done may be done again, in order.
    Hard,
}

/// Faults of one lane happen one after the other, those of two lanes at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Over in a moment.
    Short,
    /// Last for several heartbeats. One at a time, so that there is progress.
    Long,
}

impl Kind {
    /// All kinds, in the order of the report.
    pub(crate) const ALL: [Self; 10] = [
        Self::Kill,
        Self::Term,
        Self::Scale,
        Self::Reset,
        Self::Stop,
        Self::Cut,
        Self::Mute,
        Self::Ring,
        Self::Broker,
        Self::Crash,
    ];

    /// As on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Term => "term",
            Self::Scale => "scale",
            Self::Reset => "reset",
            Self::Stop => "stop",
            Self::Cut => "cut",
            Self::Mute => "mute",
            Self::Ring => "ring",
            Self::Broker => "broker",
            Self::Crash => "crash",
        }
    }

    /// For the table.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL to a worker, and a new one",
            Self::Term => "SIGTERM to a worker, and a new one",
            Self::Scale => "a worker more, or one fewer",
            Self::Reset => "a worker's connections to the broker reset",
            Self::Stop => "SIGSTOP for more than three heartbeats, then SIGCONT",
            Self::Cut => "a worker's link to the broker silent, then healed",
            Self::Mute => "a worker's link to the service silent, then healed",
            Self::Ring => "a middle queue of the hash ring unbound and bound again",
            Self::Broker => "the broker restarted in good order",
            Self::Crash => "the broker killed and started again",
        }
    }

    /// Whether it is part of a run that names no kinds.
    ///
    /// A crash of the only broker needs a restart before the run, which takes longer than a short
    /// run should. After a mute, requests arrive that were given up long ago: that they change
    /// nothing is the service's doing, not ours, and the ledger counts them as writers all the same.
    pub(crate) const fn is_usual(self) -> bool {
        !matches!(self, Self::Crash | Self::Mute)
    }

    /// What it may do to messages.
    pub(crate) const fn grade(self) -> Grade {
        match self {
            Self::Term | Self::Scale | Self::Ring => Grade::Graceful,
            Self::Kill
            | Self::Reset
            | Self::Stop
            | Self::Cut
            | Self::Mute
            | Self::Broker
            | Self::Crash => Grade::Hard,
        }
    }

    /// Where it waits for its turn.
    pub(crate) const fn lane(self) -> Lane {
        match self {
            // The ring is worst where messages wait: while a worker is stopped or cut off.
            Self::Kill | Self::Term | Self::Scale | Self::Reset | Self::Ring => Lane::Short,
            Self::Stop | Self::Cut | Self::Mute | Self::Broker | Self::Crash => Lane::Long,
        }
    }
}

impl Lane {
    /// Pause after a fault. Long enough for some work to be done between two of them.
    const fn pause(self) -> Range<u64> {
        match self {
            Self::Short => 1_500..4_500,
            Self::Long => 1_000..4_000,
        }
    }
}

/// Draws each kind of a lane once, in random order, before any comes again.
#[derive(Debug)]
pub(crate) struct Deck {
    lane: Lane,
    kinds: Vec<Kind>,
    left: Vec<Kind>,
    rng: fastrand::Rng,
}

impl Deck {
    /// The faults of one lane.
    pub(crate) fn new(lane: Lane, kinds: &BTreeSet<Kind>, seed: u64) -> Self {
        let kinds = kinds.iter().copied().filter(|kind| kind.lane() == lane).collect();
        // Two lanes with one seed would draw in step.
        let rng = fastrand::Rng::with_seed(seed.wrapping_mul(2).wrapping_add(lane as u64));
        Self { lane, kinds, left: Vec::new(), rng }
    }

    /// The next fault, the pause before it, and dice for its details. `None` if the lane is empty.
    pub(crate) fn draw(&mut self) -> Option<(Duration, Kind, fastrand::Rng)> {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.rng.shuffle(&mut self.left);
        }
        let kind = self.left.pop()?;
        let pause = Duration::from_millis(self.rng.u64(self.lane.pause()));
        Some((pause, kind, self.rng.fork()))
    }
}
