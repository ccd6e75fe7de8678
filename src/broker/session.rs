//! Consumes from all sources, over and over: a session is the life of one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lapin::Connection;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::balance::assign;
use super::balancer::Balancer;
use super::connection::close;
use super::delivery::Lease;
use super::peers::Peers;
use super::pulse::{Pulse, Session};
use super::restore::Restorer;
use super::shard::{End, Shard, Terms};
use super::slot::{Slot, Source};
use super::watchdog::Watchdog;
use super::{Delivery, Error, Link, Topology, connect};
use crate::config;
use crate::protocol::backoff;
use crate::telemetry::field;

/// Takes deliveries. Never waits: the prefetch is the only back-pressure there is.
pub trait Intake: Send + Sync + 'static {
    /// A delivery arrived.
    fn deliver(&self, delivery: Delivery);
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
    slots: Vec<Slot>,
    settings: config::Broker,
    balance: config::Balance,
    topology: Topology,
    settle_window: Duration,
    restorer: Restorer,
    instance: String,
    stops: Stops,
    peers: Peers,
    /// One permit appears with each slot's first subscription.
    subscribed: Arc<Semaphore>,
    generations: AtomicU64,
}

impl Consumer {
    /// Prepares.
    pub fn new(
        link: Link,
        topology: &Topology,
        settings: &config::Settings,
        instance: &str,
        stops: Stops,
    ) -> Self {
        let slots: Vec<_> =
            topology.sources().map(|(source, queue)| Slot::new(source, Arc::from(queue))).collect();
        let pod = uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid();
        let queues = slots.iter().map(|slot| slot.queue.clone());
        let peers = Peers::new(pod, topology.peers(), settings.balance.interval, queues);
        Self {
            link,
            peers,
            slots,
            settings: settings.broker.clone(),
            balance: settings.balance.clone(),
            topology: topology.clone(),
            settle_window: settings.dispatch.settle_window,
            restorer: Restorer::new(topology, settings),
            instance: instance.to_owned(),
            stops,
            subscribed: Arc::new(Semaphore::new(0)),
            generations: AtomicU64::new(0),
        }
    }

    /// Completes once every queue has been subscribed to for the first time.
    pub async fn ready(&self) {
        let slots = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        if let Ok(permits) = self.subscribed.acquire_many(slots).await {
            permits.forget();
        }
    }

    /// Runs until the drain is done. Begins with a connection that is there, and makes new ones with
    /// growing, jittered waits whenever it is lost.
    pub async fn run(self: Arc<Self>, first: Connection, intake: Arc<dyn Intake>) {
        let mut hints = JoinSet::new();
        // Hints go on until the channels are closed: a clean hand-over is told to the others.
        let closed = CancellationToken::new();
        if self.balance.enabled {
            let (me, closed) = (self.clone(), closed.clone());
            let link = self.link.named(&format!("orderwright {} hints", self.instance));
            hints.spawn(async move { me.peers.run(&link, closed).await });
        }
        let mut connection = Some(first);
        let mut failures = 0;
        loop {
            if let Some(connection) = connection.take() {
                let begun = Instant::now();
                self.clone().session(connection, intake.clone()).await;
                // A connection that dies at once is no success.
                if begun.elapsed() > self.settings.reconnect_wait_max {
                    failures = 0;
                }
            }
            if self.stops.stop.is_cancelled() {
                break;
            }
            self.pause(failures).await;
            failures = failures.saturating_add(1);
            if self.stops.stop.is_cancelled() {
                break;
            }
            match connect(&self.link).await {
                Ok(connected) => {
                    self.restorer.restore(&connected).await;
                    tracing::info!("connected to the broker again");
                    connection = Some(connected);
                }
                Err(error) => report(&error),
            }
        }
        closed.cancel();
        while hints.join_next().await.is_some() {}
    }

    async fn pause(&self, failures: u32) {
        let (min, max) = (self.settings.reconnect_wait_min, self.settings.reconnect_wait_max);
        // Full range: pods that lost the same broker must not come back together.
        let wait =
            backoff::jittered(backoff::exponential(failures, min, max), 0.5, fastrand::f64());
        sleep_unless(wait, &self.stops.stop).await;
    }

    /// One connection: a task for each queue. Ends when the connection does, or the drain.
    async fn session(self: Arc<Self>, connection: Connection, intake: Arc<dyn Intake>) {
        self.peers.renew();
        let connection = Arc::new(connection);
        let session = Session {
            pulse: Arc::new(Pulse::new(self.settings.heartbeat)),
            lost: CancellationToken::new(),
        };
        let mut helpers = JoinSet::new();
        let (pulse, heartbeat) = (session.clone(), self.settings.heartbeat);
        let beating = connection.clone();
        helpers.spawn(async move { pulse.watch(&beating, heartbeat).await });
        if self.balance.enabled {
            let (me, watched) = (self.clone(), connection.clone());
            helpers.spawn(async move {
                let Consumer { slots, peers, balance, .. } = &*me;
                let answer_max = me.settings.connect_timeout;
                let settings = balance;
                let shards = me.topology.shards();
                let dog = Watchdog { slots, peers, settings, answer_max, shards };
                let balancer = Balancer::new(slots, peers, balance, answer_max, shards);
                tokio::join!(balancer.run(), dog.run(&watched));
            });
        }
        let mut shards = JoinSet::new();
        for index in 0..self.slots.len() {
            let one = self.clone().slot(index, connection.clone(), session.clone(), intake.clone());
            shards.spawn(one);
        }
        while let Some(ended) = shards.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a bug: the task of a shard panicked; connecting anew");
                session.lost.cancel();
            }
        }
        helpers.shutdown().await;
        close(&connection, self.settings.connect_timeout).await;
    }

    /// One queue on this connection: a lease after the other.
    async fn slot(
        self: Arc<Self>,
        index: usize,
        connection: Arc<Connection>,
        session: Session,
        intake: Arc<dyn Intake>,
    ) {
        let Some(slot) = self.slots.get(index) else { return };
        let mut failures = 0;
        let mut anew = false;
        let over = || {
            !connection.status().connected()
                || session.lost.is_cancelled()
                || self.stops.stop.is_cancelled()
        };
        while !over() {
            let lease = self.lease(slot, &session);
            match self.subscribe(&connection, slot, lease.clone()).await {
                None => {}
                Some(shard) => {
                    if slot.is_first_time() {
                        self.subscribed.add_permits(1);
                    }
                    if anew {
                        // It stands behind the others now: they give it back to us once more.
                        self.peers.renew();
                    }
                    let begun = Instant::now();
                    slot.lease.send_replace(Some(lease.clone()));
                    let Stops { stop, force } = &self.stops;
                    let clean = || self.tell_clean(slot, &lease);
                    let end = shard.hold(intake.as_ref(), stop, force, clean).await;
                    if !matches!(end, End::GivenBack) {
                        self.peers.forget_clean(&slot.queue);
                        slot.broke(Instant::now());
                    }
                    slot.lease.send_replace(None);
                    if begun.elapsed() > self.settings.reconnect_wait_max {
                        failures = 0;
                    }
                    if told(&end, slot, &lease) {
                        continue;
                    }
                    anew = true;
                }
            }
            // Only a channel that ended alone waits here: a lost connection waits in `run`.
            if !over() {
                self.pause(failures).await;
                failures = failures.saturating_add(1);
            }
        }
    }

    /// Tells who should be next, as far as we know, that nothing of this shard is on the wire.
    fn tell_clean(&self, slot: &Slot, lease: &Lease) {
        let Source::Shard(shard) = slot.source else { return };
        // Requests of an earlier lease of ours may be at work as well.
        if slot.broke_within(self.settle_window) || !lease.is_clean() {
            return;
        }
        let mut pods = self.peers.view().borrow().clone();
        if self.stops.stop.is_cancelled() {
            pods.retain(|peer| peer.pod != self.peers.me().pod);
        }
        if let Some(next) = assign(self.topology.shards(), &pods).get(usize::from(shard)) {
            self.peers.tell_clean(&slot.queue, *next);
        }
    }

    fn lease(&self, slot: &Slot, session: &Session) -> Arc<Lease> {
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        let clean = self.peers.clean(&slot.queue);
        let (lost, pulse) = (session.lost.child_token(), session.pulse.clone());
        Arc::new(Lease::new(generation, slot.queue.clone(), lost, pulse, clean))
    }

    async fn subscribe(
        &self,
        connection: &Connection,
        slot: &Slot,
        lease: Arc<Lease>,
    ) -> Option<Shard> {
        let tag = format!("{}-{}", self.instance, lease.generation);
        let terms = Terms {
            prefetch: self.settings.prefetch,
            tag: &tag,
            answer_max: self.settings.connect_timeout,
        };
        match Shard::subscribe(connection, lease, slot.source, terms).await {
            Ok(Some(shard)) => return Some(shard),
            Ok(None) => {
                tracing::warn!({ field::QUEUE } = %slot.queue, "the broker does not answer");
            }
            Err(error) => {
                tracing::warn!({ field::QUEUE } = %slot.queue, %error, "cannot subscribe");
                self.restorer.missed(&error, connection).await;
            }
        }
        None
    }
}

/// Says how a lease ended. True where the next one may begin at once.
fn told(end: &End, slot: &Slot, lease: &Lease) -> bool {
    match end {
        End::GivenBack if lease.is_troubled() => {
            tracing::warn!(
                { field::QUEUE } = %slot.queue,
                "gave the shard up: a message can neither be settled nor skipped"
            );
            false
        }
        End::GivenBack | End::Abandoned => {
            tracing::debug!({ field::QUEUE } = %slot.queue, "gave the shard back");
            true
        }
        End::Broken(error) => {
            tracing::warn!(
                { field::QUEUE } = %slot.queue,
                error = error.as_ref().map(tracing::field::display),
                "lost the shard; what was delivered comes again"
            );
            false
        }
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
