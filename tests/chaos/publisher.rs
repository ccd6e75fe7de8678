//! Publishes updates all the time, each order's in order, whatever happens to the broker.
//!
//! An order has at most one update whose confirm is awaited. If that does not come, the same update
//! is published again before any later one of its order. So a queue may hold an update twice, next
//! to each other, and never out of order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::options::{INBOX, Options, SEQUENCE_PROPERTY};
use crate::parked::bad_of;

/// Confirms awaited at once. Enough for the rate, little enough that few are unknown after a loss.
const OUTSTANDING_MAX: usize = 64;
/// A confirm that takes this long is unknown.
const CONFIRM_MAX: Duration = Duration::from_secs(10);
/// How long a connection may take: less than the broker's restart, which is tried again.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Pause before a lost connection is opened again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// How long the last confirms may take once nothing new is published.
const FINISH_MAX: Duration = Duration::from_mins(1);
/// Orders that get a third of all updates, so that some always have several waiting.
const HOT_ORDERS: u64 = 10;
/// AMQP delivery mode "persistent".
const PERSISTENT: u8 = 2;

/// One update: its order and its number among those of the order.
pub(crate) type Update = (u64, u64);

/// What was published.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// The newest update of each order. Its updates are numbered from 1 without gaps.
    pub(crate) newest: BTreeMap<u64, u64>,
    /// Updates published again because their confirm was unknown.
    pub(crate) again: u64,
    /// Which: the first copy of each may be anywhere.
    pub(crate) copied: BTreeMap<u64, BTreeSet<u64>>,
    /// Connections that were lost.
    pub(crate) lost: u64,
    /// Updates without a confirm at the end, though the broker was well.
    pub(crate) unconfirmed: u64,
}

impl Published {
    /// Different updates.
    pub(crate) fn distinct(&self) -> u64 {
        self.newest.values().sum()
    }
}

/// What became of a publication.
struct Answer {
    update: Update,
    /// `None` if it is unknown.
    confirm: Option<Confirmation>,
}

/// The publisher.
pub(crate) struct Publisher {
    url: String,
    exchange: String,
    inbox: bool,
    orders: u64,
    sequenced: bool,
    parked: bool,
    tick: Duration,
    rng: fastrand::Rng,
    published: Published,
    /// Awaiting their confirm, by order.
    outstanding: BTreeMap<u64, u64>,
    /// To be published again first.
    again: VecDeque<Update>,
}

impl Publisher {
    /// Publishes to this exchange, to as many orders and at the rate that the options say.
    pub(crate) fn new(url: &str, exchange: String, options: &Options, seed: u64) -> Self {
        Self {
            url: url.to_owned(),
            exchange: if options.inbox { String::new() } else { exchange },
            inbox: options.inbox,
            orders: options.orders,
            sequenced: options.sequenced,
            parked: options.parked,
            tick: Duration::from_secs(1) / u32::try_from(options.rate).unwrap_or(1),
            rng: fastrand::Rng::with_seed(seed),
            published: Published::default(),
            outstanding: BTreeMap::new(),
            again: VecDeque::new(),
        }
    }

    /// Publishes until `stop`, then until everything is confirmed.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Published {
        let mut finish_by = None;
        loop {
            let session = self.session(&stop);
            let done = match finish_by {
                None => session.await,
                Some(end) => timeout(end - Instant::now(), session).await.unwrap_or(Ok(())),
            };
            if done.is_ok() {
                break;
            }
            // Unknown: published again, in whatever order, since each is of another order.
            self.again.extend(std::mem::take(&mut self.outstanding));
            if stop.is_cancelled() && finish_by.is_none() {
                finish_by = Some(Instant::now() + FINISH_MAX);
            }
            if finish_by.is_some_and(|end| end <= Instant::now()) {
                break;
            }
            sleep(RECONNECT_PAUSE).await;
        }
        self.published.unconfirmed = (self.again.len() + self.outstanding.len()) as u64;
        self.published
    }

    /// One connection. Returns when all is confirmed after `stop`, or when something is unknown.
    async fn session(&mut self, stop: &CancellationToken) -> Result<(), ()> {
        let (connection, channel) = connect(&self.url).await.ok_or(())?;
        // Taken back if it ends well.
        self.published.lost += 1;
        let mut confirms: FuturesUnordered<BoxFuture<'static, Answer>> = FuturesUnordered::new();
        let mut ticks = interval(self.tick);
        // A bounded rate: what was missed is not made up for.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_over = stop.is_cancelled() && self.again.is_empty();
            if is_over && confirms.is_empty() {
                drop(timeout(CONNECT_MAX, connection.close(200, "done".into())).await);
                self.published.lost -= 1;
                return Ok(());
            }
            tokio::select! { biased;
                Some(answer) = confirms.next() => self.note(answer)?,
                () = stop.cancelled(), if !stop.is_cancelled() => {}
                _ = ticks.tick(), if confirms.len() < OUTSTANDING_MAX && !is_over => {
                    let Some(update) = self.next() else { continue };
                    confirms.push(self.send(&channel, update).await?);
                }
            }
        }
    }

    /// What to publish now: first what is unknown, then the next update of an order at rest.
    fn next(&mut self) -> Option<Update> {
        if let Some(again) = self.again.pop_front() {
            self.published.again += 1;
            self.published.copied.entry(again.0).or_default().insert(again.1);
            return Some(again);
        }
        let hot = self.rng.u8(0..3) == 0;
        let orders = if hot { HOT_ORDERS.min(self.orders) } else { self.orders };
        let order = self.rng.u64(1..=orders);
        if self.outstanding.contains_key(&order) {
            return None;
        }
        let newest = self.published.newest.entry(order).or_default();
        *newest += 1;
        Some((order, *newest))
    }

    async fn send(
        &mut self,
        channel: &Channel,
        update: Update,
    ) -> Result<BoxFuture<'static, Answer>, ()> {
        self.outstanding.insert(update.0, update.1);
        let is_bad = self.parked && bad_of(update.0) == Some(update.1);
        let (key, body) = message(update, self.sequenced, is_bad);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into());
        let key = if self.inbox { INBOX } else { &key };
        let (exchange, key) = (self.exchange.as_str().into(), key.into());
        let sending = channel.basic_publish(exchange, key, options, body.as_bytes(), properties);
        let sent = timeout(CONFIRM_MAX, sending).await.map_err(drop)?.map_err(drop)?;
        Ok(Box::pin(async move {
            let confirm = timeout(CONFIRM_MAX, sent).await;
            Answer { update, confirm: confirm.ok().and_then(Result::ok) }
        }))
    }

    fn note(&mut self, answer: Answer) -> Result<(), ()> {
        let returned = match answer.confirm {
            Some(Confirmation::Ack(returned)) => returned,
            // Nobody took it. What is sent again is of an order that nothing else is sent of.
            Some(Confirmation::Nack(returned)) => {
                self.again.push_back(answer.update);
                returned
            }
            Some(Confirmation::NotRequested) | None => return Err(()),
        };
        if !self.again.contains(&answer.update) {
            self.outstanding.remove(&answer.update.0);
        }
        // The library may hand a return to the confirm of a neighbour: the body tells whose it is.
        if let Some(update) = returned.and_then(|returned| read(&returned.data)) {
            self.again.push_back(update);
            self.outstanding.insert(update.0, update.1);
        }
        Ok(())
    }
}

async fn connect(url: &str) -> Option<(Connection, Channel)> {
    let connecting = async {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok::<_, lapin::Error>((connection, channel))
    };
    timeout(CONNECT_MAX, connecting).await.ok()?.ok()
}

/// Routing key and body. The date makes neighbouring updates differ in a second property. Who writes
/// the number that the ledger judges by: the daemon if it knows the sequence, else the change itself. A
/// bad update names a property that the service does not have.
fn message((order, sequence): Update, sequenced: bool, is_bad: bool) -> (String, String) {
    let number = format!("SO-{order:06}");
    let day = 1 + (order + sequence * 7) % 28;
    let (key, date) =
        (json!({"dataAreaId": "USMF", "SalesOrderNumber": number}), format!("2025-02-{day:02}"));
    let mut body = if sequenced {
        json!({"key": key, "changes": {"DeliveryDate": date}, "sequence": sequence})
    } else {
        let changes = json!({"DeliveryDate": date, SEQUENCE_PROPERTY: sequence});
        json!({"key": key, "changes": changes})
    };
    if let Some(changes) = body.get_mut("changes").and_then(Value::as_object_mut).filter(|_| is_bad)
    {
        changes.insert("NoSuchProperty".to_owned(), json!(true));
    }
    (format!("USMF/{number}"), body.to_string())
}

/// Which update a body is, if it is one of ours.
pub(crate) fn read(body: &[u8]) -> Option<Update> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let order = order_of(body.get("key")?.get("SalesOrderNumber")?.as_str()?)?;
    let sequence = body.get("sequence").or_else(|| body.get("changes")?.get(SEQUENCE_PROPERTY));
    Some((order, sequence?.as_u64()?))
}

/// The number in an order's name, such as `SO-000007` or `USMF/SO-000007`.
pub(crate) fn order_of(name: &str) -> Option<u64> {
    name.rsplit_once("SO-")?.1.parse().ok()
}
