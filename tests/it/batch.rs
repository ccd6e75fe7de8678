//! Several orders in one request: the same guarantees, and what only a batch can do wrong.

use serde_json::json;
use tokio::time::{Duration, Instant};

use crate::ledger::Ledger;
use crate::stage::{Stage, message, update, updates};
use crate::traces::receiver::{Receiver, spans};
use crate::traces::{Relay, TRACE, traced};
use crate::{lifecycle, order, outage};

const WAIT: (&str, &str) = ("TARGET__BATCH__WAIT", "10ms");
pub(crate) const BATCH: [(&str, &str); 2] = [("TARGET__BATCH__MODE", "on"), WAIT];

/// Asserts that fewer requests were sent than orders were asked for.
fn gathered(ledger: &Ledger) {
    let alone = ledger.gets + ledger.patches;
    assert!(ledger.requests * 2 < alone, "{} requests for {alone}", ledger.requests);
}

async fn nothing_went_wrong(stage: &Stage, ledger: &Ledger) {
    let wrong = (ledger.overlaps, ledger.out_of_order, ledger.applied_twice);
    assert_eq!(wrong, (0, 0, 0), "{}", stage.simulator.bad_orders().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_keep_the_order_within_each_order_under_conflicts_503s_and_resets() {
    order::kept_under_trouble(&BATCH, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_and_sigterm_lose_nothing_and_overlap_nowhere() {
    lifecycle::stopped_and_started_again(&BATCH).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_and_a_killed_daemon_lose_nothing() {
    lifecycle::killed(&BATCH).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_in_an_outage_dead_letter_nothing_and_keep_the_order() {
    outage::outage_of_several_kinds(&BATCH).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn different_orders_go_in_one_request_and_all_are_applied() {
    let stage = Stage::new("batch", &["--orders", "200"]).await;
    let daemon = stage.daemon(&BATCH).await;
    stage.publish(&updates(200, 10)).await;
    let ledger = stage.applied(2_000).await;
    let ended = daemon.stop().await;
    gathered(&ledger);
    nothing_went_wrong(&stage, &ledger).await;
    assert_eq!((ended.count("applied"), ended.count("retries")), (2_000, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn part_that_fails_is_handled_alone_and_its_neighbours_are_applied() {
    let stage = Stage::new("batch-parts", &["--orders", "20"]).await;
    let conflict = json!({"next": 1, "order": "USMF/SO-000001"});
    stage.simulator.faults(&json!({"f11_conflict_storm": conflict})).await.unwrap();
    let daemon = stage.daemon(&[BATCH[0], ("TARGET__BATCH__WAIT", "200ms")]).await;
    let mut letters = stage.letters().await;
    let mut bodies: Vec<_> = (1..=20).map(|order| update(order, 1)).collect();
    bodies.push(message("SO-404", &json!({"DeliveryDate": "2025-02-08"})));
    stage.publish(&bodies).await;
    let letter = letters.next().await;
    assert_eq!((letter.reason().as_str(), letter.attempts().len()), ("not_found", 1));
    let ledger = stage.applied(20).await;
    let ended = daemon.stop().await;
    assert_eq!((ended.count("applied"), ended.count("conflicts_overcome")), (20, 1), "{ended:?}");
    assert_eq!(ended.count("retries"), 1, "of one order alone");
    gathered(&ledger);
    nothing_went_wrong(&stage, &ledger).await;
}

/// Every batch is answered wrongly: what nobody knows is looked up, one by one.
async fn wrong(fault: &str, how: serde_json::Value) {
    let stage = Stage::new("batch-wrong", &["--orders", "60"]).await;
    stage.simulator.faults(&json!({fault: how})).await.unwrap();
    let daemon = stage.daemon(&BATCH).await;
    stage.publish(&updates(60, 5)).await;
    let ledger = stage.applied(300).await;
    let ended = daemon.stop().await;
    nothing_went_wrong(&stage, &ledger).await;
    // The last ones may have been written and not looked up yet: they go back, and come again.
    let known = ended.count("applied") + ended.count("already_applied");
    assert_eq!(known + ended.count("released"), 300, "{ended:?}");
    assert!(ended.count("retries") > 0, "it struck: {ended:?}");
    assert_eq!(ended.summary.unwrap()["dead_lettered"], json!({}), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f21_part_without_an_answer_is_looked_up_and_not_written_twice() {
    wrong("f21_missing_parts", json!(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f21_answer_that_contradicts_itself_is_not_believed() {
    wrong("f21_wrong_content_id", json!(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_whose_reply_is_lost_is_looked_up_and_not_written_twice() {
    wrong("f1_lost_reply", json!({"on": "batch", "rate": 0.5})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f21_service_that_takes_no_batches_gets_single_requests_and_nothing_is_dead_lettered() {
    let stage = Stage::new("batch-refused", &["--orders", "60"]).await;
    stage.simulator.faults(&json!({"f21_refused": 1})).await.unwrap();
    let daemon = stage.daemon(&BATCH).await;
    stage.publish(&updates(60, 5)).await;
    stage.applied(300).await;
    let ended = daemon.stop().await;
    assert_eq!(ended.log.matches("the target takes no $batch").count(), 1, "{}", ended.log);
    assert_eq!((ended.count("applied"), ended.count("retries")), (300, 0));
    assert_eq!(ended.summary.unwrap()["dead_lettered"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_a_firewall_refuses_are_given_up_and_cost_few_orders_a_retry() {
    let stage = Stage::new("batch-firewall", &["--orders", "60"]).await;
    stage.simulator.faults(&json!({"f8_forbidden": {"on": "batch"}})).await.unwrap();
    let daemon = stage.daemon(&BATCH).await;
    stage.publish(&updates(60, 20)).await;
    stage.applied(1_200).await;
    let ended = daemon.stop().await;
    let said = "single requests are answered, and no $batch is";
    assert_eq!(ended.log.matches(said).count(), 1, "{}", ended.log);
    // Those of the batches under way until then, and none of the others.
    assert!((3..=180).contains(&ended.count("failures")), "{}", ended.count("failures"));
    assert_eq!((ended.count("applied"), ended.count("outages")), (1_200, 0));
    assert_eq!(ended.summary.unwrap()["dead_lettered"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn lone_update_waits_for_company_no_longer_than_it_may() {
    let stage = Stage::new("batch-lone", &["--orders", "1"]).await;
    let daemon = stage.daemon(&[BATCH[0], ("TARGET__BATCH__WAIT", "1s")]).await;
    let begun = Instant::now();
    stage.publish(&[update(1, 1)]).await;
    let ledger = stage.applied(1).await;
    daemon.stop().await;
    let took = begun.elapsed();
    // Once for its GET and once for its PATCH, each of which then goes by itself.
    assert!((Duration::from_secs(2)..Duration::from_secs(5)).contains(&took), "{took:?}");
    assert_eq!((ledger.requests, ledger.gets, ledger.patches), (2, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_of_a_batch_and_each_single_request_tells_the_service_its_own_trace() {
    let stage = Stage::new("batch-traces", &["--orders", "3"]).await;
    let Some(mut receiver) = Receiver::start().await else { return };
    let relay = Relay::before(stage.simulator_url()).await;
    let target = format!("{}/data", relay.url);
    let settings = [
        BATCH[0],
        ("TARGET__BATCH__WAIT", "1s"),
        ("TARGET__URL", target.as_str()),
        ("OTLP__ENDPOINT", &receiver.endpoint),
        ("OTLP__SAMPLE_RATIO", "0"),
        ("OTLP__METRICS_INTERVAL", "10m"),
    ];
    let daemon = stage.daemon(&settings).await;
    let raw = stage.channel().await;
    for order in 1..=2 {
        raw.publish(traced("01"), update(order, 1).as_bytes()).await;
    }
    stage.applied(2).await;
    // Nobody joins it.
    raw.publish(traced("01"), update(3, 1).as_bytes()).await;
    let ledger = stage.applied(3).await;
    daemon.stop().await;
    assert_eq!((ledger.requests, ledger.gets, ledger.patches), (4, 3, 3), "two went together");
    let spans = spans(&receiver.all().await);
    let sent = String::from_utf8_lossy(&relay.sent.lock().unwrap()).into_owned();
    let requests: Vec<_> =
        spans.iter().filter(|it| ["GET", "PATCH"].contains(&&*it.name)).collect();
    assert_eq!(requests.len(), 6, "{spans:#?}");
    for request in requests {
        let told = format!("traceparent: 00-{TRACE}-{}-01", request.id);
        assert_eq!(sent.matches(&told).count(), 1, "{told} in:\n{sent}");
    }
    assert_eq!(sent.matches("traceparent: ").count(), 6, "{sent}");
}
