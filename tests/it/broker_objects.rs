//! Queues and exchanges that go away under a daemon, and messages that find no home.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use orderwright::shard::shard_of;

use crate::daemon::{Ended, orderwright};
use crate::stage::{Raw, SHARDS, Stage, update, updates};
use crate::wire::frames::{Frame, Lease, cancel};
use crate::wire::{judged, wired};

/// The shard whose queue goes away.
const GONE: u16 = 1;

fn shard(order: u64) -> u16 {
    shard_of(&format!("USMF/SO-{order:06}"), SHARDS)
}

fn queue(shard: u16) -> String {
    format!("shard.g1.{shard:03}")
}

async fn declare(stage: &Stage) {
    let settings = stage.settings(&[]).await;
    let output = orderwright(&settings).args(["topology", "declare"]).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The shard that went away was subscribed to again, and all others had one lease for as long as the
/// connection lasted: a broker may end that as well while it is asked for a queue that it is deleting
/// (4.0.5: `INTERNAL_ERROR`), and all begins anew.
fn only_one_came_back(stage: &Stage, leases: &[Lease], ended: &Ended) {
    let gone = format!("{}.{}", stage.prefix(), queue(GONE));
    let (its, others): (Vec<_>, Vec<_>) = leases.iter().partition(|lease| lease.queue == gone);
    assert!(its.len() > 1, "{its:?}");
    let mut lives = BTreeMap::new();
    for lease in others {
        *lives.entry((lease.connection, &lease.queue)).or_insert(0) += 1;
    }
    assert!(lives.len() >= usize::from(SHARDS) - 1, "{lives:?}");
    assert!(lives.values().all(|lives| *lives == 1), "{lives:?}\n{}", ended.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_shard_queue_is_declared_and_consumed_again_and_the_others_go_on() {
    let stage = Stage::new("deleted", &["--orders", "24"]).await;
    let (proxy, daemon) = wired(&stage, &[]).await;
    stage.publish(&updates(24, 1)).await;
    stage.applied(24).await;
    stage.channel().await.delete_queue(&queue(GONE)).await;
    let lost = daemon.logs("lost the shard").await;
    assert!(lost.contains(&queue(GONE)), "{lost}");
    daemon.logs("declared the broker's objects again").await;

    let bodies: Vec<_> = (1..=24).map(|order| update(order, 2)).collect();
    stage.publish(&bodies).await;
    stage.applied(48).await;
    let ended = daemon.stop().await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(stage.waiting().await, 0);
    let leases = judged(&proxy);
    only_one_came_back(&stage, &leases, &ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_that_stays_deleted_is_tried_again_and_again_and_the_others_go_on() {
    let stage = Stage::new("stays", &["--orders", "40"]).await;
    declare(&stage).await;
    let (proxy, daemon) = wired(&stage, &[("TOPOLOGY__DECLARE", "false")]).await;
    stage.channel().await.delete_queue(&queue(GONE)).await;
    daemon.logs("lost the shard").await;
    daemon.logs_times("cannot subscribe", 3).await;

    let (its, others): (Vec<_>, Vec<_>) = (1..=40).partition(|order| shard(*order) == GONE);
    assert!(!its.is_empty(), "some orders belong to the shard that is gone");
    let bodies: Vec<_> = others.iter().map(|order| update(*order, 1)).collect();
    stage.publish(&bodies).await;
    stage.applied(others.len() as u64).await;

    // It comes back, and nobody has to tell the daemon.
    declare(&stage).await;
    let bodies: Vec<_> = its.iter().map(|order| update(*order, 1)).collect();
    stage.publish(&bodies).await;
    stage.applied(40).await;
    let ended = daemon.stop().await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(stage.waiting().await, 0);
    only_one_came_back(&stage, &judged(&proxy), &ended);
}

/// A broker from 4.3 on ends a subscription so when a delivery has not been acked in time; the queue
/// is still there, and what was delivered is not given back before the channel is closed.
#[tokio::test(flavor = "multi_thread")]
async fn subscription_that_the_broker_ends_is_begun_anew_on_a_channel_of_its_own() {
    let stage = Stage::new("ended", &["--orders", "12", "--patch-latency", "50ms"]).await;
    let (proxy, daemon) = wired(&stage, &[("BROKER__PREFETCH", "2")]).await;
    let mut delivered = 0;
    proxy.tamper(move |_, bytes| {
        let frame = Frame::of(bytes).filter(Frame::delivers_an_update);
        delivered += usize::from(frame.is_some());
        match frame {
            // Such a broker may also go on delivering to a subscription that it has ended.
            Some(frame) if delivered == 10 => {
                [&cancel(frame.channel, frame.text()), bytes].concat()
            }
            Some(_) | None => bytes.to_vec(),
        }
    });
    stage.publish(&updates(12, 4)).await;
    daemon.logs("lost the shard").await;
    let ledger = stage.applied(48).await;
    let ended = daemon.stop().await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ledger.overlaps, 0, "{}", stage.simulator.bad_orders().await.unwrap());
    assert_eq!(stage.waiting().await, 0);
    // `judged`: the channel was closed, and nothing else was said about it.
    let leases = judged(&proxy);
    assert_eq!(leases.len(), usize::from(SHARDS) + 1, "{leases:?}");
    assert!(leases.iter().all(Lease::is_closed), "{leases:?}");
}

async fn delete_everything(stage: &Stage, raw: &Raw) {
    let shards = (0..SHARDS).map(queue);
    for queue in shards.chain(["dead-letters".to_owned(), "unroutable".to_owned()]) {
        let (queue, options) =
            (format!("{}.{queue}", stage.prefix()), QueueDeleteOptions::default());
        raw.channel.queue_delete(queue.as_str().into(), options).await.unwrap();
    }
    for exchange in ["updates", "shards.g1", "forward", "peers", "dead-letters", "unroutable"] {
        let exchange = format!("{}.{exchange}", stage.prefix());
        let options = ExchangeDeleteOptions::default();
        raw.channel.exchange_delete(exchange.as_str().into(), options).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_that_comes_back_empty_gets_its_objects_again() {
    let stage = Stage::new("empty", &["--orders", "12"]).await;
    let (proxy, daemon) = wired(&stage, &[("BROKER__CONNECT_TIMEOUT", "1s")]).await;
    stage.publish(&updates(12, 1)).await;
    stage.applied(12).await;
    proxy.mute();
    proxy.cut();
    daemon.logs("cannot connect to the broker").await;
    let raw = stage.channel().await;
    delete_everything(&stage, &raw).await;
    proxy.heal();
    daemon.logs("connected to the broker again").await;

    let bodies: Vec<_> = (1..=12).map(|order| update(order, 2)).collect();
    stage.publish(&bodies).await;
    stage.applied(24).await;
    // The dead letters have their queue again as well.
    let mut letters = stage.letters().await;
    stage.channel().await.publish(BasicProperties::default(), b"not JSON").await;
    assert_eq!(letters.next().await.reason(), "json_malformed");
    let ended = daemon.stop().await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.count("forwarded"), 0, "the ring is in order");
    assert_eq!(stage.waiting().await, 0);
}

/// Puts an update of `order` into a queue that is not its own, as a pod would that has forwarded it
/// so many times.
async fn misplaced(raw: &Raw, stage: &Stage, order: u64, forwards: u32) {
    let mut headers = FieldTable::default();
    headers.insert("orderwright-forwards".into(), AMQPValue::LongUInt(forwards));
    let properties = BasicProperties::default().with_headers(headers).with_priority(9);
    let wrong = format!("{}.{}", stage.prefix(), queue((shard(order) + 1) % SHARDS));
    let (options, body) = (BasicPublishOptions::default(), update(order, 1));
    let sent = raw.channel.basic_publish(
        "".into(),
        wrong.as_str().into(),
        options,
        body.as_bytes(),
        properties,
    );
    assert!(sent.await.unwrap().await.unwrap().is_ack());
}

#[tokio::test(flavor = "multi_thread")]
async fn message_that_was_forwarded_too_often_is_dead_lettered_and_not_sent_on() {
    let stage = Stage::new("loop", &["--orders", "2"]).await;
    let daemon = stage.daemon(&[]).await;
    let mut letters = stage.letters().await;
    let raw = stage.channel().await;
    misplaced(&raw, &stage, 1, 8).await;
    misplaced(&raw, &stage, 2, 7).await;
    let letter = letters.next().await;
    stage.applied(1).await;
    let ended = daemon.stop().await;
    assert_eq!(letter.reason(), "forward_loop");
    assert_eq!(letter.properties.priority(), &None, "a dead letter overtakes no other");
    let told = ended.log.matches("messages carry a high priority").count();
    assert_eq!(told, 1, "once a minute: {ended:?}");
    assert_eq!(letter.body, update(1, 1).into_bytes());
    assert_eq!(letter.attempts().len(), 0, "no request was spent on it");
    assert_eq!(ended.count("forwarded"), 1, "once more is the last time: {ended:?}");
    assert_eq!(ended.count("applied"), 1);
    assert_eq!(stage.waiting().await, 0);
}
