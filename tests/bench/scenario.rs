//! What is measured, and what must come out.

use std::time::Duration;

/// How the updates are spread over the orders.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Keys {
    /// One after the other.
    Round,
    /// The n-th order gets a share of n^-1.1: a few orders get most.
    Zipf,
}

/// What a scenario is judged by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Against {
    /// The bare pipeline under the same conditions.
    Bare,
    /// The best that arithmetic allows.
    Bound,
    /// Another scenario, by its name: so many times its rate, and its processor time.
    Other(&'static str),
    /// Nothing: the figures are to be known.
    Nothing,
}

/// One set of conditions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Updates, of which [`Self::measured`] tells which are measured.
    pub(crate) updates: u32,
    pub(crate) orders: u32,
    pub(crate) keys: Keys,
    pub(crate) shards: u32,
    pub(crate) workers: u32,
    pub(crate) concurrency: u32,
    /// Unacked messages of each shard.
    pub(crate) prefetch: u16,
    /// Of a GET and of a PATCH.
    pub(crate) latency: [Duration; 2],
    /// More flags for the simulator.
    pub(crate) simulator: &'static [&'static str],
    /// More settings of the daemon.
    pub(crate) settings: &'static [(&'static str, &'static str)],
    pub(crate) against: Against,
}

/// Several updates of an order are written as one.
pub(crate) const MERGED: (&str, &str) = ("DISPATCH__COALESCE", "merge");

/// The service is spoken to over HTTP/2, without TLS as in all of these.
const HTTP2: (&str, &str) = ("TARGET__HTTP_VERSION", "http2");

/// No latency, one shard, 64 at work.
pub(crate) const BASE: Scenario = Scenario {
    name: "",
    about: "",
    updates: 30_000,
    orders: 4_000,
    keys: Keys::Round,
    shards: 1,
    workers: 1,
    concurrency: 64,
    prefetch: 256,
    latency: [Duration::ZERO; 2],
    simulator: &[],
    settings: &[],
    against: Against::Bare,
};

/// The latency of a real service: 40 ms for a GET, 80 ms for a PATCH, 52 at work.
pub(crate) const REAL: Scenario = Scenario {
    updates: 9_000,
    concurrency: 52,
    latency: [Duration::from_millis(40), Duration::from_millis(80)],
    against: Against::Bound,
    ..BASE
};

/// All of them, in the order in which they are measured.
pub(crate) const SCENARIOS: [Scenario; 18] = [
    Scenario { name: "fast-64", about: "no latency, 64 at work", ..BASE },
    Scenario {
        name: "fast-256",
        about: "no latency, 256 at work",
        concurrency: 256,
        prefetch: 1024,
        ..BASE
    },
    Scenario {
        name: "fast-64-shards",
        about: "the same as fast-64 over 64 shards",
        shards: 64,
        prefetch: 32,
        against: Against::Other("fast-64"),
        ..BASE
    },
    Scenario {
        name: "fast-64-http2",
        about: "the same as fast-64 over HTTP/2",
        settings: &[HTTP2],
        against: Against::Other("fast-64"),
        ..BASE
    },
    Scenario {
        name: "fast-zipf",
        about: "no latency, Zipf(1.1) keys",
        keys: Keys::Zipf,
        against: Against::Nothing,
        ..BASE
    },
    Scenario {
        name: "silent",
        about: "fast-64 without log and admin listener",
        settings: &[("LOG__LEVEL", "off"), ("ADMIN__LISTEN", "")],
        ..BASE
    },
    Scenario { name: "real-52", about: "40 + 80 ms, 52 at work", ..REAL },
    Scenario { name: "real-52-http2", about: "the same over HTTP/2", settings: &[HTTP2], ..REAL },
    Scenario {
        name: "real-52-shards",
        about: "the same over 64 shards",
        shards: 64,
        prefetch: 32,
        against: Against::Other("real-52"),
        ..REAL
    },
    Scenario {
        name: "real-zipf",
        about: "40 + 80 ms, Zipf(1.1) keys",
        updates: 1_200,
        orders: 2_000,
        keys: Keys::Zipf,
        prefetch: 1_024,
        ..REAL
    },
    Scenario {
        name: "real-1-worker",
        about: "40 + 80 ms, 1 worker over 64 shards",
        shards: 64,
        prefetch: 32,
        ..REAL
    },
    Scenario {
        name: "real-2-workers",
        about: "40 + 80 ms, 2 workers",
        updates: 18_000,
        workers: 2,
        shards: 64,
        prefetch: 32,
        against: Against::Other("real-1-worker"),
        ..REAL
    },
    Scenario {
        name: "real-4-workers",
        about: "40 + 80 ms, 4 workers",
        updates: 36_000,
        workers: 4,
        shards: 64,
        prefetch: 32,
        against: Against::Other("real-1-worker"),
        ..REAL
    },
    Scenario {
        name: "troubled",
        about: "20 % conflicts and 5 % 503, 40 + 80 ms",
        simulator: &["--conflict-rate", "0.2", "--error-rate", "0.05"],
        against: Against::Nothing,
        ..REAL
    },
    Scenario {
        name: "deep",
        about: "a backlog of 1,000,000, 256 at work",
        updates: 1_000_000,
        orders: 100_000,
        concurrency: 256,
        prefetch: 1_024,
        against: Against::Nothing,
        ..BASE
    },
    Scenario {
        name: "hot-order",
        about: "1,000 updates of one order, 40 + 80 ms",
        updates: 1_000,
        orders: 1,
        prefetch: 1_024,
        against: Against::Bound,
        ..REAL
    },
    Scenario {
        name: "hot-order-merged",
        about: "the same with coalesce = merge",
        updates: 1_000,
        orders: 1,
        prefetch: 1_024,
        settings: &[MERGED],
        against: Against::Other("hot-order"),
        ..REAL
    },
    Scenario { name: "idle", about: "one update at a time", updates: 1_000, ..BASE },
];

impl Scenario {
    /// Which order the update of this number is for.
    pub(crate) fn order(&self, number: u32, spread: &[f64], dice: &mut fastrand::Rng) -> u32 {
        match self.keys {
            Keys::Round => number % self.orders,
            Keys::Zipf => {
                let drawn = dice.f64() * spread.last().copied().unwrap_or(1.0);
                u32::try_from(spread.partition_point(|it| *it < drawn)).unwrap_or(0)
            }
        }
    }

    /// Shares of the orders, summed up.
    pub(crate) fn spread(&self) -> Vec<f64> {
        let share = |rank: u32| f64::from(rank).powf(-1.1);
        let sums = (1..=self.orders).scan(0.0, |sum, rank| {
            *sum += share(rank);
            Some(*sum)
        });
        sums.collect()
    }

    /// So many of the updates are measured, the first tenth included, which is not. Nor is the last one: shards and
    /// workers come to their ends one after the other, and what those do that are left is no measure of all. But where a
    /// chain of one order takes longest, it is measured to its end.
    pub(crate) fn measured(&self) -> u32 {
        let is_chain = self.orders == 1 || self.keys == Keys::Zipf;
        if is_chain { self.updates } else { self.updates - self.updates / 10 }
    }

    /// Seconds that so many updates, of which `hottest` are for one order, take at least.
    pub(crate) fn bound(&self, updates: u32, hottest: u32) -> f64 {
        let one = self.latency.iter().sum::<Duration>().as_secs_f64();
        let lanes = f64::from(self.concurrency * self.workers);
        (f64::from(updates) / lanes).max(f64::from(hottest)) * one
    }
}
