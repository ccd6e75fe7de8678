//! The log subscriber: where lines go, which ones, and how they look.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{FilterExt, FilterFn, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::flood::{Damped, Flood};
use super::line::Line;
use super::out::Out;
use super::panics;
use super::trace::SPANS;
use crate::config::{self, LogFormat};

/// How often it is told what was said too often.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directives make no sense.
    #[error("log.level is no filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// There is a subscriber already.
    #[error("the log was set up before")]
    Twice(#[from] TryInitError),
    /// The subscriber is gone.
    #[error("the log is over")]
    Gone(#[from] reload::Error),
}

type Reload = reload::Handle<EnvFilter, Registry>;

/// The log, as far as it can be changed while it is written.
#[derive(Debug)]
pub struct Log {
    level: Reload,
    flood: Arc<Flood>,
    out: Out<io::Stderr>,
}

/// What is logged, by these directives.
fn filter(level: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    // The AMQP library logs the body of a returned message and calls every closed channel an error.
    // What it has to say reaches us as errors, and is logged once, where it is handled. Of the one that
    // sends spans out, only trouble is of interest. What operators do to the daemon is written at any level.
    format!("{level},lapin=off,opentelemetry=warn,orderwright::admin::actions=info").parse()
}

/// Sends the log to standard error: JSON, or lines for people where a terminal reads them. Spans go to
/// `tracer`.
///
/// # Errors
/// [`Error::Filter`], [`Error::Twice`].
pub fn init(settings: &config::Log, tracer: Option<&SdkTracerProvider>) -> Result<Log, Error> {
    let (level, handle) = reload::Layer::<_, Registry>::new(filter(&settings.level)?);
    let flood = Arc::new(Flood::default());
    // Spans go elsewhere; in a line they would say everything twice.
    let events = FilterFn::new(|it: &tracing::Metadata<'_>| !it.is_span());
    let shown = level.and(events);
    let json = match settings.format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let out = Out::new(io::stderr());
    let layer = tracing_subscriber::fmt::layer().with_writer(out.clone());
    let lines = if json {
        let inner = layer.event_format(Line);
        Damped { flood: flood.clone(), inner }.with_filter(shown).boxed()
    } else {
        let inner = layer.with_ansi(io::stderr().is_terminal());
        Damped { flood: flood.clone(), inner }.with_filter(shown).boxed()
    };
    let spans = tracer.map(|tracer| {
        let ours = FilterFn::new(|it| it.is_span() && it.target() == SPANS);
        tracing_opentelemetry::layer()
            .with_tracer(tracer.tracer("orderwright"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            // Whose span it is, is asked of `tracing` alone.
            .with_context_activation(false)
            .with_filter(ours.with_max_level_hint(LevelFilter::INFO))
    });
    let registry = tracing_subscriber::registry().with(lines);
    match spans {
        Some(spans) => registry.with(spans).try_init()?,
        // A layer that is absent would be interested in everything: each span would be kept for nobody.
        None => registry.try_init()?,
    }
    panics::log();
    Ok(Log { level: handle, flood, out })
}

impl Log {
    /// Logs by other directives from now on.
    ///
    /// # Errors
    /// [`Error::Filter`]; nothing has changed then.
    pub fn set_level(&self, level: &str) -> Result<(), Error> {
        Ok(self.level.reload(filter(level)?)?)
    }

    /// Says how often each thing was said that was not shown.
    pub fn tell_floods(&self) {
        self.flood.tell();
    }

    /// Writes what has been said so far, for a process that ends without its destructors. Waits for half a second
    /// at most.
    pub fn end(&self) {
        self.out.end();
    }

    /// Tells of floods now and then, and lets lines wait for each other, until it is dropped.
    pub async fn run(&self) {
        tokio::join!(self.tell(), self.out.gather());
    }

    async fn tell(&self) {
        let mut tick = tokio::time::interval(TELL_EVERY);
        loop {
            tick.tick().await;
            self.tell_floods();
        }
    }
}
