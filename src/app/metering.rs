//! Which instrument looks at what.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;

use super::sight::Sight;
use crate::dispatch::Doing;
use crate::telemetry::instruments::{self as i, attribute as a};
use crate::telemetry::metrics::{Metrics, Tell};

/// What the instruments look at: nothing before the broker is reached.
#[derive(Clone, Default)]
pub struct Scene(Arc<OnceLock<Arc<Sight>>>);

impl std::fmt::Debug for Scene {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scene").field("is_set", &self.0.get().is_some()).finish()
    }
}

impl Scene {
    /// Has every instrument that is looked at look at the daemon, from now on: a pod that never reaches its
    /// broker has numbers as well.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let scene = Self::default();
        let on = |instrument, look: fn(&Sight, &Tell<'_>)| {
            let scene = scene.clone();
            metrics.observe(instrument, move |tell| {
                if let Some(sight) = scene.0.get() {
                    look(sight, tell);
                }
            });
        };
        updates(&on);
        attempts(&on);
        holding(&on);
        parking(&on);
        broker(&on);
        metrics.observe(i::BUILD, |tell| tell(1.0, &[(a::VERSION, env!("CARGO_PKG_VERSION"))]));
        let seen = scene.clone();
        metrics.observe(i::CONNECTED, move |tell| {
            let connected = seen.0.get().is_some_and(|it| it.consumer.standing().connected);
            tell(f64::from(u8::from(connected)), &[]);
        });
        scene
    }

    /// The daemon has come up.
    pub(super) fn set(&self, sight: Arc<Sight>) {
        // The first one stays.
        let _again = self.0.set(sight);
    }
}

type On<'a> = dyn Fn(i::Instrument, fn(&Sight, &Tell<'_>)) + 'a;

/// Prometheus has no other numbers.
#[expect(clippy::cast_precision_loss, reason = "exact up to 9e15")]
fn number(count: u64) -> f64 {
    count as f64
}

fn size(count: usize) -> f64 {
    number(u64::try_from(count).unwrap_or(u64::MAX))
}

fn updates(on: &On<'_>) {
    on(i::CONSUMED, |sight, tell| {
        let attributes = [(a::SYSTEM, "rabbitmq"), (a::OPERATION, "consume")];
        tell(number(sight.counts().received), &attributes);
    });
    on(i::SETTLED, |sight, tell| {
        let counts = sight.counts();
        tell(number(counts.applied), &[(a::OUTCOME, "applied")]);
        tell(number(counts.already_applied), &[(a::OUTCOME, "already_applied")]);
        tell(number(counts.superseded), &[(a::OUTCOME, "superseded")]);
        let letters = counts.dead_lettered.values().sum();
        tell(number(letters), &[(a::OUTCOME, "dead_lettered")]);
    });
    on(i::DEAD_LETTERED, |sight, tell| {
        for (reason, letters) in sight.counts().dead_lettered {
            tell(number(letters), &[(a::REASON, reason)]);
        }
    });
    on(i::KINDS, |sight, tell| {
        for (fingerprint, kind) in sight.written.kinds() {
            // Those of too many others have none.
            let name = if fingerprint.is_empty() { "other" } else { &fingerprint };
            tell(number(kind.letters), &[(a::FINGERPRINT, name)]);
        }
    });
    on(i::RELEASED, |sight, tell| tell(number(sight.counts().released), &[]));
    on(i::LOST, |sight, tell| tell(number(sight.counts().settlements_lost), &[]));
    on(i::FORWARDED, |sight, tell| tell(number(sight.counts().forwarded), &[]));
    on(i::MISPLACED, |sight, tell| {
        let counts = sight.counts();
        tell(number(counts.misplaced_by_ring), &[(a::CAUSE, "ring")]);
        tell(number(counts.misplaced_by_key), &[(a::CAUSE, "key")]);
    });
    on(i::SETTLE_WAITS, |sight, tell| tell(number(sight.settle_waits()), &[]));
}

fn attempts(on: &On<'_>) {
    on(i::ATTEMPTS, |sight, tell| tell(number(sight.counts().attempts), &[]));
    on(i::RETRIES, |sight, tell| tell(number(sight.counts().retries), &[]));
    on(i::CONFLICTS, |sight, tell| tell(number(sight.counts().conflicts), &[]));
    on(i::OVERCOME, |sight, tell| tell(number(sight.counts().conflicts_overcome), &[]));
    on(i::FAILURES, |sight, tell| tell(number(sight.counts().failures), &[]));
    on(i::THROTTLED, |sight, tell| tell(number(sight.counts().throttled), &[]));
    on(i::OUTAGES, |sight, tell| tell(number(sight.counts().outages), &[]));
    on(i::IN_FLIGHT, |sight, tell| tell(size(sight.dispatch.status().in_flight), &[]));
    on(i::WAITING, |sight, tell| tell(size(sight.dispatch.status().waiting), &[]));
    on(i::LIMIT, |sight, tell| tell(sight.dispatch.status().limit, &[]));
    on(i::SHUT, |sight, tell| tell(sight.dispatch.status().shut_for.as_secs_f64(), &[]));
    on(i::BREAKER, |sight, tell| {
        tell(f64::from(u8::from(sight.dispatch.status().down.is_some())), &[]);
    });
    on(i::TOKEN, |sight, tell| {
        if let Some(left) = sight.client.token_left() {
            tell(left.as_secs_f64(), &[]);
        }
    });
}

fn holding(on: &On<'_>) {
    on(i::ORDERS, |sight, tell| {
        let busy = sight.dispatch.busy();
        for doing in Doing::ALL {
            let orders = busy.iter().filter(|busy| busy.doing == doing).count();
            tell(size(orders), &[(a::STATE, doing.as_str())]);
        }
    });
    on(i::MAILBOX_LONGEST, |sight, tell| tell(size(sight.dispatch.mailboxes().longest), &[]));
    on(i::MAILBOX_WAITING, |sight, tell| tell(size(sight.dispatch.mailboxes().waiting), &[]));
    on(i::OLDEST, |sight, tell| {
        let oldest = sight.consumer.standing().oldest();
        tell(oldest.map_or(0.0, |age| age.as_secs_f64()), &[]);
    });
}

fn parking(on: &On<'_>) {
    on(i::PARKED, |sight, tell| tell(number(sight.parked().orders), &[]));
    on(i::PARKED_LETTERS, |sight, tell| tell(number(sight.parked().letters), &[]));
    on(i::PARKED_OLDEST, |sight, tell| {
        let since = sight.parked().oldest;
        // A clock that runs ahead of ours makes no negative age.
        let age = since.map_or(0.0, |since| Timestamp::now().duration_since(since).as_secs_f64());
        tell(age.max(0.0), &[]);
    });
    on(i::PARKED_LIMIT, |sight, tell| {
        tell(size(sight.places.parking.as_ref().map_or(0, |parking| parking.orders_max())), &[]);
    });
}

fn broker(on: &On<'_>) {
    on(i::ALARM, |sight, tell| tell(f64::from(u8::from(sight.publisher.is_blocked())), &[]));
    on(i::RECONNECTS, |sight, tell| tell(number(sight.consumer.standing().reconnects), &[]));
    on(i::SUBSCRIBED, |sight, tell| {
        let standing = sight.consumer.standing();
        let shards = standing.queues.iter().filter(|it| it.shard.is_some() && it.is_subscribed);
        tell(size(shards.count()), &[]);
    });
    on(i::SHARD, |sight, tell| {
        let standing = sight.consumer.standing();
        for (shard, is_subscribed) in
            standing.queues.iter().filter_map(|it| Some((it.shard?, it.is_subscribed)))
        {
            let shard = shard.to_string();
            tell(f64::from(u8::from(is_subscribed)), &[(a::SHARD, &shard)]);
        }
    });
    on(i::OWNED, |sight, tell| {
        let standing = sight.consumer.standing();
        tell(size(standing.queues.iter().filter(|it| it.is_owned).count()), &[]);
    });
    on(i::LEASES, |sight, tell| {
        let standing = sight.consumer.standing();
        tell(number(standing.given_back), &[(a::END, "given_back")]);
        tell(number(standing.abandoned), &[(a::END, "abandoned")]);
        tell(number(standing.broken), &[(a::END, "broken")]);
    });
    on(i::WATCHDOG, |sight, tell| tell(number(sight.consumer.standing().watchdog), &[]));
    on(i::PODS, |sight, tell| tell(size(sight.consumer.standing().pods), &[]));
}
