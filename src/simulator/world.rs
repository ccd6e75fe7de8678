//! The state behind the socket, as a value that is told what happens.
//!
//! No socket, no clock and no dice of its own: time is an argument, and every draw comes from a
//! generator that the seed determines. So the same world serves a TCP port and a simulation in
//! virtual time.
//!
//! ```text
//! arrive ──▶ Arrived ── wait `before` ──▶ judge ──▶ Judged ── wait `after` ──▶ leave ──▶ Outcome
//! ```
//!
//! A request is carried out at one moment, `judge`, in the middle of its latency. So both the way
//! in and the way back take time, and the request is under way from `arrive` to `leave`.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::entity::{Schema, Value};
use super::faults::{Fault, Faults, On};
use super::key::Key;
use super::ledger::Ledger;
use super::record::Record;
use super::reply::{Outcome, Reply};
use super::request::Request;
use super::{Error, Settings};

/// The first RecId that the system gives out.
const REC_ID_FIRST: i64 = 5_637_144_576;

/// All orders, the faults, and the ledger.
#[derive(Debug)]
pub struct World {
    pub(super) schema: Schema,
    pub(super) records: HashMap<Key, Record>,
    pub(super) ledger: Ledger,
    pub(super) faults: Faults,
    pub(super) settings: Settings,
    /// Dice for requests that meet no order.
    strangers: fastrand::Rng,
    rec_ids: i64,
    visits: u64,
}

/// A request that was received and not yet carried out.
#[derive(Debug)]
#[must_use = "a request that arrived must be judged"]
pub struct Arrived {
    visit: u64,
    request: Request,
    fault: Option<Fault>,
    rng: fastrand::Rng,
    before: Duration,
    after: Duration,
}

/// A request that was carried out and not yet answered.
#[derive(Debug)]
#[must_use = "a request that was judged must leave"]
pub struct Judged {
    visit: u64,
    key: Option<Key>,
    outcome: Outcome,
    after: Duration,
}

impl Arrived {
    /// How long it takes until the request is carried out.
    pub const fn before(&self) -> Duration {
        self.before
    }

    /// Whether it takes no time at all.
    pub const fn is_instant(&self) -> bool {
        self.before.is_zero() && self.after.is_zero()
    }
}

impl Judged {
    /// How long it takes until the answer leaves.
    pub const fn after(&self) -> Duration {
        self.after
    }
}

impl World {
    /// A world with the orders that the settings ask for.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        settings.check()?;
        let schema = Schema::new(&settings.sequence_property)
            .ok_or_else(|| Error::SequenceProperty { name: settings.sequence_property.clone() })?;
        let mut world = Self {
            schema,
            records: HashMap::with_capacity(settings.orders),
            ledger: Ledger::new(settings.changes_max),
            faults: Faults { rates: settings.faults, ..Faults::default() },
            strangers: fastrand::Rng::with_seed(settings.seed),
            settings,
            rec_ids: REC_ID_FIRST,
            visits: 0,
        };
        for number in 1..=world.settings.orders {
            let key = Key::new(world.settings.company.clone(), format!("SO-{number:06}"));
            let values = world.schema.initial();
            world.insert(key, values);
        }
        Ok(world)
    }

    /// Adds an order. The caller has made sure that there is room and that the key is free.
    pub(super) fn insert(&mut self, key: Key, values: Vec<Value>) {
        let record = Record::new(key.clone(), self.rec_ids, values, self.settings.seed);
        self.rec_ids += 1;
        self.records.insert(key, record);
        self.ledger.totals.orders += 1;
    }

    /// Takes a request in: counts it, notes who is at work, and draws what will become of it.
    pub fn arrive(&mut self, request: Request, now: Timestamp) -> Arrived {
        self.visits += 1;
        let (visit, on) = (self.visits, request.on());
        let crowded = self.ledger.in_flight() >= self.settings.requests_max;
        self.ledger.arrive(on);
        let mut record = request.target.as_ref().ok().and_then(|key| self.records.get_mut(key));
        // A generator of its own, so that the draws for one request move no other.
        let mut rng = match &mut record {
            Some(record) => record.rng.fork(),
            None => self.strangers.fork(),
        };
        let mut fault = crowded.then(Fault::unavailable);
        if let Some(on) = on {
            if !crowded {
                let name = request.target.as_ref().map(Key::to_string).unwrap_or_default();
                fault = self.faults.choose(on, &name, &mut rng);
            }
            if record.is_some_and(|record| record.arrive(on, &request.writer, visit, now)) {
                self.ledger.totals.overlaps += 1;
            }
        }
        let latency = match on {
            _ if crowded => Duration::ZERO,
            Some(On::Get) => self.settings.get_latency.sample(&mut rng),
            Some(On::Patch) => self.settings.patch_latency.sample(&mut rng),
            None => Duration::ZERO,
        };
        let after = latency / 2;
        let stall = match &fault {
            Some(Fault::Stall { duration }) => *duration,
            Some(_) | None => Duration::ZERO,
        };
        Arrived {
            visit,
            request,
            fault,
            rng,
            before: latency.saturating_sub(after).saturating_add(stall),
            after,
        }
    }

    /// Carries a request out. The state changes here and nowhere else.
    pub fn judge(&mut self, arrived: Arrived, now: Timestamp) -> Judged {
        let Arrived { visit, request, fault, mut rng, after, .. } = arrived;
        let aid = uuid::Builder::from_random_bytes(rng.u128(..).to_le_bytes()).into_uuid();
        if let Some(fault) = &fault {
            self.ledger.strike(fault);
        }
        let outcome = match self.struck(fault.as_ref(), &request, &mut rng, now) {
            Outcome::Reply(reply) => Outcome::Reply(Reply { aid, ..reply }),
            Outcome::CutInBody(reply) => Outcome::CutInBody(Reply { aid, ..reply }),
            Outcome::Cut => Outcome::Cut,
        };
        Judged { visit, key: request.target.ok(), outcome, after }
    }

    /// Ends a request: from here on its writer is not at work any more.
    pub fn leave(&mut self, judged: Judged) -> Outcome {
        self.ledger.leave();
        if let Some(record) = judged.key.and_then(|key| self.records.get_mut(&key)) {
            record.leave(judged.visit);
        }
        judged.outcome
    }

    /// What the fault, if any, makes of the answer.
    fn struck(
        &mut self,
        fault: Option<&Fault>,
        request: &Request,
        rng: &mut fastrand::Rng,
        now: Timestamp,
    ) -> Outcome {
        let mut answer = |world: &mut Self| world.answer(request, fault, rng, now);
        match fault {
            Some(Fault::Cut {}) => Outcome::Cut,
            Some(Fault::LostReply {}) => {
                answer(self);
                Outcome::Cut
            }
            Some(Fault::CutBody {}) => Outcome::CutInBody(answer(self)),
            Some(Fault::Status { status, retry_after, message, applied }) => {
                if *applied {
                    answer(self);
                }
                Outcome::Reply(Reply::fault(*status, message.as_deref(), retry_after.clone()))
            }
            Some(Fault::Html {}) => Outcome::Reply(Reply::login_page()),
            Some(Fault::BadJson {}) => Outcome::Reply(Reply::bad_json()),
            Some(Fault::Delete {}) => {
                if let Ok(key) = &request.target
                    && self.records.remove(key).is_some()
                {
                    self.ledger.totals.orders -= 1;
                }
                Outcome::Reply(answer(self))
            }
            Some(
                Fault::Conflict {}
                | Fault::Stall { .. }
                | Fault::NoEtag {}
                | Fault::NoEtagHeader {}
                | Fault::Ignore {},
            )
            | None => Outcome::Reply(answer(self)),
        }
    }
}

#[cfg(test)]
mod tests;
