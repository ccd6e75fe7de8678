//! The simulated broker of `tests/sim` and a real one, asked the same: what is handed out to whom, in which
//! order, with which tag, and how often it was out before. `ORDERWRIGHT_BROKER_SUITE` chooses the real one.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer};
use tokio::time::timeout;

use crate::broker;

#[allow(dead_code, reason = "shared with the simulation, which uses all of it")]
#[path = "../sim/broker.rs"]
mod simulated;

const PATIENCE: Duration = Duration::from_secs(30);
/// High enough for every script here: 3.10 has no limit by itself, 4.x has 20.
const DELIVERY_LIMIT: i32 = 1000;

/// What is asked of both. A consumer is named by a number, and has a connection of its own.
#[derive(Debug, Clone, Copy)]
enum Ask {
    Publish(u32),
    Subscribe(u64, u16),
    Ack(u64, u64),
    AckUpTo(u64, u64),
    Cancel(u64),
    CloseChannel(u64),
    CloseConnection(u64),
}

use Ask::{Ack, AckUpTo, Cancel, CloseChannel, CloseConnection, Publish, Subscribe};

/// A consumer on the real broker.
struct Real {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
}

struct Both {
    queue: String,
    url: String,
    publishing: Channel,
    _connection: Connection,
    simulated: simulated::Broker<u32>,
    real: BTreeMap<u64, Real>,
    /// Kept: a consumer that is dropped on an open channel is cancelled.
    gone: Vec<Real>,
}

async fn connect(url: &str) -> Connection {
    Connection::connect(url, ConnectionProperties::default()).await.unwrap()
}

impl Both {
    async fn new(name: &str) -> Self {
        let url = broker::shared().await.url().to_owned();
        let connection = connect(&url).await;
        let publishing = connection.create_channel().await.unwrap();
        publishing.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let mut arguments = FieldTable::default();
        let text = |text: &str| AMQPValue::LongString(text.into());
        arguments.insert("x-queue-type".into(), text("quorum"));
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
        let queue = format!("conformance.{name}.{}", std::process::id());
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        publishing.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();
        let mut simulated = simulated::Broker::new();
        simulated.declare(&queue, 1000);
        let (real, gone) = (BTreeMap::new(), Vec::new());
        Self { queue, url, publishing, _connection: connection, simulated, real, gone }
    }

    async fn ask(&mut self, ask: Ask) {
        match ask {
            Publish(number) => self.publish(number).await,
            Subscribe(id, prefetch) => self.subscribe(id, prefetch).await,
            Ack(id, tag) | AckUpTo(id, tag) => {
                let multiple = matches!(ask, AckUpTo(..));
                let settled = self.simulated.ack((id, 1), tag, multiple);
                assert!(!settled.is_empty(), "a script that acks what is not held");
                let channel = &self.real[&id].channel;
                channel.basic_ack(tag, BasicAckOptions { multiple }).await.unwrap();
                // Surely processed once something behind it is answered.
                self.depth(channel).await;
            }
            Cancel(id) => {
                self.simulated.cancel((id, 1));
                let Real { channel, consumer, .. } = &self.real[&id];
                channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await.unwrap();
            }
            CloseChannel(id) | CloseConnection(id) => {
                assert!(self.simulated.leave((id, 1)).is_empty(), "nothing comes back too often");
                let real = self.real.remove(&id).unwrap();
                if matches!(ask, CloseChannel(_)) {
                    real.channel.close(200, "done".into()).await.unwrap();
                } else {
                    real.connection.close(200, "done".into()).await.unwrap();
                }
                self.gone.push(real);
            }
        }
        self.compare(ask).await;
    }

    async fn publish(&mut self, number: u32) {
        assert!(self.simulated.publish(&self.queue, number));
        let (key, options) = (self.queue.as_str().into(), BasicPublishOptions::default());
        let body = number.to_string();
        let sent = self.publishing.basic_publish(
            "".into(),
            key,
            options,
            body.as_bytes(),
            BasicProperties::default().with_delivery_mode(2),
        );
        let confirm = sent.await.unwrap().await.unwrap();
        assert!(matches!(confirm, Confirmation::Ack(None)), "{confirm:?}");
    }

    async fn subscribe(&mut self, id: u64, prefetch: u16) {
        assert!(self.simulated.subscribe(&self.queue, (id, 1), prefetch.into()));
        let connection = connect(&self.url).await;
        let channel = connection.create_channel().await.unwrap();
        channel.basic_qos(prefetch, BasicQosOptions::default()).await.unwrap();
        let (queue, tag) = (self.queue.as_str().into(), ShortString::from(format!("c{id}")));
        let options = BasicConsumeOptions::default();
        let consuming = channel.basic_consume(queue, tag, options, FieldTable::default());
        let consumer = consuming.await.unwrap();
        self.real.insert(id, Real { connection, channel, consumer });
    }

    /// What the simulated one hands out now comes from the real one, in the same order.
    async fn compare(&mut self, ask: Ask) {
        for handed in self.simulated.hand_out(&self.queue) {
            let real = self.real.get_mut(&handed.to.0).unwrap();
            let Ok(next) = timeout(PATIENCE, real.consumer.next()).await else {
                let others = self.real.iter_mut();
                let found = others.map(|(id, it)| (*id, it.consumer.next().now_or_never()));
                let found: Vec<_> = found.filter(|(_, next)| next.is_some()).collect();
                panic!("{ask:?}: the real one hands out no {handed:?}, but {found:?}");
            };
            let delivery = next.unwrap().unwrap();
            let headers = delivery.properties.headers().as_ref();
            let count = match headers.and_then(|it| it.inner().get("x-delivery-count")) {
                Some(AMQPValue::LongLongInt(count)) => u64::try_from(*count).unwrap(),
                Some(other) => panic!("{other:?}"),
                None => 0,
            };
            let body: u32 = String::from_utf8(delivery.data).unwrap().parse().unwrap();
            let found = (delivery.delivery_tag, body, delivery.redelivered, count);
            let message = handed.message;
            let wanted = (handed.tag, message.body, message.redelivered, message.count);
            assert_eq!(found, wanted, "{ask:?}: tag, body, redelivered, count");
        }
    }

    async fn depth(&self, channel: &Channel) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = self.queue.as_str().into();
        channel.queue_declare(queue, options, FieldTable::default()).await.unwrap().message_count()
    }

    /// And nothing else was handed out by the real one.
    async fn end(self) {
        let (waiting, _) = self.simulated.depth(&self.queue);
        let looked = async {
            while self.depth(&self.publishing).await != u32::try_from(waiting).unwrap() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, looked).await.expect("as many wait as in the simulated one");
    }
}

async fn both_answer_alike(name: &str, script: impl IntoIterator<Item = Ask>) {
    let mut both = Both::new(name).await;
    for ask in script {
        both.ask(ask).await;
    }
    both.end().await;
}

fn published(numbers: std::ops::RangeInclusive<u32>) -> impl Iterator<Item = Ask> {
    numbers.map(Publish)
}

#[tokio::test]
async fn what_is_left_by_a_close_goes_to_the_next_in_line_in_order() {
    let script = [Subscribe(1, 2), Subscribe(2, 10), Subscribe(3, 10)].into_iter();
    let script = script.chain(published(1..=5)).chain([CloseChannel(1), Ack(2, 2)]);
    both_answer_alike("close", script.chain([Publish(6), CloseConnection(2), Publish(7)])).await;
}

#[tokio::test]
async fn what_is_left_by_a_cancel_comes_last_and_the_next_one_begins_at_once() {
    let script = [Subscribe(1, 2), Subscribe(2, 10)].into_iter().chain(published(1..=5));
    both_answer_alike("cancel", script.chain([Cancel(1), CloseChannel(1)])).await;
}

#[tokio::test]
async fn smaller_prefetch_after_two_failures_brings_the_order_about() {
    // The third one comes late: of several that wait with different prefetches, 4.0.5 activates the one
    // with the largest. Pods have the same.
    let script = [Subscribe(1, 5)].into_iter().chain(published(1..=8)).chain([
        Ack(1, 2),
        Subscribe(2, 4),
        CloseChannel(1),
        Subscribe(3, 10),
        CloseConnection(2),
    ]);
    both_answer_alike("double", script).await;
}

#[tokio::test]
async fn acks_settle_one_or_all_before_it() {
    let script = [Subscribe(1, 4)].into_iter().chain(published(1..=9));
    let script =
        script.chain([Ack(1, 3), AckUpTo(1, 4), Ack(1, 6), CloseChannel(1), Subscribe(2, 9)]);
    both_answer_alike("acks", script).await;
}

#[tokio::test]
async fn random_scripts_are_answered_alike() {
    for seed in 1..=6 {
        let script = random(seed);
        both_answer_alike(&format!("random.{seed}"), script).await;
    }
}

/// All with the same prefetch, as pods have it. Acks what is held, by a simulated broker of its own.
fn random(seed: u64) -> Vec<Ask> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut model = simulated::Broker::new();
    model.declare("q", 1000);
    let prefetch = rng.u16(1..=6);
    let (mut script, mut held, mut consumers) = (Vec::new(), Vec::new(), Vec::new());
    let (mut messages, mut names) = (0, 0);
    for _ in 0..60 {
        let ask = match rng.u8(..10) {
            0..=3 => {
                messages += 1;
                model.publish("q", messages);
                Publish(messages)
            }
            4 if consumers.len() < 3 => {
                names += 1;
                consumers.push(names);
                model.subscribe("q", (names, 1), prefetch.into());
                Subscribe(names, prefetch)
            }
            5..=7 if !held.is_empty() => {
                let (id, tag) = held.swap_remove(rng.usize(..held.len()));
                model.ack((id, 1), tag, false);
                Ack(id, tag)
            }
            8..=9 if !consumers.is_empty() => {
                let id = consumers.swap_remove(rng.usize(..consumers.len()));
                model.leave((id, 1));
                held.retain(|(holder, _)| *holder != id);
                if rng.bool() { CloseChannel(id) } else { CloseConnection(id) }
            }
            _ => continue,
        };
        script.push(ask);
        held.extend(model.hand_out("q").into_iter().map(|it| (it.to.0, it.tag)));
    }
    script
}
