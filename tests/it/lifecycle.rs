//! Stops, starts and lost brokers.

use crate::broker::Broker;
use crate::daemon::{Daemon, orderwright};
use crate::stage::{On, Stage, updates};

const LATENCY: [&str; 6] =
    ["--orders", "100", "--get-latency", "5ms..20ms", "--patch-latency", "5ms..20ms"];

/// For PATCHes that take longer than a test waits.
const SLOW: (&str, &str) = ("TARGET__PATCH_TIMEOUT", "60s");

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_mid_run_and_a_second_start_lose_nothing_and_overlap_nowhere() {
    stopped_and_started_again(&[]).await;
}

pub(crate) async fn stopped_and_started_again(more: &[(&str, &str)]) {
    let trouble = ["--conflict-rate", "0.2", "--error-rate", "0.05"];
    let stage = Stage::new("sigterm", &[&LATENCY[..], &trouble].concat()).await;
    let retries = [("RETRY__CONFLICTS__RETRIES_MAX", "16"), ("RETRY__FAILURES__RETRIES_MAX", "16")];
    let settings = [&retries[..], more].concat();
    let first = stage.daemon(&settings).await;
    stage.publish(&updates(100, 10)).await;
    stage.applied(250).await;
    let first = first.stop().await;
    assert!(first.status.success(), "{first:?}");
    let done = first.count("applied") + first.count("already_applied");
    assert!((1..1_000).contains(&done), "it was stopped in the middle: {first:?}");
    stage.still_waiting(1_000 - done).await;

    let second = stage.daemon(&settings).await;
    let ledger = stage.applied(1_000).await;
    let second = second.stop().await;
    let wrong = (ledger.overlaps, ledger.out_of_order, ledger.applied_twice);
    assert_eq!(wrong, (0, 0, 0), "{}", stage.simulator.bad_orders().await.unwrap());
    assert_eq!(second.count("applied") + second.count("already_applied"), 1_000 - done);
    assert_eq!(second.count("settlements_lost"), 0);
    assert_eq!(stage.waiting().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_restarted_in_mid_run_loses_nothing() {
    let broker = Broker::own().await;
    let stage = Stage::on(On::Own(broker), "restart", &LATENCY).await;
    let On::Own(broker) = &stage.broker else { panic!("the broker is its own") };
    let daemon = stage.daemon(&[]).await;
    stage.publish(&updates(100, 10)).await;
    stage.applied(150).await;
    broker.restart().await;
    daemon.logs("connected to the broker again").await;
    let ledger = stage.last_word(100, 11, 1_100).await;
    let ended = daemon.stop().await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ledger.overlaps, 0, "{}", stage.simulator.bad_orders().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_killed_in_mid_run_loses_nothing() {
    let broker = Broker::own().await;
    let stage = Stage::on(On::Own(broker), "kill", &LATENCY).await;
    let On::Own(broker) = &stage.broker else { panic!("the broker is its own") };
    // RabbitMQ 4.0.5 forgets a quorum queue that was declared less than some seconds before a kill
    // ("configured member was not found on this node"), with all its messages. A stop in good order
    // writes the queues down; what is killed after that comes back.
    // One shard, because this version scrambles the ring at every start.
    let one = [("TOPOLOGY__SHARDS", "1")];
    let settings = stage.settings(&one).await;
    let declared = orderwright(&settings).args(["topology", "declare"]).output().await.unwrap();
    assert!(declared.status.success(), "{declared:?}");
    broker.restart().await;
    let daemon = stage.daemon(&one).await;
    stage.publish(&updates(100, 10)).await;
    stage.applied(150).await;
    broker.kill().await;
    daemon.logs("cannot connect to the broker").await;
    broker.start_again().await;
    daemon.logs("connected to the broker again").await;
    // Published by a command whose settings name four shards: the entry exchange is the same.
    let ledger = stage.last_word(100, 11, 1_100).await;
    daemon.stop().await;
    assert_eq!(ledger.overlaps, 0, "{}", stage.simulator.bad_orders().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_daemon_loses_nothing() {
    killed(&[]).await;
}

pub(crate) async fn killed(more: &[(&str, &str)]) {
    let stage = Stage::new("sigkill", &LATENCY).await;
    let first = stage.daemon(more).await;
    stage.publish(&updates(100, 5)).await;
    stage.applied(100).await;
    first.signal("KILL").await;
    assert!(!first.ended().await.status.success());
    let second = stage.daemon(more).await;
    stage.last_word(100, 6, 600).await;
    second.stop().await;
    assert_eq!(stage.waiting().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_is_bounded_by_its_grace_and_the_rest_stays_with_the_broker() {
    let stage = Stage::new("grace", &["--orders", "1", "--patch-latency", "30s"]).await;
    let daemon = stage.daemon(&[("DRAIN__GRACE", "1s"), SLOW]).await;
    stage.publish(&updates(1, 2)).await;
    while stage.simulator.read(0).await.unwrap().patches == 0 {
        tokio::task::yield_now().await;
    }
    let begun = tokio::time::Instant::now();
    let ended = daemon.stop().await;
    assert_eq!(ended.status.code(), Some(75), "{ended:?}");
    assert!((1..10).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    stage.still_waiting(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_ends_at_once() {
    let stage = Stage::new("twice", &["--orders", "1", "--patch-latency", "30s"]).await;
    let daemon = stage.daemon(&[("DRAIN__GRACE", "5m"), SLOW]).await;
    stage.publish(&updates(1, 1)).await;
    while stage.simulator.read(0).await.unwrap().patches == 0 {
        tokio::task::yield_now().await;
    }
    daemon.signal("TERM").await;
    daemon.logs("draining").await;
    daemon.signal("INT").await;
    let ended = daemon.ended().await;
    assert_eq!(ended.status.code(), Some(75), "{ended:?}");
    stage.still_waiting(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_broker_ends_the_start_with_its_own_code() {
    let settings = |url: &str| {
        [("BROKER__URL", url), ("BROKER__START_TIMEOUT", "1s"), ("BROKER__CONNECT_TIMEOUT", "1s")]
            .map(|(name, value)| (format!("ORDERWRIGHT__{name}"), value.to_owned()))
    };
    let ended = Daemon::spawn(&settings("amqp://guest:s3cr3t@127.0.0.1:1/%2f")).ended().await;
    assert_eq!(ended.status.code(), Some(69), "{ended:?}");
    assert!(ended.log.contains("127.0.0.1:1") && !ended.log.contains("s3cr3t"), "{ended:?}");

    // It accepts and never speaks: the library alone would wait for ever.
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://guest:guest@{}/%2f", mute.local_addr().unwrap());
    let output = orderwright(&settings(&url)).args(["run"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(69), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_ends_the_start_at_once() {
    let stage = Stage::new("password", &[]).await;
    let mut url: url::Url = stage.url().await.parse().unwrap();
    url.set_password(Some("s3cr3t")).unwrap();
    let settings = stage.settings(&[("BROKER__URL", url.as_str())]).await;
    let ended = Daemon::spawn(&settings).ended().await;
    assert_eq!(ended.status.code(), Some(78), "{ended:?}");
    assert!(ended.log.contains(&format!("refuses user {:?}", url.username())), "{ended:?}");
    assert!(!ended.log.contains("s3cr3t"), "{ended:?}");
}
