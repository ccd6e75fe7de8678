//! Orders that stand still behind a dead letter.

use std::collections::{BTreeMap, BTreeSet};

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::daemon::orderwright;
use crate::stage::{Letter, Letters, On, Stage, update};

const PARK: (&str, &str) = ("DEAD_LETTER__ON_DEAD_LETTER", "park");

const LATENCY: [&str; 6] =
    ["--orders", "200", "--get-latency", "1ms..4ms", "--patch-latency", "1ms..4ms"];

/// Update `sequence` of order `order`, which no state of the order allows.
fn dying(order: u64, sequence: u64) -> String {
    let mut body: Value = serde_json::from_str(&update(order, sequence)).unwrap();
    body["expect"] = json!({"UpdateSequence": [-1]});
    body.to_string()
}

/// Order and sequence of a body.
fn of(body: &[u8]) -> (u64, u64) {
    let body: Value = serde_json::from_slice(body).unwrap();
    let number = body["key"]["SalesOrderNumber"].as_str().unwrap();
    let order = number.trim_start_matches("SO-").parse().unwrap();
    (order, body["changes"]["UpdateSequence"].as_u64().unwrap())
}

fn key(order: u64) -> String {
    format!("USMF/SO-{order:06}")
}

async fn sequence_of(stage: &Stage, order: u64) -> Value {
    let found = stage.simulator.order("USMF", &format!("SO-{order:06}")).await.unwrap();
    found["properties"]["UpdateSequence"].clone()
}

/// What each letter is of, and why it died.
fn told(letters: &[Letter]) -> Vec<((u64, u64), String)> {
    letters.iter().map(|letter| (of(&letter.body), letter.reason())).collect()
}

/// A command about dead letters, and what it said.
async fn dead_letters(stage: &Stage, arguments: &[&str]) -> (i32, String) {
    let mut command = orderwright(&stage.settings(&[PARK]).await);
    let output = command.arg("dead-letters").args(arguments).output().await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), said)
}

async fn release(stage: &Stage, order: u64) -> (i32, Value) {
    let order = key(order);
    let arguments = ["release", order.as_str(), "--yes", "--output", "json"];
    let (code, said) = dead_letters(stage, &arguments).await;
    (code, serde_json::from_str::<Value>(&said).unwrap()["outcome"].clone())
}

/// Publishes a letter from behind the head once more, with a right to pass.
async fn replay(stage: &Stage, order: u64, body: &str, head: &str) {
    let of = "0195c2aa-7d3e-7c41-8f2a-3b1c9d0e4f55";
    send(stage, order, body, &[("unpark", head), ("replay-of", of)]).await;
}

/// Publishes the head once more, over what it saw last.
async fn replay_head(stage: &Stage, order: u64, body: &str, letter: &Letter) {
    let (head, attempts) = (letter.header("dead-letter-id"), letter.attempts());
    let seen = attempts.last().unwrap()["etag_seen"].as_str().unwrap();
    let headers = [("unpark", &*head), ("replay-of", &*head), ("replay-etag", seen)];
    send(stage, order, body, &headers).await;
}

async fn send(stage: &Stage, order: u64, body: &str, with: &[(&str, &str)]) {
    let mut headers = FieldTable::default();
    for (name, value) in with {
        let name = format!("orderwright-{name}");
        headers.insert(name.as_str().into(), AMQPValue::LongString((*value).into()));
    }
    let properties = BasicProperties::default().with_headers(headers).with_delivery_mode(2);
    let (raw, exchange) = (stage.channel().await, format!("{}.updates", stage.prefix()));
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (exchange, key) = (exchange.as_str().into(), key(order).as_str().into());
    let sent = raw.channel.basic_publish(exchange, key, options, body.as_bytes(), properties);
    let confirm = sent.await.unwrap().await.unwrap();
    assert!(confirm.is_ack() && confirm.take_message().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn later_updates_stand_behind_a_dead_one_in_order_and_other_orders_go_on() {
    let stage = Stage::new("park", &LATENCY).await;
    let daemon = stage.daemon(&[PARK]).await;
    let mut letters = stage.letters().await;
    let mut bodies = vec![update(1, 1), dying(1, 2)];
    bodies.extend((3..=6).map(|sequence| update(1, sequence)));
    bodies.extend((1..=6).map(|sequence| update(2, sequence)));
    stage.publish(&bodies).await;
    stage.applied(7).await;
    let letters = letters.take(5).await;
    // A letter can be there before its message is settled.
    daemon.logs_times("dead-lettered", 5).await;
    let ended = daemon.stop().await;

    let behind = |sequence| ((1, sequence), "parked_behind".to_owned());
    let head = ((1, 2), "expectation_failed".to_owned());
    assert_eq!(told(&letters), [head, behind(3), behind(4), behind(5), behind(6)]);
    let id = letters[0].header("dead-letter-id");
    for letter in &letters[1..] {
        assert_eq!((letter.header("parked-behind"), letter.attempts().len()), (id.clone(), 0));
        assert_ne!(letter.header("dead-letter-id"), id);
    }
    assert_eq!((sequence_of(&stage, 1).await, sequence_of(&stage, 2).await), (json!(1), json!(6)));
    assert_eq!(ended.count("parked_orders"), 1);
    assert_eq!(ended.summary.as_ref().unwrap()["dead_lettered"]["parked_behind"], 4);
    let gets = stage.simulator.read(0).await.unwrap().gets;
    assert_eq!(gets, 8, "what stands behind is not even looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_dead_letters_do_not_park_later_updates_go_on_and_there_is_no_stream() {
    let stage = Stage::new("nopark", &LATENCY).await;
    let daemon = stage.daemon(&[]).await;
    stage.publish(&[dying(1, 1), update(1, 2)]).await;
    stage.applied(1).await;
    let ended = daemon.stop().await;
    assert_eq!((ended.count("applied"), ended.count("parked_orders")), (1, 0));
    let raw = stage.channel().await;
    assert_eq!(raw.depth("dead-letters").await, 1);
    let name = format!("{}.parking", stage.prefix());
    let options = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
    let found = raw.channel.queue_declare(name.as_str().into(), options, FieldTable::default());
    assert!(found.await.is_err(), "{name} is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_orders_stay_parked_on_pods_that_join_and_on_those_that_take_over() {
    const ORDERS: u64 = 40;
    let stage = Stage::new("parkpods", &LATENCY).await;
    let first = stage.daemon(&[PARK, ("LOG__LEVEL", "debug")]).await;
    let round = |sequence| (1..=ORDERS).map(move |order| update(order, sequence));
    let mut bodies: Vec<_> = round(1).collect();
    bodies.extend((1..=ORDERS).step_by(2).map(|order| dying(order, 2)));
    stage.publish(&bodies).await;
    stage.applied(ORDERS).await;
    let second = stage.daemon(&[PARK]).await;
    // It has its share, and knows what the first one has parked.
    first.logs("gave the shard back").await;
    stage.publish(&round(3).collect::<Vec<_>>()).await;
    stage.applied(ORDERS + ORDERS / 2).await;
    first.signal("KILL").await;
    stage.publish(&round(4).collect::<Vec<_>>()).await;
    stage.applied(2 * ORDERS).await;
    assert!(second.stop().await.status.success());
    // One that starts where nobody was.
    let third = stage.daemon(&[PARK]).await;
    stage.publish(&round(5).collect::<Vec<_>>()).await;
    stage.applied(2 * ORDERS + ORDERS / 2).await;
    let wanted: BTreeSet<_> =
        (1..=ORDERS).step_by(2).flat_map(|order| (2..=5).map(move |it| (order, it))).collect();
    until(&mut stage.letters().await, &wanted).await;
    third.stop().await;
    for order in 1..=ORDERS {
        let last = if order % 2 == 1 { 1 } else { 5 };
        assert_eq!(sequence_of(&stage, order).await, json!(last), "order {order}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_orders_stay_parked_after_a_restart_of_the_broker_and_on_other_shards() {
    const ORDERS: u64 = 20;
    let stage = Stage::on(On::Own(Broker::own().await), "parkrestart", &LATENCY).await;
    let On::Own(broker) = &stage.broker else { panic!("the broker is its own") };
    let daemon = stage.daemon(&[PARK]).await;
    let round = |sequence| (1..=ORDERS).map(move |order| update(order, sequence));
    let dead: Vec<_> = (1..=ORDERS).step_by(2).map(|order| dying(order, 1)).collect();
    stage.publish(&dead).await;
    daemon.logs_times("dead-lettered", dead.len()).await;
    broker.restart().await;
    daemon.logs("connected to the broker again").await;
    stage.publish(&round(2).collect::<Vec<_>>()).await;
    stage.applied(ORDERS / 2).await;
    let reshard = ["topology", "reshard", "--shards", "8", "--linger", "1s"];
    let done = orderwright(&stage.settings(&[PARK]).await).args(reshard).output().await.unwrap();
    assert!(done.status.success(), "{done:?}");
    stage.publish(&round(3).collect::<Vec<_>>()).await;
    let ledger = stage.applied(ORDERS).await;
    let wanted: BTreeSet<_> =
        (1..=ORDERS).step_by(2).flat_map(|order| (1..=3).map(move |it| (order, it))).collect();
    until(&mut stage.letters().await, &wanted).await;
    assert_eq!((ledger.applied_distinct, ledger.out_of_order), (ORDERS, 0));
    assert_eq!(daemon.stop().await.count("parked_orders"), ORDERS / 2);
}

/// Takes letters until there is one of each, and returns what came in its order.
async fn until(letters: &mut Letters, wanted: &BTreeSet<(u64, u64)>) -> Vec<(u64, u64)> {
    let (mut missing, mut came) = (wanted.clone(), Vec::new());
    while !missing.is_empty() {
        let found = of(&letters.next().await.body);
        missing.remove(&found);
        came.push(found);
    }
    came
}

#[tokio::test(flavor = "multi_thread")]
async fn order_goes_on_in_order_once_all_its_letters_were_seen() {
    let stage = Stage::new("release", &LATENCY).await;
    let daemon = stage.daemon(&[PARK]).await;
    let mut letters = stage.letters().await;
    stage.publish(&[update(1, 1), dying(1, 2), update(1, 3), update(1, 4)]).await;
    let first = letters.take(3).await;
    let head = first[0].header("dead-letter-id");
    let (code, parked) = dead_letters(&stage, &["parked", "--output", "ndjson"]).await;
    let parked: Value = serde_json::from_str(&parked).unwrap();
    assert_eq!((code, &parked["order"]), (0, &json!(key(1))));
    assert_eq!((&parked["head"], &parked["letters"]), (&json!(head), &json!(3)));
    let (code, plan) = dead_letters(&stage, &["release", &key(1)]).await;
    assert!(code == 0 && plan.contains("say --yes"), "{plan}");

    // The head is mended, and what stood behind it follows. A newer one still stands behind.
    replay_head(&stage, 1, &update(1, 2), &first[0]).await;
    for letter in &first[1..] {
        let body = String::from_utf8(letter.body.clone()).unwrap();
        replay(&stage, 1, &body, &head).await;
    }
    stage.publish(&[update(1, 5)]).await;
    let newer = letters.next().await;
    assert_eq!((of(&newer.body), newer.reason()), ((1, 5), "parked_behind".to_owned()));
    assert_eq!(sequence_of(&stage, 1).await, json!(4));
    // A replay that names another head has no right to pass, and dies as one more letter.
    replay(&stage, 1, &update(1, 6), &newer.header("dead-letter-id")).await;
    let stranger = letters.next().await;
    assert_eq!((of(&stranger.body), stranger.reason()), ((1, 6), "parked_behind".to_owned()));
    replay(&stage, 1, &update(1, 5), &head).await;
    replay(&stage, 1, &update(1, 6), &head).await;
    assert_eq!(release(&stage, 1).await, (0, json!("released")));
    stage.publish(&[update(1, 7)]).await;
    let ledger = stage.applied(7).await;
    assert_eq!(release(&stage, 1).await, (0, json!("not_parked")));
    let ended = daemon.stop().await;
    assert_eq!((ledger.out_of_order, ledger.overlaps, ledger.applied_twice), (0, 0, 0));
    assert_eq!((ended.count("applied"), ended.count("parked_orders")), (7, 0));
    assert_eq!(stage.channel().await.depth("dead-letters").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn release_that_comes_behind_another_letter_leaves_the_order_parked() {
    let stage = Stage::new("stale", &LATENCY).await;
    let daemon = stage.daemon(&[PARK]).await;
    let mut letters = stage.letters().await;
    stage.publish(&[dying(1, 1)]).await;
    letters.next().await;
    assert!(daemon.stop().await.status.success());
    // Nobody works: what is published now stands before the release.
    stage.publish(&[update(1, 2)]).await;
    let order = key(1);
    let asked = ["release", &order, "--yes", "--timeout", "1s", "--output", "json"];
    let (code, said) = dead_letters(&stage, &asked).await;
    assert!(code == 75 && said.contains("waiting"), "{said}");
    let daemon = stage.daemon(&[PARK]).await;
    daemon.logs("not released").await;
    assert_eq!(letters.next().await.reason(), "parked_behind");
    stage.publish(&[update(1, 3)]).await;
    assert_eq!(letters.next().await.reason(), "parked_behind");
    assert_eq!(release(&stage, 1).await, (0, json!("released")));
    stage.publish(&[update(1, 4)]).await;
    stage.applied(1).await;
    assert_eq!(daemon.stop().await.count("parked_orders"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_of_parked_orders_the_next_one_waits_until_there_is_room() {
    let stage = Stage::new("full", &LATENCY).await;
    let daemon = stage.daemon(&[PARK, ("DEAD_LETTER__PARKED_ORDERS_MAX", "1")]).await;
    let mut letters = stage.letters().await;
    stage.publish(&[dying(1, 1)]).await;
    letters.next().await;
    stage.publish(&[dying(2, 1), update(2, 2), update(3, 1), update(1, 2)]).await;
    daemon.logs("as many orders are parked").await;
    stage.applied(1).await;
    assert_eq!((of(&letters.next().await.body), sequence_of(&stage, 3).await), ((1, 2), json!(1)));
    assert_eq!(release(&stage, 1).await, (0, json!("released")));
    let next = letters.take(2).await;
    let wanted = [((2, 1), "expectation_failed"), ((2, 2), "parked_behind")];
    assert_eq!(told(&next), wanted.map(|(of, why)| (of, why.to_owned())));
    let ended = daemon.stop().await;
    assert_eq!((ended.count("parked_orders"), ended.count("applied")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_begun_while_it_is_not_known_which_orders_stand_still() {
    let stage = Stage::new("blind", &LATENCY).await;
    let first = stage.daemon(&[PARK]).await;
    stage.publish(&[dying(1, 1), update(2, 1)]).await;
    stage.applied(1).await;
    let raw = stage.channel().await;
    raw.delete_queue("parking").await;
    first.logs("which orders are parked cannot be read").await;
    // It is ours to declare: a new one, and everything goes on.
    stage.publish(&[update(2, 2), update(3, 1)]).await;
    stage.applied(3).await;
    assert!(first.stop().await.status.success());
    raw.delete_queue("parking").await;
    let missing = stage.settings(&[PARK, ("TOPOLOGY__DECLARE", "false")]).await;
    let refused = crate::daemon::Daemon::spawn(&missing).ended().await;
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    assert!(refused.log.contains(".parking"), "{}", refused.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_begins_nothing_before_it_has_read_all_of_a_long_stream() {
    let stage = Stage::new("long", &LATENCY).await;
    assert!(stage.daemon(&[PARK]).await.stop().await.status.success());
    let raw = stage.channel().await;
    let (exchange, stream) =
        (format!("{}.forward", stage.prefix()), format!("{}.parking", stage.prefix()));
    let uuid = |number: u64| format!("00000000-0000-7000-8000-{number:012}");
    let read = (0..20_000).map(|number| json!({"record": "read", "id": uuid(number)}));
    let at = "2025-02-08T00:00:00Z";
    let died =
        |order| json!({"record": "died", "order": key(order), "letter": uuid(order), "at": at});
    let mut confirms = Vec::new();
    for record in read.chain((1..=20).map(died)) {
        let (options, body) = (BasicPublishOptions::default(), record.to_string());
        let (exchange, key) = (exchange.as_str().into(), stream.as_str().into());
        let none = BasicProperties::default();
        let sent = raw.channel.basic_publish(exchange, key, options, body.as_bytes(), none);
        confirms.push(sent.await.unwrap());
    }
    for confirm in confirms {
        assert!(confirm.await.unwrap().is_ack());
    }
    let bodies: Vec<_> = (1..=21).map(|order| update(order, 1)).collect();
    stage.publish(&bodies).await;
    let daemon = stage.daemon(&[PARK]).await;
    let letters = stage.letters().await.take(20).await;
    stage.applied(1).await;
    let ended = daemon.stop().await;
    assert!(letters.iter().all(|letter| letter.reason() == "parked_behind"));
    assert_eq!((ended.count("applied"), ended.count("parked_orders")), (1, 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_orders_are_kept_whoever_is_killed_at_whatever_moment() {
    const ROUNDS: u64 = 10;
    const ORDERS: u64 = 12;
    const EACH: u64 = 7;
    let stage = Stage::new("parkkill", &LATENCY).await;
    let mut rng = fastrand::Rng::with_seed(5);
    let mut pods = vec![stage.daemon(&[PARK]).await, stage.daemon(&[PARK]).await];
    // The update of each order that dies; zero for none.
    let mut dead = BTreeMap::new();
    let body = |dead: &BTreeMap<u64, u64>, order: &u64, sequence| {
        if dead[order] == sequence { dying(*order, sequence) } else { update(*order, sequence) }
    };
    // How many updates of these orders pass, if each has so many.
    let good = |dead: &BTreeMap<u64, u64>, each: u64| -> u64 {
        dead.values().map(|from| if *from > 0 { from - 1 } else { each }).sum()
    };
    for round in 0..ROUNDS {
        let orders: Vec<_> = (1..=ORDERS).map(|order| round * ORDERS + order).collect();
        let before = good(&dead, EACH);
        for order in &orders {
            dead.insert(*order, if rng.bool() { rng.u64(2..EACH) } else { 0 });
        }
        let bodies: Vec<_> =
            (1..=EACH).flat_map(|it| orders.iter().map(move |order| (order, it))).collect();
        let bodies: Vec<_> = bodies.into_iter().map(|(order, it)| body(&dead, order, it)).collect();
        stage.publish(&bodies).await;
        // What dies dies in between.
        stage.applied(rng.u64(before..=good(&dead, EACH))).await;
        let victim = rng.usize(0..2);
        pods.swap_remove(victim).signal("KILL").await;
        pods.push(stage.daemon(&[PARK]).await);
    }
    let last = EACH + 1;
    let bodies: Vec<_> = dead.keys().map(|order| update(*order, last)).collect();
    stage.publish(&bodies).await;
    let held = |(order, from): (&u64, &u64)| {
        let (order, from) = (*order, *from);
        (from..=last).filter(move |_| from > 0).map(move |sequence| (order, sequence))
    };
    let wanted: BTreeSet<_> = dead.iter().flat_map(held).collect();
    let applied = good(&dead, last);
    let ledger = stage.applied(applied).await;
    let came = until(&mut stage.letters().await, &wanted).await;
    assert_eq!((ledger.applied_distinct, ledger.overlaps), (applied, 0));
    for pod in pods {
        assert!(pod.stop().await.status.success());
    }
    for (order, from) in dead {
        let wanted = if from > 0 { from - 1 } else { last };
        assert_eq!(sequence_of(&stage, order).await, json!(wanted), "order {order}");
        let mut seen = BTreeSet::new();
        let news = came.iter().filter(|(of, sequence)| *of == order && seen.insert(*sequence));
        let news: Vec<_> = news.map(|(_, sequence)| *sequence).collect();
        assert!(news.is_sorted(), "order {order}: {news:?}");
        assert!(from > 0 || news.is_empty(), "order {order}: {news:?}");
    }
}
