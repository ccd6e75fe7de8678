mod outages;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::*;
use crate::order::{Changes, KeyValue, Literal, Sequence};
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
    Panics,
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
    outage: Mutex<Option<Reply>>,
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

    async fn patch(&self, key: &OrderKey, _: &ETag, _: &str, _: Trail) -> Reply {
        sleep(Duration::from_millis(10)).await;
        self.world.in_flight.fetch_sub(1, Ordering::SeqCst);
        if let Some(reply) = self.outage() {
            return reply;
        }
        match self.behaviour(key) {
            Behaviour::Down => Err(Fault::Broken),
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
    let rules =
        Rules { conflicts: retry, failures: retry, jitter: 0.2, superseded: Superseded::Settle };
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
        let literal = Literal::Text(order.to_owned());
        let value = KeyValue { property: "Number".into(), literal };
        let update = OrderUpdate {
            key: OrderKey::new(vec![value], |_| false),
            changes: Changes::new(serde_json::from_str(r#"{"A":1}"#).unwrap()),
            sequence: sequence.and_then(Sequence::new),
            expect: None,
            occurred_at: None,
            replay: None,
        };
        let held = Message {
            name: name.to_owned(),
            channel: self.channel.clone(),
            ending: self.ending.clone(),
            settle: self.settle,
            losses: self.losses,
        };
        self.dispatch.accept(Job { update, held, first_seen: Timestamp::UNIX_EPOCH });
    }

    fn story(&self) -> Vec<(u64, String)> {
        self.fake.world.story.lock().unwrap().clone()
    }

    fn told(&self) -> Vec<String> {
        self.story().into_iter().map(|(_, what)| what).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn updates_of_one_order_are_applied_one_at_a_time_and_in_order() {
    let bench = bench(8);
    for name in ["1", "2", "3"] {
        bench.send("hot", name);
    }
    bench.dispatch.drained().await;
    let expected = [(20, "ack 1"), (40, "ack 2"), (60, "ack 3")];
    assert_eq!(bench.story(), expected.map(|(at, what)| (at, what.to_owned())));
    assert_eq!(bench.fake.world.in_flight_max.load(Ordering::SeqCst), 1);
    assert!(bench.dispatch.shared.router.is_empty(), "an order at rest has no mailbox");
}

#[tokio::test(start_paused = true)]
async fn waiting_updates_are_worked_on_in_the_order_of_their_sequences() {
    let bench = bench(8);
    for (name, sequence) in [("first", 9), ("7", 7), ("5", 5), ("6", 6)] {
        bench.send_numbered("hot", name, Some(sequence));
    }
    bench.dispatch.drained().await;
    assert_eq!(bench.told(), ["ack first", "ack 5", "ack 6", "ack 7"], "the first had begun");
}

#[tokio::test(start_paused = true)]
async fn superseded_update_is_acked_without_a_write_and_counted() {
    let bench = bench(8);
    bench.behave("ahead", Behaviour::Ahead);
    for (name, sequence) in [("older", 8), ("same", 9), ("newer", 10)] {
        bench.send_numbered("ahead", name, Some(sequence));
    }
    bench.dispatch.drained().await;
    let expected = [(10, "ack older"), (20, "ack same"), (40, "ack newer")];
    assert_eq!(bench.story(), expected.map(|(at, what)| (at, what.to_owned())));
    let counts = bench.tally.snapshot();
    assert_eq!((counts.superseded, counts.already_applied, counts.applied), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn different_orders_run_in_parallel_up_to_the_limit() {
    let bench = bench(4);
    for order in 0..12 {
        bench.send(&format!("o{order}"), &order.to_string());
    }
    bench.dispatch.drained().await;
    assert_eq!(bench.fake.world.in_flight_max.load(Ordering::SeqCst), 4);
    let last = bench.story().last().unwrap().0;
    assert_eq!(last, 60, "twelve updates of 20 ms, four at a time");
}

#[tokio::test(start_paused = true)]
async fn waiting_order_gives_up_its_place() {
    let bench = bench(1);
    bench.behave("down", Behaviour::Down);
    bench.send("down", "d");
    bench.send("fine", "f");
    bench.dispatch.drained().await;
    assert_eq!(bench.told(), ["ack f", "unknown_outcome d"]);
    assert_eq!(bench.story()[0].0, 40, "during the first wait of the other order");
    let last_look = 10;
    let at = 7_000 + 4 * 20 + last_look;
    assert_eq!(bench.story()[1].0, at, "after waits of 1, 2 and 4 seconds");
}

#[tokio::test(start_paused = true)]
async fn hot_order_cannot_shut_out_the_others() {
    let bench = bench(1);
    for number in 0..20 {
        bench.send("hot", &number.to_string());
    }
    bench.send("cold", "cold");
    bench.dispatch.drained().await;
    assert_eq!(bench.told()[..2], ["ack 0", "ack cold"]);
}

#[tokio::test(start_paused = true)]
async fn panic_dead_letters_that_message_alone() {
    let bench = bench(2);
    bench.behave("bad", Behaviour::Panics);
    bench.send("bad", "1");
    bench.send("bad", "2");
    bench.send("good", "3");
    bench.dispatch.drained().await;
    let mut told = bench.told();
    told.sort();
    assert_eq!(told, ["ack 3", "bug 1", "bug 2"]);
    assert_eq!(bench.tally.snapshot().dead_lettered, BTreeMap::from([("bug", 2)]));
}

#[tokio::test(start_paused = true)]
async fn panic_while_settling_gives_the_channel_up_and_lets_nothing_overtake() {
    let bench = bench(2);
    bench.send("order", "unsettleable");
    bench.send("order", "next");
    bench.dispatch.drained().await;
    assert!(bench.ending.is_cancelled(), "the broker hands both out again");
    assert_eq!(bench.told(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn exhausted_retries_are_dead_lettered_with_every_attempt() {
    let bench = bench(2);
    bench.behave("down", Behaviour::Down);
    bench.send("down", "1");
    bench.dispatch.drained().await;
    let letters = bench.fake.world.letters.lock().unwrap().clone();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.code, letter.order.as_deref()), ("unknown_outcome", Some("down")));
    let numbers: Vec<_> = letter.attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5], "the fifth is the last look");
    assert_eq!(
        (letter.attempts[4].outcome, letter.attempts[4].milliseconds),
        ("unknown_outcome", 10)
    );
    for attempt in &letter.attempts[..4] {
        assert_eq!((attempt.get_status, attempt.patch_status), (Some(200), None));
        assert_eq!(attempt.etag_seen, attempt.etag_sent);
        assert_eq!((attempt.outcome, attempt.milliseconds), ("unknown_outcome", 20));
    }
    let snapshot = bench.tally.snapshot();
    assert_eq!((snapshot.failures, snapshot.retries), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn next_update_waits_after_a_dead_letter_whose_write_may_still_be_at_work() {
    let bench = bench(2);
    bench.behave("order", Behaviour::Down);
    bench.send("order", "lost");
    bench.send("order", "next");
    sleep(Duration::from_millis(7_095)).await;
    bench.behave("order", Behaviour::Fine);
    bench.dispatch.drained().await;
    let dead = 7_000 + 4 * 20 + 10;
    let expected = [(dead, "unknown_outcome lost"), (dead + 5_000 + 20, "ack next")];
    assert_eq!(bench.story(), expected.map(|(at, what)| (at, what.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn drain_gives_up_a_backoff_at_once_and_begins_nothing() {
    let bench = bench(2);
    bench.behave("down", Behaviour::Down);
    bench.send("down", "1");
    bench.send("down", "2");
    sleep(Duration::from_millis(100)).await;
    bench.stop.cancel();
    bench.dispatch.drained().await;
    assert_eq!(bench.fake.begun.elapsed(), Duration::from_millis(100));
    assert_eq!(bench.told(), [""; 0], "nothing was settled: the broker keeps both");
    assert_eq!(bench.tally.snapshot().released, 1);
}

#[tokio::test(start_paused = true)]
async fn drain_finishes_what_is_on_the_wire() {
    let bench = bench(2);
    bench.behave("slow", Behaviour::Slow);
    bench.send("slow", "1");
    bench.send("slow", "2");
    sleep(Duration::from_millis(100)).await;
    bench.stop.cancel();
    bench.dispatch.drained().await;
    assert_eq!(bench.story(), [(5_010, "ack 1".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn message_of_a_lost_channel_is_neither_retried_nor_settled() {
    let mut bench = bench(2);
    bench.behave("down", Behaviour::Down);
    bench.send("down", "old 1");
    bench.send("down", "old 2");
    sleep(Duration::from_millis(100)).await;
    bench.channel.cancel();
    bench.channel = CancellationToken::new();
    bench.behave("down", Behaviour::Fine);
    for name in ["new 1", "new 2"] {
        bench.send("down", name);
    }
    bench.dispatch.drained().await;
    assert_eq!(bench.told(), ["ack new 1", "ack new 2"], "each once, in order");
}

#[tokio::test(start_paused = true)]
async fn loss_of_the_channel_aborts_what_is_on_the_wire() {
    let mut bench = bench(4);
    bench.behave("slow", Behaviour::Slow);
    bench.send("slow", "old");
    sleep(Duration::from_millis(100)).await;
    bench.channel.cancel();
    bench.channel = CancellationToken::new();
    bench.behave("slow", Behaviour::Fine);
    bench.send("slow", "new");
    bench.dispatch.drained().await;
    assert_eq!(bench.story(), [(120, "ack new".to_owned())]);
    assert_eq!(bench.tally.snapshot().released, 1);
}

#[tokio::test(start_paused = true)]
async fn channel_that_is_given_back_gets_what_was_begun_settled_and_nothing_else_begun() {
    let bench = bench(4);
    bench.behave("slow", Behaviour::Slow);
    bench.behave("down", Behaviour::Down);
    for (order, name) in [("slow", "1"), ("slow", "2"), ("down", "3")] {
        bench.send(order, name);
    }
    sleep(Duration::from_millis(100)).await;
    bench.ending.cancel();
    bench.send("other", "4");
    bench.dispatch.drained().await;
    assert_eq!(bench.story(), [(5_010, "ack 1".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn redelivered_message_waits_for_its_former_owners_requests() {
    let mut bench = bench(4);
    bench.send("fresh", "f");
    bench.settle = Duration::from_secs(5);
    bench.send("redelivered", "r");
    bench.dispatch.drained().await;
    assert_eq!(bench.story(), [(20, "ack f".to_owned()), (5_020, "ack r".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn suspects_are_worked_on_alone_and_the_guilty_one_is_dead_lettered_unbegun() {
    let mut bench = bench(8);
    bench.losses = 5;
    for order in ["a", "b", "c"] {
        bench.send(order, order);
    }
    bench.losses = 50;
    bench.send("guilty", "g");
    bench.dispatch.drained().await;
    assert_eq!(bench.fake.world.in_flight_max.load(Ordering::SeqCst), 1);
    let mut told = bench.told();
    assert_eq!(told[0], "crash_loop g");
    told.sort();
    assert_eq!(told, ["ack a", "ack b", "ack c", "crash_loop g"]);
}

#[tokio::test(start_paused = true)]
async fn suspect_that_waits_for_a_retry_holds_up_no_other_suspect() {
    let mut bench = bench(8);
    bench.losses = 5;
    bench.behave("down", Behaviour::Down);
    bench.send("down", "d");
    sleep(Duration::from_millis(260)).await;
    // It has had its first attempt and waits for about a second.
    bench.send("fine", "f");
    bench.dispatch.drained().await;
    assert_eq!(bench.fake.world.in_flight_max.load(Ordering::SeqCst), 1);
    let story = bench.story();
    assert_eq!(story.first(), Some(&(530, "ack f".to_owned())), "{story:?}");
    assert_eq!(story.len(), 2, "{story:?}");
}
