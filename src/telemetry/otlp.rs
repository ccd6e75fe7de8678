//! Sends spans and numbers to a collector, from threads of its own.

use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, Protocol, SpanExporter, WithExportConfig,
};
use opentelemetry_sdk::metrics::PeriodicReader;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

use super::metrics::resource;
use crate::config::Otlp;

/// What sends numbers out.
pub(super) type Reader = PeriodicReader<MetricExporter>;

pub(super) fn tracer(
    settings: &Otlp,
    instance: &str,
) -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(address(settings, "traces"))
        .with_timeout(settings.timeout)
        .build()?;
    // Whoever published the message has decided already; only of the others a share is taken.
    let own = Sampler::TraceIdRatioBased(settings.sample_ratio);
    let sampler = Sampler::ParentBased(Box::new(own));
    Ok(SdkTracerProvider::builder()
        .with_resource(resource(instance))
        .with_sampler(sampler)
        .with_batch_exporter(exporter)
        .build())
}

pub(super) fn reader(settings: &Otlp) -> Result<Reader, ExporterBuildError> {
    let exporter = MetricExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(address(settings, "metrics"))
        .with_timeout(settings.timeout)
        .build()?;
    Ok(PeriodicReader::builder(exporter).with_interval(settings.metrics_interval).build())
}

fn address(settings: &Otlp, signal: &str) -> String {
    format!("{}/v1/{signal}", settings.endpoint.trim_end_matches('/'))
}
