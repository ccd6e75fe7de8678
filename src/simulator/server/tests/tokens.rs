//! The token endpoint and what it guards.

use super::*;
use crate::simulator::tokens;

const PATH: &str = "/tenant/oauth2/v2.0/token";
const FORM: &str = "grant_type=client_credentials&client_id=client&client_secret=s&\
                    scope=https%3A%2F%2Ferp.example%2F.default";

async fn guarded() -> Sim {
    let tokens = tokens::Settings {
        client_secret: Some("s".to_owned()),
        audience: Some("https://erp.example".to_owned()),
        ..tokens::Settings::default()
    };
    sim(Settings { tokens: Some(tokens), ..Settings::default() }).await
}

impl Sim {
    async fn ask(&self, form: &str) -> reqwest::Response {
        let request = self.request(Method::POST, PATH).body(form.to_owned());
        let form = "application/x-www-form-urlencoded";
        request.header("Content-Type", form).send().await.unwrap()
    }

    async fn token(&self, form: &str) -> String {
        read(self.ask(form).await).await["access_token"].as_str().unwrap().to_owned()
    }

    async fn status_with(&self, token: &str) -> u16 {
        let request = self.request(Method::GET, ORDER);
        let request = request.header("Authorization", format!("Bearer {token}"));
        request.send().await.unwrap().status().as_u16()
    }
}

#[tokio::test]
async fn only_a_live_token_of_the_right_audience_is_let_in() {
    let sim = guarded().await;
    let bare = sim.get(ORDER).await;
    assert_eq!((bare.status().as_u16(), header(&bare, "www-authenticate")), (401, "Bearer"));
    let reply = sim.ask(FORM).await;
    assert_eq!(reply.headers()["content-type"], "application/json; charset=utf-8");
    assert_eq!(reply.headers()["cache-control"], "no-store, no-cache");
    let token = read(reply).await["access_token"].as_str().unwrap().to_owned();
    assert_eq!(sim.status_with(&token).await, 200);
    let other = sim.token(&FORM.replace("erp", "crm")).await;
    assert_eq!(sim.status_with(&other).await, 401);
    assert_eq!(sim.status_with("nonsense").await, 401);
    assert_eq!(sim.get(PATH).await.status(), 404);

    sim.request(Method::DELETE, "/sim/tokens").send().await.unwrap();
    assert_eq!(sim.status_with(&token).await, 401);
    let counts = sim.get_json("/sim/tokens").await;
    assert_eq!(counts, json!({"asked": 2, "issued": 2, "refused": 0, "known": 0}));
}

#[tokio::test]
async fn f8_token_revoked_kills_the_tokens_and_a_new_one_is_let_in() {
    let sim = guarded().await;
    let token = sim.token(FORM).await;
    sim.set(json!({"f8_token_revoked": {"next": 1}})).await;
    assert_eq!(sim.status_with(&token).await, 401);
    assert_eq!(sim.status_with(&token).await, 401);
    let fresh = sim.token(FORM).await;
    assert_eq!(sim.status_with(&fresh).await, 200);
}

#[tokio::test]
async fn f22_strikes_the_token_endpoint_alone() {
    let sim = guarded().await;
    for (name, status, error) in [
        ("f22_token_bad_request", 400, "unauthorized_client"),
        ("f22_token_unauthorized", 401, "invalid_client"),
        ("f22_token_throttled", 429, "temporarily_unavailable"),
    ] {
        sim.set(json!({name: {"next": 1}})).await;
        assert_eq!(sim.get(ORDER).await.status(), 401);
        let reply = sim.ask(FORM).await;
        assert_eq!(reply.status(), status, "{name}");
        let waits = reply.headers().get("retry-after").map(|it| it.to_str().unwrap().to_owned());
        assert_eq!(waits.as_deref(), (status == 429).then_some("1"));
        let body = read(reply).await;
        assert_eq!(body["error"], error);
        assert!(body["error_description"].as_str().unwrap().starts_with("AADSTS"));
        assert_eq!(sim.ask(FORM).await.status(), 200);
    }
    sim.set(json!({"f22_token_error": {"next": 1}})).await;
    let reply = sim.ask(FORM).await;
    assert_eq!((reply.status().as_u16(), header(&reply, "content-type")), (500, "text/html"));
    sim.set(json!({"f22_token_slow": {"next": 1, "for": "200ms"}})).await;
    let asked = Instant::now();
    assert_eq!(sim.ask(FORM).await.status(), 200);
    assert!(asked.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn f22_expires_in_and_the_clock_are_what_they_should_not_be() {
    let sim = guarded().await;
    for (name, expires_in) in [
        ("f22_expires_in_text", json!("3599")),
        ("f22_expires_in_short", json!(60)),
        ("f22_expires_in_missing", Json::Null),
    ] {
        sim.set(json!({name: {"next": 1}})).await;
        assert_eq!(read(sim.ask(FORM).await).await["expires_in"], expires_in, "{name}");
    }
    sim.set(json!({"f22_clock_skew": {"next": 1, "for": "1h"}})).await;
    let stillborn = read(sim.ask(FORM).await).await;
    assert_eq!(stillborn["expires_in"], 3599);
    assert_eq!(sim.status_with(stillborn["access_token"].as_str().unwrap()).await, 401);
}

#[tokio::test]
async fn endpoint_can_be_switched_on_and_its_assertion_rotated_while_it_runs() {
    let sim = sim(Settings::default()).await;
    assert_eq!(sim.ask(FORM).await.status(), 404);
    let set = async |update: Json| {
        let request = sim.request(Method::PUT, "/sim/tokens").body(update.to_string());
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(set(json!({"client_assertion": "one"})).await, 200);
    let form = |assertion: &str| {
        format!(
            "grant_type=client_credentials&client_id=client&client_assertion={assertion}&\
             client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&\
             scope=https://erp.example/.default"
        )
    };
    assert_eq!(sim.ask(&form("one")).await.status(), 200);
    assert_eq!(set(json!({"client_assertion": "two"})).await, 200);
    assert_eq!(sim.ask(&form("one")).await.status(), 401);
    let token = sim.token(&form("two")).await;
    assert_eq!(sim.status_with(&token).await, 200);
    assert_eq!(set(json!({"nonsense": 1})).await, 400);
}
