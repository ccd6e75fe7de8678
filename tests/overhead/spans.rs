//! What the spans of an update cost where nobody collects them.

use std::hint::black_box;

use orderwright::config;
use orderwright::telemetry::metrics::Method;
use orderwright::telemetry::{log, trace};
use tokio::time::Instant;

use crate::Result;

/// Updates in one look at the clock.
const UPDATES: u32 = 100_000;
/// Looks. The least of them is what is least disturbed.
const LOOKS: u32 = 20;

/// Seconds for the spans of one update, as the daemon has them: its handling, a GET and a PATCH, each told
/// what came of it and asked for what the service is to be told.
pub(crate) fn off() -> Result<f64> {
    // The daemon's own log at its default level, which every span is held against.
    log::init(&config::Log::default(), None).map_err(|error| error.to_string())?;
    let mut least = f64::MAX;
    for _ in 0..LOOKS {
        let begun = Instant::now();
        for _ in 0..UPDATES {
            update();
        }
        least = least.min(begun.elapsed().as_secs_f64());
    }
    Ok(least / f64::from(UPDATES))
}

fn update() {
    let handling = trace::process(trace::Processed {
        order: Some("USMF/SO-000001"),
        queue: "orderwright.shard.g1.000",
        message_id: Some("b7ad6b71-6920-4331-8c1e-0af765191650"),
        carried: None,
        died_in: None,
    });
    handling.in_scope(|| {
        for method in [Method::Get, Method::Patch] {
            let request = trace::request(method, ("localhost", 8080));
            request.in_scope(|| trace::inject(|name, value| drop(black_box((name, value)))));
            trace::answered(&request, Ok(204));
        }
        black_box(trace::trace_id());
        trace::settled("applied", None);
    });
    black_box(handling);
}
