//! What can be seen of the running daemon: one place that knows all its parts, and changes none.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::effects::Edges;
use super::explain::Places;
use super::rounds::Rounds;
use super::written::{Kind, Written};
use crate::admin::{
    Broker, Explanation, Letters, Order, Parking, Report, Sample, Shard, Stuck, Target, View,
};
use crate::broker::{Consumer, Forwarder, Publisher, Standing};
use crate::config::Settings;
use crate::dispatch::{Busy, Dispatch, Doing, Snapshot, Status, Tally};
use crate::odata::Client;
use crate::parking::Figures;

/// Orders in a report.
const ORDERS_MAX: usize = 200;
/// What a request may take beyond its deadline: a machine that is short of time is late.
const LATE_MAX: Duration = Duration::from_secs(30);

/// Everything that can be looked at.
pub(super) struct Sight {
    pub(super) dispatch: Arc<Dispatch<Edges>>,
    pub(super) tally: Arc<Tally>,
    pub(super) consumer: Arc<Consumer>,
    pub(super) publisher: Arc<Publisher>,
    pub(super) forwarder: Arc<Forwarder>,
    pub(super) client: Client,
    pub(super) settle_waits: Arc<AtomicU64>,
    pub(super) bounds: Bounds,
    pub(super) written: Arc<Written>,
    pub(super) rounds: Arc<Rounds>,
    pub(super) places: Places,
    pub(super) shows_orders: bool,
}

/// How long each thing can take at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    get: Duration,
    patch: Duration,
    /// Of everything else: a message that is held for longer has its shard given back.
    hold: Duration,
}

impl Bounds {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            get: settings.target.get_timeout + LATE_MAX,
            patch: settings.target.patch_timeout + LATE_MAX,
            hold: settings.broker.consumer_timeout + LATE_MAX,
        }
    }

    fn of(self, doing: Doing) -> Duration {
        match doing {
            Doing::Get => self.get,
            Doing::Patch => self.patch,
            Doing::SettleWindow
            | Doing::Turn
            | Doing::Queue
            | Doing::Backoff
            | Doing::Asking
            | Doing::Settling
            | Doing::Resting => self.hold,
        }
    }

    /// What should have moved on long ago, under its name for those who look.
    fn stuck(self, busy: &Busy, name: impl Fn(&str) -> String) -> Option<Stuck> {
        let max = self.of(busy.doing);
        (busy.doing_for > max).then(|| Stuck {
            order: name(&busy.order),
            state: busy.doing.as_str(),
            state_seconds: busy.doing_for.as_secs_f64(),
            max_seconds: max.as_secs_f64(),
        })
    }
}

/// What stands for an order's key.
fn hidden(order: &str) -> String {
    let mut hasher = DefaultHasher::new();
    order.hash(&mut hasher);
    format!("#{:016x}", hasher.finish())
}

impl Sight {
    /// All counts.
    pub(super) fn counts(&self) -> Snapshot {
        let parked = self.parked();
        Snapshot {
            forwarded: self.forwarder.forwarded(),
            parked_orders: parked.orders,
            parked_oldest: parked.oldest,
            ..self.tally.snapshot()
        }
    }

    /// How much is parked, as far as is known.
    pub(super) fn parked(&self) -> Figures {
        self.places.parking.as_ref().map(|parking| parking.figures()).unwrap_or_default()
    }

    /// Deliveries that waited for the settle window.
    pub(super) fn settle_waits(&self) -> u64 {
        self.settle_waits.load(Ordering::Relaxed)
    }

    /// An order's key, or what stands for it.
    pub(super) fn name(&self, order: &str) -> String {
        if self.shows_orders { order.to_owned() } else { hidden(order) }
    }

    fn order(&self, busy: &Busy) -> Order {
        Order {
            order: self.name(&busy.order),
            state: busy.doing.as_str(),
            meaning: busy.doing.meaning(),
            state_seconds: busy.doing_for.as_secs_f64(),
            held_seconds: busy.held_for.as_secs_f64(),
            oldest_seconds: busy.oldest_for.as_secs_f64(),
            attempt: busy.attempt,
            etag: busy.etag.as_ref().map(|etag| etag.as_str().to_owned()),
            behind: busy.behind,
        }
    }

    /// One order, if it is busy.
    pub(super) fn one(&self, order: &str) -> Option<Order> {
        self.dispatch.one(order).map(|busy| self.order(&busy))
    }

    /// The queue of one shard.
    pub(super) fn shard(&self, number: u16) -> Option<Shard> {
        shards(&self.consumer.standing()).into_iter().find(|it| it.number == Some(number))
    }

    fn parking(&self) -> Option<Parking> {
        let parking = self.places.parking.as_ref()?;
        let Figures { orders, oldest, .. } = parking.figures();
        let seconds = |since: Timestamp| Timestamp::now().duration_since(since).as_secs_f64();
        // A clock that runs ahead of ours makes no negative age.
        let oldest_seconds = oldest.map(|since| seconds(since).max(0.0));
        Some(Parking { orders, orders_max: parking.orders_max(), oldest_seconds })
    }

    fn letters(&self, (fingerprint, kind): (String, Kind)) -> Letters {
        let Kind { reason, letters: count, last, order } = kind;
        let order = order.map(|order| self.name(&order));
        Letters { fingerprint, reason, count, last, order }
    }
}

impl View for Sight {
    fn report(&self) -> Report {
        let (standing, mut busy) = (self.consumer.standing(), self.dispatch.busy());
        busy.sort_by_key(|busy| std::cmp::Reverse(busy.oldest_for));
        let stuck = |busy: &Busy| self.bounds.stuck(busy, |order| self.name(order));
        Report {
            broker: broker(&standing, &self.publisher),
            topology: self.rounds.faults(),
            shards: shards(&standing),
            target: target(&self.dispatch.status(), self.client.token_left()),
            parking: self.parking(),
            orders: busy.iter().take(ORDERS_MAX).map(|busy| self.order(busy)).collect(),
            orders_busy: busy.len(),
            updates_waiting: busy.iter().map(|busy| busy.behind).sum(),
            stuck: busy.iter().filter_map(stuck).take(ORDERS_MAX).collect(),
            dead_letters: self.written.kinds().into_iter().map(|kind| self.letters(kind)).collect(),
            counts: json!(self.counts()),
        }
    }

    fn explain(&self, order: &str) -> Result<Explanation, String> {
        self.places.explain(self, order)
    }

    fn sample(&self) -> Sample {
        let counts = self.counts();
        let dead_letters = counts.dead_lettered.values().sum();
        Sample {
            received: counts.received,
            settled: counts.applied + counts.already_applied + counts.superseded + dead_letters,
            conflicts: counts.conflicts,
            failures: counts.failures + counts.throttled,
            dead_letters,
            in_flight: u64::try_from(self.dispatch.status().in_flight).unwrap_or(u64::MAX),
        }
    }
}

fn broker(standing: &Standing, publisher: &Publisher) -> Broker {
    Broker {
        connected: standing.connected,
        paused: standing.is_halted,
        alarm: publisher.is_blocked(),
        generation: standing.generation,
        pods: standing.pods,
        reconnects: standing.reconnects,
        stood_still: standing.watchdog,
        oldest_seconds: standing.oldest().map(|age| age.as_secs_f64()),
    }
}

fn shards(standing: &Standing) -> Vec<Shard> {
    let missing: BTreeSet<_> = standing.missing().map(|it| it.queue.clone()).collect();
    let shard = |it: &crate::broker::Consumed| Shard {
        queue: it.queue.to_string(),
        number: it.shard,
        owned: it.is_owned,
        subscribed: it.is_subscribed,
        served: it.is_served,
        is_missing: missing.contains(&it.queue),
        unsettled: it.unsettled,
        oldest_seconds: it.oldest.map(|age| age.as_secs_f64()),
        stood_still: it.stood_still,
    };
    standing.queues.iter().map(shard).collect()
}

fn target(status: &Status, token: Option<Duration>) -> Target {
    let state = match status.down {
        Some(_) => "down",
        None if !status.shut_for.is_zero() => "throttled",
        None => "works",
    };
    Target {
        state,
        reason: status.down.map(|(code, _)| code.as_str()),
        down_seconds: status.down.map(|(_, since)| since.as_secs_f64()),
        shut_seconds: status.shut_for.as_secs_f64(),
        in_flight: status.in_flight,
        waiting: status.waiting,
        limit: status.limit,
        rate: status.rate,
        token_seconds: token.map(|left| left.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_that_is_stuck_is_named_as_it_is_to_be_shown() {
        let bounds = Bounds::new(&Settings::default());
        let busy = |seconds| Busy {
            order: "USMF/SO-1".into(),
            doing: Doing::Get,
            doing_for: Duration::from_secs(seconds),
            held_for: Duration::ZERO,
            oldest_for: Duration::ZERO,
            attempt: 1,
            etag: None,
            behind: 0,
        };
        let most = bounds.get.as_secs();
        assert_eq!(bounds.stuck(&busy(most), hidden), None);
        let stuck = bounds.stuck(&busy(most + 1), hidden).unwrap().to_string();
        assert!(stuck.starts_with("order #") && !stuck.contains("SO-1"), "{stuck}");
        let shown = bounds.stuck(&busy(most + 1), str::to_owned).unwrap().to_string();
        assert!(shown.starts_with("order USMF/SO-1 has been at get"), "{shown}");
        assert_eq!(hidden("USMF/SO-1"), hidden("USMF/SO-1"));
        assert_ne!(hidden("USMF/SO-1"), hidden("USMF/SO-2"));
    }
}
