//! What `tests/hot` times and counts of that which is nobody else's to call.

use std::sync::Arc;

use crate::config::Settings;
use crate::dispatch::Trail;
use crate::dispatch::measured::Alone;
use crate::odata::{self, Client};
use crate::order::{ETag, OrderUpdate};

/// A client and mailboxes that nothing is behind.
#[derive(Debug)]
pub struct Parts {
    client: Client,
    mailboxes: Alone,
}

impl Parts {
    /// With the default settings.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn new() -> Result<Self, odata::Error> {
        let client = Client::new(&Settings::default(), "measured")?;
        Ok(Self { client, mailboxes: Alone::default() })
    }

    /// The GET and the PATCH of an update with their URLs and headers, up to the token. Gives how many headers
    /// there are.
    #[must_use]
    pub fn headers(&self, update: &OrderUpdate, etag: &ETag) -> Option<usize> {
        let trail = Trail { walk: uuid::Uuid::nil(), attempt: uuid::Uuid::max() };
        odata::measured::headers(&self.client, update, etag, trail)
    }

    /// Two updates of an order at rest find its mailbox one after the other and are taken, until it is at rest
    /// again. Gives whether all went like that.
    #[must_use]
    pub fn mailbox(&self, order: &Arc<str>) -> bool {
        self.mailboxes.come_and_go(order)
    }
}
