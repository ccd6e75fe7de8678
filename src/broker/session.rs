//! Consumes from all shards, over and over: a session is the life of one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lapin::Connection;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::delivery::Lease;
use super::shard::{End, Shard, Stops};
use super::{Delivery, Error, Link, Topology, connect};
use crate::config;
use crate::protocol::backoff;
use crate::telemetry::field;

/// Takes deliveries. Never waits: the prefetch is the only back-pressure there is.
pub trait Intake: Send + Sync + 'static {
    /// A delivery arrived.
    fn deliver(&self, delivery: Delivery);
}

/// Consumes from the shard queues until told to stop.
#[derive(Debug)]
pub struct Consumer {
    link: Link,
    queues: Vec<Arc<str>>,
    settings: config::Broker,
    instance: String,
    stops: Stops,
    /// One permit appears with each shard's first subscription.
    subscribed: Arc<Semaphore>,
    generations: AtomicU64,
}

impl Consumer {
    /// Prepares. `stop` ends the handing on, `drained` closes the channels.
    pub fn new(
        link: Link,
        topology: &Topology,
        settings: &config::Broker,
        instance: &str,
        stop: CancellationToken,
        drained: CancellationToken,
    ) -> Self {
        Self {
            link,
            queues: topology.shard_queues().map(Arc::from).collect(),
            settings: settings.clone(),
            instance: instance.to_owned(),
            stops: Stops { stop, drained },
            subscribed: Arc::new(Semaphore::new(0)),
            generations: AtomicU64::new(0),
        }
    }

    /// Completes once every shard has been subscribed to for the first time.
    pub async fn ready(&self) {
        let shards = u32::try_from(self.queues.len()).unwrap_or(u32::MAX);
        if let Ok(permits) = self.subscribed.acquire_many(shards).await {
            permits.forget();
        }
    }

    /// Runs until the drain is done. Begins with a connection that is there, and makes new ones with
    /// growing, jittered waits whenever it is lost.
    pub async fn run(self: Arc<Self>, first: Connection, intake: Arc<dyn Intake>) {
        let mut connection = Some(first);
        let mut failures = 0;
        loop {
            if let Some(connection) = connection.take() {
                failures = 0;
                self.clone().session(connection, intake.clone()).await;
            }
            if self.stops.stop.is_cancelled() {
                return;
            }
            self.pause(failures).await;
            failures = failures.saturating_add(1);
            if self.stops.stop.is_cancelled() {
                return;
            }
            match connect(&self.link).await {
                Ok(connected) => {
                    tracing::info!("connected to the broker again");
                    connection = Some(connected);
                }
                Err(error) => report(&error),
            }
        }
    }

    async fn pause(&self, failures: u32) {
        let (min, max) = (self.settings.reconnect_wait_min, self.settings.reconnect_wait_max);
        // Full range: pods that lost the same broker must not come back together.
        let wait =
            backoff::jittered(backoff::exponential(failures, min, max), 0.5, fastrand::f64());
        sleep_unless(wait, &self.stops.stop).await;
    }

    /// One connection: a task for each shard. Ends when the connection does, or the drain.
    async fn session(self: Arc<Self>, connection: Connection, intake: Arc<dyn Intake>) {
        let connection = Arc::new(connection);
        let mut shards = JoinSet::new();
        for queue in &self.queues {
            let shard = self.clone().shard(connection.clone(), queue.clone(), intake.clone());
            shards.spawn(shard);
        }
        while let Some(ended) = shards.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a bug: the task of a shard panicked");
            }
        }
        if let Err(error) = connection.close(200, "done".into()).await {
            tracing::debug!(%error, "the connection was closed already");
        }
    }

    /// One shard on this connection: a lease after the other.
    async fn shard(
        self: Arc<Self>,
        connection: Arc<Connection>,
        queue: Arc<str>,
        intake: Arc<dyn Intake>,
    ) {
        let mut failures = 0;
        let mut first = true;
        while connection.status().connected() && !self.stops.stop.is_cancelled() {
            let generation = self.generations.fetch_add(1, Ordering::Relaxed);
            let lease = Lease::new(generation, queue.clone());
            let tag = format!("{}-{generation}", self.instance);
            match Shard::subscribe(&connection, lease, self.settings.prefetch, &tag).await {
                Ok(shard) => {
                    if std::mem::take(&mut first) {
                        self.subscribed.add_permits(1);
                    }
                    failures = 0;
                    match shard.hold(intake.as_ref(), &self.stops).await {
                        End::Drained => return,
                        End::GivenUp => tracing::warn!(
                            { field::QUEUE } = %queue,
                            "gave the shard up: a message can neither be settled nor skipped"
                        ),
                        End::Broken(error) => tracing::warn!(
                            { field::QUEUE } = %queue,
                            error = error.map(tracing::field::display),
                            "lost the shard; what was delivered comes again"
                        ),
                    }
                }
                Err(error) => {
                    tracing::warn!({ field::QUEUE } = %queue, %error, "cannot subscribe");
                }
            }
            // Only a channel that ended alone waits here: a lost connection waits in `run`.
            if connection.status().connected() {
                self.pause(failures).await;
                failures = failures.saturating_add(1);
            }
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
        () = tokio::time::sleep(wait) => {}
    }
}
