//! Everything that reads what others wrote, each behind a door of the same shape.
//!
//! `fuzz/` throws bytes at them, and `tests/corpora.rs` the bytes that were found. What must hold of every
//! input is asserted here.

#![expect(clippy::panic, reason = "an input that breaks a promise must end the fuzzer")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::config::{Settings, Sources};
use crate::dead_letter::{self, Found, Letter};
use crate::decode::{Contract, Envelope, KeyProperty, Marks, decode, replay};
use crate::odata;
use crate::order::ETag;
use crate::parking::{Release, is_replay, unparks};
use crate::properties::republished;
use crate::protocol::{self, Answer, Complaint, Guard, Request, Texts};

/// A door, and its name.
pub type Door = (&'static str, fn(&[u8]));

/// All of them.
pub const DOORS: [Door; 8] = [
    ("decode", body),
    ("headers", headers),
    ("answer", answer),
    ("retry_after", retry_after),
    ("batch", batch),
    ("configuration", configuration),
    ("letter", letter),
    ("import", import),
];

/// Throws bytes at the door of this name.
///
/// # Panics
/// Where something that must hold of every input does not: that is what it is for.
pub fn throw(name: &str, bytes: &[u8]) {
    let door = DOORS.iter().find(|(door, _)| *door == name);
    let Some((_, door)) = door else { panic!("there is no door {name}") };
    door(bytes);
}

/// Longest body that is looked at.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// AMQP gives a routing key so many bytes.
const KEY_BYTES_MAX: usize = 255;
/// Parts of the largest batch.
const PARTS_MAX: usize = 50;

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| {
    let property = |name: &str| KeyProperty { name: name.into(), folds_case: true, is_guid: false };
    Contract {
        key: vec![property("dataAreaId"), property("SalesOrderNumber")],
        sequence_property: Some("UpdateSequence".into()),
        body_bytes_max: BODY_BYTES_MAX,
        nesting_max: 16,
    }
});

fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => {
            let (line, rest) = bytes.split_at(at);
            (line, rest.get(1..).unwrap_or_default())
        }
        None => (bytes, &[]),
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

/// The body of a message.
fn body(bytes: &[u8]) {
    let envelope = Envelope { content_type: None, content_encoding: None, body: bytes };
    match decode(&CONTRACT, envelope) {
        Ok(update) => {
            let key = update.key.canonical();
            assert!(!key.is_empty() && key.len() <= KEY_BYTES_MAX, "{key:?}");
            let again = decode(&CONTRACT, envelope).map(|again| again.key.to_string());
            assert_eq!(again.ok(), Some(update.key.to_string()));
        }
        Err(error) => assert!(!error.code().is_empty()),
    }
}

/// Properties and headers of a message, one a line, and its body.
fn headers(bytes: &[u8]) {
    let mut rest = bytes;
    let mut next = || {
        let (first, others) = line(rest);
        rest = others;
        text(first)
    };
    let (content_type, content_encoding) = (next(), next());
    let marks = Marks { of: next(), id: next(), etag: next(), forced: next() };
    let etag = next().and_then(ETag::new);
    if let Some(etag) = etag {
        assert_ne!(etag.as_str(), "*", "it would match anything");
    }
    let _judged = replay(&marks);
    let _decoded = decode(&CONTRACT, Envelope { content_type, content_encoding, body: rest });
}

/// The answer of the service: its status in the first line, its ETag in the second, then its body.
fn answer(bytes: &[u8]) {
    let (status, rest) = line(bytes);
    let (etag, body) = line(rest);
    let answer = Answer {
        status: text(status).and_then(|text| text.parse().ok()).unwrap_or(200),
        etag: text(etag).and_then(ETag::new),
        retry_after: Some(Duration::from_secs(1)),
        repeat_rejected: false,
        is_json: true,
        service_request_id: None,
        body: Bytes::copy_from_slice(body),
    };
    let known = br#"{"key":{"dataAreaId":"USMF","SalesOrderNumber":"SO-1"},
        "changes":{"SalesStatus":"Delivered","Amount":10.10},"sequence":7,
        "expect":{"SalesStatus":["Backorder",null]}}"#;
    let envelope = Envelope { content_type: None, content_encoding: None, body: known };
    let Ok(update) = decode(&CONTRACT, envelope) else { return };
    let guard = Guard { sequence_property: Some("UpdateSequence".into()), transitions: Vec::new() };
    let word = |text: &str| vec![text.to_owned()];
    let texts = Texts::new(&word("conflict"), &word("deadlock"), &word("rule"), &word("segment"));
    let complaint = Complaint::read(body);
    assert!(complaint.message.len() <= body.len().max(64) * 4, "more than there was");
    let reply = Ok(answer);
    let fetch = protocol::fetch(&reply, &update, &guard, &texts);
    let _written = protocol::verdict::verdict(Request::Patch, &reply, &texts);
    let _looked = protocol::look(&reply, &texts);
    let _concerned = protocol::concerned(body, &update, &guard);
    if let protocol::Fetch::Found(etag, _) = fetch {
        let _objection = protocol::objection(&reply, &update, &guard, &etag);
    }
}

/// `Retry-After`, and in the second line `Date`.
fn retry_after(bytes: &[u8]) {
    let (value, date) = line(bytes);
    let Some(value) = text(value) else { return };
    let now = Timestamp::UNIX_EPOCH;
    let (alone, dated) = (
        odata::fuzzed::retry_after(value, None, now),
        odata::fuzzed::retry_after(value, text(date), now),
    );
    assert_eq!(alone.is_some(), dated.is_some(), "a date decides how long, not whether");
}

/// The answer to a batch: its boundary in the first line.
fn batch(bytes: &[u8]) {
    let (boundary, body) = line(bytes);
    let asked = usize::from(bytes.len().to_le_bytes()[0]) % PARTS_MAX + 1;
    if let Some(found) = odata::fuzzed::batch(text(boundary), body, asked) {
        assert_eq!(found, asked, "as many as were asked for");
    }
}

/// A configuration file, and the environment in the lines that begin with its prefix.
fn configuration(bytes: &[u8]) {
    let all = String::from_utf8_lossy(bytes);
    let ours = |line: &&str| line.starts_with("ORDERWRIGHT__");
    let environment: BTreeMap<String, String> = all
        .lines()
        .filter(ours)
        .filter_map(|line| line.split_once('='))
        // No file of this machine is to be read.
        .filter(|(name, _)| !name.to_lowercase().ends_with("_file"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let rest: Vec<&str> =
        all.lines().filter(|line| !ours(line) && !line.contains("_file")).collect();
    let file = std::env::temp_dir().join(format!("orderwright-fuzz-{}.toml", std::process::id()));
    if std::fs::write(&file, rest.join("\n")).is_err() {
        return;
    }
    match Settings::load(&Sources { file: Some(PathBuf::from(&file)), environment }) {
        Ok(loaded) => assert!(loaded.settings.attempts_max() > 0),
        Err(mistakes) => assert!(!mistakes.to_string().is_empty()),
    }
}

/// A dead letter, as an export has it.
fn letter(bytes: &[u8]) {
    let Ok(message) = dead_letter::from_line(bytes) else { return };
    let dead_letter::Message { exchange, routing_key, properties, body } = &message;
    let found = Found { properties, exchange, routing_key, body };
    let read = Letter::read(found);
    assert_eq!(read.bytes, body.len());
    let _kept = republished(properties);
    let _asked = Release::asked(properties);
    let _passes = (unparks(properties), is_replay(properties));
}

/// A line of an import: what was read is written as it was.
fn import(bytes: &[u8]) {
    let Ok(message) = dead_letter::from_line(bytes) else { return };
    let Ok(written) = dead_letter::to_line(&message) else { return };
    let again = dead_letter::from_line(written.as_bytes());
    let Ok(again) = again else { panic!("what was written is not read: {written}") };
    // A float that is no number is not equal to itself.
    assert_eq!(dead_letter::to_line(&again).ok().as_deref(), Some(written.as_str()));
}
