//! What an operator asks of running daemons: to pause, to go on, to let a shard go, to say more.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::admin::{json_of, shows};
use crate::daemon::Daemon;
use crate::stage::{Stage, update, updates};

pub(crate) const TOKEN: &str = "an-operators-token-0123";
pub(crate) const LISTEN: (&str, &str) = ("ADMIN__ACTIONS__LISTEN", "127.0.0.1:0");

/// Asks a daemon to do something.
async fn ask(daemon: &Daemon, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let url = format!("{}{path}", daemon.actions().await);
    let request = reqwest::Client::new().request(method, url).bearer_auth(TOKEN);
    let request = request.header("orderwright-actor", "ann").body(body.to_string());
    let answer = request.header("content-type", "application/json").send().await.unwrap();
    (answer.status(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

pub(crate) async fn post(daemon: &Daemon, path: &str) -> (StatusCode, Value) {
    ask(daemon, Method::POST, path, Value::Null).await
}

fn subscribed(status: &Value) -> usize {
    status["shards"].as_array().unwrap().iter().filter(|it| it["subscribed"] == true).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_pod_finishes_what_it_began_and_the_others_have_its_shards_until_it_goes_on() {
    let stage = Stage::new("pause", &["--orders", "24", "--patch-latency", "150ms"]).await;
    let settings = [LISTEN, ("ADMIN__ACTIONS__TOKEN", TOKEN), ("BROKER__PREFETCH", "4")];
    let (first, second) = (stage.daemon(&settings).await, stage.daemon(&settings).await);
    let root = first.admin().await;
    shows(&root, |status| status["broker"]["pods"] == 2).await;
    stage.publish(&updates(24, 4)).await;
    // In the middle of its work.
    shows(&root, |status| status["orders_busy"].as_u64() > Some(0)).await;
    let paused = post(&first, "/pause").await;
    assert_eq!(paused, (StatusCode::OK, json!({"paused": true, "changed": true})));
    assert_eq!(post(&first, "/pause").await.1["changed"], false);
    first.logs("\"actor\":\"ann\"").await;
    let status = shows(&root, |status| subscribed(status) == 0).await;
    assert_eq!(status["ready"]["ok"], true, "{status}");
    let degraded = status["ready"]["degraded"].to_string();
    assert!(degraded.contains("an operator paused it"), "{status}");
    assert_eq!((&status["counts"]["released"], &status["orders_busy"]), (&json!(0), &json!(0)));
    // It is the other one that goes on with what was left and with what comes.
    let ledger = stage.last_word(24, 9, 24 * 5).await;
    assert_eq!((ledger.overlaps, ledger.out_of_order, ledger.applied_twice), (0, 0, 0));
    let later = json_of(&root, "/status").await;
    assert_eq!(later["counts"]["received"], status["counts"]["received"], "it takes nothing");
    assert_eq!(later["counts"]["settlements_lost"], 0);

    assert_eq!(post(&first, "/resume").await.1["changed"], true);
    shows(&root, |status| {
        let owned = status["shards"].as_array().unwrap().iter().filter(|it| it["owned"] == true);
        status["broker"]["pods"] == 2 && owned.count() == 2 && subscribed(status) == 4
    })
    .await;
    let (first, second) = (first.stop().await, second.stop().await);
    assert!(first.status.success() && second.status.success());
    assert!(!first.log.contains(TOKEN), "the token is not logged");
    assert_eq!(
        first.count("conflicts") + second.count("conflicts"),
        0,
        "nobody worked beside anybody"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shard_that_is_handed_back_loses_nothing_and_comes_back_where_there_is_nobody_else() {
    let stage = Stage::new("hand-back", &["--orders", "1", "--patch-latency", "300ms"]).await;
    let daemon = stage.daemon(&[LISTEN, ("ADMIN__ACTIONS__TOKEN", TOKEN)]).await;
    let level = ask(&daemon, Method::PUT, "/log-level", json!({"level": "debug"})).await;
    assert_eq!(level, (StatusCode::OK, json!({"level": "debug"})));
    let bodies: Vec<_> = (1..=4).map(|sequence| update(1, sequence)).collect();
    stage.publish(&bodies).await;
    let root = daemon.admin().await;
    let explain = "/explain?order=USMF/SO-000001";
    let at_patch = async {
        loop {
            let explained = json_of(&root, explain).await;
            if explained["at_work"]["state"] == "patch" {
                return explained;
            }
        }
    };
    let explained = at_patch.await;
    assert_eq!(explained["queue"]["served"], true, "{explained}");
    let (code, begun) = post(&daemon, &format!("/shards/{}/hand-back", explained["shard"])).await;
    assert_eq!((code, &begun["at_work"]), (StatusCode::ACCEPTED, &json!(1)));
    assert_eq!(begun["queue"], explained["queue"]["queue"]);
    // At level debug alone.
    daemon.logs("gave the shard back").await;
    let ledger = stage.last_word(1, 9, 5).await;
    assert_eq!((ledger.overlaps, ledger.out_of_order, ledger.applied_twice), (0, 0, 0));
    let quiet = ask(&daemon, Method::PUT, "/log-level", json!({"level": "off"})).await;
    assert_eq!(quiet.0, StatusCode::OK);
    assert_eq!(post(&daemon, "/shards/77/hand-back").await.0, StatusCode::NOT_FOUND);
    let line = daemon.logs("\"what\":\"77\"").await;
    assert!(line.contains("\"action\":\"hand_back\""), "written at any level: {line}");
    let ended = daemon.stop().await;
    assert_eq!((ended.count("applied"), ended.count("settlements_lost")), (5, 0), "{}", ended.log);
}
