//! How much of the journal the broker keeps.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};

use super::{table, text};

/// How long the journal is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retention {
    pub(super) age_max: Duration,
    pub(super) bytes_max: u64,
}

impl Retention {
    /// The broker cuts off whole segments, so those are small beside what is kept.
    pub(super) fn arguments(self) -> FieldTable {
        let bytes = |bytes: u64| AMQPValue::LongLongInt(i64::try_from(bytes).unwrap_or(i64::MAX));
        table(&[
            ("x-queue-type", text("stream")),
            ("x-max-age", text(&format!("{}s", self.age_max.as_secs()))),
            ("x-max-length-bytes", bytes(self.bytes_max)),
            ("x-stream-max-segment-size-bytes", bytes(self.bytes_max / 8)),
        ])
    }
}
