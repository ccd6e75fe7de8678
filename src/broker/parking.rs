//! The stream that tells which orders stand still: read from the first record on, and written to.
//!
//! What is known is what was *read*. Whoever writes a record waits until it is read back, so that he sees
//! what came of it at its place among all others; and who wants to know what was written before now writes
//! a record of his own and waits for that.

use std::collections::HashMap;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::{BasicProperties, Connection};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::stream::Stream;
use super::{Error, Outgoing, Publisher, Receipt, Topology};
use crate::parking::{Change, Figures, Parked, Record, Set};
use crate::telemetry::field;

/// How long a record that was confirmed may take to be read back, since anything was read, before the reader is
/// taken for stuck. A long stream takes as long as it takes.
const READ_MAX: Duration = Duration::from_secs(15);

/// Between two attempts of a lease to read what was written before it.
const AGAIN: Duration = Duration::from_secs(1);

/// The parked orders as far as they were read, and the way to park more.
#[derive(Debug)]
pub struct Parking {
    publisher: Arc<Publisher>,
    exchange: String,
    stream: String,
    orders_max: usize,
    /// Whether the letters of each order are kept.
    keeps_letters: bool,
    inner: Mutex<Inner>,
    /// The reading that has come as far as the stream was when it was begun.
    known: watch::Sender<Option<u64>>,
    /// How many orders stand still.
    orders: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Counts how often the stream was begun to be read, from 1.
    reading: u64,
    /// As this reading tells.
    set: Set,
    /// Those who wait until their record is read.
    awaited: HashMap<Uuid, oneshot::Sender<(u64, Change)>>,
}

/// What a lease knows of the stream.
#[derive(Debug)]
pub(super) struct Passed {
    /// The reading in which all was read that was written before the lease began; 0 for none.
    reading: AtomicU64,
    /// One of its messages finds out for all.
    turn: Semaphore,
}

impl Default for Passed {
    fn default() -> Self {
        Self { reading: AtomicU64::new(0), turn: Semaphore::new(1) }
    }
}

/// Withdraws what was awaited, on every way out.
struct Awaited<'a> {
    parking: &'a Parking,
    id: Uuid,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.parking.inner().awaited.remove(&self.id);
    }
}

/// Nothing is known any more when the reader ends, in whatever way.
struct Reader<'a>(&'a Parking);

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.0.known.send_replace(None);
    }
}

impl Parking {
    /// Knows nothing yet. At most `orders_max` orders are parked.
    pub fn new(publisher: Arc<Publisher>, topology: &Topology, orders_max: usize) -> Self {
        Self {
            publisher,
            exchange: topology.forward(),
            stream: topology.parking(),
            orders_max,
            keeps_letters: false,
            inner: Mutex::default(),
            known: watch::Sender::new(None),
            orders: watch::Sender::new(0),
        }
    }

    /// Keeps the letters of each order as well: 16 bytes each.
    #[must_use]
    pub fn keeping_letters(self) -> Self {
        Self { keeps_letters: true, ..self }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until the stream can be read no more, from its first record on.
    ///
    /// # Errors
    /// Always: why it ended.
    pub async fn follow(&self, connection: &Connection) -> Result<(), Error> {
        let _reader = Reader(self);
        let reading = {
            let mut inner = self.inner();
            inner.reading += 1;
            inner.set = if self.keeps_letters { Set::with_letters() } else { Set::default() };
            inner.reading
        };
        let mut stream = Stream::open(connection, &self.stream, "first").await?;
        let caught_up = async {
            let read = self.append(&Record::Read { id: fresh() }).await;
            if read.is_ok() {
                self.known.send_replace(Some(reading));
                return pending().await;
            }
            read.map(|_| ())
        };
        tokio::select! { biased;
            ended = self.read(&mut stream, reading) => ended,
            ended = caught_up => ended,
        }
    }

    async fn read(&self, stream: &mut Stream, reading: u64) -> Result<(), Error> {
        let mut first = true;
        loop {
            let entry = stream.next().await?;
            if std::mem::take(&mut first) && entry.offset != 0 {
                tracing::error!(
                    { field::QUEUE } = self.stream,
                    first = entry.offset,
                    "the beginning of the stream is gone: nobody knows which orders stand still, so \
                     nothing is begun"
                );
                return Err(Error::Incomplete { stream: self.stream.clone() });
            }
            self.take(&entry.data, reading);
            entry.done().await?;
        }
    }

    fn take(&self, data: &[u8], reading: u64) {
        let record: Record = match serde_json::from_slice(data) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(%error, "a record of the parked orders that makes no sense; passed over");
                return;
            }
        };
        let mut inner = self.inner();
        let change = inner.set.apply(&record);
        let (awaited, orders) = (inner.awaited.remove(&record.id()), inner.set.len());
        drop(inner);
        self.orders.send_replace(orders);
        if let Some(awaited) = awaited {
            // Whoever waited may have given up.
            let _gone = awaited.send((reading, change));
        }
    }

    /// Writes a record, and waits until it is read back. May be given up at any time.
    ///
    /// # Errors
    /// As [`Publisher::publish`], and [`Error::Unread`]. The record may be there all the same; written
    /// again, it counts once.
    pub async fn write(&self, record: &Record) -> Result<Change, Error> {
        self.append(record).await.map(|(_, change)| change)
    }

    async fn append(&self, record: &Record) -> Result<(u64, Change), Error> {
        let (sender, mut read) = oneshot::channel();
        let id = record.id();
        self.inner().awaited.insert(id, sender);
        let _awaited = Awaited { parking: self, id };
        let Some(lane) = self.publisher.lane().await else { return Err(Error::Withdrawn) };
        let message = Outgoing {
            exchange: self.exchange.clone(),
            routing_key: self.stream.as_str().into(),
            properties: BasicProperties::default().with_content_type("application/json".into()),
            body: serde_json::to_vec(record).unwrap_or_default(),
        };
        self.publisher.publish(lane, &message, || true, pending()).await?;
        let mut news = self.news();
        loop {
            let unread = || Error::Unread { stream: self.stream.clone() };
            tokio::select! { biased;
                done = &mut read => return done.map_err(|_gone| unread()),
                moves = timeout(READ_MAX, news.changed()) => match moves {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => return Err(unread()),
                },
            }
        }
    }

    /// Waits until the stream can be written and read, and everything in it is known. Which reading of it
    /// that is.
    pub async fn ready(&self) -> u64 {
        let mut known = self.known.subscribe();
        loop {
            let now = *known.borrow_and_update();
            if let Some(reading) = now {
                return reading;
            }
            if known.changed().await.is_err() {
                // The sender is our own.
                return pending().await;
            }
        }
    }

    /// The letter behind which this order stands still, if it does. Waits until everything is known that
    /// was written before the delivery's lease began. May be given up at any time.
    pub async fn head(&self, receipt: &Receipt, order: &str) -> Option<Uuid> {
        let passed = &receipt.lease.passed;
        loop {
            let reading = self.ready().await;
            if passed.reading.load(Ordering::Acquire) != reading {
                self.pass(passed, reading).await;
                continue;
            }
            let inner = self.inner();
            // A reading that was begun meanwhile has not seen all yet.
            if inner.reading == reading {
                return inner.set.get(order).map(|parked| parked.head);
            }
        }
    }

    /// Everything that was written by now is read.
    async fn pass(&self, passed: &Passed, reading: u64) {
        let _turn = passed.turn.acquire().await;
        if passed.reading.load(Ordering::Acquire) == reading {
            return;
        }
        match self.append(&Record::Read { id: fresh() }).await {
            Ok((reading, _)) => passed.reading.store(reading, Ordering::Release),
            Err(error) => {
                tracing::warn!(%error, "cannot find out which orders stand still; trying again");
                sleep(AGAIN).await;
            }
        }
    }

    /// Whether this order stands still, as far as is known.
    pub fn is_parked(&self, order: &str) -> bool {
        self.inner().set.get(order).is_some()
    }

    /// Waits until this order is parked, or may be. Several at once may go a little beyond the limit. May be
    /// given up at any time.
    pub async fn room(&self, order: &str) {
        let mut orders = self.orders.subscribe();
        let mut told = false;
        loop {
            let count = *orders.borrow_and_update();
            if count < self.orders_max || self.is_parked(order) {
                return;
            }
            if !std::mem::replace(&mut told, true) {
                tracing::error!(
                    { field::ORDER } = order,
                    orders = count,
                    "as many orders are parked as dead_letter.parked_orders_max allows: this one waits \
                     with its message until one of them is released"
                );
            }
            if orders.changed().await.is_err() {
                return pending().await;
            }
        }
    }

    /// How this order stands still, if it does, as far as is known.
    pub fn parked(&self, order: &str) -> Option<Parked> {
        self.inner().set.get(order).cloned()
    }

    /// The same, and its letters in the order in which they died.
    pub fn standing(&self, order: &str) -> Option<(Parked, Vec<Uuid>)> {
        let inner = self.inner();
        let parked = inner.set.get(order)?.clone();
        Some((parked, inner.set.letters(order).to_vec()))
    }

    /// All orders that stand still, as far as is known.
    pub fn set(&self) -> Set {
        self.inner().set.clone()
    }

    /// Tells of every record that is read.
    pub fn news(&self) -> watch::Receiver<usize> {
        self.orders.subscribe()
    }

    /// How many orders may be parked.
    pub const fn orders_max(&self) -> usize {
        self.orders_max
    }

    /// How much is parked, as far as is known.
    pub fn figures(&self) -> Figures {
        self.inner().set.figures()
    }
}

fn fresh() -> Uuid {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid()
}
