//! Messages that can never become an update, and dead letters that cannot be published.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::daemon::orderwright;
use crate::stage::{Stage, update};

/// Code; content type and encoding; body.
type Case = (&'static str, Option<&'static str>, Option<&'static str>, Vec<u8>);

/// The complete list of decode errors is in the decoder's own
/// tests; here each way to be bad goes over a real broker.
fn undecodable() -> Vec<Case> {
    let json = Some("application/json");
    let whole = |field: &str| {
        format!(
            r#"{{"key":{{"dataAreaId":"USMF","SalesOrderNumber":"SO-000001"}},"changes":{{"DeliveryDate":"2025-02-08"}}{field}}}"#
        )
        .into_bytes()
    };
    let key = |key: &str| format!(r#"{{"key":{key},"changes":{{"A":1}}}}"#).into_bytes();
    let changes = |changes: &str| {
        format!(
            r#"{{"key":{{"dataAreaId":"USMF","SalesOrderNumber":"SO-000001"}},"changes":{changes}}}"#
        )
        .into_bytes()
    };
    let deep = format!(r#"{{"A":{}1{}}}"#, "[".repeat(40), "]".repeat(40));
    let number = "9".repeat(300);
    vec![
        ("body_too_large", json, None, vec![b' '; 70_000]),
        ("content_type_unsupported", Some("text/xml"), None, whole("")),
        ("content_encoding_unsupported", json, Some("gzip"), vec![0x1f, 0x8b, 8, 0]),
        ("utf8_invalid", json, None, b"{\"key\":\"\xff\xfe\"}".to_vec()),
        ("json_malformed", json, None, b"{\"key\":".to_vec()),
        ("json_malformed", json, None, Vec::new()),
        ("json_not_an_object", json, None, b"[]".to_vec()),
        ("json_duplicate_key", json, None, whole(r#","changes":{"B":2}"#)),
        ("json_too_deep", json, None, changes(&deep)),
        ("field_unknown", json, None, whole(r#","priority":1"#)),
        ("field_invalid", json, None, whole(r#","sequence":"1""#)),
        ("sequence_too_large", json, None, whole(r#","sequence":18446744073709551615"#)),
        ("expect_invalid", json, None, whole(r#","expect":{"A":[]}"#)),
        ("key_mismatch", json, None, key(r#"{"SalesOrderNumber":"SO-000001"}"#)),
        ("key_value_invalid", json, None, key(r#"{"dataAreaId":"","SalesOrderNumber":"1"}"#)),
        (
            "key_too_long",
            json,
            None,
            key(&format!(r#"{{"dataAreaId":"U","SalesOrderNumber":"{number}"}}"#)),
        ),
        ("changes_empty", json, None, changes("{}")),
        ("changes_key_property", json, None, changes(r#"{"dataAreaId":"DEMF"}"#)),
        ("changes_sequence_property", json, None, changes(r#"{"LastSequence":7}"#)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_decode_error_is_dead_lettered_byte_for_byte_and_its_neighbours_go_on() {
    let stage = Stage::new("decode", &["--orders", "40"]).await;
    let daemon = stage.daemon(&[("GUARD__SEQUENCE_PROPERTY", "LastSequence")]).await;
    let mut letters = stage.letters().await;
    let raw = stage.channel().await;

    let bad = undecodable();
    for (number, (code, content_type, content_encoding, body)) in bad.iter().enumerate() {
        let mut headers = FieldTable::default();
        headers.insert("case".into(), AMQPValue::LongString((*code).into()));
        let mut properties = BasicProperties::default()
            .with_message_id(format!("m-{number}").as_str().into())
            .with_headers(headers);
        if let Some(content_type) = content_type {
            properties = properties.with_content_type((*content_type).into());
        }
        if let Some(content_encoding) = content_encoding {
            properties = properties.with_content_encoding((*content_encoding).into());
        }
        raw.publish(properties, body).await;
        let good = update(number as u64 + 1, 1);
        raw.publish(BasicProperties::default(), good.as_bytes()).await;
    }
    let got: BTreeMap<_, _> = letters
        .take(bad.len())
        .await
        .into_iter()
        .map(|letter| (letter.properties.message_id().as_ref().unwrap().to_string(), letter))
        .collect();
    stage.applied(bad.len() as u64).await;
    let ended = daemon.stop().await;

    for (number, (code, content_type, _, body)) in bad.iter().enumerate() {
        let letter = &got[&format!("m-{number}")];
        assert_eq!(letter.reason(), *code);
        assert!(letter.body == *body, "{code}: the body is not the original");
        let kept = letter.properties.content_type().as_ref().map(ToString::to_string);
        assert_eq!(kept.as_deref(), *content_type);
        assert_eq!(letter.attempts().len(), 0, "no request was spent on it");
        assert!(letter.properties.headers().as_ref().unwrap().contains_key("case"));
    }
    assert_eq!(ended.count("retries"), 0);
    assert_eq!(stage.waiting().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letter_that_no_queue_takes_is_retried_and_its_message_is_not_settled() {
    let stage = Stage::new("returned", &["--orders", "5"]).await;
    // One retry, then the channel is given up and the message comes again, and so on.
    let daemon = stage.daemon(&[("DEAD_LETTER__PUBLISH_RETRIES_MAX", "1")]).await;
    let raw = stage.channel().await;
    raw.delete_queue("dead-letters").await;

    raw.publish(BasicProperties::default(), b"not JSON").await;
    raw.publish(BasicProperties::default(), update(1, 1).as_bytes()).await;
    daemon.logs("gave the shard up").await;
    let settings = stage.settings(&[]).await;
    let declared = orderwright(&settings).args(["topology", "declare"]).output().await.unwrap();
    assert!(declared.status.success(), "{declared:?}");

    let mut letters = stage.letters().await;
    let letter = letters.next().await;
    assert_eq!((letter.reason().as_str(), &letter.body[..]), ("json_malformed", &b"not JSON"[..]));
    stage.applied(1).await;
    let ended = daemon.stop().await;
    assert_eq!(stage.waiting().await, 0, "settled once its dead letter was confirmed: {ended:?}");
}
