//! The TCP edge: connections, bytes, waiting. Decides nothing; the world does.
//!
//! A connection bounds what one client has under way, but does not own it: a request that takes
//! time runs in a task of the server, and is carried out even if its client gives up. Real servers
//! do not notice either, and a PATCH that arrives after its client has left is what entity tags are
//! for.

use std::error::Error as _;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admin::{self, Call};
use super::reply::Outcome;
use super::request::Request;
use super::response::{Cut, Response, admin_response, no_route, respond, too_large};
use super::world::{Arrived, World};
use super::{Error, Settings};

/// Wait after a failed accept. Out of descriptors, the loop would otherwise spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Longest wait for the ledger, so that a lost test does not keep a connection for ever.
const WAIT_MAX: Duration = Duration::from_mins(2);
/// Wait for the ledger if the request does not say how long.
const WAIT_DEFAULT_MS: u64 = 60_000;

/// What all connections share.
#[derive(Debug)]
struct Shared {
    /// Locked for one step at a time, microseconds, and never over an await.
    world: Mutex<World>,
    /// `applied_distinct` of the ledger, for those who wait for it. Set under the lock.
    applied: watch::Sender<u64>,
    requests: TaskTracker,
    stop: CancellationToken,
    body_bytes_max: usize,
}

/// What became of a request when it arrived.
enum Taken {
    Done(Outcome),
    TakesTime(Box<Arrived>),
}

/// Serves until `stop`, then ends at once: connections are closed as they are, since a stand-in has
/// nothing to save. An error is one of the settings, found before anything is accepted.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    stop: CancellationToken,
) -> Result<(), Error> {
    let connections_max = settings.connections_max;
    let body_bytes_max = settings.body_bytes_max;
    // A token of its own: if this future is dropped, its requests end too.
    let stop = stop.child_token();
    let _stop_on_drop = stop.clone().drop_guard();
    let shared = Arc::new(Shared {
        world: Mutex::new(World::new(settings)?),
        applied: watch::Sender::new(0),
        requests: TaskTracker::new(),
        stop: stop.clone(),
        body_bytes_max,
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = listener.accept(), if connections.len() < connections_max => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer.to_string(), Arc::clone(&shared)));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    connections.shutdown().await;
    shared.requests.close();
    shared.requests.wait().await;
    Ok(())
}

/// The last net under a connection.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task panicked");
    }
}

/// Serves one connection. A fault that cuts it resets it, so that the client cannot mistake the end
/// for a polite one.
async fn connection(stream: TcpStream, peer: String, shared: Arc<Shared>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let writer: Arc<str> = peer.as_str().into();
    let service = service_fn(|request| Box::pin(handle(&shared, &writer, request)));
    let mut served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let Err(error) = poll_fn(|context| served.poll_without_shutdown(context)).await else { return };
    if error.source().is_some_and(<dyn std::error::Error>::is::<Cut>) {
        let stream = served.into_parts().io.into_inner();
        if let Err(error) = stream.set_zero_linger() {
            tracing::debug!(%peer, %error, "cannot reset the connection; closing it");
        }
    } else {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// Answers one request, or cuts its connection.
async fn handle(
    shared: &Arc<Shared>,
    peer: &Arc<str>,
    request: hyper::Request<Incoming>,
) -> Result<Response, Cut> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, shared.body_bytes_max).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Ok(too_large()),
        Err(_client_left) => return Err(Cut),
    };
    let path = head.uri.path();
    if let Some(segment) = path.strip_prefix("/data/") {
        let request = Request::read(&head.method, segment, &head.uri, &head.headers, peer, &body);
        respond(data(shared, request).await)
    } else if let Some(path) = path.strip_prefix("/sim/") {
        Ok(admin(shared, &head, path, &body).await)
    } else {
        Ok(no_route())
    }
}

/// Takes a request of the application through its latency.
async fn data(shared: &Arc<Shared>, request: Request) -> Outcome {
    match shared.take(request) {
        Taken::Done(outcome) => outcome,
        Taken::TakesTime(arrived) => {
            let owner = Arc::clone(shared);
            let work = shared.requests.spawn(async move {
                tokio::select! {
                    biased;
                    () = owner.stop.cancelled() => Outcome::Cut,
                    outcome = owner.carry_out(*arrived) => outcome,
                }
            });
            work.await.unwrap_or_else(|error| {
                tracing::error!(%error, "a request's task panicked");
                Outcome::Cut
            })
        }
    }
}

/// Answers `/sim/…`, after the wait that `/sim/ledger` may ask for.
async fn admin(shared: &Shared, head: &Parts, path: &str, body: &Bytes) -> Response {
    let query = head.uri.query().unwrap_or("");
    let call = Call { method: head.method.as_str(), path, query, body };
    if (call.method, path) == ("GET", "ledger")
        && let Err(refusal) = shared.wait_for_ledger(&call).await
    {
        return admin_response(refusal);
    }
    let mut world = shared.world();
    let answer = admin::handle(&mut world, &call);
    shared.publish(&world);
    drop(world);
    admin_response(answer)
}

impl Shared {
    /// A panic while the world was locked is a bug that has been logged; the counters still tell
    /// more than a second panic would.
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request in, and carries it out under the same lock if it takes no time.
    fn take(&self, request: Request) -> Taken {
        let now = Timestamp::now();
        let mut world = self.world();
        let arrived = world.arrive(request, now);
        if !arrived.is_instant() {
            return Taken::TakesTime(Box::new(arrived));
        }
        let judged = world.judge(arrived, now);
        let outcome = world.leave(judged);
        self.publish(&world);
        Taken::Done(outcome)
    }

    /// The way in, the deed, the way back.
    async fn carry_out(&self, arrived: Arrived) -> Outcome {
        sleep(arrived.before()).await;
        let judged = {
            let mut world = self.world();
            let judged = world.judge(arrived, Timestamp::now());
            self.publish(&world);
            judged
        };
        let after = judged.after();
        if !after.is_zero() {
            sleep(after).await;
        }
        self.world().leave(judged)
    }

    /// Wakes those who wait for the ledger, if it has moved.
    fn publish(&self, world: &World) {
        let distinct = world.totals().applied_distinct;
        self.applied.send_if_modified(|known| std::mem::replace(known, distinct) != distinct);
    }

    /// Returns when enough is applied or the wait is over: the totals tell which.
    async fn wait_for_ledger(&self, call: &Call<'_>) -> Result<(), admin::Answer> {
        let least = call.number("applied_distinct_min", 0)?;
        let wait = Duration::from_millis(call.number("wait_ms", WAIT_DEFAULT_MS)?).min(WAIT_MAX);
        let mut applied = self.applied.subscribe();
        let reached = timeout(wait, applied.wait_for(|distinct| *distinct >= least)).await.is_ok();
        tracing::debug!(least, reached, "waited for the ledger");
        Ok(())
    }
}

#[cfg(test)]
mod tests;
