//! Consumes from all sources, over and over: a session is the life of one connection, or of one
//! generation of shard queues.

mod beside;
mod follow;
mod halt;

mod leases;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::Connection;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use leases::One;

use super::parking::Parking;
use super::peers::Peers;
use super::pulse::Session;
use super::restore::Restorer;
use super::slot::{Slot, Source};
use super::standing::{Counts, add};
use super::wire::{Tie, Wire};
use super::{Delivery, Error, Generations, Link, Publisher, Topology};
use crate::config;
use crate::protocol::backoff;
use crate::telemetry::panics::caught;

/// Takes deliveries. Never waits: the prefetch is the only back-pressure there is.
pub trait Intake: Send + Sync + 'static {
    /// A delivery arrived.
    fn deliver(&self, delivery: Delivery);
    /// Deliveries come from these queues from now on, and from no others.
    fn turn_to(&self, queues: &BTreeSet<&str>);
}

/// When to stop: first beginning anything, then waiting for what was begun.
#[derive(Debug, Clone)]
pub struct Stops {
    /// Begin nothing more.
    pub stop: CancellationToken,
    /// The grace is over: close.
    pub force: CancellationToken,
}

/// Consumes until told to stop.
#[derive(Debug)]
pub struct Consumer {
    link: Link,
    publisher: Arc<Publisher>,
    pub(super) generations: watch::Sender<Generations>,
    /// The queues of the present generations. A queue that stays keeps its slot.
    slots: Mutex<Vec<Arc<Slot>>>,
    settings: config::Broker,
    balance: config::Balance,
    topology: Topology,
    settle_window: Duration,
    /// So many updates are worked on at the same time.
    workers: usize,
    restorer: Restorer,
    instance: String,
    stops: Stops,
    /// Whether nothing that is worked on here should be taken anew.
    pub(super) paused: watch::Receiver<bool>,
    pub(super) peers: Peers,
    /// Where dead letters park.
    parking: Option<Arc<Parking>>,
    /// Every queue of a session was subscribed to.
    ready: CancellationToken,
    channels: AtomicU64,
    pub(super) counts: Counts,
    reconnected: Notify,
}

impl Consumer {
    /// Prepares.
    pub fn new(
        link: Link,
        publisher: Arc<Publisher>,
        topology: &Topology,
        generations: watch::Sender<Generations>,
        settings: &config::Settings,
        instance: &str,
        (stops, paused): (Stops, watch::Receiver<bool>),
    ) -> Self {
        let pod = uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid();
        let (interval, prefetch) = (settings.balance.interval, settings.broker.prefetch);
        let peers = Peers::new(pod, topology.peers(), interval, prefetch);
        Self {
            link,
            publisher,
            generations,
            peers,
            slots: Mutex::default(),
            settings: settings.broker.clone(),
            balance: settings.balance.clone(),
            topology: topology.clone(),
            settle_window: settings.dispatch.settle_window,
            workers: settings.dispatch.concurrency_max,
            restorer: Restorer::new(topology, settings),
            instance: instance.to_owned(),
            stops,
            paused,
            parking: None,
            ready: CancellationToken::new(),
            channels: AtomicU64::new(0),
            counts: Counts::default(),
            reconnected: Notify::new(),
        }
    }

    /// Reads which orders are parked, and takes no shard while that is not known.
    #[must_use]
    pub fn parking(self, parking: Option<Arc<Parking>>) -> Self {
        Self { parking, ..self }
    }

    /// Completes once every queue has been subscribed to for the first time.
    pub async fn ready(&self) {
        self.ready.cancelled().await;
    }

    /// Completes once a connection was lost and another one made. For one who waits.
    pub async fn reconnected(&self) {
        self.reconnected.notified().await;
    }

    /// Runs until the drain is done. Begins with a connection that is there, and makes new ones with
    /// growing, jittered waits whenever it is lost.
    pub async fn run(self: Arc<Self>, first: Connection, intake: Arc<dyn Intake>) {
        let hints = self.link.named(&format!("orderwright {} hints", self.instance));
        let wires = (self.link.clone(), hints);
        self.run_over(wires, first, intake).await;
    }

    /// The same over any wire: one for what is consumed, and one for hints.
    pub(crate) async fn run_over<W: Wire>(
        self: Arc<Self>,
        (wire, talk): (W, W),
        first: W::Tie,
        intake: Arc<dyn Intake>,
    ) {
        let mut hints = JoinSet::new();
        // Hints go on until the channels are closed: a clean hand-over is told to the others.
        let closed = CancellationToken::new();
        if self.balance.enabled {
            let (me, closed) = (self.clone(), closed.clone());
            let talking = async move { me.peers.run(&talk, closed).await };
            hints.spawn(wire.task(talking));
        }
        let mut connection = Some(first);
        let mut failures = 0;
        while !self.stops.stop.is_cancelled() {
            let mut anew = false;
            if let Some(connection) = connection.take() {
                let begun = Instant::now();
                anew = self.clone().session(connection, intake.clone()).await;
                // A connection that dies at once is no success.
                if begun.elapsed() > self.settings.reconnect_wait_max {
                    failures = 0;
                }
            }
            if !anew {
                self.pause(failures).await;
                failures = failures.saturating_add(1);
            }
            if self.stops.stop.is_cancelled() {
                break;
            }
            match wire.connect().await {
                Ok(connected) => {
                    if let Some(connected) = connected.lapin().filter(|_| !anew) {
                        self.restore(connected).await;
                    }
                    add(&self.counts.reconnects);
                    self.reconnected.notify_one();
                    tracing::info!("connected to the broker again");
                    connection = Some(connected);
                }
                Err(error) => report(&error),
            }
        }
        closed.cancel();
        while hints.join_next().await.is_some() {}
    }

    /// The broker may have come back without our objects, or with another generation.
    async fn restore(&self, connection: &Connection) {
        // Should the stream be gone, it begins anew with what we know.
        let known = self.generations.borrow().live;
        if let Some(now) = self.restorer.restore(connection, &self.publisher, known).await {
            self.learn(now);
        }
    }

    /// What was read elsewhere may be older by now.
    fn learn(&self, read: Generations) {
        self.generations.send_if_modified(|known| {
            let is_news = read.is_after(known);
            if is_news {
                *known = read;
            }
            is_news
        });
    }

    async fn pause(&self, failures: u32) {
        let (min, max) = (self.settings.reconnect_wait_min, self.settings.reconnect_wait_max);
        // Full range: pods that lost the same broker must not come back together.
        let wait =
            backoff::jittered(backoff::exponential(failures, min, max), 0.5, fastrand::f64());
        sleep_unless(wait, &self.stops.stop).await;
    }

    /// One connection: a task for each queue. Ends when the connection does, or the drain, or when
    /// another generation is to be worked on: true in that case.
    async fn session(self: Arc<Self>, connection: impl Tie, intake: Arc<dyn Intake>) -> bool {
        let generations = self.generations.borrow().clone();
        let slots = self.slots(&generations);
        intake.turn_to(&slots.iter().map(|slot| &*slot.queue).collect());
        self.peers.renew();
        let connection = Arc::new(connection);
        let session = Session::new(self.settings.heartbeat, self.settle_window, self.workers);
        self.counts.connected.store(true, Ordering::Relaxed);
        let mut helpers = self.clone().helpers(&connection, &session, &slots, generations.live);
        let turned = CancellationToken::new();
        // Queues of a generation that was left may be gone already.
        let needed =
            slots.iter().filter(|slot| !matches!(slot.source, Source::Left { .. })).count();
        let unready = Arc::new(AtomicU64::new(u64::try_from(needed).unwrap_or(u64::MAX)));
        let mut shards = JoinSet::new();
        for slot in &slots {
            let (kept, session) = (connection.clone(), session.clone());
            let turned = turned.clone();
            let one = One { slot: slot.clone(), connection: kept, session, turned };
            let leasing = caught(self.clone().slot(one, intake.clone(), unready.clone()));
            shards.spawn(connection.task(leasing));
        }
        let mut changes = self.generations.subscribe();
        loop {
            tokio::select! { biased;
                ended = shards.join_next() => match ended {
                    None => break,
                    // Nobody aborts them.
                    Some(Ok(Ok(())) | Err(_)) => {}
                    Some(Ok(Err(panicked))) => {
                        tracing::error!(
                            error = %panicked,
                            "a bug: the task of a shard panicked; connecting anew"
                        );
                        session.is_told();
                        session.lost.cancel();
                    }
                },
                Ok(now) = changes.wait_for(|now| now.live != generations.live), if !turned.is_cancelled() => {
                    tracing::info!(generation = now.live.number, shards = now.live.shards, "another generation");
                    turned.cancel();
                    for lease in slots.iter().filter_map(|slot| slot.lease.borrow().clone()) {
                        lease.ending.cancel();
                    }
                }
            }
        }
        self.counts.connected.store(false, Ordering::Relaxed);
        if !turned.is_cancelled() && !self.stops.stop.is_cancelled() {
            // No shard may have been subscribed to.
            session.tell_lost(None);
        }
        helpers.shutdown().await;
        connection.close(self.settings.connect_timeout).await;
        turned.is_cancelled()
    }

    /// The queues that are consumed from at present.
    pub(super) fn consumed(&self) -> Vec<Arc<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The queues to consume from in these generations.
    fn slots(&self, generations: &Generations) -> Vec<Arc<Slot>> {
        let mut known = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = |(source, queue): (Source, String)| {
            let kept = known.iter().find(|slot| slot.source == source && *slot.queue == *queue);
            kept.cloned().unwrap_or_else(|| Arc::new(Slot::new(source, Arc::from(queue))))
        };
        let slots: Vec<_> = self.topology.sources(generations).into_iter().map(slot).collect();
        known.clone_from(&slots);
        self.peers.expect(slots.iter().map(|slot| slot.queue.clone()));
        slots
    }
}

fn report(error: &Error) {
    let source = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(%error, source, "cannot connect to the broker; trying again");
}

async fn sleep_unless(wait: Duration, stop: &CancellationToken) {
    tokio::select! { biased;
        () = stop.cancelled() => {}
        () = sleep(wait) => {}
    }
}
