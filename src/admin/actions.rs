//! What an operator may ask of the daemon while it runs: on a listener of its own, and only with the token.
//!
//! Who asked is what the caller says of himself, and where he called from: whoever has the token may say
//! anything.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::routes::{bounded, error};
use super::{Admin, explanation};
use crate::config::mistake_in_level;
use crate::telemetry::field;

/// The header in which a caller says who he is.
const ACTOR: &str = "orderwright-actor";
/// Characters of it that are logged.
const ACTOR_CHARACTERS_MAX: usize = 64;

/// What a daemon that has come up can be asked to do. Each only begins it.
pub trait Control: Send + Sync + 'static {
    /// Takes nothing more, and gives everything back once what was begun is finished. False if that was
    /// asked before.
    fn pause(&self) -> bool;

    /// Takes its share again. False if it was not paused.
    fn resume(&self) -> bool;

    /// Finishes what was begun of a shard and gives it back. Its queue, and how many messages are at work;
    /// none if it is not subscribed to.
    fn hand_back(&self, shard: u16) -> Option<(Arc<str>, usize)>;
}

type SetLevel = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// The listener for actions.
pub struct Actions {
    admin: Arc<Admin>,
    set_level: Box<SetLevel>,
    /// Of the token. Both are hashed, so that not even its length shows in the time that a look takes.
    digest: [u8; 32],
}

impl std::fmt::Debug for Actions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actions").finish_non_exhaustive()
    }
}

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Who asks.
#[derive(Debug, Clone)]
struct Caller {
    actor: String,
    peer: SocketAddr,
}

impl Actions {
    /// Whoever sends this token may act. `set_level` has the daemon log by other directives, which make
    /// sense; what is amiss all the same it says in words.
    pub fn new(
        admin: Arc<Admin>,
        token: &str,
        set_level: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let digest = Sha256::digest(token.as_bytes()).into();
        Self { admin, set_level: Box::new(set_level), digest }
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let sent = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let token = sent.and_then(|sent| sent.strip_prefix(b"Bearer "));
        token.is_some_and(|token| Sha256::digest(token).as_slice().ct_eq(&self.digest).into())
    }
}

type Asked = State<Arc<Actions>>;

pub(super) fn router(actions: Actions) -> Router {
    let actions = Arc::new(actions);
    let routes = Router::new()
        .route("/pause", post(pause))
        .route("/resume", post(resume))
        .route("/shards/{number}/hand-back", post(hand_back))
        .route("/log-level", put(log_level))
        .route("/explain", get(explained))
        // Also of what there is not: without the token nobody learns what there is.
        .fallback(async || error(StatusCode::NOT_FOUND, "there is no such action"))
        .layer(from_fn_with_state(actions.clone(), admit))
        .with_state(actions);
    bounded(routes)
}

/// Lets nobody through without the token.
async fn admit(
    State(actions): Asked,
    Extension(Peer(peer)): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    if !actions.knows(request.headers()) {
        tracing::warn!({ field::PEER } = %peer, "an admin action without the token was refused");
        let refused = error(StatusCode::UNAUTHORIZED, "send the token as Authorization: Bearer");
        return ([(WWW_AUTHENTICATE, "Bearer")], refused).into_response();
    }
    let actor = request.headers().get(ACTOR).and_then(|value| value.to_str().ok());
    let actor = actor.unwrap_or("-").chars().take(ACTOR_CHARACTERS_MAX).collect();
    request.extensions_mut().insert(Caller { actor, peer });
    next.run(request).await
}

/// Written before it is done: what follows may be that nothing is written any more.
fn note(caller: &Caller, action: &str, what: &str) {
    let Caller { actor, peer } = caller;
    tracing::info!(
        { field::ACTION } = action,
        { field::WHAT } = what,
        { field::ACTOR } = actor,
        { field::PEER } = %peer,
        "admin action"
    );
}

/// While there is nobody yet who could do it.
fn starting() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "the broker is not reached yet")
}

async fn pause(State(actions): Asked, Extension(caller): Extension<Caller>) -> Response {
    note(&caller, "pause", "");
    let Some(control) = actions.admin.control.get() else { return starting() };
    Json(json!({"paused": true, "changed": control.pause()})).into_response()
}

async fn resume(State(actions): Asked, Extension(caller): Extension<Caller>) -> Response {
    note(&caller, "resume", "");
    let Some(control) = actions.admin.control.get() else { return starting() };
    Json(json!({"paused": false, "changed": control.resume()})).into_response()
}

async fn hand_back(
    State(actions): Asked,
    Extension(caller): Extension<Caller>,
    Path(shard): Path<u16>,
) -> Response {
    note(&caller, "hand_back", &shard.to_string());
    let Some(control) = actions.admin.control.get() else { return starting() };
    match control.hand_back(shard) {
        Some((queue, at_work)) => {
            let begun = json!({"shard": shard, "queue": *queue, "at_work": at_work});
            (StatusCode::ACCEPTED, Json(begun)).into_response()
        }
        None => error(StatusCode::NOT_FOUND, "this pod is not subscribed to that shard"),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Level {
    level: String,
}

async fn log_level(
    State(actions): Asked,
    Extension(caller): Extension<Caller>,
    Json(Level { level }): Json<Level>,
) -> Response {
    note(&caller, "log_level", &level);
    if let Some(rule) = mistake_in_level(&level) {
        return error(StatusCode::BAD_REQUEST, &format!("level {rule}"));
    }
    match (actions.set_level)(&level) {
        Ok(()) => Json(json!({ "level": level })).into_response(),
        Err(failed) => error(StatusCode::BAD_REQUEST, &failed),
    }
}

async fn explained(
    State(actions): Asked,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Response {
    note(&caller, "explain", uri.query().unwrap_or_default());
    explanation::answer(&actions.admin, uri.query())
}

#[cfg(test)]
mod tests;
