//! Against a made-up world in virtual time.

mod cards;
mod ending;
mod message;
mod outages;
mod parked;
mod queued;
mod strange;
mod throttled;
mod together;
mod trouble;
mod turns;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::*;
use crate::order::{Changes, KeyValue, Literal, Replay, Sequence};
use crate::protocol::backoff::Retry;
use crate::protocol::{Answer, Fault, Request, Superseded};
use message::Message;
use world::{Behaviour, Fake, MINUTE, answer, refused};

struct Bench {
    dispatch: Dispatch<Fake>,
    fake: Fake,
    stop: CancellationToken,
    channel: CancellationToken,
    ending: CancellationToken,
    heard: watch::Sender<bool>,
    settle: Duration,
    losses: u64,
    hurried: Arc<Mutex<Vec<String>>>,
    tally: Arc<Tally>,
}

fn bench(concurrency_max: usize) -> Bench {
    bench_with(concurrency_max, None)
}

fn bench_with(concurrency_max: usize, merged_bytes_max: Option<usize>) -> Bench {
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
        merged_bytes_max,
        losses_suspect: 5,
        losses_max: 50,
    };
    let judging = (guard, Texts::default());
    let dispatch = Dispatch::new(fake.clone(), limits, judging, tally.clone(), stop.clone());
    let (channel, ending) = (CancellationToken::new(), CancellationToken::new());
    let (heard, _) = watch::channel(true);
    let (settle, losses) = (Duration::ZERO, 0);
    let hurried = Arc::default();
    Bench { dispatch, fake, stop, channel, ending, heard, settle, losses, hurried, tally }
}

fn plain(order: &str) -> OrderUpdate {
    let literal = Literal::Text(order.to_owned());
    let value = KeyValue { property: "Number".into(), literal };
    OrderUpdate {
        key: OrderKey::new(vec![value], |_| false),
        changes: Changes::new(serde_json::from_str(r#"{"A":1}"#).unwrap()),
        sequence: None,
        expect: None,
        occurred_at: None,
        replay: None,
    }
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
        let sequence = sequence.and_then(Sequence::new);
        let update = OrderUpdate { sequence, replay, ..plain(order) };
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
            heard: self.heard.clone(),
            hurried: self.hurried.clone(),
        }
    }

    fn story(&self) -> Vec<(u64, String)> {
        self.fake.world.story.lock().unwrap().clone()
    }

    fn told(&self) -> Vec<String> {
        self.story().into_iter().map(|(_, what)| what).collect()
    }
}

impl Bench {
    fn outage(&self, reply: Option<Reply>) {
        *self.fake.world.outage.lock().unwrap() = reply;
    }

    fn read_only(&self, reply: Option<Reply>) {
        *self.fake.world.read_only.lock().unwrap() = reply;
    }

    async fn until(&self, at: u64) {
        let begun = self.fake.begun;
        tokio::time::sleep_until(begun + Duration::from_millis(at)).await;
    }

    fn letters(&self) -> usize {
        self.fake.world.letters.lock().unwrap().len()
    }

    fn looks(&self) -> usize {
        self.told().iter().filter(|what| what.starts_with("look")).count()
    }

    /// What was settled, in order, without the looks at the target.
    fn settled(&self) -> Vec<String> {
        self.told().into_iter().filter(|what| !what.starts_with("look")).collect()
    }
}
