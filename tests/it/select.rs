//! How much of an order is asked for.

use serde_json::{Value, json};

use crate::stage::{Letter, Stage};
use crate::traces::Relay;

const FENCE: (&str, &str) = ("GUARD__SEQUENCE_PROPERTY", "UpdateSequence");
const KEY: &str = "dataAreaId,SalesOrderNumber";

/// An update of an order; `more` wins.
fn update(order: u32, more: &Value) -> String {
    let key = json!({"dataAreaId": "USMF", "SalesOrderNumber": format!("SO-{order:06}")});
    let mut update = json!({"key": key, "changes": {"DeliveryDate": "2025-02-01"}});
    for (name, value) in more.as_object().unwrap() {
        update[name] = value.clone();
    }
    update.to_string()
}

/// The last digit of the order and the query of every GET that was sent, single or as a part of a batch.
fn asked(relay: &Relay) -> Vec<String> {
    let sent = String::from_utf8_lossy(&relay.sent.lock().unwrap()).into_owned();
    // A body ends without an end of its line.
    let gets = sent.split("GET ").skip(1).filter_map(|get| get.split(' ').next());
    let whole = "')?cross-company=true";
    let order = |url: &str| Some(url.split_once("SO-00000")?.1.replace(whole, ""));
    let mut asked: Vec<_> = gets.filter_map(order).collect();
    asked.sort_unstable();
    asked
}

/// One that is applied, one with a field that there is not, and one that expects what is not so. Gives what was
/// asked for, and what the dead letters say.
async fn played(name: &str, more: &[(&str, &str)]) -> (Vec<String>, Vec<[String; 5]>) {
    let stage = Stage::new(name, &["--orders", "3"]).await;
    let relay = Relay::before(stage.simulator_url()).await;
    let url = format!("{}/data", relay.url);
    let daemon = stage.daemon(&[&[FENCE, ("TARGET__URL", &url)], more].concat()).await;
    let mut letters = stage.letters().await;
    let expect = |status: &str| json!({"expect": {"SalesStatus": [status]}, "sequence": 9});
    stage
        .publish(&[
            update(1, &expect("Backorder")),
            update(2, &json!({"changes": {"Nonsense": 1}})),
            update(3, &expect("Canceled")),
        ])
        .await;
    stage.applied(1).await;
    let mut letters = letters.take(2).await;
    let ended = daemon.stop().await;
    assert_eq!((ended.count("applied"), ended.count("failures")), (1, 0), "{}", ended.log);
    letters.sort_by_key(|letter| letter.header("order"));
    let say = |letter: &Letter| {
        let attempts = letter.attempts();
        assert_eq!((attempts.len(), &attempts[0]["get_status"]), (1, &json!(200)), "{attempts:?}");
        ["order", "reason", "detail", "fingerprint", "seen"].map(|name| letter.header(name))
    };
    (asked(&relay), letters.iter().map(say).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn get_asks_for_what_its_update_is_judged_by_and_letters_say_the_same_as_of_a_whole_order() {
    let (asked, whole) = played("select-off", &[("TARGET__SELECT", "false")]).await;
    assert_eq!(asked, ["1", "2", "3"], "the whole of each");
    assert_eq!([&whole[0][1], &whole[1][1]], ["rejected", "expectation_failed"]);
    assert!(whole[0][2].contains("Nonsense"), "in the service's own words: {whole:?}");
    assert!(whole[1][4].contains("DeliveryDate"), "what it would have changed: {whole:?}");
    for mode in [&[][..], &crate::batch::BATCH] {
        let (asked, letters) = played("select", mode).await;
        let guarded = format!("&$select={KEY},DeliveryDate,SalesStatus,UpdateSequence");
        let expected = [
            format!("1{guarded}"),
            // That name is not for the GET to refuse.
            "2".to_owned(),
            format!("2&$select={KEY},Nonsense"),
            format!("3{guarded}"),
        ];
        assert_eq!(asked, expected, "{mode:?}");
        assert_eq!(letters, whole, "{mode:?}");
    }
}
