//! What is asked, and what is answered.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde_json::json;

use super::status::Status;
use super::{Admin, Health, explanation, page};

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
    let routes = Router::new()
        .route("/", get(async |State(admin): Seen, uri: Uri| page::page(&admin, uri.query())))
        .route("/page.css", get(async || page::style()))
        .route("/page.js", get(async || page::script()))
        .route("/livez", get(async |State(admin): Seen| probe(admin.live())))
        .route("/readyz", get(async |State(admin): Seen| probe(admin.ready())))
        .route("/startupz", get(async |State(admin): Seen| probe(admin.started())))
        .route("/metrics", get(async |State(admin): Seen| metrics(&admin)))
        .route("/status", get(async |State(admin): Seen| Json(Status::of(&admin)).into_response()))
        .route("/explain", get(explained))
        .with_state(admin);
    bounded(routes)
}

/// With what holds for every listener of ours.
pub(super) fn bounded(routes: Router) -> Router {
    routes.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).layer(middleware::map_response(
        async |mut response: Response| {
            response.headers_mut().extend(HEADERS.map(|(name, value)| (Some(name), value)));
            response
        },
    ))
}

type Seen = State<Arc<Admin>>;

async fn explained(State(admin): Seen, uri: Uri) -> Response {
    explanation::answer(&admin, uri.query())
}

/// What is wrong, as programs read it.
pub(super) fn error(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

fn probe(health: Health) -> Response {
    let status = if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

fn metrics(admin: &Admin) -> Response {
    ([(CONTENT_TYPE, METRICS)], admin.metrics.text()).into_response()
}
