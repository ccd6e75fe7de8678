//! The service that the orders live in, as the effects need it: one over HTTP, and under `tests/sim` one that
//! is simulated.

use std::sync::Arc;

use jiff::Timestamp;

use crate::dispatch::{Leave, Trail};
use crate::odata::Client;
use crate::order::{ETag, OrderKey, OrderUpdate};
use crate::protocol::Reply;

/// The service that the orders live in. A request is written once leave was taken, and `None` says that it
/// was refused.
pub trait Target: Send + Sync + 'static {
    /// One GET of an update's order: at least of what it is judged by.
    fn get(
        &self,
        update: &OrderUpdate,
        trail: Trail,
        leave: &Arc<Leave>,
    ) -> impl Future<Output = Option<Reply>> + Send;

    /// One PATCH under `If-Match`.
    fn patch(
        &self,
        key: &OrderKey,
        etag: &ETag,
        body: &str,
        trail: Trail,
        leave: &Arc<Leave>,
    ) -> impl Future<Output = Option<Reply>> + Send;

    /// One GET of this order, or of any.
    fn probe(&self, order: Option<&OrderKey>, trail: Trail) -> impl Future<Output = Reply> + Send;

    /// The wall clock of this pod, for records that people read.
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

impl Target for Client {
    fn get(
        &self,
        update: &OrderUpdate,
        trail: Trail,
        leave: &Arc<Leave>,
    ) -> impl Future<Output = Option<Reply>> + Send {
        Self::get(self, update, trail, leave)
    }

    fn patch(
        &self,
        key: &OrderKey,
        etag: &ETag,
        body: &str,
        trail: Trail,
        leave: &Arc<Leave>,
    ) -> impl Future<Output = Option<Reply>> + Send {
        Self::patch(self, key, etag, body, trail, leave)
    }

    fn probe(&self, order: Option<&OrderKey>, trail: Trail) -> impl Future<Output = Reply> + Send {
        Self::probe(self, order, trail)
    }
}
