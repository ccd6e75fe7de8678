//! What the process says of itself: its log, its metrics, its traces, and the name of every log field as
//! a constant.

mod flood;
pub mod instruments;
mod line;
pub mod log;
pub mod metrics;
pub mod otlp;
mod out;
pub mod panics;
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
    /// Time since a delivery arrived, in milliseconds.
    pub const HELD_MILLISECONDS: &str = "held_milliseconds";
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
    /// What went wrong.
    pub const ERROR: &str = "error";
    /// What was behind it.
    pub const SOURCE: &str = "source";
    /// What to do about it.
    pub const HINT: &str = "hint";
    /// HTTP status of an answer that is not about one order.
    pub const STATUS: &str = "status";
    /// Our identifiers of the attempts in a batch.
    pub const REQUEST_IDS: &str = "request_ids";
    /// Operations in a batch that was refused.
    pub const SENT: &str = "sent";
    /// Operations in a batch at most from now on.
    pub const MOST: &str = "most";
    /// For how long batches are not tried again.
    pub const REFUSED_FOR: &str = "refused_for";
    /// For how long the service was down.
    pub const DOWN_FOR: &str = "down_for";
    /// For how long nothing is sent.
    pub const SHUT_FOR: &str = "shut_for";
    /// Attempts that may be under way at the same time.
    pub const LIMIT: &str = "limit";
    /// Attempts a second that may begin, where they are slowed down.
    pub const RATE: &str = "rate";
    /// When the next token is asked for.
    pub const ASK_AGAIN_IN: &str = "ask_again_in";
    /// How long a token lives.
    pub const LIVES_FOR: &str = "lives_for";
    /// How many attempts were made.
    pub const ATTEMPTS: &str = "attempts";
    /// Dead letter that an order stands behind.
    pub const HEAD: &str = "head";
    /// How many orders.
    pub const ORDERS: &str = "orders";
    /// How many messages.
    pub const MESSAGES: &str = "messages";
    /// How many shards there are.
    pub const SHARDS: &str = "shards";
    /// How many shards the settings say.
    pub const CONFIGURED: &str = "configured";
    /// Number of the generation of shard queues.
    pub const GENERATION: &str = "generation";
    /// Which of the two drains of a shard of the old generation.
    pub const ROUND: &str = "round";
    /// The broker says that it may have been delivered before.
    pub const REDELIVERED: &str = "redelivered";
    /// Routing key that a message was published with.
    pub const ROUTING_KEY: &str = "routing_key";
    /// Place of the first record that a stream still has.
    pub const FIRST: &str = "first";
    /// Kind of an object of the broker, with its name where there is no other field for it.
    pub const OBJECT: &str = "object";
    /// Name of an object of the broker.
    pub const NAME: &str = "name";
    /// What the check of the topology says of an object.
    pub const STATE: &str = "state";
    /// What puts it right.
    pub const FIX: &str = "fix";
    /// Address that is listened on.
    pub const ADDRESS: &str = "address";
    /// Name of this process.
    pub const INSTANCE: &str = "instance";
    /// Version of this program.
    pub const VERSION: &str = "version";
    /// How long a drain may take.
    pub const GRACE: &str = "grace";
    /// What an operator asks of the admin listener.
    pub const ACTION: &str = "action";
    /// What the action is about.
    pub const WHAT: &str = "what";
    /// Who asks, as he says.
    pub const ACTOR: &str = "actor";
    /// Address that the question comes from.
    pub const PEER: &str = "peer";
}
