//! A night with three kinds of trouble, and an operator who sees it through by the commands alone. Its
//! transcript is `docs/DEAD-LETTERS.md`: prose from `story/dead-letters.md`, and what the commands
//! really said.

mod transcript;

use serde_json::{Value, json};

use crate::stage::{Stage, message, update};
use crate::target::{SECRET, signing_in};
use transcript::Transcript;

/// Orders whose update with the renamed property was the last one, and those with later ones.
const LAST: std::ops::RangeInclusive<u64> = 104..=139;
const OVERTAKEN: std::ops::RangeInclusive<u64> = 101..=103;
/// The first order of that trouble: the one that `groups` shows as its sample.
const FIRST: u64 = 7;
/// The order that a clerk has open.
const LOCKED: u64 = 42;

/// Updates that came while all was well but the property's name, in which some set that property. Those
/// that are overtaken have been published before, one by one.
fn evening() -> Vec<String> {
    let mut bodies = Vec::new();
    for sequence in 1..=4 {
        for order in 101..=350 {
            let is_out = OVERTAKEN.contains(&order) && sequence <= 2;
            let is_dead = LAST.contains(&order) && sequence == 4;
            if !is_out {
                bodies.push(if is_dead { mode(order, sequence) } else { update(order, sequence) });
            }
        }
    }
    bodies
}

fn mode(order: u64, sequence: u64) -> String {
    let changes = json!({"DeliveryModeCode": "Truck", "UpdateSequence": sequence});
    message(&format!("SO-{order:06}"), &changes)
}

/// What came while nobody was let in.
fn night() -> Vec<String> {
    let of = |sequence| (351..=492).map(move |order| update(order, sequence));
    (1..=7).flat_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn story_of_a_night_with_three_kinds_of_trouble_is_told_by_the_tools_themselves() {
    let guard = ["--orders", "500", "--client-id", "app", "--client-secret", SECRET];
    let stage = Stage::new("story", &[&guard[..], &["--tenant", "contoso.com"]].concat()).await;
    let mut settings = signing_in(stage.simulator_url(), SECRET).to_vec();
    settings.extend([("BREAKER__PROBE_INTERVAL", "500ms"), ("INSTANCE__NAME", "pod-1")]);
    let daemon = stage.daemon(&settings).await;
    let mut session = Transcript::new(&stage, &settings).await;

    let locked = json!({"order": format!("USMF/SO-{LOCKED:06}"), "on": "patch"});
    stage.simulator.faults(&json!({"f12_update_conflict": locked})).await.unwrap();
    stage.simulator.rename("DeliveryModeCode", "DeliveryMode").await.unwrap();
    stage.publish(&[mode(FIRST, 1)]).await;
    daemon.logs_times("\"dead-lettered\"", 1).await;
    for (order, dead) in OVERTAKEN.zip(2..) {
        stage.publish(&[update(order, 1), mode(order, 2)]).await;
        daemon.logs_times("\"dead-lettered\"", dead).await;
    }
    stage.publish(&(1..=5).map(|sequence| update(LOCKED, sequence)).collect::<Vec<_>>()).await;
    stage.publish(&evening()).await;
    daemon.logs_times("\"dead-lettered\"", 45).await;
    let evening = stage.applied(1_000 - 39).await;

    // The secret was changed, and nobody told us.
    stage.simulator.tokens(&json!({"client_secret": "another"})).await.unwrap();
    stage.simulator.revoke_tokens().await.unwrap();
    stage.publish(&night()).await;
    daemon.logs("the target does not work").await;
    session.run("check", "check target --key USMF/SO-000001", 78).await;
    let outage = stage.simulator.read(0).await.unwrap();
    assert_eq!(outage.applied_distinct, evening.applied_distinct);
    stage.simulator.tokens(&json!({"client_secret": SECRET})).await.unwrap();
    daemon.logs("the target works again").await;
    let ledger = stage.applied(1_000 - 39 + 994).await;
    let dead = stage.channel().await.depth("dead-letters").await;
    assert_eq!(dead, 45, "an outage dead-letters nothing");
    assert_eq!(ledger.out_of_order, 0);

    session.learn().await;
    let groups = session.run("groups", "dlq groups", 0).await;
    let fingerprint = groups.lines().find(|line| line.contains("40 letters")).unwrap();
    let fingerprint = fingerprint.split_whitespace().next().unwrap().to_owned();
    let locked = groups.lines().find(|line| line.contains("5 letters")).unwrap();
    let locked = locked.split_whitespace().next().unwrap().to_owned();
    let sample = groups.lines().find(|line| line.ends_with("USMF/SO-000007")).unwrap();
    let sample = sample.split_whitespace().nth(1).unwrap().to_owned();
    session.run("show", &format!("dlq show {sample}"), 0).await;
    session.run("plan", &format!("dlq plan --fingerprint {fingerprint} --rate 100"), 0).await;
    let replay = format!("dlq replay --fingerprint {fingerprint} --rate 100 --run");
    session.run("too-early", &replay, 75).await;
    session.learn().await;

    stage.simulator.rename("DeliveryMode", "DeliveryModeCode").await.unwrap();
    let all =
        format!("{replay} --ramp 5,25 --stop-if 'failed>5%' --because 'INC-4711: renamed back'");
    let replayed = session.run("replay", &all, 0).await;
    let id = replayed.lines().last().unwrap().split_whitespace().last().unwrap().to_owned();
    stage.simulator.faults(&json!({"f12_update_conflict": 0})).await.unwrap();
    session.run("unlocked", &format!("dlq replay --fingerprint {locked} --run"), 0).await;
    session.run("history", "dlq history --limit 7", 0).await;
    session.run("left", &format!("dlq plan --fingerprint {fingerprint}"), 0).await;
    let discard = "--because 'INC-4711: newer updates are there' --yes";
    session.run("discard", &format!("dlq discard --fingerprint {fingerprint} {discard}"), 0).await;
    session.run("empty", "dlq groups", 0).await;
    session.run("report", &format!("dlq report {id}"), 0).await;

    let ended = daemon.stop().await;
    let ledger = stage.simulator.read(0).await.unwrap();
    let wrong = (ledger.overlaps, ledger.out_of_order, ledger.applied_twice);
    assert_eq!(wrong, (0, 0, 0), "{}", stage.simulator.bad_orders().await.unwrap());
    assert_eq!(ledger.applied_distinct, 2_000 - 3, "all but what was discarded");
    assert_eq!(ended.count("outages"), 1);
    let order: Value = stage.simulator.order("USMF", "SO-000042").await.unwrap();
    assert_eq!(order["properties"]["UpdateSequence"], 5, "in order");
    session.compare(include_str!("story/dead-letters.md"), "docs/DEAD-LETTERS.md");
}
