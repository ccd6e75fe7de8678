use secrecy::ExposeSecret;
use serde_json::json;

use super::*;

fn granted(expires_in: &Value) -> Duration {
    let body = json!({"token_type": "Bearer", "access_token": "t", "expires_in": expires_in});
    read(200, None, body.to_string().as_bytes()).unwrap().life
}

#[test]
fn life_is_read_from_number_and_text_and_bounded_whatever_it_is() {
    for (told, seconds) in [
        (json!(3599), 3_599),
        (json!("3599"), 3_599),
        (json!(" 3599 "), 3_599),
        (json!(3599.0), 3_599),
        (json!(0), 10),
        (json!(1), 10),
        (json!(-5), 600),
        (json!("soon"), 600),
        (json!("NaN"), 600),
        (json!("inf"), 600),
        (json!(null), 600),
        (json!([3599]), 600),
        (json!(1e300), 86_400),
        (json!(u64::MAX), 86_400),
    ] {
        assert_eq!(granted(&told).as_secs(), seconds, "{told}");
    }
    let untold = read(200, None, br#"{"access_token":"t"}"#).unwrap();
    assert_eq!((untold.life, untold.token.expose_secret()), (LIFE_UNTOLD, "t"));
}

#[test]
fn renewal_is_ahead_of_the_end_but_not_before_half_of_the_life() {
    let minutes = |minutes| Duration::from_mins(minutes);
    assert_eq!(renew_after(minutes(60), minutes(5), 0.0), minutes(55));
    assert_eq!(renew_after(minutes(60), minutes(5), 1.0), minutes(56));
    assert_eq!(renew_after(minutes(6), minutes(5), 0.0), minutes(3));
    assert_eq!(renew_after(minutes(6), Duration::ZERO, 0.5), minutes(6));
}

#[test]
fn refusals_are_told_from_trouble_that_passes() {
    use SignIn::{Config, Unavailable};
    for (status, error, why) in [
        (400, "invalid_client", Config),
        (400, "unauthorized_client", Config),
        (400, "invalid_scope", Config),
        (400, "invalid_request", Config),
        (401, "invalid_client", Config),
        (403, "", Config),
        (404, "", Config),
        (302, "", Config),
        (400, "temporarily_unavailable", Unavailable),
        (408, "", Unavailable),
        (429, "", Unavailable),
        (500, "", Unavailable),
        (503, "invalid_client", Unavailable),
    ] {
        let body = json!({"error": error}).to_string();
        let refusal = read(status, None, body.as_bytes()).unwrap_err();
        assert_eq!((refusal.why, &*refusal.error), (why, error), "{status} {error}");
    }
    // Success without a token is a page of somebody else's.
    for body in ["", "<html>", "{}", r#"{"access_token":1}"#] {
        assert_eq!(read(200, None, body.as_bytes()).unwrap_err().why, Unavailable, "{body}");
    }
    let other = br#"{"access_token":"t","token_type":"mac"}"#;
    assert_eq!(read(200, None, other).unwrap_err().why, Config);
}

#[test]
fn entras_number_is_told_with_a_hint_and_nothing_that_it_quotes() {
    let description = "AADSTS7000215: Invalid client secret provided: hush. Trace ID: 1";
    for codes in [json!([7_000_215]), json!([])] {
        let body = json!({
            "error": "invalid_client", "error_description": description, "error_codes": codes,
            "trace_id": "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        });
        let told = Some(Duration::from_secs(7));
        let refusal = read(401, told, body.to_string().as_bytes()).unwrap_err();
        assert_eq!(refusal.to_string(), "401 invalid_client (AADSTS7000215)");
        assert!(refusal.hint().contains("its value, not its identifier"));
        assert_eq!(refusal.retry_after, told);
        assert_eq!(refusal.trace_id, "3f2504e0-4f89-11d3-9a0c-0305e82c3301");
        assert!(!format!("{refusal:?}").contains("hush"));
    }
    let echo = json!({"error": "bad client_secret=hush", "trace_id": "x hush"}).to_string();
    let refusal = read(400, None, echo.as_bytes()).unwrap_err();
    assert!(!format!("{refusal:?} {refusal}").contains("hush"), "{refusal:?}");
    assert_eq!(read(500, None, b"").unwrap_err().to_string(), "500 without a reason");
}
