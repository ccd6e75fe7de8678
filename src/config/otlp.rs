//! The settings of what is sent to a collector.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Traces and metrics for a collector, by OTLP over HTTP in binary form. Headers, such as a key, are taken
/// from OpenTelemetry's own variable `OTEL_EXPORTER_OTLP_HEADERS`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Otlp {
    /// Root that `/v1/traces` and `/v1/metrics` are added to, such as `http://collector:4318`; empty sends
    /// nothing.
    pub endpoint: String,
    /// Share of the traces that is recorded, where the message says nothing: one that carries
    /// `traceparent` has been decided on by its publisher.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample_ratio: f64,
    /// Whether metrics are sent as well. They are at `/metrics` in any case.
    pub metrics: bool,
    /// How often metrics are sent.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "1s", "x-maximum" = "10m"))]
    pub metrics_interval: Duration,
    /// How long the collector may take to answer.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "100ms", "x-maximum" = "30s"))]
    pub timeout: Duration,
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            sample_ratio: 0.1,
            metrics: true,
            metrics_interval: Duration::from_secs(30),
            timeout: Duration::from_secs(2),
        }
    }
}
