//! The application behind the gateway: who may see an order, what a GET shows, what a PATCH
//! changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::entity::{Changes, Schema};
use super::faults::Fault;
use super::key::{self, Key};
use super::ledger::Change;
use super::profile::{Manners, WithoutTag};
use super::record::Record;
use super::reply::{Body, Refusal, Reply, Spelling, to_json};
use super::request::{Operation, Prefer, Request};
use super::world::World;

/// Most orders that a list shows.
const PAGE_ORDERS_MAX: usize = 100;

/// What belongs to one request beside itself.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    pub(super) fault: Option<&'a Fault>,
    pub(super) rng: &'a mut fastrand::Rng,
    pub(super) now: Timestamp,
}

impl Visit<'_> {
    pub(super) fn is_struck(&self, fault: &Fault) -> bool {
        self.fault == Some(fault)
    }
}

impl World {
    pub(super) const fn manners(&self) -> &'static Manners {
        self.settings.profile.manners()
    }

    /// The application's own answer.
    pub(super) fn answer(&mut self, request: &Request, visit: &mut Visit<'_>) -> Reply {
        let answered = self.admitted(request, visit.now).and_then(|()| match &request.operation {
            Operation::Batch(batch) => match batch {
                Ok(batch) => self.batch(batch, visit),
                Err(error) => Err(Refusal::bad_request(*error)),
            },
            Operation::Get | Operation::Patch(_) | Operation::Other => self.single(request, visit),
        });
        answered.unwrap_or_else(|refusal| self.refuse(refusal))
    }

    /// A GET or a PATCH of one order.
    pub(super) fn single(
        &mut self,
        request: &Request,
        visit: &mut Visit<'_>,
    ) -> Result<Reply, Refusal> {
        if request.target == Err(key::Error::WholeSet) {
            return self.page(request, visit);
        }
        let key = self.visible(request)?;
        match &request.operation {
            Operation::Get => self.get(key, request, visit),
            Operation::Patch(_) => {
                self.outside_change(key, visit);
                let changes = self.judged(request, visit.rng)?;
                self.write(key, changes, request, visit)
            }
            Operation::Batch(_) | Operation::Other => Err(Refusal::method_not_allowed()),
        }
    }

    /// Counts a refusal and puts it into words.
    pub(super) fn refuse(&mut self, refusal: Refusal) -> Reply {
        if refusal.is_conflict() {
            self.ledger.totals.conflicts += 1;
        } else {
            self.ledger.totals.rejected += 1;
        }
        refusal.into_reply(self.manners())
    }

    /// Whether the caller may ask at all.
    fn admitted(&self, request: &Request, now: Timestamp) -> Result<(), Refusal> {
        if !self.lets_in(request, now) {
            return Err(Refusal::Unauthorized);
        }
        let reads = matches!(request.operation, Operation::Get | Operation::Other);
        let wants_csrf = self.settings.csrf.unwrap_or(self.manners().wants_csrf);
        if !wants_csrf || reads || self.csrf.is_valid(request.csrf(), request.cookies()) {
            Ok(())
        } else {
            Err(Refusal::Csrf)
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

    /// The order that is meant, if the caller may see it.
    fn visible<'a>(&self, request: &'a Request) -> Result<&'a Key, Refusal> {
        let key = request.target.as_ref().map_err(Refusal::bad_key)?;
        let hides = self.manners().has_companies && !request.cross_company;
        if hides && key.company != self.settings.default_company {
            return Err(Refusal::Missing);
        }
        Ok(key)
    }

    fn get(
        &mut self,
        key: &Key,
        request: &Request,
        visit: &mut Visit<'_>,
    ) -> Result<Reply, Refusal> {
        let record = self.records.get_mut(key).ok_or(Refusal::Missing)?;
        for name in request.select.iter().flatten() {
            self.schema.check_select(name)?;
        }
        let tag = record.version.tag();
        let bare = matches!(visit.fault, Some(Fault::NoEtag {} | Fault::NoEtagInBody {}));
        let annotation = (!bare).then_some(&*tag);
        let json = to_json(&record.entity(&self.schema, annotation, request.select.as_deref()));
        self.outside_change(key, visit);
        let headless = matches!(visit.fault, Some(Fault::NoEtag {} | Fault::NoEtagHeader {}));
        let headers = match request.session.as_deref() {
            Some(session) if self.settings.csrf.unwrap_or(self.manners().wants_csrf) => {
                self.csrf.fetched(session.token(), session.cookies(), visit.rng)
            }
            Some(_) | None => Vec::new(),
        };
        let etag = (!headless).then_some(tag);
        Ok(Reply { etag, headers, body: Body::Json(json), ..Reply::empty(200) })
    }

    /// The first orders by their names that the caller may see.
    fn page(&self, request: &Request, visit: &Visit<'_>) -> Result<Reply, Refusal> {
        if !matches!(request.operation, Operation::Get) {
            return Err(Refusal::method_not_allowed());
        }
        for name in request.select.iter().flatten() {
            self.schema.check_select(name)?;
        }
        let hides = self.manners().has_companies && !request.cross_company;
        let is_shown =
            |record: &&Record| !hides || record.key.company == self.settings.default_company;
        let mut shown: Vec<_> = self.records.values().filter(is_shown).collect();
        shown.sort_unstable_by_key(|record| &record.name);
        shown.truncate(request.top.unwrap_or(PAGE_ORDERS_MAX).min(PAGE_ORDERS_MAX));
        let bare = matches!(visit.fault, Some(Fault::NoEtag {} | Fault::NoEtagInBody {}));
        let tags: Vec<_> = shown.iter().map(|record| record.version.tag()).collect();
        let entity = |(record, tag): (&&Record, &String)| {
            let annotation = (!bare).then_some(&**tag);
            serde_json::value::to_raw_value(&record.entity(
                &self.schema,
                annotation,
                request.select.as_deref(),
            ))
        };
        let value: Vec<_> = shown.iter().zip(&tags).filter_map(|it| entity(it).ok()).collect();
        let json = to_json(&BTreeMap::from([("value", value)]));
        Ok(Reply { body: Body::Json(json), ..Reply::empty(200) })
    }

    /// What somebody else does, if the fault is that.
    pub(super) fn outside_change(&mut self, key: &Key, visit: &mut Visit<'_>) {
        if visit.is_struck(&Fault::Conflict {})
            && let Some(record) = self.records.get_mut(key)
        {
            record.outside_change(visit.rng);
            self.ledger.totals.actor_changes += 1;
        }
    }

    /// The changes that a PATCH would make, or why it must not. Changes nothing but the tallies.
    pub(super) fn judged(
        &mut self,
        request: &Request,
        rng: &mut fastrand::Rng,
    ) -> Result<Changes, Refusal> {
        let manners = self.manners();
        let key = self.visible(request)?;
        let Operation::Patch(body) = &request.operation else {
            return Err(Refusal::method_not_allowed());
        };
        let body = body.as_ref().map_err(|error| Refusal::bad_json(error))?;
        if let (None, WithoutTag::Refused(status)) = (&request.if_match, manners.without_tag) {
            return Err(Refusal::TagRequired { status });
        }
        // Finance & Operations rereads the row before it sets a field; others read the body first.
        let read = self.schema.read(body);
        if manners.body_first && read.is_err() {
            return read;
        }
        self.judge_tag(key, request, manners, rng)?;
        let changes = read?;
        if let Some(record) = self.records.get(key) {
            Schema::check_write(&record.values, &changes, key)?;
        }
        Ok(changes)
    }

    fn judge_tag(
        &mut self,
        key: &Key,
        request: &Request,
        manners: &Manners,
        rng: &mut fastrand::Rng,
    ) -> Result<(), Refusal> {
        let if_match = request.if_match.as_deref();
        let Some(record) = self.records.get_mut(key) else {
            return match if_match {
                None if manners.without_tag == WithoutTag::Upserted => Ok(()),
                None | Some("*") => Err(Refusal::Missing),
                // OData: a missing entity does not match any tag.
                Some(_) => Err(Refusal::Conflict(Spelling::PreconditionFailed)),
            };
        };
        if if_match.is_some_and(|tags| !record.version.matches(tags)) {
            record.tally.conflicts += 1;
            return Err(Refusal::Conflict(self.faults.rates.spelling(rng)));
        }
        Ok(())
    }

    /// Writes what was judged.
    pub(super) fn write(
        &mut self,
        key: &Key,
        changes: Changes,
        request: &Request,
        visit: &mut Visit<'_>,
    ) -> Result<Reply, Refusal> {
        if !self.records.contains_key(key) {
            if self.records.len() >= self.settings.orders_max {
                return Err(Refusal::bad_request("There is no room for another order."));
            }
            let values = self.schema.initial();
            self.insert(key.clone(), values);
        }
        let manners = self.manners();
        let record = self.records.get_mut(key).ok_or(Refusal::Missing)?;
        if !visit.is_struck(&Fault::Ignore {}) {
            let before = record.version;
            let judgement = record.write(&changes, visit.rng);
            let change = Change {
                time: visit.now,
                order: Arc::clone(&record.name),
                client: Arc::clone(&request.writer),
                request_id: request.client_request_id.clone(),
                before,
                after: record.version,
                changed: changes,
            };
            record.remember(self.ledger.enter(judgement, change));
        }
        let preferred = request.prefer.filter(|_| manners.hears_preference);
        let usual = if manners.shows_written { Prefer::Representation } else { Prefer::Minimal };
        let shows = preferred.unwrap_or(usual) == Prefer::Representation
            || visit.is_struck(&Fault::BodyForNoContent {});
        if !shows && !manners.tags_written {
            return Ok(Reply::empty(204));
        }
        let tag = record.version.tag();
        let reply = if shows {
            let json = to_json(&record.entity(&self.schema, Some(&tag), None));
            Reply { body: Body::Json(json), ..Reply::empty(200) }
        } else {
            Reply::empty(204)
        };
        Ok(Reply { etag: manners.tags_written.then_some(tag), ..reply })
    }
}
