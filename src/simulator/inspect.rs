//! What the world shows of itself and lets be changed from outside, beside serving requests.

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use super::faults::{self, Faults, Update};
use super::key::Key;
use super::ledger::{ChangesView, Totals};
use super::record::Record;
use super::reply::{Refusal, to_json};
use super::world::World;

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

    /// What goes wrong.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Changes what goes wrong, or nothing if the change is refused.
    pub fn set_faults(&mut self, update: Update) -> Result<(), faults::Error> {
        self.faults.update(update)
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
            Refusal::Conflict(_) | Refusal::Missing | Refusal::Unauthorized => {
                CreateError::Property { message: format!("{refusal:?}") }
            }
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
