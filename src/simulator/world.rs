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

use super::answer::Visit;
use super::csrf::Csrf;
use super::entity::{Schema, Value};
use super::faults::{Fault, Faults, On, Spot};
use super::key::Key;
use super::ledger::Ledger;
use super::record::Record;
use super::reply::{Delivery, Outcome, Reply};
use super::request::Request;
use super::throttle::{Refused, Throttle};
use super::tokens::Tokens;
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
    pub(super) throttle: Throttle,
    /// The token endpoint, if there is one.
    pub(super) tokens: Option<Tokens>,
    pub(super) csrf: Csrf,
    /// Whether `/sim/` can be reached while the port of `/data/` is closed.
    pub(super) has_way_back: bool,
    /// Dice for requests that meet no order.
    pub(super) strangers: fastrand::Rng,
    rec_ids: i64,
    visits: u64,
}

/// A request that was received and not yet carried out.
#[derive(Debug)]
#[must_use = "a request that arrived must be judged"]
pub struct Arrived {
    visit: u64,
    request: Request,
    refused: Option<Refused>,
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
    /// The orders of a `$batch`.
    keys: Vec<Key>,
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
            throttle: Throttle::new(settings.limits()),
            csrf: Csrf::new(settings.seed),
            tokens: settings.tokens.clone().map(Tokens::new),
            has_way_back: false,
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
        if let (Some(on), Some(record)) = (on, record)
            && record.arrive(on, &request.writer, visit, now)
        {
            self.ledger.totals.overlaps += 1;
        }
        for part in request.parts() {
            self.ledger.arrive_part(part.on());
            let record = part.target.as_ref().ok().and_then(|key| self.records.get_mut(key));
            if let (Some(on), Some(record)) = (part.on(), record)
                && record.arrive(on, &part.writer, visit, now)
            {
                self.ledger.totals.overlaps += 1;
            }
        }
        let mut arrived = Arrived {
            visit,
            request,
            refused: None,
            fault: crowded.then(Fault::unavailable),
            before: Duration::ZERO,
            after: Duration::ZERO,
            rng: rng.fork(),
        };
        if !crowded {
            self.take_up(&mut arrived, &mut rng, now);
        }
        arrived
    }

    /// How long a request takes, whether it is too much, and what goes wrong with it.
    fn take_up(&mut self, arrived: &mut Arrived, rng: &mut fastrand::Rng, now: Timestamp) {
        let request = &arrived.request;
        let Some(at) = request.at() else { return };
        let latency = self.latency(request, rng) * self.throttle.slowdown(now);
        if let Err(refused) = self.throttle.admit(self.ledger.in_flight(), latency, now, rng) {
            arrived.refused = Some(refused);
            return;
        }
        let order = request.target.as_ref().map(Key::to_string).unwrap_or_default();
        let spot = Spot { at, is_part: false, order: &order, now };
        arrived.fault = self.faults.choose(spot, rng);
        let stall = match &arrived.fault {
            Some(Fault::Stall { duration }) => *duration,
            Some(_) | None => Duration::ZERO,
        };
        arrived.after = latency / 2;
        arrived.before = latency.saturating_sub(arrived.after).saturating_add(stall);
    }

    /// A batch takes as long as its requests one after the other.
    fn latency(&self, request: &Request, rng: &mut fastrand::Rng) -> Duration {
        let mut sample = |on| match on {
            Some(On::Get) => self.settings.get_latency.sample(rng),
            Some(On::Patch) => self.settings.patch_latency.sample(rng),
            None => Duration::ZERO,
        };
        let alone = sample(request.on());
        request.parts().map(|part| sample(part.on())).fold(alone, Duration::saturating_add)
    }

    /// Carries a request out. The state changes here and nowhere else.
    pub fn judge(&mut self, arrived: Arrived, now: Timestamp) -> Judged {
        let Arrived { visit, request, refused, fault, mut rng, after, .. } = arrived;
        let aid = uuid::Builder::from_random_bytes(rng.u128(..).to_le_bytes()).into_uuid();
        if let Some(fault) = &fault {
            self.ledger.strike(fault);
        }
        let carried_out = match refused {
            Some(refused) => {
                self.ledger.totals.throttled += 1;
                Outcome::Reply(Reply::throttled(self.manners(), refused))
            }
            None => self.struck(fault.as_ref(), &request, &mut rng, now),
        };
        let outcome = match carried_out {
            Outcome::Reply(reply) => Outcome::Reply(Reply { aid, ..reply }),
            Outcome::CutInBody(reply) => Outcome::CutInBody(Reply { aid, ..reply }),
            Outcome::Cut => Outcome::Cut,
        };
        let keys = request.parts().filter_map(|part| part.target.clone().ok()).collect();
        Judged { visit, key: request.target.ok(), keys, outcome, after }
    }

    /// Ends a request: from here on its writer is not at work any more.
    pub fn leave(&mut self, judged: Judged) -> Outcome {
        self.ledger.leave();
        for key in judged.key.iter().chain(&judged.keys) {
            if let Some(record) = self.records.get_mut(key) {
                record.leave(judged.visit);
            }
        }
        judged.outcome
    }

    /// What the fault, if any, makes of the answer.
    pub(super) fn struck(
        &mut self,
        fault: Option<&Fault>,
        request: &Request,
        rng: &mut fastrand::Rng,
        now: Timestamp,
    ) -> Outcome {
        let manners = self.manners();
        let mut visit = Visit { fault, rng, now };
        let mut answer = |world: &mut Self| world.answer(request, &mut visit);
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
                let (message, retry_after) = (message.as_deref(), retry_after.clone());
                Outcome::Reply(Reply::fault(manners, *status, message, retry_after))
            }
            Some(Fault::Html {}) => Outcome::Reply(Reply::login_page()),
            Some(Fault::BadJson {}) => Outcome::Reply(Reply::bad_json()),
            Some(Fault::InvalidJson {}) => Outcome::Reply(Reply::invalid_json()),
            Some(Fault::HugeJson {}) => Outcome::Reply(Reply::huge_json()),
            Some(Fault::RevokeTokens {}) => {
                self.tokens.iter_mut().for_each(Tokens::revoke);
                Outcome::Reply(Reply::fault(manners, 401, None, None))
            }
            Some(Fault::Gzip {}) => delivered(answer(self), Delivery::Gzip),
            Some(Fault::SlowDrip { duration }) => {
                delivered(answer(self), Delivery::SlowDrip(*duration))
            }
            Some(Fault::CloseIdle { duration }) => {
                delivered(answer(self), Delivery::CloseIdle(*duration))
            }
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
                | Fault::NoEtagInBody {}
                | Fault::Ignore {}
                | Fault::BodyForNoContent {}
                | Fault::MissingParts {}
                | Fault::WrongContentId {}
                | Fault::OkInFailedGroup {},
            )
            | None => Outcome::Reply(answer(self)),
        }
    }
}

fn delivered(reply: Reply, delivery: Delivery) -> Outcome {
    Outcome::Reply(Reply { delivery, ..reply })
}

#[cfg(test)]
mod tests;
