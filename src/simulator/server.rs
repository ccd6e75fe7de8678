//! The TCP edge: connections, bytes, waiting. Decides nothing; the world does.
//!
//! A connection bounds what one client has under way (one request, of HTTP/2 a hundred), but does not
//! own it: a request that takes time runs in a task of the server, and is carried out even if its client
//! gives up. Real servers do not notice either, and a PATCH that arrives after its client has left is what
//! entity tags are for.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::Method;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admin::{self, Call};
use super::clock::Clock;
use super::connection::{Entrance, Link};
use super::door::listen;
use super::reply::Outcome;
use super::request::Request;
use super::response::{
    Cut, Response, admin_response, no_route, respond, token_response, too_large,
};
use super::scenario::Act;
use super::switch::Door;
use super::tokens::{self, Ask};
use super::world::{Arrived, World};
use super::{Error, Settings};

/// Longest wait for the ledger, so that a lost test does not keep a connection for ever.
const WAIT_MAX: Duration = Duration::from_mins(2);
/// Wait for the ledger if the request does not say how long.
const WAIT_DEFAULT_MS: u64 = 60_000;
/// Longest wait for the port to open or close: it is taken if somebody else has it meanwhile.
const DOOR_MAX: Duration = Duration::from_secs(2);
/// Most connections to the port of `/sim/` alone.
const ADMIN_CONNECTIONS_MAX: usize = 64;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Locked for one step at a time, microseconds, and never over an await.
    world: Mutex<World>,
    /// `applied_distinct` of the ledger, for those who wait for it. Set under the lock.
    applied: watch::Sender<u64>,
    /// Whether connections are taken. Set under the lock.
    pub(super) door: watch::Sender<Door>,
    /// Whether somebody listens, as the door has it.
    pub(super) listening: watch::Sender<bool>,
    pub(super) requests: TaskTracker,
    clock: Clock,
    pub(super) stop: CancellationToken,
    body_bytes_max: usize,
}

/// What became of a request when it arrived.
enum Taken {
    Done(Outcome),
    TakesTime(Box<Arrived>),
}

/// Serves until `stop`, then ends at once: connections are closed as they are, since a stand-in has
/// nothing to save.
///
/// `admin`, if given, is a port for `/sim/` alone, which is there whatever happens to the other. An
/// error is one of the settings, found before anything is accepted.
pub async fn serve(
    listener: TcpListener,
    admin: Option<TcpListener>,
    settings: Settings,
    stop: CancellationToken,
) -> Result<(), Error> {
    let connections_max = settings.connections_max;
    let body_bytes_max = settings.body_bytes_max;
    let acts = settings.scenario.acts();
    // A token of its own: if this future is dropped, its requests end too.
    let stop = stop.child_token();
    let _stop_on_drop = stop.clone().drop_guard();
    let mut world = World::new(settings)?;
    world.has_way_back = admin.is_some();
    let shared = Arc::new(Shared {
        world: Mutex::new(world),
        applied: watch::Sender::new(0),
        door: watch::Sender::new(Door::Open),
        listening: watch::Sender::new(true),
        requests: TaskTracker::new(),
        clock: Clock::start(),
        stop: stop.clone(),
        body_bytes_max,
    });
    let admin = async {
        match admin {
            Some(port) => {
                listen(port, Entrance::Admin, ADMIN_CONNECTIONS_MAX, Arc::clone(&shared)).await
            }
            None => Ok(()),
        }
    };
    let data = listen(listener, Entrance::Data, connections_max, Arc::clone(&shared));
    let script = async {
        tokio::select! {
            () = play(acts, |act| shared.act(act)) => {}
            () = shared.stop.cancelled() => {}
        }
    };
    let (data, admin, ()) = tokio::join!(data, admin, script);
    for error in [data, admin].into_iter().filter_map(Result::err) {
        tracing::error!(%error, "a port is of no use");
    }
    shared.requests.close();
    shared.requests.wait().await;
    Ok(())
}

/// Carries out what a scenario says, each step at its time.
async fn play(acts: Vec<(Duration, Act)>, mut perform: impl FnMut(Act)) {
    let start = Instant::now();
    for (at, act) in acts {
        sleep_until(start + at).await;
        perform(act);
    }
}

/// Answers one request, or cuts its connection.
pub(super) async fn handle(
    shared: &Arc<Shared>,
    link: &Link,
    request: hyper::Request<Incoming>,
) -> Result<Response, Cut> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let is_admin = path.starts_with("/sim/");
    link.is_admin.store(is_admin || link.entrance == Entrance::Admin, Ordering::Relaxed);
    let body = match Limited::new(body, shared.body_bytes_max).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Ok(too_large()),
        Err(_client_left) => return Err(Cut),
    };
    if let Some(path) = path.strip_prefix("/sim/") {
        return Ok(admin(shared, &head, path, &body).await);
    }
    if link.entrance == Entrance::Admin {
        return Ok(no_route());
    }
    if let Some(segment) = path.strip_prefix("/data/") {
        let peer = &link.peer;
        let request = Request::read(&head.method, segment, &head.uri, &head.headers, peer, &body);
        respond(data(shared, request).await, link)
    } else if let Some(ask) = Ask::read(path, &body).filter(|_| head.method == Method::POST) {
        Ok(token(shared, &ask).await.map_or_else(no_route, token_response))
    } else {
        Ok(no_route())
    }
}

/// Answers a request for a token, if there is an endpoint for it.
async fn token(shared: &Shared, ask: &Ask<'_>) -> Option<tokens::Answer> {
    let strike = shared.world().token_strike(Timestamp::now());
    let delay = tokens::delay(strike.as_ref());
    if !delay.is_zero() {
        sleep(delay).await;
    }
    shared.world().give_token(ask, strike.as_ref(), Timestamp::now())
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
    let answer = shared.administer(&call);
    shared.wait_for_door().await;
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
        let there = Instant::now() + arrived.before();
        self.clock.until(there).await;
        let judged = {
            let mut world = self.world();
            let judged = world.judge(arrived, Timestamp::now());
            self.publish(&world);
            judged
        };
        self.clock.until(there + judged.after()).await;
        self.world().leave(judged)
    }

    /// Wakes those who wait for the ledger, if it has moved.
    fn publish(&self, world: &World) {
        let distinct = world.totals().applied_distinct;
        self.applied.send_if_modified(|known| std::mem::replace(known, distinct) != distinct);
    }

    /// Carries out a call of `/sim/` and tells those whom it concerns.
    fn administer(&self, call: &Call<'_>) -> admin::Answer {
        let now = Timestamp::now();
        let mut world = self.world();
        let answer = admin::handle(&mut world, call, now);
        self.publish(&world);
        self.swing_door(&world, now);
        answer
    }

    fn act(&self, act: Act) {
        let now = Timestamp::now();
        let mut world = self.world();
        world.act(act, now);
        self.swing_door(&world, now);
    }

    /// Opens the door, or shuts it, as the faults have it.
    fn swing_door(&self, world: &World, now: Timestamp) {
        let wanted = world.door(now);
        self.door.send_if_modified(|door| std::mem::replace(door, wanted) != wanted);
    }

    /// Returns when the port is as the door has it, so that whoever has shut it may count on that.
    async fn wait_for_door(&self) {
        let is_open = !self.door.borrow().is_shut();
        let mut listening = self.listening.subscribe();
        let swung = listening.wait_for(|is_listening| *is_listening == is_open);
        if timeout(DOOR_MAX, swung).await.is_err() {
            tracing::warn!("the port is not as the faults have it");
        }
    }

    /// To be called when the time of a shut door is over.
    pub(super) fn look_at_door(&self) {
        self.swing_door(&self.world(), Timestamp::now());
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
