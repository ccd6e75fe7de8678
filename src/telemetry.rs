//! The log subscriber, and the name of every field as a constant.

pub mod instruments;
pub mod metrics;

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{Log, LogFormat};

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directives make no sense.
    #[error("log.level is no filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// There is a subscriber already.
    #[error("the log was set up before")]
    Twice(#[from] TryInitError),
}

/// Sends the log to standard error: JSON, or lines for people where a terminal reads them.
///
/// # Errors
/// [`Error::Filter`], [`Error::Twice`].
pub fn init(settings: &Log) -> Result<(), Error> {
    // The AMQP library logs the body of a returned message and calls every closed channel an error.
    // What it has to say reaches us as errors, and is logged once, where it is handled.
    let filter: EnvFilter = format!("{},lapin=off", settings.level).parse()?;
    let json = match settings.format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    if json {
        registry.with(layer.json().flatten_event(true)).try_init()?;
    } else {
        registry.with(layer.with_ansi(io::stderr().is_terminal())).try_init()?;
    }
    Ok(())
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
}
