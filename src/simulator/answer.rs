//! The application behind the gateway: who may see an order, what a GET shows, what a PATCH
//! changes.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value as Json};

use super::entity::Schema;
use super::faults::Fault;
use super::key::Key;
use super::ledger::Change;
use super::reply::{Body, Refusal, Reply, Spelling, to_json};
use super::request::{Operation, Request};
use super::world::World;

impl World {
    /// The application's own answer.
    pub(super) fn answer(
        &mut self,
        request: &Request,
        fault: Option<&Fault>,
        rng: &mut fastrand::Rng,
        now: Timestamp,
    ) -> Reply {
        let answered = self.authorized(request, now).and_then(|key| match &request.operation {
            Operation::Get => self.get(key, request, fault, rng),
            Operation::Patch(body) => {
                let body = body.as_ref().map_err(|error| Refusal::bad_json(error))?;
                self.patch(key, body, request, fault, rng, now)
            }
            Operation::Other => Err(Refusal::method_not_allowed()),
        });
        answered.unwrap_or_else(|refusal| {
            match refusal {
                Refusal::Conflict(_) => self.ledger.totals.conflicts += 1,
                Refusal::Missing | Refusal::Unauthorized | Refusal::Rejected { .. } => {
                    self.ledger.totals.rejected += 1;
                }
            }
            refusal.into_reply()
        })
    }

    /// The order that is meant, if the caller may see it.
    fn authorized<'a>(&self, request: &'a Request, now: Timestamp) -> Result<&'a Key, Refusal> {
        if !self.lets_in(request, now) {
            return Err(Refusal::Unauthorized);
        }
        let key = request.target.as_ref().map_err(Refusal::bad_key)?;
        if request.cross_company || key.company == self.settings.default_company {
            Ok(key)
        } else {
            Err(Refusal::Missing)
        }
    }

    /// Anyone if there is neither a token endpoint nor a token that was set.
    fn lets_in(&self, request: &Request, now: Timestamp) -> bool {
        let fixed = self.settings.bearer_token.as_deref();
        if fixed.is_none() && self.tokens.is_none() {
            return true;
        }
        let sent = request.authorization.as_deref().and_then(|text| text.strip_prefix("Bearer "));
        let is_live = |sent| self.tokens.as_ref().is_some_and(|them| them.is_live(sent, now));
        sent.is_some_and(|sent| fixed == Some(sent) || is_live(sent))
    }

    fn get(
        &mut self,
        key: &Key,
        request: &Request,
        fault: Option<&Fault>,
        rng: &mut fastrand::Rng,
    ) -> Result<Reply, Refusal> {
        let record = self.records.get_mut(key).ok_or(Refusal::Missing)?;
        for name in request.select.iter().flatten() {
            self.schema.check_select(name)?;
        }
        let tag = record.version.tag();
        let bare = matches!(fault, Some(Fault::NoEtag {} | Fault::NoEtagInBody {}));
        let annotation = (!bare).then_some(&*tag);
        let json = to_json(&record.entity(&self.schema, annotation, request.select.as_deref()));
        if fault == Some(&Fault::Conflict {}) {
            record.outside_change(rng);
            self.ledger.totals.actor_changes += 1;
        }
        let headless = matches!(fault, Some(Fault::NoEtag {} | Fault::NoEtagHeader {}));
        Ok(Reply { etag: (!headless).then_some(tag), body: Body::Json(json), ..Reply::empty(200) })
    }

    /// The entity tag is judged before the properties, as Finance & Operations rereads the row
    /// before it sets a field.
    fn patch(
        &mut self,
        key: &Key,
        body: &Map<String, Json>,
        request: &Request,
        fault: Option<&Fault>,
        rng: &mut fastrand::Rng,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let if_match = request.if_match.as_deref();
        let Some(record) = self.records.get_mut(key) else {
            // OData: a missing entity does not match any tag.
            return Err(match if_match {
                None | Some("*") => Refusal::Missing,
                Some(_) => Refusal::Conflict(Spelling::PreconditionFailed),
            });
        };
        if fault == Some(&Fault::Conflict {}) {
            record.outside_change(rng);
            self.ledger.totals.actor_changes += 1;
        }
        if if_match.is_some_and(|tags| !record.version.matches(tags)) {
            record.tally.conflicts += 1;
            return Err(Refusal::Conflict(self.faults.rates.spelling(rng)));
        }
        let changed = self.schema.read(body)?;
        Schema::check_write(&record.values, &changed, key)?;
        if fault == Some(&Fault::Ignore {}) {
            return Ok(Reply::empty(204));
        }
        let before = record.version;
        let judgement = record.write(&changed, rng);
        let seq = self.ledger.enter(
            judgement,
            Change {
                time: now,
                order: Arc::clone(&record.name),
                client: Arc::clone(&request.writer),
                request_id: request.client_request_id.clone(),
                before,
                after: record.version,
                changed,
            },
        );
        record.remember(seq);
        if fault == Some(&Fault::BodyForNoContent {}) {
            let tag = record.version.tag();
            let json = to_json(&record.entity(&self.schema, Some(&tag), None));
            return Ok(Reply { body: Body::Json(json), ..Reply::empty(200) });
        }
        Ok(Reply::empty(204))
    }
}
