//! The kinds of faults, and the seeded deck that they are drawn from.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

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
    /// The service refuses most requests as too many, for a while.
    Throttle,
    /// The service answers everything, of every worker, as one that is down, for a while.
    Down,
    /// A queue in the middle of the consistent-hash ring is unbound and bound again.
    Ring,
    /// Another number of shards; half of the time the command is killed and started again.
    Reshard,
    /// The broker is restarted in good order.
    Broker,
    /// The broker is killed and started again.
    Crash,
    /// One node of a cluster is killed, and started again after a while.
    Node,
    /// SIGSTOP to one node of a cluster until the others have given it up, then SIGCONT.
    Freeze,
}

/// What a fault does to messages on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grade {
    /// Nothing that was settled is lost, so nothing may be done again.
    Graceful,
    /// Acks may be lost: what was done may be done again, in order.
    Hard,
}

/// Faults of one lane happen one after the other, those of different lanes at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// What strikes a worker and is over in a moment.
    Worker,
    /// A worker that is not heard of for several heartbeats. One at a time, so that there is progress.
    Silence,
    /// The service: out of a worker's reach, or in trouble for all of them.
    Service,
    /// The broker, or one of its nodes: never two at a time.
    Broker,
    /// The number of shards.
    Shards,
}

impl Kind {
    /// All kinds, in the order of the report.
    pub(crate) const ALL: [Self; 15] = [
        Self::Kill,
        Self::Term,
        Self::Scale,
        Self::Reset,
        Self::Stop,
        Self::Cut,
        Self::Mute,
        Self::Throttle,
        Self::Down,
        Self::Ring,
        Self::Reshard,
        Self::Broker,
        Self::Crash,
        Self::Node,
        Self::Freeze,
    ];

    /// In so many seconds each kind comes about once at least: the rounds of the longest lane are
    /// shorter than this.
    pub(crate) const SECONDS_EACH: u64 = 60;

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
            Self::Throttle => "throttle",
            Self::Down => "down",
            Self::Ring => "ring",
            Self::Reshard => "reshard",
            Self::Broker => "broker",
            Self::Crash => "crash",
            Self::Node => "node",
            Self::Freeze => "freeze",
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
            Self::Throttle => "the service takes three quarters of what is needed, then all again",
            Self::Down => "the service answers 503, 401, 403, pages or no tags, then well again",
            Self::Ring => "a middle queue of the hash ring unbound and bound again",
            Self::Reshard => "another number of shards, by a command that may be killed",
            Self::Broker => "the broker (of a cluster one node) restarted in good order",
            Self::Crash => "the broker killed and started again",
            Self::Node => "a node of the cluster killed, and later started again",
            Self::Freeze => "a node of the cluster stopped past the tick time, then continued",
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

    /// Whether it can be done to a broker of so many nodes. A whole cluster is never killed.
    pub(crate) const fn fits(self, nodes: u64) -> bool {
        match self {
            Self::Node | Self::Freeze => nodes >= 3,
            Self::Crash => nodes == 1,
            Self::Kill
            | Self::Term
            | Self::Scale
            | Self::Reset
            | Self::Stop
            | Self::Cut
            | Self::Mute
            | Self::Throttle
            | Self::Down
            | Self::Ring
            | Self::Reshard
            | Self::Broker => true,
        }
    }

    /// What it may do to messages.
    pub(crate) const fn grade(self) -> Grade {
        match self {
            Self::Term | Self::Scale | Self::Throttle | Self::Down | Self::Ring | Self::Reshard => {
                Grade::Graceful
            }
            Self::Kill
            | Self::Reset
            | Self::Stop
            | Self::Cut
            | Self::Mute
            | Self::Broker
            | Self::Crash
            | Self::Node
            | Self::Freeze => Grade::Hard,
        }
    }

    /// Where it waits for its turn.
    pub(crate) const fn lane(self) -> Lane {
        match self {
            // The ring is worst where messages wait: while a worker is stopped or cut off.
            Self::Kill | Self::Term | Self::Scale | Self::Reset | Self::Ring => Lane::Worker,
            Self::Stop | Self::Cut => Lane::Silence,
            Self::Mute | Self::Throttle | Self::Down => Lane::Service,
            Self::Reshard => Lane::Shards,
            Self::Broker | Self::Crash | Self::Node | Self::Freeze => Lane::Broker,
        }
    }
}

impl Lane {
    /// All lanes.
    pub(crate) const ALL: [Self; 5] =
        [Self::Worker, Self::Silence, Self::Service, Self::Broker, Self::Shards];

    /// Pause before a fault, in milliseconds. Long enough for some work to be done between two of
    /// them, and short enough that every kind of the lane has its turn in [`Kind::SECONDS_EACH`].
    const fn pause(self) -> Range<u64> {
        match self {
            Self::Worker => 1_500..4_500,
            Self::Silence => 1_000..3_000,
            Self::Service => 4_000..10_000,
            Self::Broker => 14_000..26_000,
            // There and back takes a minute and more while workers are silent: no time to lose.
            Self::Shards => 500..1_500,
        }
    }
}

/// How long faults go on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term {
    /// The time is up, if each kind came about as often as it is due.
    pub(crate) until: Instant,
    /// It is up in any case.
    pub(crate) latest: Instant,
    /// How often each kind is to come about.
    pub(crate) due: u64,
}

impl Term {
    /// Whether no fault is done at this time any more, in a lane whose rarest kind came so often.
    pub(crate) fn is_over(self, at: Instant, rarest: u64) -> bool {
        at >= self.latest || (at >= self.until && rarest >= self.due)
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
        // Lanes with one seed would draw in step.
        let rng = fastrand::Rng::with_seed(seed.wrapping_mul(8).wrapping_add(lane as u64));
        Self { lane, kinds, left: Vec::new(), rng }
    }

    /// The kinds that it draws.
    pub(crate) fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The next fault, the pause before it, and dice for its details. `None` if the lane is empty.
    pub(crate) fn draw(&mut self) -> Option<(Duration, Kind, fastrand::Rng)> {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.rng.shuffle(&mut self.left);
        }
        let kind = self.left.pop()?;
        let pause = Duration::from_millis(self.rng.u64(self.lane.pause()));
        // Several kinds of trouble with the broker share the time of one.
        let among = u32::try_from(self.kinds.len()).unwrap_or(u32::MAX);
        let pause = if self.lane == Lane::Broker { pause / among } else { pause };
        Some((pause, kind, self.rng.fork()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_of_one_lane_and_has_its_turn_before_any_comes_again() {
        let all: BTreeSet<Kind> = Kind::ALL.into_iter().collect();
        let mut drawn = Vec::new();
        for lane in Lane::ALL {
            let count = all.iter().filter(|kind| kind.lane() == lane).count();
            let mut deck = Deck::new(lane, &all, 7);
            let rounds: Vec<BTreeSet<Kind>> = (0..5)
                .map(|_| (0..count).filter_map(|_| deck.draw()).map(|(_, kind, _)| kind).collect())
                .collect();
            assert!(rounds.iter().all(|round| round.len() == count), "{lane:?}: {rounds:?}");
            drawn.extend(rounds.into_iter().flatten());
        }
        assert!(all.iter().all(|kind| drawn.iter().filter(|it| *it == kind).count() == 5));
    }

    #[test]
    fn same_seed_draws_the_same_faults_at_the_same_times() {
        let all = Kind::ALL.into_iter().collect();
        let draw = |seed| {
            let mut deck = Deck::new(Lane::Worker, &all, seed);
            let drawn = (0..20).filter_map(|_| deck.draw()).map(|(pause, kind, _)| (pause, kind));
            drawn.collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn faults_go_on_until_each_kind_came_as_often_as_it_is_due_but_not_for_ever() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let term = Term { until: at(300), latest: at(450), due: 5 };
        assert!(!term.is_over(at(299), 9));
        assert!(term.is_over(at(300), 5) && !term.is_over(at(300), 4));
        assert!(!term.is_over(at(449), 4) && term.is_over(at(450), 0));
    }

    #[test]
    fn every_kind_is_in_the_list_of_the_document() {
        let document = include_str!("../../CONTRIBUTING.md");
        let row = document.lines().find(|line| line.starts_with("| `FAULTS` |")).unwrap();
        let named: BTreeSet<&str> = row.split(|it: char| !it.is_ascii_lowercase()).collect();
        let missing: Vec<_> = Kind::ALL.iter().filter(|it| !named.contains(it.name())).collect();
        assert!(missing.is_empty(), "{missing:?} in {row}");
    }
}
