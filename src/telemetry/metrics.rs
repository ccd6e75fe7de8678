//! The instruments at work: what is recorded, what is looked at, and the text for Prometheus.
//!
//! Numbers that somebody keeps already are looked at when they are asked for; only durations are recorded
//! when they happen.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::metrics::{Histogram, Meter, MeterProvider};
use opentelemetry::{KeyValue, StringValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{SdkMeterProvider, Stream};
use prometheus::{Registry, TextEncoder};

use super::instruments::{
    AGE, HELD, INSTRUMENTS, Instrument, Kind, PROCESS, REQUEST, SHARD, attribute as a,
};
use super::otlp::Reader;

/// From a local answer to a target that is throttled for minutes.
const BOUNDARIES: [f64; 15] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The exporter does not come up.
    #[error("the metrics cannot be set up: {0}")]
    Exporter(#[from] opentelemetry_sdk::error::OTelSdkError),
}

/// A request to the service, for the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads an order.
    Get,
    /// Writes it.
    Patch,
}

impl Method {
    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Patch => "PATCH",
        }
    }
}

/// Tells one value of an instrument, with what it is told apart by.
pub type Tell<'a> = dyn Fn(f64, &[(&'static str, &str)]) + 'a;

/// All instruments of a process.
#[derive(Debug)]
pub struct Metrics {
    provider: SdkMeterProvider,
    meter: Meter,
    registry: Registry,
    request: Histogram<f64>,
    process: Histogram<f64>,
    held: Histogram<f64>,
    age: Histogram<f64>,
    /// Of the service: the same for every request.
    server: [KeyValue; 2],
}

/// Who measures: the process, as every reader of its metrics and spans sees it.
pub(super) fn resource(instance: &str) -> Resource {
    Resource::builder_empty()
        .with_service_name("orderwright")
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance.to_owned()),
        ])
        .build()
}

/// Room is made in advance for all the sets of attributes that an instrument may have, by default for
/// 2,000. Ours have some dozens, but for the one that tells shards apart.
fn small(instrument: &opentelemetry_sdk::metrics::Instrument) -> Option<Stream> {
    const SETS_MAX: usize = 256;
    let grows = [SHARD].iter().any(|it| it.name == instrument.name());
    (!grows).then(|| Stream::builder().with_cardinality_limit(SETS_MAX).build().ok()).flatten()
}

impl Metrics {
    /// Sets up the instruments. `server` is the host and port of the service; `out` sends them out.
    ///
    /// # Errors
    /// [`Error::Exporter`].
    pub fn new(instance: &str, server: (&str, u16), out: Option<Reader>) -> Result<Self, Error> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            // There is one scope, and it says nothing.
            .scope_info_enabled(false)
            .build()?;
        let builder =
            SdkMeterProvider::builder().with_resource(resource(instance)).with_view(small);
        let builder = builder.with_reader(exporter);
        let provider = match out {
            Some(out) => builder.with_reader(out).build(),
            None => builder.build(),
        };
        let meter = provider.meter("orderwright");
        let histogram = |it: Instrument| {
            let builder = meter.f64_histogram(it.name).with_unit(it.unit).with_description(it.help);
            builder.with_boundaries(BOUNDARIES.to_vec()).build()
        };
        // Shared, so that no record copies it.
        let host = Value::String(StringValue::from(Arc::<str>::from(server.0)));
        let port = i64::from(server.1);
        Ok(Self {
            request: histogram(REQUEST),
            process: histogram(PROCESS),
            held: histogram(HELD),
            age: histogram(AGE),
            server: [KeyValue::new(a::SERVER, host), KeyValue::new(a::PORT, port)],
            provider,
            meter,
            registry,
        })
    }

    /// Has an instrument of the table looked at whenever somebody asks. `look` is called from any thread,
    /// and must neither wait nor take long.
    pub fn observe(
        &self,
        instrument: Instrument,
        look: impl Fn(&Tell<'_>) + Send + Sync + 'static,
    ) {
        let Instrument { name, kind, unit, help, .. } = instrument;
        let pairs = |attributes: &[(&'static str, &str)]| -> Vec<KeyValue> {
            attributes
                .iter()
                .map(|(name, value)| KeyValue::new(*name, (*value).to_owned()))
                .collect()
        };
        match kind {
            Kind::Counter => {
                let builder = self.meter.f64_observable_counter(name);
                let builder = builder.with_unit(unit).with_description(help);
                // The SDK keeps what it must; the handle itself does nothing.
                let _handle = builder
                    .with_callback(move |observer| {
                        look(&|value, attributes| observer.observe(value, &pairs(attributes)));
                    })
                    .build();
            }
            Kind::Gauge => {
                let builder = self.meter.f64_observable_gauge(name);
                let _handle = builder
                    .with_unit(unit)
                    .with_description(help)
                    .with_callback(move |observer| {
                        look(&|value, attributes| observer.observe(value, &pairs(attributes)));
                    })
                    .build();
            }
            Kind::Histogram => debug_assert!(false, "{name} is recorded, not looked at"),
        }
    }

    /// A request was answered, or was not: with a status, or with the code of what went wrong.
    pub fn request(&self, method: Method, answer: Result<u16, &'static str>, took: Duration) {
        let [server, port] = self.server.clone();
        let method = KeyValue::new(a::METHOD, method.as_str());
        let took = took.as_secs_f64();
        match answer {
            Ok(status) if status < 400 => {
                let status = KeyValue::new(a::STATUS, i64::from(status));
                self.request.record(took, &[method, status, server, port]);
            }
            Ok(status) => {
                let error = KeyValue::new(a::ERROR, StringValue::from(status.to_string()));
                let status = KeyValue::new(a::STATUS, i64::from(status));
                self.request.record(took, &[method, status, error, server, port]);
            }
            Err(code) => {
                self.request.record(took, &[method, KeyValue::new(a::ERROR, code), server, port]);
            }
        }
    }

    /// An update was settled.
    pub fn settled(&self, outcome: &'static str, took: Took) {
        let outcome = KeyValue::new(a::OUTCOME, outcome);
        self.held.record(took.held.as_secs_f64(), std::slice::from_ref(&outcome));
        if let Some(age) = took.age {
            self.age.record(age.as_secs_f64(), std::slice::from_ref(&outcome));
        }
        if let Some(process) = took.process {
            let system = KeyValue::new(a::SYSTEM, "rabbitmq");
            let operation = KeyValue::new(a::OPERATION, "consume");
            self.process.record(process.as_secs_f64(), &[system, operation, outcome]);
        }
    }

    /// Everything, in the text format of Prometheus.
    #[must_use]
    pub fn text(&self) -> String {
        // Only a metric without a name or a value cannot be encoded.
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    /// The last word to whoever is told, before the process ends. May block.
    pub fn shutdown(&self, most: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(most) {
            tracing::warn!(%error, "the last metrics were not sent");
        }
    }
}

/// How long an update took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Took {
    /// Since its delivery arrived.
    pub held: Duration,
    /// Since work on it began.
    pub process: Option<Duration>,
    /// Since its publisher's timestamp.
    pub age: Option<Duration>,
}

/// The name of an instrument as Prometheus has it.
#[must_use]
pub fn prometheus_name(instrument: &Instrument) -> String {
    let mut name = instrument.name.replace('.', "_");
    if instrument.unit == "s" {
        name.push_str("_seconds");
    }
    if instrument.kind == Kind::Counter {
        name.push_str("_total");
    }
    name
}

/// Every instrument's name as Prometheus has it.
pub fn prometheus_names() -> impl Iterator<Item = String> {
    INSTRUMENTS.iter().map(prometheus_name)
}
