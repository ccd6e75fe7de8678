//! What a pod knows of one order.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::report::{Order, Shard};
use super::routes::error;
use super::{Admin, Health, Identity};

/// What a pod knows of one order, whether or not it has anything to do with it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Its canonical key, or a hash of it.
    pub order: String,
    /// The shard that it belongs to.
    pub shard: u16,
    /// The generation of shard queues.
    pub generation: u64,
    /// How the pod stands with that shard's queue. None while the pod has not heard of the generation's
    /// queues.
    pub queue: Option<Shard>,
    /// What is done for it here.
    pub at_work: Option<Order>,
    /// The dead letter that it stands still behind.
    pub parked: Option<Parked>,
    /// All of it in sentences.
    pub says: Vec<String>,
}

/// How an order stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parked {
    /// The first dead letter.
    pub behind: Uuid,
    /// The newest one.
    pub last: Uuid,
    /// How many there are.
    pub letters: u64,
    /// Since when.
    pub since: Timestamp,
}

/// With the name of the pod that says it.
#[derive(Debug, Serialize)]
struct Named<'a> {
    instance: &'a str,
    version: &'static str,
    #[serde(flatten)]
    explanation: Explanation,
}

/// Answers `?order=KEY`.
pub(super) fn answer(admin: &Admin, query: Option<&str>) -> Response {
    let mut pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let Some((_, order)) = pairs.find(|(name, _)| name == "order") else {
        return error(StatusCode::BAD_REQUEST, "which order? ask for ?order=KEY");
    };
    let Some(view) = admin.view.get() else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "the broker is not reached yet");
    };
    match view.explain(&order) {
        Ok(mut explanation) => {
            // What is amiss with the pod is amiss with all its orders.
            let Health { because, degraded, .. } = admin.ready();
            let troubles = because.iter().chain(&degraded);
            explanation.says.extend(troubles.map(|text| format!("this pod: {text}")));
            let Identity { instance, version, .. } = &admin.identity;
            Json(Named { instance, version, explanation }).into_response()
        }
        Err(text) => error(StatusCode::BAD_REQUEST, &text),
    }
}
