//! Asks the endpoint without a socket.

use super::*;
use crate::simulator::switch::Switch;

const START: Timestamp = Timestamp::UNIX_EPOCH;
const SERVICE: &str = "https://erp.example";

fn tokens() -> Tokens {
    Tokens::new(Settings {
        client_secret: Some("s3cret".to_owned()),
        client_assertion: Some("a.b.c".to_owned()),
        audience: Some(SERVICE.to_owned()),
        ..Settings::default()
    })
}

const GOOD: &str = "grant_type=client_credentials&client_id=client&client_secret=s3cret\
                    &scope=https%3A%2F%2Ferp.example%2F.default";

fn ask<'a>(path: &'a str, form: &str) -> Ask<'a> {
    Ask::read(path, form.as_bytes()).unwrap()
}

fn give(tokens: &mut Tokens, path: &str, form: &str, strike: Option<&Strike>) -> (u16, Json) {
    let mut rng = fastrand::Rng::with_seed(1);
    let answer = tokens.answer(&ask(path, form), strike, START, &mut rng);
    (answer.status, serde_json::from_str(&answer.body).unwrap_or_default())
}

fn struck(name: Name, switch: Json) -> Strike {
    Strike { name, switch: serde_json::from_value::<Switch>(switch).unwrap() }
}

#[test]
fn only_the_two_paths_are_token_endpoints() {
    let version = |path| Ask::read(path, b"").map(|ask| ask.version);
    assert_eq!(version("/tenant/oauth2/v2.0/token"), Some(Version::V2));
    assert_eq!(version("/tenant/oauth2/token"), Some(Version::V1));
    for other in ["/", "/oauth2/token", "/tenant/oauth2/token/x", "/t/oauth2/v2.0/token/x"] {
        assert_eq!(version(other), None, "{other}");
    }
}

#[test]
fn secret_and_assertion_give_a_token_for_its_audience() {
    let mut tokens = tokens();
    let (status, body) = give(&mut tokens, "/tenant/oauth2/v2.0/token", GOOD, None);
    assert_eq!((status, &body["token_type"]), (200, &json!("Bearer")));
    assert_eq!((&body["expires_in"], &body["ext_expires_in"]), (&json!(3599), &json!(3599)));
    let token = body["access_token"].as_str().unwrap();
    assert_eq!(token.split('.').count(), 3);
    let at = |seconds| START + Duration::from_secs(seconds);
    assert!(tokens.is_live(token, at(3598)) && !tokens.is_live(token, at(3599)));
    assert!(!tokens.is_live("nonsense", START));

    let federated = "grant_type=client_credentials&client_id=client&client_assertion=a.b.c\
        &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
        &resource=https%3A%2F%2Felsewhere.example";
    let (status, body) = give(&mut tokens, "/tenant/oauth2/token", federated, None);
    assert_eq!((status, &body["expires_in"]), (200, &json!("3599")));
    assert_eq!(body["expires_on"], "3599");
    let wrong_audience = body["access_token"].as_str().unwrap();
    assert!(!tokens.is_live(wrong_audience, START));
    assert_eq!(tokens.counts(), Counts { asked: 2, issued: 2, refused: 0, known: 2 });
}

#[test]
fn each_mistake_has_its_error_and_number() {
    let mut tokens = tokens();
    let v2 = "/tenant/oauth2/v2.0/token";
    for (path, form, status, error, number) in [
        ("/other/oauth2/v2.0/token", GOOD.to_owned(), 400, "invalid_request", 90_002),
        (v2, GOOD.replace("client_credentials", "password"), 400, "unsupported_grant_type", 70_003),
        (v2, GOOD.replace("id=client", "id=other"), 400, "unauthorized_client", 700_016),
        (v2, GOOD.replace("s3cret", "wrong"), 401, "invalid_client", 7_000_215),
        (v2, GOOD.replace("client_secret=s3cret", "x=1"), 401, "invalid_client", 7_000_218),
        (v2, GOOD.replace("client_secret", "client_assertion"), 401, "invalid_client", 700_024),
        (v2, GOOD.replace("%2F.default", "%2F"), 400, "invalid_scope", 70_011),
        ("/tenant/oauth2/token", GOOD.to_owned(), 400, "invalid_resource", 500_011),
    ] {
        let (said, body) = give(&mut tokens, path, &form, None);
        assert_eq!((said, &body["error"]), (status, &json!(error)), "{form}");
        assert_eq!(body["error_codes"], json!([number]));
        let text = body["error_description"].as_str().unwrap();
        assert!(text.starts_with(&format!("AADSTS{number}: ")), "{text}");
        assert!(!text.contains("s3cret"));
    }
    assert_eq!(tokens.counts().refused, 8);
}

#[test]
fn accepted_credentials_rotate_and_live_tokens_stay_until_they_are_revoked() {
    let mut tokens = tokens();
    let v2 = "/tenant/oauth2/v2.0/token";
    let (_, body) = give(&mut tokens, v2, GOOD, None);
    let token = body["access_token"].as_str().unwrap();
    let update = |json: Json| json.as_object().unwrap().clone();
    tokens.update(update(json!({"client_secret": "new", "lifetime": "1h"}))).unwrap();
    assert_eq!(give(&mut tokens, v2, GOOD, None).0, 401);
    let rotated = GOOD.replace("s3cret", "new");
    let (status, body) = give(&mut tokens, v2, &rotated, None);
    assert_eq!((status, &body["expires_in"]), (200, &json!(3600)));
    assert!(tokens.is_live(token, START));
    tokens.revoke();
    assert!(!tokens.is_live(token, START));
    assert!(tokens.update(update(json!({"client_sekret": "x"}))).is_err());
}

#[test]
fn faults_of_the_endpoint_are_those_that_entra_has() {
    let v2 = "/tenant/oauth2/v2.0/token";
    let with = |name, switch| {
        let mut tokens = tokens();
        let (status, body) = give(&mut tokens, v2, GOOD, Some(&struck(name, switch)));
        let token = body["access_token"].as_str().unwrap_or_default().to_owned();
        let lives = (0..4000)
            .take_while(|seconds| tokens.is_live(&token, START + Duration::from_secs(*seconds)));
        (status, body["expires_in"].clone(), lives.count())
    };
    assert_eq!(with(Name::F22TokenBadRequest, json!({})), (400, Json::Null, 0));
    assert_eq!(with(Name::F22TokenUnauthorized, json!({})), (401, Json::Null, 0));
    assert_eq!(with(Name::F22TokenThrottled, json!({})), (429, Json::Null, 0));
    assert_eq!(with(Name::F22TokenError, json!({})), (500, Json::Null, 0));
    assert_eq!(with(Name::F22TokenError, json!({"status": 503})).0, 503);
    assert_eq!(with(Name::F22ExpiresInText, json!({})), (200, json!("3599"), 3599));
    assert_eq!(with(Name::F22ExpiresInShort, json!({})), (200, json!(60), 60));
    assert_eq!(with(Name::F22ExpiresInMissing, json!({})), (200, Json::Null, 3599));
    assert_eq!(with(Name::F22ClockSkew, json!({})), (200, json!(3599), 3299));
    assert_eq!(with(Name::F22ClockSkew, json!({"for": "2h"})), (200, json!(3599), 0));
    let slow = struck(Name::F22TokenSlow, json!({"for": "7s"}));
    assert_eq!(delay(Some(&slow)), Duration::from_secs(7));
    assert_eq!(delay(None), Duration::ZERO);
}

#[test]
fn only_so_many_tokens_are_remembered() {
    let mut tokens = tokens();
    let mut rng = fastrand::Rng::with_seed(1);
    let asked = ask("/tenant/oauth2/v2.0/token", GOOD);
    for _ in 0..=LIVE_MAX {
        tokens.answer(&asked, None, START, &mut rng);
    }
    assert_eq!(tokens.counts().known, LIVE_MAX as u64);
}
