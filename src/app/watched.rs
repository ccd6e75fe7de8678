//! One request to the service, from outside: how long it took, and what it came to.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{Instrument, Span};

use crate::dispatch::Leave;
use crate::protocol::{Fault, Reply};
use crate::telemetry::metrics::{Method, Metrics};
use crate::telemetry::trace;

/// Why there is no answer where nobody waited for it any more: its channel was lost.
const ABORTED: &str = "aborted";

/// A request that is about to be performed. Written down when it is dropped, so that one that is given up on
/// the way is as well.
pub(super) struct Watched<'a> {
    metrics: &'a Metrics,
    method: Method,
    span: Span,
    since: Instant,
    leave: &'a Leave,
    answer: Option<Result<u16, &'static str>>,
}

impl<'a> Watched<'a> {
    pub(super) fn new(
        metrics: &'a Metrics,
        method: Method,
        server: (&str, u16),
        leave: &'a Leave,
    ) -> Self {
        let (span, since) = (trace::request(method, server), Instant::now());
        Self { metrics, method, span, since, leave, answer: None }
    }

    pub(super) async fn perform(
        mut self,
        request: impl Future<Output = Option<Reply>>,
    ) -> Option<Reply> {
        let reply = request.instrument(self.span.clone()).await;
        self.answer = reply.as_ref().map(answer);
        reply
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        let written = self.leave.written();
        // One that was given up before it was written was none.
        let aborted = written.map(|_at| Err(ABORTED));
        let Some(answer) = self.answer.or(aborted) else { return };
        let took: Duration = written.unwrap_or(self.since).elapsed();
        self.metrics.request(self.method, answer, took);
        trace::answered(&self.span, answer);
    }
}

/// The status, or in one word why none came.
fn answer(reply: &Reply) -> Result<u16, &'static str> {
    match reply {
        Ok(answer) => Ok(answer.status),
        Err(Fault::Unreachable) => Err("unreachable"),
        Err(Fault::Untrusted) => Err("certificate"),
        Err(Fault::Timeout) => Err("timeout"),
        Err(Fault::Broken) => Err("broken"),
        Err(Fault::TooLarge) => Err("too_large"),
        Err(Fault::Csrf) => Err("csrf"),
        Err(Fault::SignIn(_)) => Err("sign_in"),
    }
}
