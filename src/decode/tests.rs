use std::collections::BTreeSet;
use std::path::Path;

use super::*;

fn contract() -> Contract {
    let property =
        |name: &str, folds_case| KeyProperty { name: name.into(), folds_case, is_guid: false };
    Contract {
        key: vec![property("dataAreaId", true), property("SalesOrderNumber", false)],
        sequence_property: Some("LastSequence".into()),
        body_bytes_max: 4096,
        nesting_max: 6,
    }
}

fn read(body: &str) -> Result<OrderUpdate, Error> {
    decode(
        &contract(),
        Envelope { content_type: None, content_encoding: None, body: body.as_bytes() },
    )
}

fn with(field: &str) -> String {
    format!(
        r#"{{"key":{{"dataAreaId":"USMF","SalesOrderNumber":"SO-1"}},"changes":{{"A":1}}{field}}}"#
    )
}

const EXAMPLE: &str = r#"{"key": {"dataAreaId": "usmf", "SalesOrderNumber": "SO-2025-0145"},
    "changes": {"SalesStatus": "Delivered", "DeliveryDate": "2025-02-08", "Amount": 10.10},
    "sequence": 7, "expect": {"SalesStatus": ["Backorder"]}, "occurredAt": "2025-02-08T10:15:00+01:00"}"#;

#[test]
fn example_of_the_contract_decodes() {
    let update = read(EXAMPLE).unwrap();
    assert_eq!(&**update.key.canonical(), "USMF/SO-2025-0145");
    assert!(update.changes.as_json().contains(r#""Amount": 10.10"#), "digits as sent");
    assert_eq!(update.sequence, Sequence::new(7));
    assert_eq!(update.expect.unwrap().as_json(), r#"{"SalesStatus": ["Backorder"]}"#);
    assert_eq!(update.occurred_at.unwrap().to_string(), "2025-02-08T09:15:00Z");
}

use crate::order::Sequence;

/// Every body that must be refused, with its code. One list, so that a code without a case is seen.
fn refused() -> Vec<(&'static str, String)> {
    let key = |key: &str| format!(r#"{{"key":{key},"changes":{{"A":1}}}}"#);
    let changes = |changes: &str| {
        format!(
            r#"{{"key":{{"dataAreaId":"USMF","SalesOrderNumber":"SO-1"}},"changes":{changes}}}"#
        )
    };
    vec![
        ("body_too_large", with(&format!(r#","occurredAt":"{}""#, "9".repeat(5000)))),
        ("json_malformed", "{\"key\":".to_owned()),
        ("json_malformed", format!("{} {{}}", with(""))),
        ("json_malformed", changes(r#"{"A":1e999}"#)),
        ("json_not_an_object", "[1]".to_owned()),
        ("json_not_an_object", "\"text\"".to_owned()),
        ("json_duplicate_key", with(r#","changes":{"B":2}"#)),
        ("json_duplicate_key", changes(r#"{"A":1,"\u0041":2}"#)),
        ("json_duplicate_key", changes(r#"{"A":[{"b":1,"b":2}]}"#)),
        ("json_too_deep", changes(r#"{"A":[[[[[1]]]]]}"#)),
        (
            "json_too_deep",
            "[".repeat(100_000).replacen('[', r#"{"changes":["#, 1)[..4000].to_owned(),
        ),
        ("field_unknown", with(r#","priority":1"#)),
        ("field_unknown", with(r#","Sequence":1"#)),
        ("field_invalid", r#"{"changes":{"A":1}}"#.to_owned()),
        ("field_invalid", with(r#","sequence":-1"#)),
        ("field_invalid", with(r#","sequence":"1""#)),
        ("field_invalid", with(r#","occurredAt":"yesterday""#)),
        ("field_invalid", with(r#","expect":["A"]"#)),
        ("field_invalid", changes("[1]")),
        ("field_invalid", key(r#"{"dataAreaId":"USMF","SalesOrderNumber":1.5}"#)),
        ("sequence_too_large", with(r#","sequence":9223372036854775808"#)),
        ("expect_invalid", with(r#","expect":{"A":[]}"#)),
        ("expect_invalid", with(r#","expect":{"A":1}"#)),
        ("key_mismatch", key(r#"{"dataAreaId":"USMF"}"#)),
        ("key_mismatch", key(r#"{"dataAreaId":"USMF","SalesOrderNumber":"1","More":"x"}"#)),
        ("key_mismatch", key(r#"{"dataareaid":"USMF","SalesOrderNumber":"1"}"#)),
        ("key_value_invalid", key(r#"{"dataAreaId":"","SalesOrderNumber":"1"}"#)),
        ("key_value_invalid", key(r#"{"dataAreaId":"USMF","SalesOrderNumber":"a\nb"}"#)),
        (
            "key_too_long",
            key(&format!(r#"{{"dataAreaId":"U","SalesOrderNumber":"{}"}}"#, "9".repeat(254))),
        ),
        ("changes_empty", changes("{}")),
        ("changes_key_property", changes(r#"{"SalesOrderNumber":"SO-2"}"#)),
        ("changes_sequence_property", changes(r#"{"A":1,"LastSequence":2}"#)),
    ]
}

#[test]
fn every_bad_body_is_refused_with_its_own_code() {
    for (code, body) in refused() {
        let error = read(&body).expect_err(&body);
        assert_eq!(error.code(), code, "{body}: {error}");
    }
}

#[test]
fn content_that_is_not_plain_json_is_refused() {
    let body = with("");
    let read = |content_type, content_encoding, body: &[u8]| {
        decode(&contract(), Envelope { content_type, content_encoding, body }).map_err(|e| e.code())
    };
    for good in [
        None,
        Some("application/json"),
        Some("Application/JSON; charset=utf-8"),
        Some("application/vnd.acme.order+json"),
    ] {
        assert!(read(good, Some("utf-8"), body.as_bytes()).is_ok(), "{good:?}");
    }
    for bad in ["text/plain", "application/xml", "", "json"] {
        let error = read(Some(bad), None, body.as_bytes()).unwrap_err();
        assert_eq!(error, "content_type_unsupported", "{bad}");
    }
    assert_eq!(
        read(None, Some("gzip"), body.as_bytes()).unwrap_err(),
        "content_encoding_unsupported"
    );
    assert_eq!(read(None, None, b"{\"key\": \"\xff\"}").unwrap_err(), "utf8_invalid");
}

#[test]
fn errors_name_the_place_and_quote_no_more_than_a_line() {
    let long = format!(r#","{}":1"#, "x".repeat(3000));
    assert!(read(&with(&long)).unwrap_err().to_string().len() < 300);
    let error = read(&with(r#","sequence":"seven""#)).unwrap_err();
    assert!(error.to_string().contains("sequence"), "{error}");
}

#[test]
fn fields_are_those_of_the_schema_and_the_checked_in_schema_is_current() {
    let schema = serde_json::to_value(schema()).unwrap();
    let properties: BTreeSet<_> =
        schema["properties"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(properties, message::FIELDS.iter().map(|name| (*name).to_owned()).collect());

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/order-update.schema.json");
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("ORDERWRIGHT_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap();
    assert!(checked_in == text, "run ORDERWRIGHT_BLESS=1 cargo test to write {}", path.display());
}

#[test]
fn schema_and_decoder_agree_on_what_a_schema_can_say() {
    let validator = jsonschema::validator_for(&serde_json::to_value(schema()).unwrap()).unwrap();
    let valid =
        |body: &str| serde_json::from_str(body).is_ok_and(|value| validator.is_valid(&value));
    assert!(valid(EXAMPLE) && valid(&with("")));
    // What only the deployment, the bytes or a format checker can know.
    let beyond = [
        "key_mismatch",
        "key_value_invalid",
        "key_too_long",
        "changes_key_property",
        "changes_sequence_property",
        "json_duplicate_key",
        "json_too_deep",
        "body_too_large",
    ];
    for (code, body) in refused() {
        if beyond.contains(&code) || body.contains("yesterday") {
            continue;
        }
        assert!(!valid(&body), "{code}: the schema accepts {body}");
    }
}

#[test]
fn guid_has_one_spelling() {
    let mut contract = contract();
    let name = "salesorderid".into();
    contract.key = vec![KeyProperty { name, folds_case: true, is_guid: true }];
    let key = |value: &str| {
        let body = format!(r#"{{"key":{{"salesorderid":{value}}},"changes":{{"A":1}}}}"#);
        let envelope =
            Envelope { content_type: None, content_encoding: None, body: body.as_bytes() };
        decode(&contract, envelope).map(|update| update.key.canonical().to_string())
    };
    let wanted = "3F2504E0-4F89-11D3-9A0C-0305E82C3301";
    assert_eq!(key(&format!("\"{}\"", wanted.to_lowercase())).unwrap(), wanted);
    for other in [
        "\"{3f2504e0-4f89-11d3-9a0c-0305e82c3301}\"",
        "\"3f2504e04f8911d39a0c0305e82c3301\"",
        "\"3f2504e0-4f89-11d3-9a0c-0305e82c330g\"",
        "\"3f2504e0-4f89-11d3-9a0c0-305e82c3301\"",
        "\"name='x'\"",
        "7",
    ] {
        assert_eq!(key(other).unwrap_err().code(), "key_value_invalid", "{other}");
    }
}
