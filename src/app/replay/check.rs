//! What a dead letter would come to if it were sent now: one GET, judged as the daemon would judge it.

use std::time::Duration;

use lapin::types::ShortString;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::calm::Calm;
use super::chain::Chain;
use super::former::was_written;
use super::prospect::{Allowed, Checked, Prospect, changed, unlike};
use super::{Candidate, Message, Place};
use crate::app::{guard, intake_contract, texts};
use crate::config::Settings;
use crate::decode::{Contract, Envelope, decode};
use crate::dispatch::Trail;
use crate::odata::{self, Client};
use crate::order::{ETag, OrderUpdate, Replay};
use crate::protocol::{
    self, Code, Fetch, Guard, Judgement, Reply, Request, Texts, Trouble, Verdict, verdict,
};

/// What is said of a letter that would go if it were known to be newer than what was written.
const UNSURE: &str = "nothing tells for certain that it is newer than the letters written before it: it came \
                      back, or the clocks of its pods differ";

/// What is said of a letter that never saw its order.
const NEVER_SEEN: &str = "it died before it saw its order, so nobody can tell whether something newer was written \
                          since; --never-seen writes it over what is there";

/// How often a service that refuses for now is asked before nothing is known.
const REFUSALS_MAX: usize = 20;

/// What went before a letter.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Behind<'a> {
    /// What this replay has written to its order.
    pub(super) chain: Option<&'a Chain>,
    /// Whether all of that is certainly older.
    pub(super) is_sure: bool,
}

/// Looks at orders.
#[derive(Debug)]
pub struct Checker {
    client: Client,
    contract: Contract,
    guard: Guard,
    texts: Texts,
    calm: Calm,
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
            calm: Calm::new(&settings.throttle),
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

    /// For how long the service wants to be left alone.
    #[must_use]
    pub fn left_alone_for(&self) -> Option<Duration> {
        self.calm.left()
    }

    /// One look at the letter's order. Waits where the service wants to be left alone.
    pub async fn look(&self, candidate: &Candidate, allowed: Allowed) -> Checked {
        self.look_behind(candidate, allowed, Behind::default()).await
    }

    /// The same behind what was written to the order before.
    pub(super) async fn look_behind(
        &self,
        candidate: &Candidate,
        allowed: Allowed,
        behind: Behind<'_>,
    ) -> Checked {
        self.look_at(candidate, allowed, behind, true).await
    }

    /// The same, and a service that refuses for now does not say.
    pub(super) async fn look_once(
        &self,
        candidate: &Candidate,
        allowed: Allowed,
        behind: Behind<'_>,
    ) -> Checked {
        self.look_at(candidate, allowed, behind, false).await
    }

    async fn look_at(
        &self,
        candidate: &Candidate,
        allowed: Allowed,
        behind: Behind<'_>,
        is_patient: bool,
    ) -> Checked {
        let update = match self.asked(candidate, allowed) {
            Ok(update) => update,
            Err(stopped) => return *stopped,
        };
        let uuid =
            || uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid();
        let mut refusals = if is_patient { 0 } else { REFUSALS_MAX };
        loop {
            self.calm.over().await;
            let begun = Instant::now();
            let trail = Trail { walk: uuid(), attempt: uuid() };
            let reply = self.client.probe(Some(&update.key), trail).await;
            let took = begun.elapsed();
            let verdict = verdict::verdict(Request::Get, &reply, &self.texts);
            if let Verdict::Not(Trouble::Throttled { retry_after, .. }) = verdict {
                self.calm.refused(retry_after);
                if refusals < REFUSALS_MAX {
                    refusals += 1;
                    continue;
                }
            }
            let took = reply.is_ok().then_some(took);
            let allows = (allowed, behind);
            return Checked { took, ..self.judge(candidate, update, &reply, allows) };
        }
    }

    /// The update as the daemon would have to judge it, or why nobody need be asked. Pure.
    pub(super) fn asked(
        &self,
        candidate: &Candidate,
        allowed: Allowed,
    ) -> Result<OrderUpdate, Box<Checked>> {
        let Candidate { letter, message, place, .. } = candidate;
        let base = letter.base.as_deref().and_then(ETag::new);
        let may = match allowed {
            Allowed::All => Replay::Forced,
            Allowed::Seen | Allowed::NeverSeen => base.map_or(Replay::Unknown, Replay::Since),
        };
        let stopped = |prospect, why| {
            let (may, seen) = (may.clone(), letter.seen.as_ref().map(Value::to_string));
            Box::new(Checked { prospect, may, seen, why, changed: vec![], took: None })
        };
        if let Place::Held(why) = place {
            return Err(stopped(Prospect::Held, why.clone()));
        }
        let update = self
            .update(message)
            .map_err(|error| stopped(Prospect::Refused, format!("{}: {error}", error.code())))?;
        let first_time = is_in_turn(candidate) && may == Replay::Unknown;
        Ok(OrderUpdate { replay: (!first_time).then_some(may), ..update })
    }

    /// Pure.
    pub(super) fn judge(
        &self,
        candidate: &Candidate,
        mut update: OrderUpdate,
        reply: &Reply,
        (allowed, behind): (Allowed, Behind<'_>),
    ) -> Checked {
        let letter = &candidate.letter;
        let body = reply.as_ref().map(|answer| answer.body.clone()).unwrap_or_default();
        let text = protocol::concerned(&body, &update, &self.guard);
        let concerned: Map<String, Value> =
            text.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let wanted: Map<String, Value> =
            serde_json::from_str(update.changes.as_json()).unwrap_or_default();
        let mut is_unsure = false;
        let mut fetch = protocol::fetch(reply, &update, &self.guard, &self.texts);
        if let Fetch::Found(etag, Judgement::MovedOn) = &fetch {
            let values = concerned.iter().filter(|(name, _)| wanted.contains_key(*name));
            let values = values.map(|(name, value)| (name.clone(), value.clone())).collect();
            let is_ours = behind.chain.is_some_and(|it| it.explains(letter, etag, &values));
            is_unsure = is_ours && !behind.is_sure;
            // Of an order that stands still behind it, no other update was begun since.
            let is_first = matches!(candidate.place, Place::Head(_));
            let is_due = letter.is_unseen() && (allowed == Allowed::NeverSeen || is_first);
            // Where something else was written by this replay, those values may be of that.
            let is_alone = behind.is_sure || behind.chain.is_none_or(|it| !it.is_begun());
            let is_former = is_alone && was_written(letter, &values, &wanted);
            if is_due || is_former || (is_ours && behind.is_sure) {
                update.replay = Some(Replay::Since(etag.clone()));
                fetch = protocol::fetch(reply, &update, &self.guard, &self.texts);
            }
        }
        let (prospect, why) = match &fetch {
            Fetch::Found(_, Judgement::Outdated) => (Prospect::WouldApply, String::new()),
            Fetch::Found(_, Judgement::AlreadyApplied) => (Prospect::AlreadyApplied, String::new()),
            Fetch::Found(_, Judgement::MovedOn) if letter.is_unseen() => {
                (Prospect::NeverSeen, NEVER_SEEN.to_owned())
            }
            Fetch::Found(etag, Judgement::Superseded | Judgement::MovedOn) => {
                let why = protocol::objection(reply, &update, &self.guard, etag);
                (Prospect::Superseded, if is_unsure { format!("{why}; {UNSURE}") } else { why })
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
        let before = letter.seen.as_ref().and_then(Value::as_object);
        let changed = match (&fetch, prospect) {
            (Fetch::Found(..), Prospect::NeverSeen) => unlike(&concerned, &wanted),
            (Fetch::Found(..), _) => changed(before, &concerned, &wanted),
            (Fetch::Missed(_), _) => Vec::new(),
        };
        let may = update.replay.unwrap_or(Replay::Unknown);
        let is_now =
            matches!((&fetch, &may), (Fetch::Found(now, _), Replay::Since(it)) if it == now);
        let seen = if is_now { text } else { letter.seen.as_ref().map(Value::to_string) };
        Checked { prospect, may, seen, why, changed, took: None }
    }
}

/// Whether it stands behind the head of its order, and saw no state of it. No other update of the order was
/// begun since, so it is judged like one that comes for the first time, by the daemon as well.
pub(super) const fn is_in_turn(candidate: &Candidate) -> bool {
    matches!(candidate.place, Place::Behind(_)) && candidate.letter.base.is_none()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lapin::BasicProperties;

    use super::*;
    use crate::dead_letter::{Fate, Found, Letter};
    use crate::protocol::Answer;

    fn checker() -> Checker {
        Checker::new(&Settings::default(), "test").unwrap()
    }

    fn letter(etag: &str, seen: &Value) -> Letter {
        let properties = BasicProperties::default();
        let found = Found { properties: &properties, exchange: "e", routing_key: "k", body: b"{}" };
        Letter { base: Some(etag.to_owned()), seen: Some(seen.clone()), ..Letter::read(found) }
    }

    fn judged(letter: &Letter, order: &Value, etag: &str, behind: Behind<'_>) -> Checked {
        let checker = checker();
        let body =
            r#"{"key":{"dataAreaId":"USMF","SalesOrderNumber":"1"},"changes":{"A":2,"B":"x"}}"#;
        let message =
            Message { properties: BasicProperties::default(), body: body.as_bytes().to_vec() };
        let (letter, place) = (letter.clone(), Place::Free);
        let candidate = Candidate { letter, message, place, position: 1, rank: None };
        let update = checker.asked(&candidate, Allowed::Seen).unwrap();
        let reply = Ok(Answer {
            status: 200,
            etag: ETag::new(etag),
            retry_after: None,
            repeat_rejected: false,
            is_json: true,
            service_request_id: None,
            body: Bytes::from(order.to_string()),
        });
        checker.judge(&candidate, update, &reply, (Allowed::Seen, behind))
    }

    #[test]
    fn plan_says_what_would_come_of_it_and_what_has_changed() {
        let letter = letter("\"1\"", &serde_json::json!({"A": 1, "B": "x"}));
        let look = |order: Value, etag| judged(&letter, &order, etag, Behind::default());
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
        let ours = serde_json::json!({"A": 5}).as_object().unwrap().clone();
        let chain = |over: &str, after| {
            let mut chain = Chain::default();
            chain.learn(Fate::Applied, Some(over.to_owned()), ours.clone(), after);
            chain
        };
        let looked = |order: &Value, etag, chain: &Chain, is_sure| {
            judged(&letter, order, etag, Behind { chain: Some(chain), is_sure })
        };
        // Told by the ETag after the write, or, where there is none, by the values.
        for (etag, after, prospect) in [
            ("\"2\"", Some("\"2\""), Prospect::WouldApply),
            ("\"3\"", Some("\"2\""), Prospect::Superseded),
            ("\"3\"", None, Prospect::WouldApply),
        ] {
            let chain = chain("\"1\"", after);
            let checked = looked(&order, etag, &chain, true);
            assert_eq!(checked.prospect, prospect, "{etag} {after:?}");
            if prospect == Prospect::WouldApply {
                assert_eq!(checked.may, Replay::Since(ETag::new(etag).unwrap()));
                assert_eq!(checked.seen.as_deref(), Some(r#"{"A":5,"B":"y"}"#));
            }
            let unsure = looked(&order, etag, &chain, false);
            assert_eq!(unsure.prospect, Prospect::Superseded, "it may be the older one");
            assert_eq!(unsure.why.contains(UNSURE), prospect == Prospect::WouldApply);
        }
        let other = serde_json::json!({"A": 5, "B": "z"});
        let checked = looked(&other, "\"3\"", &chain("\"1\"", None), true);
        assert_eq!(checked.prospect, Prospect::Superseded, "somebody wrote B");
        let checked = looked(&order, "\"3\"", &chain("\"0\"", None), true);
        assert_eq!(checked.prospect, Prospect::Superseded, "not the state that it saw");
    }
}
