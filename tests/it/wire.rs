//! What goes over the wire when a shard is left.
//!
//! A shard is left by finishing, acking and closing the channel. A `basic.cancel` would start the
//! next consumer while this one still works; a nack or reject would put messages back out of order.
//! The library sends a cancel of its own accord when a `Consumer` is dropped on an open channel, so
//! it is not enough to read our own code: these tests read the frames.

pub(crate) mod frames;
mod silence;

use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use tokio::time::timeout;

use crate::broker;
use crate::daemon::{Daemon, Ended, PATIENCE, orderwright};
use crate::proxy::Proxy;
use crate::stage::{SHARDS, Stage, update, updates};
use frames::{
    BASIC_ACK, BASIC_CANCEL, BASIC_CONSUME, BASIC_NACK, BASIC_QOS, BASIC_RECOVER,
    BASIC_RECOVER_ASYNC, BASIC_REJECT, CHANNEL_CLOSE, CHANNEL_OPEN, CONNECTION_CLOSE, Lease,
    Method, leases, methods,
};

/// What must never be sent on the channel of a shard.
const NEVER: [Method; 5] =
    [BASIC_CANCEL, BASIC_NACK, BASIC_REJECT, BASIC_RECOVER, BASIC_RECOVER_ASYNC];

/// The requests take long enough for a signal to find them at work.
const SLOW: [&str; 4] = ["--orders", "12", "--patch-latency", "700ms"];

/// A daemon whose connections to the broker go through a recording link.
pub(crate) async fn wired(stage: &Stage, more: &[(&str, &str)]) -> (Proxy, Daemon) {
    let url = stage.url().await;
    let proxy = Proxy::before(&url).await.unwrap();
    let url = proxy.url(&url);
    let daemon = stage.daemon(&[&[("BROKER__URL", url.as_str())], more].concat()).await;
    (proxy, daemon)
}

/// Waits until the service has got so many PATCHes: so many requests are then at work, or were.
pub(crate) async fn patches(stage: &Stage, count: u64) {
    let reached = async {
        while stage.simulator.read(0).await.unwrap().patches < count {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, reached).await.expect("PATCHes");
}

/// Reads all that was sent, and holds every life of a shard's channel to the rule.
pub(crate) fn judged(proxy: &Proxy) -> Vec<Lease> {
    let mut leases = leases(&proxy.recorded());
    // The daemon also listens to other pods. What is said there is settled on arrival.
    leases.retain(|lease| lease.queue.contains(".shard.") && !lease.is_refused());
    for lease in &leases {
        assert!(!lease.sent.iter().any(|method| NEVER.contains(method)), "{lease:?}");
        let mut frame = lease.sent.clone();
        frame.retain(|method| *method != BASIC_ACK);
        let whole = [CHANNEL_OPEN, BASIC_QOS, BASIC_CONSUME, CHANNEL_CLOSE];
        // A close is the last word, so every ack stands before it.
        assert_eq!(frame, whole[..if lease.is_closed() { 4 } else { 3 }], "{lease:?}");
        assert!(lease.sent.starts_with(&whole[..3]), "{lease:?}");
    }
    leases
}

fn acks(leases: &[Lease]) -> u64 {
    leases.iter().map(Lease::acks).sum::<usize>() as u64
}

/// What was acked, by the daemon's own account.
fn settled(ended: &Ended) -> u64 {
    let letters = ended.summary.as_ref().unwrap()["dead_lettered"].as_object().unwrap();
    let letters: u64 = letters.values().map(|count| count.as_u64().unwrap()).sum();
    let applied = ended.count("applied") + ended.count("already_applied");
    applied + letters + ended.count("forwarded")
}

/// Every shard was consumed from on the last connection, and each channel of it was closed.
fn closed_at_last(leases: &[Lease]) {
    let last = leases.iter().map(|lease| lease.connection).max();
    let last: Vec<_> = leases.iter().filter(|lease| Some(lease.connection) == last).collect();
    assert_eq!(last.len(), usize::from(SHARDS), "{leases:?}");
    assert!(last.iter().all(|lease| lease.is_closed()), "{leases:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_with_work_in_flight_finishes_acks_and_closes_and_cancels_nothing() {
    let stage = Stage::new("wire-drain", &SLOW).await;
    let (proxy, daemon) = wired(&stage, &[]).await;
    stage.publish(&updates(12, 3)).await;
    patches(&stage, 12).await;
    daemon.signal("TERM").await;
    daemon.logs("draining").await;
    let before = acks(&judged(&proxy));
    let ended = daemon.ended().await;

    assert!(ended.status.success(), "{ended:?}");
    let leases = judged(&proxy);
    assert_eq!(leases.len(), usize::from(SHARDS), "{leases:?}");
    assert!(leases.iter().all(Lease::is_closed), "{leases:?}");
    let (after, done) = (acks(&leases), settled(&ended));
    assert!(before < after, "what was at work was finished and acked: {before} {after}");
    assert_eq!(after, done, "an ack for each, and each before its channel's close");
    stage.still_waiting(36 - done).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_while_idle_closes_every_channel_and_cancels_nothing() {
    let stage = Stage::new("wire-idle", &[]).await;
    let (proxy, daemon) = wired(&stage, &[]).await;
    let ended = daemon.stop().await;
    assert!(ended.status.success(), "{ended:?}");
    let leases = judged(&proxy);
    assert_eq!((leases.len(), acks(&leases)), (usize::from(SHARDS), 0));
    assert!(leases.iter().all(Lease::is_closed), "{leases:?}");
    for (number, sent) in proxy.recorded().iter().enumerate() {
        let last = methods(sent).pop().map(|frame| frame.method);
        assert_eq!(last, Some(CONNECTION_CLOSE), "connection {number} says goodbye");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_whose_grace_runs_out_cancels_nothing() {
    let stage = Stage::new("wire-grace", &["--orders", "12", "--patch-latency", "30s"]).await;
    let settings = [("DRAIN__GRACE", "1s"), ("TARGET__PATCH_TIMEOUT", "60s")];
    let (proxy, daemon) = wired(&stage, &settings).await;
    stage.publish(&updates(12, 1)).await;
    patches(&stage, 12).await;
    let ended = daemon.stop().await;
    assert_eq!(ended.status.code(), Some(75), "{ended:?}");
    let leases = judged(&proxy);
    assert_eq!((leases.len(), acks(&leases)), (usize::from(SHARDS), 0));
    assert!(leases.iter().all(Lease::is_closed), "{leases:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_drops_the_connection_and_cancels_nothing() {
    let stage = Stage::new("wire-twice", &["--orders", "12", "--patch-latency", "30s"]).await;
    let settings = [("DRAIN__GRACE", "5m"), ("TARGET__PATCH_TIMEOUT", "60s")];
    let (proxy, daemon) = wired(&stage, &settings).await;
    stage.publish(&updates(12, 1)).await;
    patches(&stage, 12).await;
    daemon.signal("TERM").await;
    daemon.logs("draining").await;
    daemon.signal("TERM").await;
    let ended = daemon.ended().await;
    assert_eq!(ended.status.code(), Some(75), "{ended:?}");
    stage.still_waiting(12).await;
    assert_eq!(acks(&judged(&proxy)), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn shard_that_is_given_up_is_closed_and_cancels_nothing() {
    let stage = Stage::new("wire-given-up", &["--orders", "5"]).await;
    let retries = [("DEAD_LETTER__PUBLISH_RETRIES_MAX", "1")];
    let (proxy, daemon) = wired(&stage, &retries).await;
    let raw = stage.channel().await;
    raw.delete_queue("dead-letters").await;
    raw.publish(BasicProperties::default(), b"not JSON").await;
    raw.publish(BasicProperties::default(), update(1, 1).as_bytes()).await;
    daemon.logs("gave the shard up").await;
    let given_up: Vec<_> = judged(&proxy).into_iter().filter(Lease::is_closed).collect();
    assert_eq!(given_up.len(), 1, "one channel is closed, and its neighbours live: {given_up:?}");

    let settings = stage.settings(&[]).await;
    let declared = orderwright(&settings).args(["topology", "declare"]).output().await.unwrap();
    assert!(declared.status.success(), "{declared:?}");
    let mut letters = stage.letters().await;
    assert_eq!(letters.next().await.reason(), "json_malformed");
    stage.applied(1).await;
    let ended = daemon.stop().await;
    let leases = judged(&proxy);
    assert!(leases.iter().all(Lease::is_closed), "{leases:?}");
    let again = leases.iter().filter(|lease| lease.queue == given_up[0].queue).count();
    assert!(again > 1, "the same shard by a new channel: {leases:?}");
    assert_eq!(acks(&leases), settled(&ended), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn loss_of_the_connection_in_mid_work_cancels_nothing_and_loses_nothing() {
    let stage = Stage::new("wire-cut", &SLOW).await;
    let (proxy, daemon) = wired(&stage, &[]).await;
    stage.publish(&updates(12, 3)).await;
    patches(&stage, 20).await;
    proxy.cut();
    daemon.logs("lost the connection").await;
    daemon.logs("connected to the broker again").await;
    let ledger = stage.applied(36).await;
    let ended = daemon.stop().await;

    assert!(ended.status.success(), "{ended:?}");
    let said = |text| ended.log.matches(text).count();
    let told = (said("lost the connection to the broker"), said("lost the shard"));
    assert_eq!(told, (1, 0), "one failure, one line:\n{}", ended.log);
    assert_eq!(ledger.overlaps, 0, "{}", stage.simulator.bad_orders().await.unwrap());
    let leases = judged(&proxy);
    closed_at_last(&leases);
    let first = leases.iter().map(|lease| lease.connection).min();
    let lost: Vec<_> = leases.iter().filter(|lease| Some(lease.connection) == first).collect();
    assert_eq!(lost.len(), usize::from(SHARDS), "{leases:?}");
    assert!(!lost.iter().any(|lease| lease.is_closed()), "nothing is said to a dead link");
}

/// The library alone, consuming over a recording link.
async fn consuming(name: &str) -> (Proxy, Connection, Channel, Consumer) {
    let url = broker::shared().await.url();
    let proxy = Proxy::before(url).await.unwrap();
    let properties = ConnectionProperties::default();
    let connection = Connection::connect(&proxy.url(url), properties).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let none = FieldTable::default();
    let queue = format!("it-wire-{name}-{}", std::process::id());
    channel.queue_declare(queue.as_str().into(), options, none.clone()).await.unwrap();
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(queue.as_str().into(), "".into(), options, none);
    let consumer = consumer.await.unwrap();
    (proxy, connection, channel, consumer)
}

/// What the library sent after its `basic.consume`, up to `last`.
async fn sent_since(proxy: &Proxy, last: Method) -> Vec<Method> {
    let all = |recorded: &[Vec<u8>]| {
        let frames = methods(recorded.first().map_or(&[], Vec::as_slice)).into_iter();
        let methods = frames.map(|frame| frame.method);
        methods.skip_while(|method| *method != BASIC_CONSUME).skip(1).collect::<Vec<_>>()
    };
    let arrived = proxy.records(|recorded| all(recorded).contains(&last));
    all(&timeout(PATIENCE, arrived).await.expect("the last method"))
}

/// The control: these tests can fail, and here is what the code under test must not do.
#[tokio::test(flavor = "multi_thread")]
async fn library_cancels_by_itself_when_a_consumer_is_dropped_on_an_open_channel() {
    let (proxy, connection, channel, consumer) = consuming("dropped").await;
    drop(consumer);
    assert_eq!(sent_since(&proxy, BASIC_CANCEL).await, [BASIC_CANCEL]);
    drop((channel, connection));
}

#[tokio::test(flavor = "multi_thread")]
async fn library_cancels_by_itself_when_all_handles_are_dropped() {
    let (proxy, connection, channel, consumer) = consuming("handles").await;
    drop(channel);
    drop(consumer);
    assert_eq!(sent_since(&proxy, CHANNEL_CLOSE).await, [BASIC_CANCEL, CHANNEL_CLOSE]);
    drop(connection);
}

#[tokio::test(flavor = "multi_thread")]
async fn library_does_not_cancel_when_the_channel_is_closed_before_its_consumer_is_dropped() {
    let (proxy, connection, channel, consumer) = consuming("closed").await;
    channel.close(200, "done".into()).await.unwrap();
    drop(consumer);
    drop(channel);
    connection.close(200, "done".into()).await.unwrap();
    assert_eq!(sent_since(&proxy, CONNECTION_CLOSE).await, [CHANNEL_CLOSE, CONNECTION_CLOSE]);
}
