//! In which order the broker hands out again what was held.

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use tokio::time::timeout;

use crate::broker;
use crate::daemon::PATIENCE;
use crate::proxy::Proxy;
use crate::stage::{Raw, Stage};

/// A consumer on a link of its own, which is no daemon.
pub(crate) struct Holder {
    link: Proxy,
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
}

impl Holder {
    pub(crate) async fn of(url: &str, queue: &str, prefetch: u16) -> Self {
        let link = Proxy::before(url).await.unwrap();
        let properties = ConnectionProperties::default();
        let connection = Connection::connect(&link.url(url), properties).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.basic_qos(prefetch, BasicQosOptions::default()).await.unwrap();
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel.basic_consume(queue.into(), "".into(), options, none);
        let consumer = consumer.await.unwrap();
        Self { link, connection, channel, consumer }
    }

    pub(crate) async fn next(&mut self) -> Delivery {
        timeout(PATIENCE, self.consumer.next()).await.expect("a delivery").unwrap().unwrap()
    }

    /// Leaves in this way what it holds.
    pub(crate) async fn goes(self, way: &str) {
        let gone = "gone".into();
        match way {
            "`channel.close`" => self.channel.close(200, gone).await.unwrap(),
            "`connection.close`" => self.connection.close(200, gone).await.unwrap(),
            "connection lost" => self.link.cut(),
            other => panic!("{other}"),
        }
    }
}

/// A queue like a shard's, with the messages 1 to `count` in it.
async fn filled(raw: &Raw, queue: &str, count: u32) {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(1000));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    raw.channel.queue_declare(queue.into(), options, arguments).await.unwrap();
    for number in 1..=count {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let body = number.to_be_bytes();
        let sent = raw.channel.basic_publish("".into(), queue.into(), options, &body, properties);
        assert!(sent.await.unwrap().await.unwrap().is_ack());
    }
}

fn number(delivery: &Delivery) -> u32 {
    u32::from_be_bytes(delivery.data.as_slice().try_into().unwrap())
}

const WAYS: [&str; 3] = ["connection lost", "`channel.close`", "`connection.close`"];

/// Nothing holds a message back to put it in order: this is why.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_held_comes_first_and_in_order_where_all_hold_equally_many() {
    const COUNT: u32 = 400;
    const PREFETCH: u16 = 8;
    let stage = Stage::new("returns", &["--orders", "1"]).await;
    let (raw, queue) = (stage.channel().await, format!("{}-held", stage.prefix()));
    filled(&raw, &queue, COUNT).await;
    let url = broker::shared().await.url();
    let mut dice = fastrand::Rng::with_seed(7);
    let (mut open, mut lives): (Vec<u32>, u32) = ((1..=COUNT).collect(), 0);
    while !open.is_empty() {
        // Settles some of what it has, not always the first, is handed more, and goes.
        let mut holder = Holder::of(url, &queue, PREFETCH).await;
        let (mut seen, mut held) = (Vec::new(), Vec::new());
        for _ in 0..dice.usize(8..16).min(open.len()) {
            if held.len() == usize::from(PREFETCH) {
                let settled: Delivery = held.remove(dice.usize(0..held.len()));
                open.retain(|it| *it != number(&settled));
                let _acked = settled.acker.ack(BasicAckOptions::default()).await.unwrap();
            }
            let delivery = holder.next().await;
            seen.push(number(&delivery));
            held.push(delivery);
        }
        if open.len() <= usize::from(PREFETCH) {
            // The last ones are settled in full.
            for settled in held.drain(..) {
                open.retain(|it| *it != number(&settled));
                let _acked = settled.acker.ack(BasicAckOptions::default()).await.unwrap();
            }
        }
        assert!(seen.is_sorted(), "life {lives}: {seen:?}");
        holder.goes(WAYS[dice.usize(0..WAYS.len())]).await;
        lives += 1;
    }
    assert!(lives > 20, "{lives}");
}

/// The control, and the reason why all pods need the same prefetch.
#[tokio::test(flavor = "multi_thread")]
async fn holder_of_fewer_messages_that_dies_second_leaves_them_out_of_order() {
    let stage = Stage::new("returns-fewer", &["--orders", "1"]).await;
    let (raw, queue) = (stage.channel().await, format!("{}-held", stage.prefix()));
    filled(&raw, &queue, 8).await;
    let url = broker::shared().await.url();
    for prefetch in [6, 4] {
        let mut holder = Holder::of(url, &queue, prefetch).await;
        for expected in 1..=u32::from(prefetch) {
            assert_eq!(number(&holder.next().await), expected);
        }
        holder.goes("connection lost").await;
    }
    let mut holder = Holder::of(url, &queue, 8).await;
    let mut seen = Vec::new();
    for _ in 0..8 {
        seen.push(number(&holder.next().await));
    }
    assert_eq!(seen, [5, 6, 1, 2, 3, 4, 7, 8]);
}
