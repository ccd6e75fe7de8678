//! What the process says of itself: its log, its metrics, its traces, and the name of every log field as
//! a constant.

mod flood;
pub mod instruments;
pub mod log;
pub mod metrics;
pub mod otlp;
pub mod trace;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_sdk::trace::SdkTracerProvider;

use crate::config::Settings;
use log::Log;
use metrics::Metrics;

/// How long the last spans and numbers may take to go out at the end.
pub const FLUSH_MAX: Duration = Duration::from_secs(2);

/// Why nothing could be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] metrics::Error),
    /// What sends spans and numbers out.
    #[error("nothing can be sent to otlp.endpoint")]
    Otlp(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// All of it, for the daemon.
#[derive(Debug)]
pub struct Telemetry {
    /// The log.
    pub log: Arc<Log>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    tracer: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sets everything up. Outside any runtime: what sends spans out has threads of its own, and waits in
    /// them.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn start(settings: &Settings, instance: &str) -> Result<Self, Error> {
        let otlp = &settings.otlp;
        let is_on = !otlp.endpoint.is_empty();
        let tracer = is_on.then(|| otlp::tracer(otlp, instance)).transpose()?;
        let log = Arc::new(log::init(&settings.log, tracer.as_ref())?);
        let (target, numbers) = (&settings.target.url, is_on && otlp.metrics);
        let reader = numbers.then(|| otlp::reader(otlp)).transpose()?;
        let host = target.host_str().unwrap_or_default();
        let port = target.port_or_known_default().unwrap_or_default();
        let metrics = Arc::new(Metrics::new(instance, (host, port), reader)?);
        Ok(Self { log, metrics, tracer })
    }

    /// Sends out what is still here, for two seconds at most. Outside any runtime.
    pub fn end(&self) {
        self.log.tell_floods();
        // Side by side: a collector that does not answer takes its time once.
        std::thread::scope(|scope| {
            scope.spawn(|| self.metrics.shutdown(FLUSH_MAX));
            if let Some(tracer) = &self.tracer
                && let Err(error) = tracer.shutdown_with_timeout(FLUSH_MAX)
            {
                tracing::warn!(%error, "the last spans were not sent");
            }
        });
    }
}

/// Names of log fields. Fixed: dashboards and alerts of operators are built on them.
pub mod field {
    /// Canonical order key.
    pub const ORDER: &str = "order";
    /// Number of the attempt, from 1.
    pub const ATTEMPT: &str = "attempt";
    /// How an attempt or a message ended.
    pub const OUTCOME: &str = "outcome";
    /// HTTP status of the GET.
    pub const GET_STATUS: &str = "get_status";
    /// HTTP status of the PATCH.
    pub const PATCH_STATUS: &str = "patch_status";
    /// ETag that the GET brought.
    pub const ETAG_SEEN: &str = "etag_seen";
    /// ETag that the PATCH carried.
    pub const ETAG_SENT: &str = "etag_sent";
    /// Duration in milliseconds.
    pub const MILLISECONDS: &str = "milliseconds";
    /// Our identifier of an attempt.
    pub const REQUEST_ID: &str = "request_id";
    /// The service's identifier of a request.
    pub const SERVICE_REQUEST_ID: &str = "service_request_id";
    /// AMQP message id.
    pub const MESSAGE_ID: &str = "message_id";
    /// Queue that a delivery came from.
    pub const QUEUE: &str = "queue";
    /// Reason code of a dead letter.
    pub const REASON: &str = "reason";
    /// Trace that an attempt belongs to, where there are traces.
    pub const TRACE_ID: &str = "trace_id";
    /// How often something was said that is no longer shown.
    pub const TIMES: &str = "times";
    /// What was said.
    pub const SAID: &str = "said";
}
