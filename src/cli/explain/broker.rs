//! What the broker shows of an order.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::timeout;
use uuid::Uuid;

use crate::app::target;
use crate::broker::{self, Error, Link, Management, Parking, Publisher};
use crate::cli::dead_letters::desk::{Desk, Next};
use crate::config::Loaded;
use crate::dead_letter::Selection;
use crate::parking::Parked;

/// Letters of the order that are shown.
const SHOWN_MAX: usize = 100;

/// All that it shows.
#[derive(Debug, Serialize)]
pub(super) struct Seen {
    pub(super) shard: u16,
    pub(super) generation: u32,
    pub(super) queue: String,
    /// None where there is no such queue.
    pub(super) messages: Option<u32>,
    pub(super) consumers: Option<u32>,
    /// The pod that is served, as the management API tells: some seconds old.
    pub(super) served: Option<String>,
    /// How it stands still.
    pub(super) parked: Option<Parked>,
    /// None where they were not asked for.
    pub(super) letters: Option<Letters>,
}

/// Its dead letters.
#[derive(Debug, Default, Serialize)]
pub(super) struct Letters {
    /// Letters of all orders in the queue.
    pub(super) there: u64,
    /// How many of them were looked at, the oldest first.
    pub(super) looked_at: u64,
    /// Those of this order that were found; the last hundred are shown.
    pub(super) found: u64,
    pub(super) shown: Vec<Shown>,
    /// Why no more were looked at.
    pub(super) because: Option<String>,
}

/// One of them.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub(super) id: Uuid,
    pub(super) dead_lettered_at: Option<Timestamp>,
    pub(super) reason: String,
    pub(super) fingerprint: String,
    pub(super) status: Option<u16>,
    pub(super) etag: Option<String>,
    pub(super) detail: String,
}

impl Seen {
    /// Not all letters were looked at that were asked for.
    pub(super) fn is_cut_short(&self) -> bool {
        self.letters.as_ref().is_some_and(|letters| letters.because.is_some())
    }
}

/// Looks at everything, within the time that a start may take and the time that the letters take.
pub(super) async fn look(
    loaded: Loaded,
    order: &Arc<str>,
    letters_max: Option<u64>,
) -> Result<Seen, Error> {
    let management = Management::new(&loaded.settings.broker)?;
    let parks = loaded.settings.dead_letter.parks();
    let desk = Desk::open(loaded, "explain").await?;
    let (topology, connection) = (&desk.topology, &desk.connection);
    let limit = desk.settings.broker.start_timeout;
    let numbers = async {
        let (_, generations) = broker::inspect(connection, topology).await?;
        let live = generations.map_or_else(|| topology.generation(), |it| it.live);
        let (shard, queue) = target::home(order, topology, live);
        let depth = broker::depth(connection, &queue).await?;
        let served = match &management {
            Some(management) => served(management, &queue).await,
            None => None,
        };
        let parked = if parks { parked(&desk, order).await? } else { None };
        Ok(Seen {
            shard,
            generation: live.number,
            queue,
            messages: depth.map(|it| it.messages),
            consumers: depth.map(|it| it.consumers),
            served,
            parked,
            letters: None,
        })
    };
    // An answer that the loss of the connection overtook would be waited for without end.
    let seen = timeout(limit, numbers).await;
    let seen = seen.unwrap_or(Err(Error::Unconfirmed { seconds: limit.as_secs() }));
    let seen = match (seen, letters_max) {
        (Ok(seen), Some(most)) => {
            let letters = letters(&desk, order, most).await;
            letters.map(|letters| Seen { letters: Some(letters), ..seen })
        }
        (seen, _) => seen,
    };
    desk.leave().await;
    seen
}

/// The instance that is served. What the API does not tell is left out: it is asked besides.
async fn served(management: &Management, queue: &str) -> Option<String> {
    let subscribers = management.subscribers(queue).await.ok()?;
    let active = subscribers.into_iter().find(|it| it.active)?;
    let name = active.consumer_tag.rsplit_once('-').map(|(name, _)| name.to_owned());
    name.or(Some(active.consumer_tag))
}

/// How the order stands still, as the stream of the parked orders has it.
async fn parked(desk: &Desk, order: &str) -> Result<Option<Parked>, Error> {
    let settings = &desk.settings;
    let link = Link::new(&settings.broker, "orderwright explain parked orders")?;
    let publisher = Arc::new(Publisher::new(link, settings.broker.publish_timeout));
    let parking = Parking::new(publisher.clone(), &desk.topology, usize::MAX);
    let parked = tokio::select! { biased;
        ended = parking.follow(&desk.connection) => ended.map(|()| None),
        _reading = parking.ready() => Ok(parking.parked(order)),
    };
    publisher.close().await;
    parked
}

/// The order's dead letters. Somebody else who looks is no error: the rest is worth showing.
async fn letters(desk: &Desk, order: &str, most: u64) -> Result<Letters, Error> {
    let mut browser = match desk.browse(&desk.queue(false)).await {
        Ok(browser) => browser,
        Err(error @ Error::OperatorAtWork) => {
            return Ok(Letters { because: Some(error.to_string()), ..Letters::default() });
        }
        Err(error) => return Err(error),
    };
    let mut letters = Letters { there: browser.mark(), ..Letters::default() };
    let selection = Selection { orders: vec![order.to_owned()], ..Selection::default() };
    let looked = desk
        .go_over(&mut browser, 0..most, &selection, |letter, _held| {
            letters.found += 1;
            if letters.shown.len() == SHOWN_MAX {
                letters.shown.remove(0);
            }
            letters.shown.push(Shown {
                id: letter.id,
                dead_lettered_at: letter.dead_lettered_at,
                reason: letter.reason,
                fingerprint: letter.fingerprint,
                status: letter.status,
                etag: letter.etag,
                detail: letter.detail,
            });
            Next::More
        })
        .await;
    // Also after an error: what is given back in good order keeps its order.
    let closed = desk.close(browser).await;
    let looked = looked?;
    closed?;
    letters.looked_at = looked.seen;
    letters.because = if looked.interrupted {
        Some("it was interrupted".to_owned())
    } else {
        (looked.seen < letters.there).then(|| format!("{most} were to be looked at"))
    };
    Ok(letters)
}
