//! A service and a broker that are made up, in virtual time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::super::*;
use super::message::Message;
use crate::protocol::{Answer, Fault, Request};

pub(super) const QUEUED: Duration = Duration::from_secs(5);

pub(super) const MINUTE: Duration = Duration::from_mins(1);

/// What the service answers to the PATCH of an order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Behaviour {
    Fine,
    Down,
    /// Answers the GET with 500.
    Unreadable,
    /// Answers the PATCH with 500.
    Unwritable,
    /// Answers the GET with 404.
    Missing,
    /// Something on the way takes offence at its GET, or at its PATCH: a page, or a redirect.
    Page(Request),
    Redirect(Request),
    /// This request is always too much, and how long it is to wait.
    TooMuch(Request, Option<u64>),
    /// Its GET brings no tag.
    Tagless,
    Panics,
    /// Panics when the PATCH has been sent.
    PanicsLate,
    /// Holds the sequence 9.
    Ahead,
    /// Its GET, or its PATCH, waits for five seconds before it is written.
    Queued(Request),
    /// Never answers the GET before the test's time is over.
    Slow,
}

#[derive(Default)]
pub(super) struct World {
    pub(super) behaviour: Mutex<BTreeMap<String, Behaviour>>,
    /// What happened, with the virtual millisecond.
    pub(super) story: Mutex<Vec<(u64, String)>>,
    pub(super) letters: Mutex<Vec<Letter>>,
    /// Of every PATCH.
    pub(super) bodies: Mutex<Vec<String>>,
    /// What every order looks like, if not as usual.
    pub(super) shown: Mutex<Option<&'static str>>,
    /// Orders that stand still, and those of which that is not known.
    pub(super) gates: Mutex<BTreeMap<String, Option<Gate>>>,
    pub(super) outage: Mutex<Option<Reply>>,
    /// What every PATCH is answered, while GETs are answered well.
    pub(super) read_only: Mutex<Option<Reply>>,
    /// What a list is answered, whatever else goes on.
    pub(super) lists: Mutex<Option<Reply>>,
    pub(super) in_flight: AtomicU64,
    pub(super) in_flight_max: AtomicU64,
    pub(super) identifiers: AtomicU64,
}

#[derive(Clone)]
pub(super) struct Fake {
    pub(super) world: Arc<World>,
    pub(super) begun: Instant,
}

impl Fake {
    pub(super) fn tell(&self, what: String) {
        let at = u64::try_from(self.begun.elapsed().as_millis()).unwrap();
        self.world.story.lock().unwrap().push((at, what));
    }

    /// What every request is answered, while the target is in trouble.
    pub(super) fn outage(&self) -> Option<Reply> {
        self.world.outage.lock().unwrap().clone()
    }

    pub(super) async fn got(&self, key: &OrderKey) -> Reply {
        let now = self.world.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.world.in_flight_max.fetch_max(now, Ordering::SeqCst);
        let time = if self.behaviour(key) == Behaviour::Slow { 5_000 } else { 10 };
        sleep(Duration::from_millis(time)).await;
        assert!(self.behaviour(key) != Behaviour::Panics, "as the test asked");
        if let Some(reply) = self.outage() {
            self.world.in_flight.fetch_sub(1, Ordering::SeqCst);
            return reply;
        }
        if let Some(reply) = unreadable(self.behaviour(key)) {
            self.world.in_flight.fetch_sub(1, Ordering::SeqCst);
            return reply;
        }
        if let Some(order) = *self.world.shown.lock().unwrap() {
            self.world.in_flight.fetch_sub(1, Ordering::SeqCst);
            return Ok(answer(200, order));
        }
        let is_ahead = self.behaviour(key) == Behaviour::Ahead;
        Ok(answer(200, if is_ahead { r#"{"A":0,"Seq":9}"# } else { r#"{"A":0}"# }))
    }

    pub(super) async fn patched(&self, key: &OrderKey, body: &str) -> Reply {
        self.world.bodies.lock().unwrap().push(body.to_owned());
        sleep(Duration::from_millis(10)).await;
        self.world.in_flight.fetch_sub(1, Ordering::SeqCst);
        if let Some(reply) = self.outage().or_else(|| self.world.read_only.lock().unwrap().clone())
        {
            return reply;
        }
        if body.contains("bad") {
            return Ok(answer(400, r#"{"error":{"message":"bad"}}"#));
        }
        match self.behaviour(key) {
            Behaviour::Down => Err(Fault::Broken),
            Behaviour::PanicsLate => panic!("as the test asked"),
            Behaviour::Unwritable => Ok(answer(500, "")),
            Behaviour::Page(_) => Ok(Answer { is_json: false, ..answer(200, "<html>") }),
            Behaviour::Redirect(_) => Ok(answer(302, "")),
            Behaviour::TooMuch(_, told) => Ok(refused(told)),
            Behaviour::Fine
            | Behaviour::Panics
            | Behaviour::Ahead
            | Behaviour::Slow
            | Behaviour::Missing
            | Behaviour::Queued(_)
            | Behaviour::Tagless
            | Behaviour::Unreadable => Ok(answer(204, "")),
        }
    }

    pub(super) fn behaviour(&self, key: &OrderKey) -> Behaviour {
        let key = key.to_string();
        self.world.behaviour.lock().unwrap().get(&key).copied().unwrap_or(Behaviour::Fine)
    }
}

pub(super) fn answer(status: u16, body: &'static str) -> Answer {
    let etag = ETag::new("W/\"1\"");
    let is_json = !body.is_empty();
    let body = Bytes::from_static(body.as_bytes());
    Answer {
        status,
        etag,
        retry_after: None,
        repeat_rejected: false,
        is_json,
        service_request_id: None,
        body,
    }
}

pub(super) fn refused(retry_after: Option<u64>) -> Answer {
    let retry_after = retry_after.map(Duration::from_secs);
    Answer { retry_after, ..answer(429, "") }
}

/// What the GET of an order is answered that is not shown as it should be.
pub(super) fn unreadable(behaviour: Behaviour) -> Option<Reply> {
    match behaviour {
        Behaviour::Unreadable => Some(Ok(answer(500, ""))),
        Behaviour::Missing => Some(Ok(answer(404, ""))),
        Behaviour::TooMuch(Request::Get, told) => Some(Ok(refused(told))),
        Behaviour::Page(Request::Get) => {
            Some(Ok(Answer { is_json: false, ..answer(200, "<html>") }))
        }
        Behaviour::Redirect(Request::Get) => Some(Ok(answer(302, ""))),
        Behaviour::Tagless => Some(Ok(Answer { etag: None, ..answer(200, r#"{"A":0}"#) })),
        Behaviour::Fine
        | Behaviour::Down
        | Behaviour::Unwritable
        | Behaviour::Page(Request::Patch)
        | Behaviour::Redirect(Request::Patch)
        | Behaviour::TooMuch(Request::Patch, _)
        | Behaviour::Panics
        | Behaviour::PanicsLate
        | Behaviour::Ahead
        | Behaviour::Queued(_)
        | Behaviour::Slow => None,
    }
}

impl Effects for Fake {
    type Held = Message;

    async fn gate(&self, _: &Message, order: &str) -> Gate {
        let gate = self.world.gates.lock().unwrap().get(order).copied();
        match gate.unwrap_or(Some(Gate::Open)) {
            Some(gate) => gate,
            None => std::future::pending().await,
        }
    }

    async fn release(&self, held: Message) -> bool {
        assert!(held.name != "unsettleable", "as the test asked");
        self.tell(format!("release {}", held.name));
        self.world.gates.lock().unwrap().clear();
        true
    }

    async fn get(&self, update: &OrderUpdate, _: Trail, leave: &Arc<Leave>) -> Option<Reply> {
        let key = &update.key;
        if self.behaviour(key) == Behaviour::Queued(Request::Get) {
            sleep(QUEUED).await;
        }
        leave.take().then_some(())?;
        Some(self.got(key).await)
    }

    async fn patch(
        &self,
        key: &OrderKey,
        _: &ETag,
        body: &str,
        _: Trail,
        leave: &Arc<Leave>,
    ) -> Option<Reply> {
        if self.behaviour(key) == Behaviour::Queued(Request::Patch) {
            sleep(QUEUED).await;
        }
        leave.take().then_some(())?;
        Some(self.patched(key, body).await)
    }

    async fn probe(&self, order: Option<&OrderKey>, _: Trail) -> Reply {
        self.tell(order.map_or_else(|| "look".to_owned(), |order| format!("look at {order}")));
        sleep(Duration::from_millis(10)).await;
        let lists = self.world.lists.lock().unwrap().clone();
        if let (Some(reply), None) = (lists, order) {
            return reply;
        }
        match (self.outage(), order.map(|order| unreadable(self.behaviour(order)))) {
            (Some(reply), _) | (None, Some(Some(reply))) => reply,
            (None, Some(None)) => Ok(answer(200, r#"{"A":0}"#)),
            (None, None) => Ok(answer(200, r#"{"value":[]}"#)),
        }
    }

    async fn ack(&self, held: Message, _: Outcome) -> bool {
        assert!(held.name != "unsettleable", "as the test asked");
        self.tell(format!("ack {}", held.name));
        true
    }

    async fn dead_letter(&self, held: Message, letter: Letter) -> bool {
        self.tell(format!("{} {}", letter.code, held.name));
        self.world.letters.lock().unwrap().push(letter);
        true
    }

    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn dice(&self) -> f64 {
        0.5
    }

    fn uuid(&self) -> uuid::Uuid {
        uuid::Uuid::from_u128(self.world.identifiers.fetch_add(1, Ordering::Relaxed).into())
    }
}
