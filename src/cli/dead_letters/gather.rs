//! Collects the dead letters that are meant, and holds them.

use std::time::Duration;

use lapin::Connection;
use tokio::time::timeout;

use super::super::instance;
use super::filters::Filters;
use crate::app::replay::Candidate;
use crate::broker::{self, Ahead, Browser, Error, Link, Ticket, Topology};
use crate::config::Settings;
use crate::dead_letter::{Found, Letter};

/// Bodies that are held at once, in bytes. What does not fit is left for the next time.
const BYTES_MAX: usize = 256 * 1024 * 1024;

/// Letters, and the look that holds them.
pub(super) struct Gathered {
    pub(super) connection: Connection,
    pub(super) browser: Browser,
    pub(super) candidates: Vec<Candidate>,
    /// The rights to take them out of the queue, in their order.
    pub(super) tickets: Vec<Ticket>,
    /// Letters that are meant as well and had no room.
    pub(super) left_over: u64,
}

/// An answer that the loss of the connection overtook would be waited for without end.
pub(super) async fn within<T>(
    limit: Duration,
    asked: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let seconds = limit.as_secs();
    timeout(limit, asked).await.map_err(|_elapsed| Error::Unconfirmed { seconds })?
}

/// Looks at all dead letters up to where their end is now. Those that come later are not part of it.
pub(super) async fn gather(
    settings: &Settings,
    filters: &Filters,
    limit: usize,
) -> Result<Gathered, Error> {
    let name = format!("orderwright dead-letters {}", instance(settings));
    let topology = Topology::new(&settings.topology);
    let connection = broker::connect(&Link::new(&settings.broker, &name)?).await?;
    let queue = topology.dead_letters();
    let opening = Browser::open(&connection, &topology, &queue, Ahead::default());
    let mut browser = within(settings.broker.start_timeout, opening).await?;
    let (selection, now) = (filters.selection(), jiff::Timestamp::now());
    let (mut candidates, mut tickets) = (Vec::new(), Vec::new());
    let (mut bytes, mut left_over) = (0_usize, 0);
    while let Some(held) = browser.next().await? {
        let letter = Letter::read(Found {
            properties: &held.properties,
            exchange: held.exchange.as_str(),
            routing_key: held.routing_key.as_str(),
            body: &held.body,
        });
        let headers = held.properties.headers().as_ref();
        if !selection.matches(&letter, headers, &held.body, now) {
            continue;
        }
        let size = held.body.len();
        // From the first one on that has no room: an order's later letters must not go before it.
        if left_over > 0 || candidates.len() >= limit || bytes.saturating_add(size) > BYTES_MAX {
            left_over += 1;
            continue;
        }
        bytes = bytes.saturating_add(size);
        let (candidate, ticket) = Candidate::new(letter, held);
        candidates.push(candidate);
        tickets.push(ticket);
    }
    Ok(Gathered { connection, browser, candidates, tickets, left_over })
}
