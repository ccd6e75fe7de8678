//! `orderwright explain`: where an order is, what it waits for, and what became of it.

use serde_json::{Value, json};

use crate::admin::{json_of, shows};
use crate::broker;
use crate::commands::run;
use crate::stage::{Stage, message, update};

#[tokio::test(flavor = "multi_thread")]
async fn order_is_found_at_work_in_its_queue_and_among_the_dead_letters() {
    let stage = Stage::new("explain", &["--orders", "1", "--patch-latency", "4s"]).await;
    let settings = stage.settings(&[]).await;
    let more = [("TARGET__PATCH_TIMEOUT", "60s"), ("DEAD_LETTER__ON_DEAD_LETTER", "park")];
    let daemon = stage.daemon(&more).await;
    let root = daemon.admin().await;
    stage.publish(&[message("SO-999999", &json!({"DeliveryDate": "2025-01-01"}))]).await;
    shows(&root, |status| status["counts"]["dead_lettered"]["not_found"] == 1).await;
    let status = json_of(&root, "/status").await;
    assert_eq!(status["dead_letters"][0]["reason"], "not_found", "{status}");
    let fingerprint = status["dead_letters"][0]["fingerprint"].as_str().unwrap().to_owned();
    stage.publish(&[update(1, 1), update(1, 2)]).await;
    shows(&root, |status| status["orders"][0]["state"] == "patch").await;

    let mut settings = settings;
    settings.push(("ORDERWRIGHT__DEAD_LETTER__ON_DEAD_LETTER".into(), "park".into()));
    if let Some(management) = broker::shared().await.management() {
        settings.push(("ORDERWRIGHT__BROKER__MANAGEMENT_URL".into(), management.to_owned()));
    }
    let busy = ["explain", "USMF/SO-000001", "--admin", &root];
    let busy = run(&settings, &busy).await;
    assert_eq!(busy.code, Some(0), "{}{}", busy.stdout, busy.stderr);
    for said in
        ["this pod has it", "its PATCH is on the wire", "1 updates behind it", "ETag seen W/"]
    {
        assert!(busy.stdout.contains(said), "no {said:?} in:\n{}", busy.stdout);
    }
    assert!(busy.stdout.contains("dead letters: 0 among 1 of 1 looked at\n"), "{}", busy.stdout);

    let dead = ["explain", "USMF/SO-999999", "--admin", &root, "--output", "json"];
    let dead = run(&settings, &dead).await;
    assert_eq!(dead.code, Some(0), "{}{}", dead.stdout, dead.stderr);
    let dead: Value = serde_json::from_str(&dead.stdout).unwrap();
    let (seen, pod) = (&dead["broker"]["said"], &dead["pods"][0]["said"]);
    assert_eq!((&seen["shard"], &seen["queue"]), (&pod["shard"], &pod["queue"]["queue"]));
    let letter = &seen["letters"]["shown"][0];
    assert_eq!(
        (&letter["reason"], &letter["fingerprint"]),
        (&json!("not_found"), &json!(fingerprint))
    );
    assert_eq!(
        (&seen["letters"]["found"], &seen["parked"]["head"]),
        (&json!(1), &letter["id"]),
        "{dead}"
    );
    assert_eq!(pod["parked"]["behind"], letter["id"], "{dead}");
    assert_eq!(pod["at_work"], Value::Null, "{dead}");
    daemon.stop().await;

    // Nobody consumes: the broker alone tells, and the pod that is silent shows in the exit code.
    let alone = ["explain", "USMF/SO-999999", "--admin", &root, "--no-letters"];
    let alone = run(&settings, &alone).await;
    assert_eq!(alone.code, Some(69), "{}{}", alone.stdout, alone.stderr);
    assert!(
        alone.stdout.contains("0 subscribed") && alone.stdout.contains("no answer"),
        "{}",
        alone.stdout
    );
    assert!(alone.stdout.contains("stands still behind the dead letter"), "{}", alone.stdout);
    let no_key = run(&settings, &["explain", "SO-999999", "--admin", &root]).await;
    assert_eq!(no_key.code, Some(64), "{}", no_key.stderr);
    assert!(no_key.stderr.contains("dataAreaId/SalesOrderNumber"), "{}", no_key.stderr);
}
