//! What a seed stands for: how many of what, and which faults when. A fault or an update can be taken out
//! and the rest stays, so that a failing plan shrinks.

use std::time::Duration;

use orderwright::config::{self, Settings};
use orderwright::shard::shard_of;
use orderwright::simulator::latency::Latency;

use crate::fault::{Fault, KINDS, SERVICE};

/// An update that is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) at: Duration,
    /// From 1.
    pub(crate) order: usize,
    /// Its number among those of its order, from 1.
    pub(crate) number: u64,
    /// No JSON at all.
    pub(crate) is_garbage: bool,
    /// The shard queue that it is published to.
    pub(crate) shard: u16,
}

#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) pods: usize,
    pub(crate) shards: u16,
    pub(crate) orders: usize,
    pub(crate) prefetch: u16,
    pub(crate) concurrency: usize,
    /// Updates carry a sequence, and it is written.
    pub(crate) is_sequenced: bool,
    /// The hash ring is scrambled: messages of an order stand in several shard queues.
    pub(crate) is_scrambled: bool,
    /// Updates of an order that wait in a row are written as one.
    pub(crate) is_merging: bool,
    /// Requests wait before they are written, as for a token.
    pub(crate) is_lingering: bool,
    /// Most acks that a channel of the broker passes on to a queue at once. RabbitMQ has 32, which takes more
    /// messages than a seed has; fewer are harder.
    pub(crate) passed_max: usize,
    pub(crate) updates: Vec<Update>,
    pub(crate) faults: Vec<(Duration, Fault)>,
    latency: u64,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (pods, shards) = (rng.usize(1..=4), rng.u16(1..=6));
        let orders = rng.usize(1..=10);
        let length = Duration::from_secs(rng.u64(10..=120));
        let is_scrambled = rng.u8(..6) == 0;
        let mut plan = Self {
            seed,
            pods,
            shards,
            orders,
            prefetch: rng.choice([1, 3, 8, 32]).unwrap_or(8),
            concurrency: rng.choice([1, 2, 8, 52]).unwrap_or(8),
            is_sequenced: rng.u8(..4) == 0,
            is_scrambled,
            is_merging: rng.u8(..3) == 0,
            is_lingering: rng.u8(..3) == 0,
            passed_max: rng.choice([1, 2, 8, 32]).unwrap_or(32),
            updates: Vec::new(),
            faults: Vec::new(),
            latency: rng.choice([5, 50, 400, 2000]).unwrap_or(50),
        };
        plan.publish(&mut rng, length);
        plan.spoil(&mut rng, length);
        plan
    }

    fn publish(&mut self, rng: &mut fastrand::Rng, length: Duration) {
        let mut numbers = vec![0; self.orders + 1];
        let mut times: Vec<Duration> = Vec::new();
        let count = rng.usize(5..=60);
        while times.len() < count {
            // One by one, or many at once.
            let at = length.mul_f64(rng.f64());
            for _ in 0..rng.choice([1, 1, 1, 6]).unwrap_or(1) {
                times.push(at);
            }
        }
        times.sort_unstable();
        let hot = rng.usize(1..=self.orders);
        for at in times {
            let order = if rng.u8(..3) == 0 { hot } else { rng.usize(1..=self.orders) };
            numbers[order] += 1;
            let home = shard_of(&key(order), self.shards);
            let strays = self.is_scrambled && rng.u8(..3) == 0;
            let shard = if strays { rng.u16(..self.shards) } else { home };
            let is_garbage = rng.u8(..25) == 0;
            self.updates.push(Update { at, order, number: numbers[order], is_garbage, shard });
        }
    }

    fn spoil(&mut self, rng: &mut fastrand::Rng, length: Duration) {
        // A swarm: each seed has some kinds of faults only, and those more often.
        let kinds: Vec<usize> = (0..KINDS.len()).filter(|_| rng.u8(..3) == 0).collect();
        let count = if kinds.is_empty() { 0 } else { rng.usize(1..=14) };
        for _ in 0..count {
            // Half of them while something is at work.
            let at = match rng.choice(&self.updates).filter(|_| rng.bool()) {
                Some(update) => update.at + Duration::from_millis(rng.u64(..6 * self.latency + 50)),
                None => length.mul_f64(rng.f64()),
            };
            let pod = rng.usize(..self.pods);
            let kind = rng.choice(&kinds).copied().unwrap_or_default();
            let seconds = |rng: &mut fastrand::Rng, most: u64| {
                Duration::from_millis(rng.u64(10..=most * 1000))
            };
            let way = |rng: &mut fastrand::Rng| match rng.u8(..3) {
                0 => [true, false],
                1 => [false, true],
                _ => [true, true],
            };
            let of_ten = rng.u8(1..=8);
            let fault = match kind {
                0 => Fault::Kill(pod, seconds(rng, 5)),
                1 => Fault::Term(pod, seconds(rng, 5)),
                2 => Fault::Stop(pod, seconds(rng, 60)),
                3 => Fault::CutBroker(pod, way(rng), seconds(rng, 60)),
                4 => Fault::CutTarget(pod, way(rng), seconds(rng, 20)),
                5 => Fault::Reset(pod, rng.bool()),
                6 => Fault::FailOver(seconds(rng, 10)),
                7 => Fault::Slow(seconds(rng, 20), seconds(rng, 30)),
                8 => Fault::LoseReplies(of_ten, seconds(rng, 30)),
                9 => Fault::Double(of_ten, seconds(rng, 30)),
                10 => Fault::Outage(seconds(rng, 60)),
                11 => Fault::Throttle(seconds(rng, 30)),
                12 => Fault::Conflicts(of_ten, seconds(rng, 30)),
                13 => Fault::Clock(pod, rng.i64(-90_000..=90_000)),
                15 => Fault::Refuse(of_ten, seconds(rng, 30)),
                _ => {
                    let one = (rng.u8(..4) != 0).then(|| rng.usize(1..=self.orders));
                    Fault::Service(rng.usize(..SERVICE.len()), one, seconds(rng, 40))
                }
            };
            self.faults.push((at, fault));
        }
        self.faults.sort_by_key(|(at, _)| *at);
    }

    /// The same with these of the faults, and the first so many updates.
    pub(crate) fn with(&self, faults: &[usize], updates: usize) -> Self {
        let mut plan = self.clone();
        let kept = faults.iter().filter_map(|fault| self.faults.get(*fault).copied());
        plan.faults = kept.collect();
        plan.updates.truncate(updates);
        plan
    }

    /// When the last fault is over and the last update published.
    pub(crate) fn calm(&self) -> Duration {
        let over = self.faults.iter().map(|(at, fault)| *at + fault.takes());
        over.chain(self.updates.iter().map(|update| update.at)).max().unwrap_or_default()
    }

    /// Within this time after that, everything is settled: the broker gives up who is silent, the pod
    /// connects again, the target is asked again, what was redelivered waits out the settle window; then
    /// the updates of the longest mailbox go one after the other.
    pub(crate) fn bound(&self) -> Duration {
        let settings = self.settings();
        let lost = crate::network::silence_max(settings.broker.heartbeat);
        let again =
            settings.broker.reconnect_wait_max.mul_f64(1.5) + settings.broker.connect_timeout;
        let held = settings.throttle.told_wait_max.mul_f64(1.2) + settings.breaker.probe_interval;
        let one = settings.target.get_timeout + settings.target.patch_timeout;
        let letter = Duration::from_secs(36);
        let drain = settings.drain.grace + Duration::from_secs(10);
        let per_update = Duration::from_millis(4 * self.latency + 500);
        let all = u32::try_from(self.updates.len()).unwrap_or(u32::MAX);
        // Each pod may be brought up or moved away from once more on the way.
        (lost + again + settings.dispatch.settle_window + settings.balance.interval * 5) * 3
            + held
            + drain
            + letter
            + one * 2
            + settings.broker.publish_timeout * 2
            + per_update * all * 3
    }

    /// How long the service goes on with a request whose client is gone: what the settle window covers.
    pub(crate) fn assumed_window(&self) -> Duration {
        self.settings().dispatch.settle_window.saturating_sub(Duration::from_millis(100))
    }

    /// Whether a dead letter may arrive long after it was decided on.
    pub(crate) fn delays_letters(&self) -> bool {
        let delays = |fault: &Fault| match fault {
            Fault::Stop(..)
            | Fault::CutBroker(..)
            | Fault::Reset(..)
            | Fault::FailOver(_)
            | Fault::Refuse(..)
            | Fault::Slow(..)
            | Fault::Service(..)
            | Fault::CutTarget(..)
            | Fault::Throttle(_) => true,
            Fault::Kill(..)
            | Fault::Term(..)
            | Fault::LoseReplies(..)
            | Fault::Double(..)
            | Fault::Outage(_)
            | Fault::Conflicts(..)
            | Fault::Clock(..) => false,
        };
        self.faults.iter().any(|(_, fault)| delays(fault))
    }

    /// Attempts of one handling of one message. What says nothing of the order spends none: the target is
    /// throttled, or down.
    pub(crate) fn attempts_max(&self) -> u32 {
        let is_told = |fault: &Fault| {
            matches!(
                fault,
                Fault::Service(..)
                    | Fault::Throttle(_)
                    | Fault::Outage(_)
                    | Fault::CutTarget(..)
                    | Fault::LoseReplies(..)
                    | Fault::Slow(..)
            )
        };
        let troubles = self.faults.iter().filter(|(_, fault)| is_told(fault)).count();
        let most = self.settings().attempts_max();
        most + most * 6 * u32::try_from(troubles).unwrap_or(u32::MAX)
    }

    pub(crate) fn latency(&self) -> Latency {
        let milliseconds = self.latency;
        format!("{milliseconds}ms..{}ms", 3 * milliseconds).parse().unwrap_or(Latency::NONE)
    }

    pub(crate) fn queue(shard: u16) -> String {
        format!("orderwright.shard.g1.{shard:03}")
    }

    /// Of the pods: the defaults, where nothing is said.
    pub(crate) fn settings(&self) -> Settings {
        let seconds = Duration::from_secs;
        let mut settings = Settings::default();
        settings.topology.shards = self.shards;
        settings.broker.prefetch = self.prefetch;
        settings.broker.reconnect_wait_max = seconds(5);
        settings.broker.notices_max = 0;
        settings.target.get_timeout = seconds(15);
        settings.target.patch_timeout = seconds(20);
        settings.throttle.told_wait_max = seconds(60);
        settings.throttle.untold_wait_max = seconds(60);
        settings.dispatch.concurrency_max = self.concurrency;
        settings.dead_letter.on_dead_letter = config::OnDeadLetter::Continue;
        if self.is_merging {
            settings.dispatch.coalesce = config::Coalesce::Merge;
        }
        if self.is_sequenced {
            SEQUENCE.clone_into(&mut settings.guard.sequence_property);
        }
        settings
    }
}

/// The property that tells the updates of one order apart.
pub(crate) const SEQUENCE: &str = "UpdateSequence";

/// The properties that updates change, in turn: by what they show at the end, nothing was lost.
pub(crate) const CHANGED: [&str; 2] = ["CustomersOrderReference", "TotalDiscountPercentage"];

/// The property that an update changes.
pub(crate) fn changed(number: u64) -> &'static str {
    CHANGED[usize::from(number.is_multiple_of(2))]
}

/// The routing key of an order.
pub(crate) fn key(order: usize) -> String {
    format!("USMF/SO-{order:06}")
}
