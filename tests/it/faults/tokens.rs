//! Signing in goes wrong: about everything, and never about one order.

use serde_json::{Value, json};

use super::{Outcome, on, overcome, with};
use crate::stage::Stage;
use crate::target::{SECRET, signing_in};

/// One at a time, so that each token is asked for by one request.
const ALONE: [(&str, &str); 1] = [("DISPATCH__CONCURRENCY_MAX", "1")];

/// In batches, what is written is written behind the token that the first of them waits for.
async fn signed_in(name: &str, faults: Value) -> Outcome {
    let (batch, mut struck) = (format!("{name}-batch"), faults.clone());
    if let Some(revoked) = struck.get_mut("f8_token_revoked") {
        *revoked = json!({"on": "batch", "next": 3});
    }
    let (alone, _batches) = tokio::join!(
        signed_in_by(name, faults, &ALONE),
        signed_in_by(&batch, struck, &crate::batch::BATCH),
    );
    alone
}

async fn signed_in_by(name: &str, faults: Value, mode: &[(&str, &str)]) -> Outcome {
    let guard = ["--client-id", "app", "--client-secret", SECRET, "--tenant", "contoso.com"];
    let stage = Stage::new(name, &[&guard[..], &["--orders", "6"]].concat()).await;
    let mut settings = signing_in(stage.simulator_url(), SECRET).to_vec();
    settings.extend_from_slice(mode);
    settings.push(("TARGET__AUTH__TIMEOUT", "1s"));
    let outcome = overcome(&stage, faults, &settings).await;
    assert!(!outcome.ended.log.contains(SECRET), "{}", outcome.ended.log);
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn f08_token_that_is_revoked_is_renewed_and_costs_no_attempt() {
    let revoked = json!([on("get", 1, 1), on("patch", 2, 1), on("get", 3, 1)]);
    let outcome = signed_in("f08-revoked", json!({"f8_token_revoked": revoked})).await;
    assert_eq!((outcome.ended.count("failures"), outcome.ended.count("retries")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn f22_refused_sign_in_holds_everything_and_is_tried_again() {
    let once = json!({"next": 1});
    let (bad, unauthorized) = tokio::join!(
        signed_in("f22-bad", json!({"f22_token_bad_request": once})),
        signed_in("f22-unauthorized", json!({"f22_token_unauthorized": once})),
    );
    for outcome in [bad, unauthorized] {
        assert!(outcome.ended.log.contains("auth_config"), "{}", outcome.ended.log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f22_token_endpoint_in_trouble_holds_everything_until_it_is_well() {
    let faults = json!({
        "f22_token_throttled": {"next": 1},
        "f22_token_error": {"next": 1},
        "f22_token_slow": {"next": 1, "for": "3s"},
    });
    let outcome = signed_in("f22-trouble", faults).await;
    assert!(outcome.ended.log.contains("auth_unavailable"), "{}", outcome.ended.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn f22_token_that_says_its_life_wrongly_is_used_and_renewed_when_it_is_refused() {
    let faults = json!({
        "f22_expires_in_text": {"next": 1},
        "f22_expires_in_short": {"next": 1},
        "f22_expires_in_missing": {"next": 1},
        // Dead at once, whatever it says.
        "f22_clock_skew": with(json!({"next": 1}), "for", "2h"),
        // So that a new one is needed again and again.
        "f8_token_revoked": [on("get", 1, 1), on("get", 2, 1), on("get", 3, 1)],
    });
    signed_in("f22-life", faults).await;
}
