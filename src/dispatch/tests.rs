//! Against a made-up world in virtual time.

mod cards;
mod ending;
mod outages;
mod parked;
mod trouble;
mod turns;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::*;
use crate::order::{Changes, KeyValue, Literal, Replay, Sequence};
use crate::protocol::backoff::Retry;
use crate::protocol::{Answer, Fault, Superseded};

/// A message whose channel the test can take away.
#[derive(Debug, Clone)]
struct Message {
    name: String,
    channel: CancellationToken,
    ending: CancellationToken,
    settle: Duration,
    losses: u64,
    arrived: Instant,
    queue: Arc<str>,
}

impl Held for Message {
    type Begun = CancellationToken;

    fn begin(&self) -> Option<CancellationToken> {
        self.may_begin().then(|| self.ending.clone())
    }

    fn may_begin(&self) -> bool {
        self.is_live() && !self.ending.is_cancelled()
    }

    fn is_live(&self) -> bool {
        !self.channel.is_cancelled()
    }

    async fn ending(&self) {
        tokio::select! {
            () = self.channel.cancelled() => {}
            () = self.ending.cancelled() => {}
        }
    }

    async fn settled(&self) {
        sleep(self.settle).await;
    }

    fn arrived(&self) -> Instant {
        self.arrived
    }

    fn queue(&self) -> &Arc<str> {
        &self.queue
    }

    fn message_id(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn span(&self, _: Option<&str>) -> tracing::Span {
        tracing::Span::none()
    }

    fn losses(&self) -> u64 {
        self.losses
    }

    fn give_up_channel(begun: &CancellationToken) {
        begun.cancel();
    }

    fn doubt(_: &CancellationToken) {}

    async fn lost(&self) {
        self.channel.cancelled().await;
    }
}

/// What the service answers to the PATCH of an order.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Behaviour {
    Fine,
    Down,
    /// Answers the GET with 500.
    Unreadable,
    /// Answers the PATCH with 500.
    Unwritable,
    Panics,
    /// Panics when the PATCH has been sent.
    PanicsLate,
    /// Holds the sequence 9.
    Ahead,
    /// Never answers the GET before the test's time is over.
    Slow,
}

#[derive(Default)]
struct World {
    behaviour: Mutex<BTreeMap<String, Behaviour>>,
    /// What happened, with the virtual millisecond.
    story: Mutex<Vec<(u64, String)>>,
    letters: Mutex<Vec<Letter>>,
    /// Orders that stand still, and those of which that is not known.
    gates: Mutex<BTreeMap<String, Option<Gate>>>,
    outage: Mutex<Option<Reply>>,
    /// What every PATCH is answered, while GETs are answered well.
    read_only: Mutex<Option<Reply>>,
    in_flight: AtomicU64,
    in_flight_max: AtomicU64,
    identifiers: AtomicU64,
}

#[derive(Clone)]
struct Fake {
    world: Arc<World>,
    begun: Instant,
}

impl Fake {
    fn tell(&self, what: String) {
        let at = u64::try_from(self.begun.elapsed().as_millis()).unwrap();
        self.world.story.lock().unwrap().push((at, what));
    }

    /// What every request is answered, while the target is in trouble.
    fn outage(&self) -> Option<Reply> {
        self.world.outage.lock().unwrap().clone()
    }

    fn behaviour(&self, key: &OrderKey) -> Behaviour {
        let key = key.to_string();
        self.world.behaviour.lock().unwrap().get(&key).copied().unwrap_or(Behaviour::Fine)
    }
}

fn answer(status: u16, body: &'static str) -> Answer {
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

    async fn get(&self, key: &OrderKey, _: Trail) -> Reply {
        let now = self.world.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.world.in_flight_max.fetch_max(now, Ordering::SeqCst);
        let time = if self.behaviour(key) == Behaviour::Slow { 5_000 } else { 10 };
        sleep(Duration::from_millis(time)).await;
        assert!(self.behaviour(key) != Behaviour::Panics, "as the test asked");
        if let Some(reply) = self.outage() {
            self.world.in_flight.fetch_sub(1, Ordering::SeqCst);
            return reply;
        }
        if self.behaviour(key) == Behaviour::Unreadable {
            self.world.in_flight.fetch_sub(1, Ordering::SeqCst);
            return Ok(answer(500, ""));
        }
        let is_ahead = self.behaviour(key) == Behaviour::Ahead;
        Ok(answer(200, if is_ahead { r#"{"A":0,"Seq":9}"# } else { r#"{"A":0}"# }))
    }

    async fn patch(&self, _: &Message, key: &OrderKey, _: &ETag, _: &str, _: Trail) -> Reply {
        sleep(Duration::from_millis(10)).await;
        self.world.in_flight.fetch_sub(1, Ordering::SeqCst);
        if let Some(reply) = self.outage().or_else(|| self.world.read_only.lock().unwrap().clone())
        {
            return reply;
        }
        match self.behaviour(key) {
            Behaviour::Down => Err(Fault::Broken),
            Behaviour::PanicsLate => panic!("as the test asked"),
            Behaviour::Unwritable => Ok(answer(500, "")),
            Behaviour::Fine
            | Behaviour::Panics
            | Behaviour::Ahead
            | Behaviour::Slow
            | Behaviour::Unreadable => Ok(answer(204, "")),
        }
    }

    async fn probe(&self, _: Trail) -> Reply {
        self.tell("look".to_owned());
        sleep(Duration::from_millis(10)).await;
        self.outage().unwrap_or_else(|| Ok(answer(200, r#"{"value":[]}"#)))
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

struct Bench {
    dispatch: Dispatch<Fake>,
    fake: Fake,
    stop: CancellationToken,
    channel: CancellationToken,
    ending: CancellationToken,
    settle: Duration,
    losses: u64,
    tally: Arc<Tally>,
}

fn bench(concurrency_max: usize) -> Bench {
    let wait_max = Duration::from_secs(4);
    let retry = Retry { retries_max: 3, wait_min: Duration::from_secs(1), wait_max };
    let rules = Rules {
        conflicts: retry,
        failures: retry,
        not_found: Retry { retries_max: 0, ..retry },
        jitter: 0.2,
        superseded: Superseded::Settle,
    };
    let fake = Fake { world: Arc::default(), begun: Instant::now() };
    let (stop, tally) = (CancellationToken::new(), Arc::new(Tally::default()));
    let guard = Guard { sequence_property: Some("Seq".into()), ..Guard::default() };
    let settle_window = Duration::from_secs(5);
    let throttling = Throttling {
        told: [Duration::from_secs(1), Duration::from_mins(10)],
        untold: [Duration::from_secs(10), Duration::from_mins(3)],
        quota: None,
    };
    let breaking = Breaking {
        orders_min: 3,
        silence_min: Duration::from_secs(1),
        probe_interval: Duration::from_secs(5),
    };
    let limits = Limits {
        concurrency_max,
        throttling,
        breaking,
        rules,
        settle_window,
        losses_suspect: 5,
        losses_max: 50,
    };
    let judging = (guard, Texts::default());
    let dispatch = Dispatch::new(fake.clone(), limits, judging, tally.clone(), stop.clone());
    let (channel, ending) = (CancellationToken::new(), CancellationToken::new());
    let (settle, losses) = (Duration::ZERO, 0);
    Bench { dispatch, fake, stop, channel, ending, settle, losses, tally }
}

impl Bench {
    fn behave(&self, order: &str, behaviour: Behaviour) {
        self.fake.world.behaviour.lock().unwrap().insert(order.to_owned(), behaviour);
    }

    /// Sends message `name` for `order` over the present channel.
    fn send(&self, order: &str, name: &str) {
        self.send_numbered(order, name, None);
    }

    fn send_numbered(&self, order: &str, name: &str, sequence: Option<u64>) {
        self.send_as(order, name, sequence, None);
    }

    fn send_as(&self, order: &str, name: &str, sequence: Option<u64>, replay: Option<Replay>) {
        let literal = Literal::Text(order.to_owned());
        let value = KeyValue { property: "Number".into(), literal };
        let update = OrderUpdate {
            key: OrderKey::new(vec![value], |_| false),
            changes: Changes::new(serde_json::from_str(r#"{"A":1}"#).unwrap()),
            sequence: sequence.and_then(Sequence::new),
            expect: None,
            occurred_at: None,
            replay,
        };
        let held = self.held(name);
        self.dispatch.accept(Job { update, held, first_seen: Timestamp::UNIX_EPOCH });
    }

    fn held(&self, name: &str) -> Message {
        Message {
            name: name.to_owned(),
            channel: self.channel.clone(),
            ending: self.ending.clone(),
            settle: self.settle,
            losses: self.losses,
            arrived: Instant::now(),
            queue: "queue".into(),
        }
    }

    fn story(&self) -> Vec<(u64, String)> {
        self.fake.world.story.lock().unwrap().clone()
    }

    fn told(&self) -> Vec<String> {
        self.story().into_iter().map(|(_, what)| what).collect()
    }
}
