//! Spans, and how a trace goes on from a publisher's message to the service.
//!
//! The spans themselves are those of `tracing`: where nobody collects them they cost one look.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::metrics::Method;

/// Target of every span of ours.
pub const SPANS: &str = "orderwright::span";

/// What came with a message: the header `traceparent`, and `tracestate` if there was one.
#[derive(Debug, Clone, Copy)]
pub struct Carried<'a> {
    /// W3C `traceparent`.
    pub parent: &'a str,
    /// W3C `tracestate`.
    pub state: Option<&'a str>,
}

impl Extractor for Carried<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(self.parent),
            "tracestate" => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

/// A message that is about to be worked on.
#[derive(Debug, Clone, Copy)]
pub struct Processed<'a> {
    /// Canonical order key, where it could be told.
    pub order: Option<&'a str>,
    /// Queue that it came from.
    pub queue: &'a str,
    /// AMQP message id.
    pub message_id: Option<&'a str>,
    /// The trace that it belongs to.
    pub carried: Option<Carried<'a>>,
    /// Of a replayed message: the handling that it died in first, as W3C `traceparent`.
    pub died_in: Option<&'a str>,
}

/// The span of one handling of one message.
pub fn process(message: Processed<'_>) -> Span {
    let span = tracing::info_span!(
        target: SPANS,
        parent: None,
        "consume",
        "otel.name" = format!("consume {}", message.queue),
        "otel.kind" = "consumer",
        "otel.status_code" = tracing::field::Empty,
        "messaging.system" = "rabbitmq",
        "messaging.operation.type" = "process",
        "messaging.operation.name" = "consume",
        "messaging.destination.name" = message.queue,
        "messaging.message.id" = message.message_id,
        "orderwright.order" = message.order,
        "orderwright.outcome" = tracing::field::Empty,
        "error.type" = tracing::field::Empty,
    );
    if let Some(carried) = message.carried.filter(|_| !span.is_disabled()) {
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &carried);
        // It fails where the span is not collected: then there is nothing to go on.
        let _nowhere = span.set_parent(parent);
    }
    if let Some(parent) = message.died_in.filter(|_| !span.is_disabled()) {
        let died_in = Carried { parent, state: None };
        let died_in = TraceContextPropagator::new().extract_with_context(&Context::new(), &died_in);
        // One that makes no sense is none.
        span.add_link(died_in.span().span_context().clone());
    }
    span
}

/// The span of one request for an order.
pub fn request(method: Method, (server, port): (&str, u16)) -> Span {
    tracing::info_span!(
        target: SPANS,
        "request",
        "otel.name" = method.as_str(),
        "otel.kind" = "client",
        "otel.status_code" = tracing::field::Empty,
        "http.request.method" = method.as_str(),
        "http.response.status_code" = tracing::field::Empty,
        "server.address" = server,
        "server.port" = i64::from(port),
        "error.type" = tracing::field::Empty,
    )
}

/// The request was answered, or was not: with a status, or with the code of what went wrong.
pub fn answered(span: &Span, answer: Result<u16, &'static str>) {
    match answer {
        Ok(status) => {
            // Of the types that a collector knows, the library passes on this one.
            span.record("http.response.status_code", i64::from(status));
            if status >= 400 {
                span.record("error.type", tracing::field::display(status));
                span.record("otel.status_code", "ERROR");
            }
        }
        Err(code) => {
            span.record("error.type", code);
            span.record("otel.status_code", "ERROR");
        }
    }
}

/// What became of the message whose span this is. `reason` is that of a dead letter.
pub fn settled(outcome: &'static str, reason: Option<&'static str>) {
    let span = Span::current();
    span.record("orderwright.outcome", outcome);
    if let Some(reason) = reason {
        span.record("error.type", reason);
        span.record("otel.status_code", "ERROR");
    }
}

/// Writes the present trace into the headers of a request. Nothing where there is none.
pub fn inject(set: impl FnMut(&str, String)) {
    let span = Span::current();
    if !span.is_disabled() {
        TraceContextPropagator::new().inject_context(&span.context(), &mut Write(set));
    }
}

/// The present span as W3C `traceparent`, if it is recorded.
#[must_use]
pub fn parent() -> Option<String> {
    let span = Span::current();
    if span.is_disabled() || !span.context().span().span_context().is_sampled() {
        return None;
    }
    let mut parent = None;
    inject(|name, value| {
        if name == "traceparent" {
            parent = Some(value);
        }
    });
    parent
}

struct Write<F>(F);

impl<F: FnMut(&str, String)> Injector for Write<F> {
    fn set(&mut self, key: &str, value: String) {
        (self.0)(key, value);
    }
}

/// The present trace, if there is one.
#[must_use]
pub fn trace_id() -> Option<String> {
    let span = Span::current();
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then(|| context.trace_id().to_string())
}
