//! The paths under `/sim/`: orders, faults, tokens and the ledger, for tests and for the demo.
//!
//! Pure like the world, except that waiting for the ledger is left to the server.

use std::borrow::Cow;

use bytes::Bytes;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value as Json, json};

use super::faults::Update;
use super::inspect::CreateError;
use super::key::{COMPANY, Key, NUMBER};
use super::reply::to_json;
use super::world::World;

/// Entries in one page of a list, if the request does not say.
const LIMIT_DEFAULT: usize = 1_000;
/// Most entries in one page, so that one answer does not hold the lock for long.
const LIMIT_MAX: usize = 10_000;

/// A status and JSON.
pub(super) type Answer = (u16, Bytes);

/// The parts of a request to `/sim/…`.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) method: &'a str,
    /// The path after `/sim/`, raw.
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) body: &'a [u8],
}

impl Call<'_> {
    /// A parameter of the query.
    pub(super) fn parameter(&self, wanted: &str) -> Option<Cow<'_, str>> {
        let mut found = url::form_urlencoded::parse(self.query.as_bytes());
        found.find_map(|(name, value)| (name == wanted).then_some(value))
    }

    /// A number in the query; `default` if it is absent.
    pub(super) fn number(&self, name: &str, default: u64) -> Result<u64, Answer> {
        let Some(text) = self.parameter(name) else { return Ok(default) };
        text.parse().map_err(|_| refused(400, &format!("{name} is no number")))
    }

    fn limit(&self) -> Result<usize, Answer> {
        let limit = self.number("limit", LIMIT_DEFAULT as u64)?;
        Ok(usize::try_from(limit).unwrap_or(LIMIT_MAX).min(LIMIT_MAX))
    }

    fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Answer> {
        serde_json::from_slice(self.body).map_err(|error| refused(400, &error.to_string()))
    }
}

/// Answers a call. The ledger's totals are answered at once, whatever the call wants to wait for.
pub(super) fn handle(world: &mut World, call: &Call<'_>, now: Timestamp) -> Answer {
    route(world, call, now).unwrap_or_else(|refusal| refusal)
}

fn route(world: &mut World, call: &Call<'_>, now: Timestamp) -> Result<Answer, Answer> {
    let segments: Vec<&str> = call.path.split('/').collect();
    match (call.method, segments.as_slice()) {
        ("GET", ["health"]) => Ok((200, to_json(&json!({"status": "ok"})))),
        ("GET", ["faults"]) => Ok((200, world.faults())),
        ("PUT", ["faults"]) => set_faults(world, call, now),
        ("DELETE", ["faults"]) => {
            world.clear_faults();
            Ok((200, world.faults()))
        }
        ("DELETE", ["sessions"]) => {
            world.expire_sessions();
            Ok((200, to_json(&json!({}))))
        }
        ("GET", ["tokens"]) => Ok((200, to_json(&world.token_counts()))),
        ("PUT", ["tokens"]) => {
            let set = world.set_tokens(call.json()?);
            set.map_err(|error| refused(400, &error.to_string()))?;
            Ok((200, to_json(&world.token_counts())))
        }
        ("DELETE", ["tokens"]) => {
            world.revoke_tokens();
            Ok((200, to_json(&world.token_counts())))
        }
        ("PUT", ["properties"]) => rename(world, call),
        ("POST", ["orders"]) => create(world, call),
        ("GET", ["ledger"]) => Ok((200, to_json(world.totals()))),
        ("DELETE", ["ledger"]) => {
            world.reset_ledger();
            Ok((200, to_json(world.totals())))
        }
        ("GET", ["ledger", "changes"]) => {
            let after = call.number("after", 0)?;
            Ok((200, to_json(&world.changes(after, call.limit()?))))
        }
        ("GET", ["ledger", "orders"]) => {
            let bad_only = call.parameter("bad").is_some_and(|value| value == "true");
            Ok((200, world.list(bad_only, call.limit()?)))
        }
        ("GET", ["ledger", "orders", company, number]) => {
            let order = world.show(&Key::new(decoded(company)?, decoded(number)?));
            order.map(|json| (200, json)).ok_or_else(|| refused(404, "no such order"))
        }
        _ => Err(refused(404, "no such path or method")),
    }
}

fn set_faults(world: &mut World, call: &Call<'_>, now: Timestamp) -> Result<Answer, Answer> {
    let update: Update = call.json()?;
    world.set_faults(update, now).map_err(|error| refused(400, &error.to_string()))?;
    Ok((200, world.faults()))
}

/// From these names to those, one after the other until one cannot be.
fn rename(world: &mut World, call: &Call<'_>) -> Result<Answer, Answer> {
    let names: std::collections::BTreeMap<String, String> = call.json()?;
    for (from, to) in &names {
        if !world.schema.rename(from, to) {
            return Err(refused(400, &format!("{from} cannot become {to}")));
        }
    }
    Ok((200, to_json(&json!(names))))
}

/// Any property beside the two of the key sets its initial value.
fn create(world: &mut World, call: &Call<'_>) -> Result<Answer, Answer> {
    let mut body: Map<String, Json> = call.json()?;
    let mut part = |name: &str| match body.remove(name) {
        Some(Json::String(value)) => Ok(value),
        Some(_) | None => Err(refused(400, &format!("{name} must be given, as a string"))),
    };
    let key = Key::new(part(COMPANY)?, part(NUMBER)?);
    match world.create(key.clone(), &body) {
        Ok(()) => Ok((201, world.show(&key).unwrap_or_default())),
        Err(error @ CreateError::Exists) => Err(refused(409, &error.to_string())),
        Err(error @ (CreateError::Full { .. } | CreateError::Property { .. })) => {
            Err(refused(400, &error.to_string()))
        }
    }
}

fn decoded(segment: &str) -> Result<String, Answer> {
    let text = percent_decode_str(segment).decode_utf8();
    text.map(Cow::into_owned).map_err(|_| refused(400, "the path is not UTF-8"))
}

pub(super) fn refused(status: u16, message: &str) -> Answer {
    (status, to_json(&json!({"error": message})))
}
