//! A daemon that is made up: it is busy, and something is wrong with everything.

use std::sync::atomic::{AtomicU64, Ordering};

use orderwright::admin::{
    Broker, Explanation, Letters, Order, Parking, Report, Sample, Shard, Target, View,
};
use serde_json::json;

/// It counts how often it is looked at.
#[derive(Debug, Default)]
pub(crate) struct MadeUp {
    samples: AtomicU64,
    looks: AtomicU64,
}

const STATES: [(&str, &str); 4] = [
    ("patch", "its PATCH is on the wire"),
    ("get", "its GET is on the wire"),
    ("turn", "waits until an attempt may begin, or its PATCH be sent"),
    ("backoff", "waits before it is tried again"),
];

fn order(number: u32) -> Order {
    let (state, meaning) = STATES.iter().cycle().nth(number as usize).copied().unwrap_or_default();
    let name = match number {
        3 => "USMF/<script>alert('an order')</script>".to_owned(),
        _ => format!("USMF/SO-{number:06}"),
    };
    Order {
        order: name,
        state,
        meaning,
        state_seconds: 0.4 * f64::from(number),
        held_seconds: 90.0 / f64::from(number),
        oldest_seconds: 900.0 / f64::from(number),
        attempt: 1 + number % 3,
        etag: (number % 4 != 2)
            .then(|| format!("W/\"JzEsNTYzNzE0NDU3NjswLDU2MzcxNDU1{number:04}Jw==\"")),
        behind: number as usize % 5,
    }
}

fn shard(number: u16) -> Shard {
    Shard {
        queue: format!("orderwright.shard.g1.{number:03}"),
        number: Some(number),
        owned: number.is_multiple_of(2),
        subscribed: number != 3,
        served: number.is_multiple_of(2),
        is_missing: number == 3,
        unsettled: usize::from(number) * 3 % 7,
        oldest_seconds: (number.is_multiple_of(2)).then(|| 12.0 + f64::from(number)),
        stood_still: 0,
    }
}

impl View for MadeUp {
    fn report(&self) -> Report {
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        let kind = |fingerprint: &str, reason, count| Letters {
            fingerprint: fingerprint.to_owned(),
            reason,
            count,
            last: jiff::Timestamp::UNIX_EPOCH,
            order: Some("USMF/SO-000042".to_owned()),
        };
        Report {
            broker: Broker {
                connected: true,
                paused: false,
                alarm: false,
                generation: 1,
                pods: 3,
                reconnects: 2,
                stood_still: 1,
                oldest_seconds: Some(90.0),
            },
            topology: Vec::new(),
            shards: (0..8).map(shard).collect(),
            target: Target {
                state: "throttled",
                reason: None,
                down_seconds: None,
                shut_seconds: 3.2,
                in_flight: 12,
                waiting: 30,
                limit: 16.5,
                rate: Some(22.25),
                token_seconds: Some(2_400.0),
            },
            parking: Some(Parking { orders: 2, orders_max: 1000, oldest_seconds: Some(4_000.0) }),
            orders: (1..=12).map(order).collect(),
            orders_busy: 42,
            updates_waiting: 17,
            stuck: Vec::new(),
            dead_letters: vec![
                kind("v1-0123456789ab", "business_rule", 31),
                kind("v1-ba9876543210", "not_found", 2),
            ],
            counts: json!({"received": looks, "applied": 1_234, "conflicts": 56, "dead_lettered": {"not_found": 2}}),
        }
    }

    fn sample(&self) -> Sample {
        let looks = self.samples.fetch_add(1, Ordering::Relaxed);
        let waves = 40 + looks % 17 * 6 + looks % 5 * 11;
        Sample {
            received: looks * 100,
            settled: looks * 100 - waves.min(looks * 100),
            conflicts: looks * 3 + looks % 11,
            failures: looks / 9 * 20,
            dead_letters: looks / 40,
            in_flight: 8 + looks % 9,
        }
    }

    fn explain(&self, _order: &str) -> Result<Explanation, String> {
        Err("nobody asks".to_owned())
    }
}
