//! What is asked, and what is answered.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde::Serialize;

use super::{Admin, Health, Identity, Phase, Report};

/// Largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 4096;

/// The content type of Prometheus's text format.
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// On every answer: it is of this moment, and nothing but what it says it is.
const HEADERS: [(HeaderName, HeaderValue); 2] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

pub(super) fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/livez", get(async |State(admin): Seen| probe(admin.live())))
        .route("/readyz", get(async |State(admin): Seen| probe(admin.ready())))
        .route("/startupz", get(async |State(admin): Seen| probe(admin.started())))
        .route("/metrics", get(async |State(admin): Seen| metrics(&admin)))
        .route("/status", get(async |State(admin): Seen| Json(Status::of(&admin)).into_response()))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::map_response(async |mut response: Response| {
            response.headers_mut().extend(HEADERS.map(|(name, value)| (Some(name), value)));
            response
        }))
        .with_state(admin)
}

type Seen = State<Arc<Admin>>;

fn probe(health: Health) -> Response {
    let status = if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

fn metrics(admin: &Admin) -> Response {
    ([(CONTENT_TYPE, METRICS)], admin.metrics.text()).into_response()
}

/// What `/status` says.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    #[serde(flatten)]
    identity: Identity,
    phase: Phase,
    up_seconds: f64,
    live: Health,
    ready: Health,
    /// Nothing before the broker was reached.
    #[serde(flatten)]
    report: Option<Report>,
}

impl Status {
    pub(super) fn of(admin: &Admin) -> Self {
        Self {
            identity: admin.identity.clone(),
            phase: admin.phase(),
            up_seconds: admin.born.elapsed().as_secs_f64(),
            live: admin.live(),
            ready: admin.ready(),
            report: admin.report(),
        }
    }
}
