//! A broker that takes no messages for a while: an alarm over memory or disk, or a full queue.
//!
//! Each test has a broker of its own: an alarm stops every publisher there is.

use lapin::BasicProperties;

use crate::broker::Broker;
use crate::daemon::orderwright;
use crate::stage::{On, SHARDS, Stage, update, updates};

const WAITS: &str = "the broker has raised an alarm and takes no messages";

const ORDERS: u64 = 10;
/// Updates of each order in a round.
const EACH: u64 = 5;

async fn own(name: &str, arguments: &[&str]) -> Stage {
    Stage::on(On::Own(Broker::own().await), name, arguments).await
}

async fn ctl(stage: &Stage, words: &str) {
    let On::Own(broker) = &stage.broker else { panic!("the broker is its own") };
    broker.ctl(words).await;
}

/// The queues are there, and nobody consumes.
async fn declared(stage: &Stage) {
    let settings = stage.settings(&[]).await;
    let output = orderwright(&settings).args(["topology", "declare"]).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

async fn bad_message(stage: &Stage) {
    stage.channel().await.publish(BasicProperties::default(), b"not JSON").await;
}

/// Publishing is blocked, while deliveries and acks go on, and the dead letter goes out when it is
/// over: once. The alarm lasts for as long as the updates of an order take one after the other, which
/// is several times as long as a confirm is waited for.
async fn goes_on_and_dead_letters_once(stage: &Stage, raise: &str, clear: &str, round: u64) {
    bad_message(stage).await;
    let sequences = (round - 1) * EACH + 1..=round * EACH;
    let of = |sequence| (1..=ORDERS).map(move |order| update(order, sequence));
    stage.publish(&sequences.flat_map(of).collect::<Vec<_>>()).await;
    ctl(stage, raise).await;

    let settings = [("BROKER__PUBLISH_TIMEOUT", "1s"), ("DEAD_LETTER__PUBLISH_RETRIES_MAX", "0")];
    let daemon = stage.daemon(&settings).await;
    daemon.logs(WAITS).await;
    stage.applied(ORDERS * EACH * round).await;
    let raw = stage.channel().await;
    assert_eq!(raw.depth("dead-letters").await, 0, "nothing gets in under the alarm");

    ctl(stage, clear).await;
    let mut letters = stage.letters().await;
    let letter = letters.next().await;
    assert_eq!((letter.reason().as_str(), &letter.body[..]), ("json_malformed", &b"not JSON"[..]));
    let ended = daemon.stop().await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.count("settlements_lost"), 0, "it was settled at the first try: {ended:?}");
    assert_eq!(ended.summary.as_ref().unwrap()["dead_lettered"]["json_malformed"], 1, "{ended:?}");
    drop(letters);
    assert_eq!(raw.depth("dead-letters").await, 0, "and it was there once");
    assert_eq!(stage.waiting().await, 0);
}

const MEMORY: [&str; 2] = ["set_vm_memory_high_watermark 0", "set_vm_memory_high_watermark 0.6"];
const DISK: [&str; 2] = ["set_disk_free_limit 1000000000000000000", "set_disk_free_limit 50000000"];

#[tokio::test(flavor = "multi_thread")]
async fn alarm_blocks_dead_letters_alone_and_they_go_out_once_when_it_is_over() {
    let stage = own("alarms", &["--orders", "10", "--patch-latency", "700ms"]).await;
    declared(&stage).await;
    for (round, [raise, clear]) in (1..).zip([MEMORY, DISK]) {
        goes_on_and_dead_letters_once(&stage, raise, clear, round).await;
    }
    let ledger = stage.simulator.read(0).await.unwrap();
    let wrong = (ledger.overlaps, ledger.out_of_order, ledger.applied_twice);
    assert_eq!(wrong, (0, 0, 0), "{}", stage.simulator.bad_orders().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_under_an_alarm_is_bounded_and_what_was_to_be_dead_lettered_stays() {
    let stage = own("alarm-drain", &["--orders", "5"]).await;
    declared(&stage).await;
    bad_message(&stage).await;
    stage.publish(&updates(5, 2)).await;
    ctl(&stage, MEMORY[0]).await;
    let daemon = stage.daemon(&[]).await;
    daemon.logs(WAITS).await;
    stage.applied(10).await;
    let begun = tokio::time::Instant::now();
    let ended = daemon.stop().await;
    // A hint's last word, the goodbyes of two blocked connections; far below the grace of 20 s.
    assert!(begun.elapsed().as_secs() < 12, "{:?}", begun.elapsed());
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    stage.still_waiting(1).await;

    ctl(&stage, MEMORY[1]).await;
    let daemon = stage.daemon(&[]).await;
    let mut letters = stage.letters().await;
    assert_eq!(letters.next().await.reason(), "json_malformed");
    daemon.logs("dead-lettered").await;
    assert!(daemon.stop().await.status.success());
    assert_eq!(stage.waiting().await, 0);
}

/// Shard queues that somebody consumes.
async fn attended(stage: &Stage) -> u16 {
    let (raw, mut attended) = (stage.channel().await, 0);
    for shard in 0..SHARDS {
        attended += u16::from(raw.is_consumed(&format!("shard.g1.{shard:03}")).await);
    }
    attended
}

#[tokio::test(flavor = "multi_thread")]
async fn shard_that_is_given_back_in_an_alarm_is_not_taken_again_before_its_end() {
    let stage = own("alarm-age", &["--orders", "5"]).await;
    declared(&stage).await;
    bad_message(&stage).await;
    ctl(&stage, MEMORY[0]).await;
    // Half of it is how long a message is held: the dead letter cannot go out for longer.
    let settings = [
        ("BROKER__CONSUMER_TIMEOUT", "1m"),
        ("TARGET__GET_TIMEOUT", "1s"),
        ("TARGET__PATCH_TIMEOUT", "1s"),
    ];
    let daemon = stage.daemon(&settings).await;
    daemon.logs(WAITS).await;
    daemon.logs("giving the shard back").await;
    daemon.logs("the queue is taken again when it does").await;
    assert_eq!(attended(&stage).await, SHARDS - 1, "the others go on");

    ctl(&stage, MEMORY[1]).await;
    let mut letters = stage.letters().await;
    assert_eq!(letters.next().await.reason(), "json_malformed");
    daemon.logs("\"dead-lettered\"").await;
    assert_eq!(attended(&stage).await, SHARDS);
    let ended = daemon.stop().await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(stage.waiting().await, 0, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letter_that_a_full_queue_refuses_is_retried_and_comes_again_until_there_is_room() {
    let stage = own("nacked", &["--orders", "5"]).await;
    declared(&stage).await;
    let full = format!(
        r#"set_policy full ^{}.dead-letters$ {{"max-length":1,"overflow":"reject-publish"}}"#,
        stage.prefix()
    );
    ctl(&stage, &full).await;
    let daemon = stage.daemon(&[("DEAD_LETTER__PUBLISH_RETRIES_MAX", "1")]).await;
    // The first letters fill the queue; a quorum queue takes one or two more than its limit.
    for _ in 0..4 {
        bad_message(&stage).await;
    }
    let bodies: Vec<_> = (1..=5).map(|order| update(order, 1)).collect();
    stage.publish(&bodies).await;
    let refused = daemon.logs("a dead letter could not be published").await;
    assert!(refused.contains("a queue is full"), "{refused}");
    daemon.logs("gave the shard up").await;
    // Others of the shard are worked on in between.
    stage.applied(5).await;

    let mut letters = stage.letters().await;
    let taken = letters.take(4).await;
    assert!(taken.iter().all(|letter| letter.body == b"not JSON"), "{taken:?}");
    daemon.logs_times("\"dead-lettered\"", 4).await;
    let ended = daemon.stop().await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(stage.waiting().await, 0, "{ended:?}");
    drop(letters);
    let raw = stage.channel().await;
    assert_eq!(raw.depth("dead-letters").await, 0, "none was published twice: {ended:?}");
}
