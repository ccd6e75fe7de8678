//! What the world shows of itself and lets be changed from outside, beside serving requests.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::catalogue::{At, Name};
use super::faults::{self, Faults, Update};
use super::key::Key;
use super::ledger::{ChangesView, Totals};
use super::record::Record;
use super::reply::{Refusal, to_json};
use super::scenario::Act;
use super::switch::{Door, Strike, Switch};
use super::throttle::{Limits, Throttle};
use super::tokens::{self, Ask, Tokens};
use super::world::World;

/// What goes wrong, as it is shown.
#[derive(Debug, Serialize)]
struct FaultsView<'a> {
    #[serde(flatten)]
    faults: &'a Faults,
    #[serde(flatten)]
    switches: BTreeMap<Name, Vec<&'a Switch>>,
    throttle: &'a Limits,
    struck: &'a BTreeMap<Name, u64>,
}

/// Why an order cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// There is one with this key.
    #[error("the order exists")]
    Exists,
    /// See `orders_max` in the settings.
    #[error("there are {max} orders, and no more may exist")]
    Full {
        /// Orders allowed.
        max: usize,
    },
    /// A property is unknown or its value does not fit.
    #[error("{message}")]
    Property {
        /// What OData would say.
        message: String,
    },
}

impl World {
    /// All counters.
    pub fn totals(&self) -> &Totals {
        &self.ledger.totals
    }

    /// Begins a new book: counters and changes, not the orders.
    pub fn reset_ledger(&mut self) {
        self.ledger.reset();
        self.records.values_mut().for_each(Record::reset);
    }

    /// The applied changes after number `after`, at most `limit`.
    pub fn changes(&self, after: u64, limit: usize) -> ChangesView<'_> {
        self.ledger.page(&self.schema, after, limit)
    }

    /// One order as JSON: its properties, counters and latest changes.
    pub fn show(&self, key: &Key) -> Option<Bytes> {
        let record = self.records.get(key)?;
        Some(to_json(&record.view(&self.schema, &self.ledger)))
    }

    /// At most `limit` orders as JSON, by name; only those on which a rule was broken if
    /// `bad_only`.
    pub fn list(&self, bad_only: bool, limit: usize) -> Bytes {
        let wanted = |record: &&Record| !bad_only || record.is_bad();
        let mut records: Vec<&Record> = self.records.values().filter(wanted).collect();
        let total = records.len();
        records.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        records.truncate(limit);
        let orders: Vec<_> = records.iter().map(|record| record.summary()).collect();
        to_json(&json!({"orders": orders, "total": total}))
    }

    /// What goes wrong, and how often what has a name has struck.
    pub fn faults(&self) -> Bytes {
        to_json(&FaultsView {
            faults: &self.faults,
            switches: self.faults.switches.view(),
            throttle: self.throttle.limits(),
            struck: self.faults.switches.struck(),
        })
    }

    /// Changes what goes wrong, or nothing if the change is refused.
    pub fn set_faults(&mut self, update: Update, now: Timestamp) -> Result<(), faults::Error> {
        let throttle = update.throttle;
        self.faults.update(update, self.has_way_back, now)?;
        if let Some(limits) = throttle {
            self.throttle = Throttle::new(limits);
        }
        Ok(())
    }

    /// Ends everything that goes wrong. The limits are again those of the start.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
        self.throttle = Throttle::new(self.settings.limits());
    }

    /// What the token endpoint did.
    pub fn token_counts(&self) -> tokens::Counts {
        self.tokens.as_ref().map(Tokens::counts).unwrap_or_default()
    }

    /// Changes who gets tokens. From then on nobody is let in without one.
    pub fn set_tokens(&mut self, update: Map<String, Json>) -> serde_json::Result<()> {
        self.tokens.get_or_insert_with(|| Tokens::new(tokens::Settings::default())).update(update)
    }

    /// Makes every token dead that was given out so far.
    pub fn revoke_tokens(&mut self) {
        self.tokens.iter_mut().for_each(Tokens::revoke);
    }

    /// Makes every CSRF token invalid.
    pub fn expire_sessions(&mut self) {
        self.csrf.expire();
    }

    /// Carries out a step of a scenario.
    pub(super) fn act(&mut self, act: Act, now: Timestamp) {
        if act.clear {
            self.clear_faults();
        }
        if let Err(error) = self.set_faults(act.faults, now) {
            tracing::error!(%error, "a step of the scenario is left out");
        }
        if let Some(tokens) = act.tokens
            && let Err(error) = self.set_tokens(tokens)
        {
            tracing::error!(%error, "a step of the scenario is left out");
        }
        if act.revoke_tokens {
            self.revoke_tokens();
        }
    }

    /// The fault that strikes a request for a token.
    pub(super) fn token_strike(&mut self, now: Timestamp) -> Option<Strike> {
        let draw = self.strangers.u64(..);
        self.faults.switches.choose(At::Token, false, "", now, draw)
    }

    /// Answers a request for a token; `None` if there is no such endpoint.
    pub(super) fn give_token(
        &mut self,
        ask: &Ask<'_>,
        strike: Option<&Strike>,
        now: Timestamp,
    ) -> Option<tokens::Answer> {
        let mut rng = self.strangers.fork();
        Some(self.tokens.as_mut()?.answer(ask, strike, now, &mut rng))
    }

    /// Whether the port takes connections.
    pub(super) fn door(&self, now: Timestamp) -> Door {
        self.faults.switches.door(now)
    }

    /// Creates an order. `properties` are its initial values where they differ from the usual.
    pub fn create(&mut self, key: Key, properties: &Map<String, Json>) -> Result<(), CreateError> {
        if self.records.contains_key(&key) {
            return Err(CreateError::Exists);
        }
        let max = self.settings.orders_max;
        if self.records.len() >= max {
            return Err(CreateError::Full { max });
        }
        let changes = self.schema.read(properties).map_err(|refusal| match refusal {
            Refusal::Rejected { message, .. } => CreateError::Property { message },
            Refusal::Conflict(_)
            | Refusal::Missing
            | Refusal::Unauthorized
            | Refusal::Csrf
            | Refusal::TagRequired { .. }
            | Refusal::TooLong { .. } => CreateError::Property { message: format!("{refusal:?}") },
        })?;
        let mut values = self.schema.initial();
        for (position, value) in changes {
            if let Some(slot) = values.get_mut(position) {
                *slot = value;
            }
        }
        self.insert(key, values);
        Ok(())
    }
}
