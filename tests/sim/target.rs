//! The target of a simulated pod: the simulator's own world, and a network that delays, loses, doubles and
//! reorders. A service carries out a request whose client is gone for at most the settle window: that is
//! what the window is for, and what is assumed here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use orderwright::app::Target;
use orderwright::dispatch::{Leave, Trail};
use orderwright::order::{ETag, Literal, OrderKey, OrderUpdate};
use orderwright::protocol::{Answer, Fault, Reply};
use orderwright::simulator::key::{COMPANY, ENTITY_SET, Key, NUMBER};
use orderwright::simulator::request::{Operation, Request};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::book::State;
use crate::stage::Shared;

/// Longest that a request waits before it is written, in milliseconds.
const LINGERING_MAX: u64 = 300;

/// What a look at the target brings.
const PAGE: &[u8] = br#"{"value":[]}"#;

pub(crate) struct Service {
    pub(crate) shared: Shared,
    pub(crate) pod: usize,
    pub(crate) name: String,
    pub(crate) deadlines: [Duration; 2],
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Tells the world that nobody waits any more.
struct Waits {
    shared: Shared,
    visit: u64,
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.shared.lock().nobody_waits(self.visit);
    }
}

fn key_of(key: &OrderKey) -> Key {
    let value = |name: &str| {
        let found = key.values().iter().find(|it| &*it.property == name);
        match found.map(|it| &it.literal) {
            Some(Literal::Text(text)) => text.clone(),
            Some(Literal::Integer(number)) => number.to_string(),
            None => String::new(),
        }
    };
    Key::new(value(COMPANY), value(NUMBER))
}

impl Service {
    fn request(&self, key: Key, etag: Option<&ETag>, operation: Operation) -> Request {
        Request {
            operation,
            target: Ok(key),
            cross_company: true,
            top: None,
            select: None,
            if_match: etag.map(|etag| etag.as_str().to_owned()),
            authorization: None,
            writer: self.name.as_str().into(),
            client_request_id: None,
            prefer: None,
            session: None,
        }
    }

    async fn ask(&self, request: Request, walk: Option<uuid::Uuid>, deadline: Duration) -> Reply {
        let (sender, answer) = oneshot::channel();
        let visit = self.shared.lock().send((self.pod, walk), request, sender);
        let _waits = Waits { shared: self.shared.clone(), visit };
        match timeout(deadline, answer).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_lost)) => Err(Fault::Broken),
            Err(_elapsed) => Err(Fault::Timeout),
        }
    }
}

impl Service {
    /// Waits as requests do for a token, or for others to go with.
    async fn linger(&self) {
        let wait = {
            let mut stage = self.shared.lock();
            let most = if stage.plan.is_lingering { LINGERING_MAX } else { 0 };
            Duration::from_millis(stage.rng.u64(0..=most))
        };
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    /// Leave to write a request, at the moment of writing.
    fn take(&self, leave: &Leave) -> bool {
        let may = leave.take();
        if !may {
            self.shared.lock().book.saw(State::NotSent);
        }
        may
    }
}

impl Target for Service {
    async fn get(&self, update: &OrderUpdate, trail: Trail, leave: &Arc<Leave>) -> Option<Reply> {
        self.linger().await;
        if !self.take(leave) {
            return None;
        }
        *self.shared.lock().visits.attempts.entry(trail.walk).or_default() += 1;
        let request = self.request(key_of(&update.key), None, Operation::Get);
        let reply = self.ask(request, None, self.deadlines[0]).await;
        if let Some(etag) = reply.as_ref().ok().and_then(shown) {
            self.shared.lock().visits.etags.insert(trail.attempt, etag);
        }
        Some(reply)
    }

    async fn patch(
        &self,
        key: &OrderKey,
        etag: &ETag,
        body: &str,
        trail: Trail,
        leave: &Arc<Leave>,
    ) -> Option<Reply> {
        self.linger().await;
        if !self.take(leave) {
            return None;
        }
        {
            let mut stage = self.shared.lock();
            if stage.visits.etags.get(&trail.attempt) != Some(etag) {
                let now = stage.now();
                stage.book.complain(now, "a PATCH carries an ETag that its attempt has not seen");
            }
        }
        let body = serde_json::from_str(body).map_err(|error| error.to_string());
        let request = self.request(key_of(key), Some(etag), Operation::Patch(body));
        Some(self.ask(request, Some(trail.walk), self.deadlines[1]).await)
    }

    async fn probe(&self, order: Option<&OrderKey>, _trail: Trail) -> Reply {
        if let Some(order) = order {
            let request = self.request(key_of(order), None, Operation::Get);
            return self.ask(request, None, self.deadlines[0]).await;
        }
        let mut request = self.request(Key::new("", ""), None, Operation::Get);
        // The entity set: no order.
        request.target = Key::parse(ENTITY_SET);
        let reply = self.ask(request, None, self.deadlines[0]).await;
        // The world knows no entity set; a service answers with a page of it.
        reply.map(|answer| match answer.status {
            400 => Answer { status: 200, is_json: true, body: Bytes::from_static(PAGE), ..answer },
            _trouble => answer,
        })
    }

    fn now(&self) -> Timestamp {
        self.shared.lock().wall_of(self.pod)
    }
}

/// The ETag that an answer shows, in the header or in the body.
fn shown(answer: &Answer) -> Option<ETag> {
    answer.etag.clone().or_else(|| {
        let body: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        ETag::new(body.get("@odata.etag")?.as_str()?)
    })
}
