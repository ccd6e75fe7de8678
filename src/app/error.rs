//! Why the daemon did not start, with the exit code of each.

use super::exit;
use crate::broker;
use crate::odata;

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The HTTP client cannot be made.
    #[error("the target is not configured well")]
    Target(#[from] odata::Error),
    /// The broker cannot be reached, or refuses us.
    #[error("no start without the broker")]
    Broker(#[from] broker::Error),
    /// The objects could not be looked at in time.
    #[error("the broker did not answer for all its objects within broker.start_timeout")]
    Slow,
    /// The shards that there are could hand out more than the settings of the first start say.
    #[error(
        "{shards} shards, those of a generation that was left included, are more than the {most} that \
         broker.prefetch and order.body_bytes_max allow in 4 GiB: lower one"
    )]
    Memory {
        /// Of both generations.
        shards: u32,
        /// Of what the settings allow.
        most: u16,
    },
    /// Objects are missing or have another shape.
    #[error("the broker's objects are not as they should be:\n{0}")]
    Topology(String),
}

impl Error {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self {
            Self::Slow => exit::UNAVAILABLE,
            Self::Broker(error) if error.may_heal() => exit::UNAVAILABLE,
            Self::Target(_) | Self::Broker(_) | Self::Topology(_) | Self::Memory { .. } => {
                exit::CONFIG
            }
        }
    }
}
