//! What a dead letter would come to if it were sent now: one GET, judged as the daemon would judge it.

use lapin::types::ShortString;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Candidate, Message, Place};
use crate::app::{guard, intake_contract, texts};
use crate::config::Settings;
use crate::dead_letter::Letter;
use crate::decode::{Contract, Envelope, decode};
use crate::dispatch::Trail;
use crate::odata::{self, Client};
use crate::order::{ETag, OrderUpdate, Replay};
use crate::protocol::{self, Code, Fetch, Guard, Judgement, Reply, Texts, Trouble, compare};

/// What would come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Prospect {
    /// It would be written.
    WouldApply,
    /// It is there already.
    AlreadyApplied,
    /// The order has moved on since.
    Superseded,
    /// There is no such order.
    OrderMissing,
    /// It would be refused: by a guard, or because its body is no update.
    Refused,
    /// Its order stands still, and it is not its turn.
    Held,
    /// The service did not say.
    Unknown,
}

impl Prospect {
    /// A stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WouldApply => "would_apply",
            Self::AlreadyApplied => "already_applied",
            Self::Superseded => "superseded",
            Self::OrderMissing => "order_missing",
            Self::Refused => "refused",
            Self::Held => "held",
            Self::Unknown => "unknown",
        }
    }
}

/// A property that is not what the dead letter saw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Its name.
    pub property: String,
    /// What the dead letter saw.
    pub seen: Option<Value>,
    /// What it is now.
    pub now: Option<Value>,
    /// What the dead letter wants.
    pub wanted: Option<Value>,
}

/// What came of a look.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// What would come of it.
    pub prospect: Prospect,
    /// What it may overwrite, if it is sent.
    pub may: Replay,
    /// What stands in its way, in words.
    pub why: String,
    /// What has changed of the fields concerned.
    pub changed: Vec<Change>,
}

/// What this replay has written to an order already.
#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    /// ETags under which it was written.
    pub(super) bases: Vec<String>,
    /// The changes, oldest first.
    pub(super) wrote: Vec<Map<String, Value>>,
    /// The order's ETag after that, where the service said it.
    pub(super) etag: Option<String>,
}

impl Chain {
    /// Whether nothing but what this replay wrote has changed since the letter saw the order.
    ///
    /// Letters of one order that died one after the other saw the same state, and the first one that is
    /// written changes the ETag for the others. It was written under the ETag that they saw, so nobody
    /// else had written until then. What follows is known by the ETag after that write; where the service
    /// tells none, by the fields concerned: each is what the letter saw, or what was written here. Somebody
    /// who wrote the very same values since is not told from that.
    fn explains(&self, letter: &Letter, now: &ETag, concerned: &Map<String, Value>) -> bool {
        let is_same_state =
            letter.etag.as_ref().is_some_and(|seen| self.bases.iter().any(|base| base == seen));
        if !is_same_state {
            return false;
        }
        if let Some(after) = &self.etag {
            return after == now.as_str();
        }
        let seen = letter.seen.as_ref().and_then(Value::as_object);
        concerned.iter().all(|(name, value)| {
            let written = self.wrote.iter().rev().find_map(|changes| changes.get(name));
            let expected = written.or_else(|| seen.and_then(|seen| seen.get(name)));
            expected.is_some_and(|it| compare::same(&it.to_string(), &value.to_string()))
        })
    }
}

/// Looks at orders.
#[derive(Debug)]
pub struct Checker {
    client: Client,
    contract: Contract,
    guard: Guard,
    texts: Texts,
}

impl Checker {
    /// For the target of these settings.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn new(settings: &Settings, instance: &str) -> Result<Self, odata::Error> {
        Ok(Self {
            client: Client::new(settings, instance)?,
            contract: intake_contract(settings),
            guard: guard(settings),
            texts: texts(settings),
        })
    }

    fn update(&self, message: &Message) -> Result<OrderUpdate, crate::decode::Error> {
        let properties = &message.properties;
        let envelope = Envelope {
            content_type: properties.content_type().as_ref().map(ShortString::as_str),
            content_encoding: properties.content_encoding().as_ref().map(ShortString::as_str),
            body: &message.body,
        };
        decode(&self.contract, envelope)
    }

    /// The number that a message has among those of its order.
    #[must_use]
    pub fn sequence(&self, message: &Message) -> Option<i64> {
        self.update(message).ok()?.sequence.map(crate::order::Sequence::get)
    }

    /// What an update changes.
    pub(super) fn changes(&self, message: &Message) -> Map<String, Value> {
        let update = self.update(message).ok();
        let changes = update.and_then(|it| serde_json::from_str(it.changes.as_json()).ok());
        changes.unwrap_or_default()
    }

    /// One look at the letter's order. `forced` compares no ETag.
    pub async fn look(&self, candidate: &Candidate, forced: bool) -> Checked {
        self.look_behind(candidate, forced, &Chain::default()).await
    }

    /// The same behind what was written to the order before.
    pub(super) async fn look_behind(
        &self,
        candidate: &Candidate,
        forced: bool,
        chain: &Chain,
    ) -> Checked {
        let Candidate { letter, message, place } = candidate;
        let seen = letter.etag.as_deref().and_then(ETag::new);
        let may = if forced { Replay::Forced } else { seen.map_or(Replay::Unknown, Replay::Since) };
        let stopped = |prospect, why| Checked { prospect, may: may.clone(), why, changed: vec![] };
        if let Place::Held(why) = place {
            return stopped(Prospect::Held, why.clone());
        }
        let mut update = match self.update(message) {
            Ok(update) => update,
            Err(error) => {
                return stopped(Prospect::Refused, format!("{}: {error}", error.code()));
            }
        };
        update.replay = Some(may);
        if is_in_turn(candidate) {
            update.replay = update.replay.filter(|may| *may != Replay::Unknown);
        }
        let uuid =
            || uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid();
        let reply =
            self.client.probe(Some(&update.key), Trail { walk: uuid(), attempt: uuid() }).await;
        self.judge(letter, update, &reply, chain)
    }

    /// Pure.
    fn judge(
        &self,
        letter: &Letter,
        mut update: OrderUpdate,
        reply: &Reply,
        chain: &Chain,
    ) -> Checked {
        let body = reply.as_ref().map(|answer| answer.body.clone()).unwrap_or_default();
        let concerned = protocol::concerned(&body, &update, &self.guard);
        let concerned: Map<String, Value> =
            concerned.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let wanted: Map<String, Value> =
            serde_json::from_str(update.changes.as_json()).unwrap_or_default();
        let mut fetch = protocol::fetch(reply, &update, &self.guard, &self.texts);
        if let Fetch::Found(etag, Judgement::MovedOn) = &fetch {
            let values = concerned.iter().filter(|(name, _)| wanted.contains_key(*name));
            let values = values.map(|(name, value)| (name.clone(), value.clone())).collect();
            if chain.explains(letter, etag, &values) {
                update.replay = Some(Replay::Since(etag.clone()));
                fetch = protocol::fetch(reply, &update, &self.guard, &self.texts);
            }
        }
        let (prospect, why) = match &fetch {
            Fetch::Found(_, Judgement::Outdated) => (Prospect::WouldApply, String::new()),
            Fetch::Found(_, Judgement::AlreadyApplied) => (Prospect::AlreadyApplied, String::new()),
            Fetch::Found(etag, Judgement::Superseded | Judgement::MovedOn) => {
                let why = protocol::objection(reply, &update, &self.guard, etag);
                (Prospect::Superseded, why)
            }
            Fetch::Found(etag, Judgement::Refused(code)) => {
                let why = protocol::objection(reply, &update, &self.guard, etag);
                (Prospect::Refused, format!("{}: {why}", code.as_str()))
            }
            Fetch::Missed(Trouble::Refused(Code::NotFound)) => {
                (Prospect::OrderMissing, String::new())
            }
            Fetch::Missed(trouble) => (Prospect::Unknown, trouble.code().as_str().to_owned()),
        };
        let changed = if matches!(fetch, Fetch::Found(..)) {
            changed(letter.seen.as_ref().and_then(Value::as_object), &concerned, &wanted)
        } else {
            Vec::new()
        };
        Checked { prospect, may: update.replay.unwrap_or(Replay::Unknown), why, changed }
    }
}

/// Whether it stands behind the head of its order, and saw no state of it. No other update of the order was
/// begun since, so it is judged like one that comes for the first time, by the daemon as well.
pub(super) const fn is_in_turn(candidate: &Candidate) -> bool {
    matches!(candidate.place, Place::Behind(_)) && candidate.letter.etag.is_none()
}

/// What is not as the letter saw it. Nothing is known where it saw nothing.
fn changed(
    seen: Option<&Map<String, Value>>,
    now: &Map<String, Value>,
    wanted: &Map<String, Value>,
) -> Vec<Change> {
    let Some(seen) = seen else { return Vec::new() };
    let differs = |name: &&String| match (seen.get(*name), now.get(*name)) {
        (Some(seen), Some(now)) => !compare::same(&seen.to_string(), &now.to_string()),
        (seen, now) => seen.is_some() != now.is_some(),
    };
    let change = |name: &String| Change {
        property: name.clone(),
        seen: seen.get(name).cloned(),
        now: now.get(name).cloned(),
        wanted: wanted.get(name).cloned(),
    };
    now.keys().filter(differs).map(change).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lapin::BasicProperties;

    use super::*;
    use crate::dead_letter::Found;
    use crate::protocol::Answer;

    fn checker() -> Checker {
        Checker::new(&Settings::default(), "test").unwrap()
    }

    fn letter(etag: &str, seen: &Value) -> Letter {
        let properties = BasicProperties::default();
        let found = Found { properties: &properties, exchange: "e", routing_key: "k", body: b"{}" };
        Letter { etag: Some(etag.to_owned()), seen: Some(seen.clone()), ..Letter::read(found) }
    }

    fn judged(letter: &Letter, order: &Value, etag: &str, chain: &Chain) -> Checked {
        let checker = checker();
        let body =
            r#"{"key":{"dataAreaId":"USMF","SalesOrderNumber":"1"},"changes":{"A":2,"B":"x"}}"#;
        let message =
            Message { properties: BasicProperties::default(), body: body.as_bytes().to_vec() };
        let mut update = checker.update(&message).unwrap();
        update.replay = letter.etag.as_deref().and_then(ETag::new).map(Replay::Since);
        let reply = Ok(Answer {
            status: 200,
            etag: ETag::new(etag),
            retry_after: None,
            repeat_rejected: false,
            is_json: true,
            service_request_id: None,
            body: Bytes::from(order.to_string()),
        });
        checker.judge(letter, update, &reply, chain)
    }

    fn chain(base: &str, wrote: &Value, etag: Option<&str>) -> Chain {
        Chain {
            bases: vec![base.to_owned()],
            wrote: vec![wrote.as_object().unwrap().clone()],
            etag: etag.map(str::to_owned),
        }
    }

    #[test]
    fn plan_says_what_would_come_of_it_and_what_has_changed() {
        let none = Chain::default();
        let letter = letter("\"1\"", &serde_json::json!({"A": 1, "B": "x"}));
        let look = |order: Value, etag| judged(&letter, &order, etag, &none);
        let fresh = look(serde_json::json!({"A": 1.0, "B": "x"}), "\"1\"");
        assert_eq!((fresh.prospect, fresh.changed), (Prospect::WouldApply, vec![]));
        let there = look(serde_json::json!({"A": 2, "B": "x"}), "\"2\"");
        assert_eq!(there.prospect, Prospect::AlreadyApplied);
        let moved = look(serde_json::json!({"A": 7, "B": "x"}), "\"2\"");
        assert_eq!(moved.prospect, Prospect::Superseded);
        assert!(moved.why.contains("saw \"1\" last"), "{}", moved.why);
        let change = &moved.changed[0];
        assert_eq!((moved.changed.len(), change.property.as_str()), (1, "A"));
        assert_eq!((change.now.clone(), change.wanted.clone()), (Some(7.into()), Some(2.into())));
    }

    #[test]
    fn letter_behind_one_that_was_written_goes_on_if_nobody_else_has_written() {
        let seen = serde_json::json!({"A": 1, "B": "y"});
        let letter = letter("\"1\"", &seen);
        let order = serde_json::json!({"A": 5, "B": "y"});
        let ours = serde_json::json!({"A": 5});
        // Told by the ETag after the write, or, where there is none, by the values.
        for (etag, after, prospect) in [
            ("\"2\"", Some("\"2\""), Prospect::WouldApply),
            ("\"3\"", Some("\"2\""), Prospect::Superseded),
            ("\"3\"", None, Prospect::WouldApply),
        ] {
            let checked = judged(&letter, &order, etag, &chain("\"1\"", &ours, after));
            assert_eq!(checked.prospect, prospect, "{etag} {after:?}");
            if prospect == Prospect::WouldApply {
                assert_eq!(checked.may, Replay::Since(ETag::new(etag).unwrap()));
            }
        }
        let other = serde_json::json!({"A": 5, "B": "z"});
        let checked = judged(&letter, &other, "\"3\"", &chain("\"1\"", &ours, None));
        assert_eq!(checked.prospect, Prospect::Superseded, "somebody wrote B");
        let checked = judged(&letter, &order, "\"3\"", &chain("\"0\"", &ours, None));
        assert_eq!(checked.prospect, Prospect::Superseded, "not the state that it saw");
    }
}
