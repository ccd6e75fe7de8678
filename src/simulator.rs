//! Stands in for Dynamics 365 Finance & Operations, so that everything can be tested and shown
//! without an account: one entity set over OData, with entity tags, conflicts, faults and latency.
//!
//! ```text
//! TCP ──▶ server ──▶ request ──▶ world: arrive ─ judge ─ leave ──▶ reply ──▶ server ──▶ TCP
//!            │                              │
//!            └──▶ admin: /sim/…  ──────────▶├ records   the orders, each with its own dice
//!                                           ├ faults    what goes wrong, by rate or scripted
//!                                           └ ledger    what was asked and changed: the evidence
//! ```
//!
//! Read [`world::World`] first: it is the whole state, pure, and can be run without a socket. What
//! is absent: posting, numbering, other entities, `$filter`, batches in JSON, and any persistence.
//!
//! Where no public document says what the real system does, the assumption stands in a comment.

use serde::{Deserialize, Serialize};

mod admin;
mod answer;
pub mod batch;
pub mod catalogue;
mod clock;
mod connection;
mod csrf;
pub mod dialect;
mod door;
pub mod entity;
pub mod etag;
pub mod faults;
mod gzip;
pub mod inspect;
pub mod key;
pub mod latency;
pub mod ledger;
mod multipart;
pub mod profile;
pub mod rates;
mod record;
pub mod reply;
pub mod request;
mod response;
pub mod scenario;
mod server;
mod spans;
pub mod switch;
pub mod throttle;
pub mod tokens;
pub mod world;

pub use profile::Profile;
pub use server::serve;

/// What the stand-in is like. The defaults give an empty, instant and faultless system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Which product is imitated.
    pub profile: Profile,
    /// Orders that exist at the start: `SO-000001` and so on, in `company`.
    pub orders: usize,
    /// Most orders that may exist. An order takes about 1 KB.
    pub orders_max: usize,
    /// The company of the orders that exist at the start.
    pub company: String,
    /// The company of the user. Orders of any other need `?cross-company=true`, else they are 404.
    pub default_company: String,
    /// Name of the `Edm.Int64` property that tells the updates of one order apart.
    pub sequence_property: String,
    /// Determines every draw, per order: the same requests on an order meet the same fate.
    pub seed: u64,
    /// The only token that is let in; anyone is if absent.
    pub bearer_token: Option<String>,
    /// The token endpoint. Beside `bearer_token`, only what it gave out is let in.
    pub tokens: Option<tokens::Settings>,
    /// What goes wrong by rate.
    pub faults: rates::Rates,
    /// What is too much, instead of what the profile says.
    pub throttle: Option<throttle::Limits>,
    /// Whether writes need a CSRF token, instead of what the profile says.
    pub csrf: Option<bool>,
    /// What goes wrong when.
    #[serde(skip)]
    pub scenario: scenario::Scenario,
    /// How long a GET takes.
    pub get_latency: latency::Latency,
    /// How long a PATCH takes.
    pub patch_latency: latency::Latency,
    /// Applied changes that the ledger keeps; the oldest go first. A change takes about 0.5 KB.
    pub changes_max: usize,
    /// Most connections at a time. Further clients wait in the kernel's backlog.
    pub connections_max: usize,
    /// Most requests under way. Further ones are answered 503. More than `connections_max`, since a
    /// request whose client has left is carried out all the same.
    pub requests_max: u64,
    /// Longest request body. A longer one is answered 413.
    pub body_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            profile: Profile::Fo,
            orders: 0,
            orders_max: 2_000_000,
            company: "USMF".to_owned(),
            default_company: "DAT".to_owned(),
            sequence_property: "UpdateSequence".to_owned(),
            seed: 0,
            bearer_token: None,
            tokens: None,
            faults: rates::Rates::default(),
            throttle: None,
            csrf: None,
            scenario: scenario::Scenario::default(),
            get_latency: latency::Latency::NONE,
            patch_latency: latency::Latency::NONE,
            changes_max: 1_000_000,
            connections_max: 4_096,
            requests_max: 16_384,
            body_bytes_max: 1024 * 1024,
        }
    }
}

/// Why a stand-in cannot be set up. Always the settings' fault.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// A rate is out of range.
    #[error(transparent)]
    Faults(#[from] faults::Error),
    /// The sequence property must be a property of its own.
    #[error("the sequence property '{name}' is empty or already a property of the entity")]
    SequenceProperty {
        /// The name given.
        name: String,
    },
    /// More orders than may exist.
    #[error("{orders} orders, the limit is {max}")]
    TooManyOrders {
        /// Orders asked for.
        orders: usize,
        /// Orders allowed.
        max: usize,
    },
    /// Nothing could ever be answered.
    #[error("'{name}' is 0, so no request could be served")]
    Zero {
        /// The setting.
        name: &'static str,
    },
}

impl Settings {
    fn limits(&self) -> throttle::Limits {
        self.throttle.unwrap_or(self.profile.manners().limits)
    }

    /// Refuses what makes no sense.
    pub fn check(&self) -> Result<(), Error> {
        self.faults.check()?;
        self.limits().check().map_err(faults::Error::from)?;
        if self.orders > self.orders_max {
            return Err(Error::TooManyOrders { orders: self.orders, max: self.orders_max });
        }
        for (name, is_zero) in [
            ("connections_max", self.connections_max == 0),
            ("requests_max", self.requests_max == 0),
        ] {
            if is_zero {
                return Err(Error::Zero { name });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_from_any_part_of_them() {
        let json = r#"{"orders":3,"faults":{"conflict_rate":0.1},"get_latency":"80ms..600ms"}"#;
        let settings: Settings = serde_json::from_str(json).unwrap();
        assert_eq!((settings.orders, settings.faults.conflict_rate), (3, 0.1));
        assert_eq!(settings.get_latency.to_string(), "80ms..600ms");
        assert_eq!(settings.check(), Ok(()));
        assert!(serde_json::from_str::<Settings>(r#"{"order":3}"#).is_err());
    }

    #[test]
    fn senseless_settings_are_refused() {
        let refused = |settings: Settings| settings.check().is_err();
        assert!(refused(Settings { orders: 2, orders_max: 1, ..Settings::default() }));
        assert!(refused(Settings { connections_max: 0, ..Settings::default() }));
        let faults = rates::Rates { error_rate: -0.1, ..rates::Rates::default() };
        assert!(refused(Settings { faults, ..Settings::default() }));
        for name in ["", "dataAreaId", "SalesStatus"] {
            let settings = Settings { sequence_property: name.to_owned(), ..Settings::default() };
            assert!(world::World::new(settings).is_err(), "{name:?}");
        }
    }
}
