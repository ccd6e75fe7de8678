//! A pod over any wire and any target. [`super::App`] has the same parts over sockets; `tests/sim` runs
//! several pods over none, in virtual time.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Error;
use super::drain::{Ended, drain};
use super::effects::Edges;
use super::intake::Front;
use super::limits::{guard, limits, texts};
use super::service::Target;
use crate::broker::wire::{Publish, Wire};
use crate::broker::{
    Consumer, Forwarder, Generations, Link, Notices, Publisher, Standing, Stops, Topology,
};
use crate::config::Settings;
use crate::dispatch::{Dispatch, Mailboxes, Snapshot, Status, Tally};
use crate::telemetry::metrics::Metrics;

/// A pod that is about to consume.
#[derive(Debug)]
pub struct Pod<T: Target, P: Publish> {
    settings: Settings,
    sight: Sight<T, P>,
    forwarder: Arc<Forwarder<P>>,
    front: Arc<Front<T, P>>,
    stop: CancellationToken,
    force: CancellationToken,
}

/// What can be seen of a pod from outside.
#[derive(Debug)]
pub struct Sight<T: Target, P: Publish> {
    consumer: Arc<Consumer>,
    dispatch: Arc<Dispatch<Edges<T, P>>>,
    tally: Arc<Tally>,
}

impl<T: Target, P: Publish> Clone for Sight<T, P> {
    fn clone(&self) -> Self {
        let Self { consumer, dispatch, tally } = self;
        let (consumer, dispatch, tally) = (consumer.clone(), dispatch.clone(), tally.clone());
        Self { consumer, dispatch, tally }
    }
}

impl<T: Target, P: Publish> Sight<T, P> {
    /// How it stands with the broker.
    pub fn standing(&self) -> Standing {
        self.consumer.standing()
    }

    /// How much waits.
    pub fn mailboxes(&self) -> Mailboxes {
        self.dispatch.mailboxes()
    }

    /// What is held back, and why.
    pub fn status(&self) -> Status {
        self.dispatch.status()
    }

    /// What was done.
    pub fn counts(&self) -> Snapshot {
        self.tally.snapshot()
    }
}

impl<T: Target, P: Publish> Pod<T, P> {
    /// Joins its parts. Streams are not read: there is one generation of shard queues, and nothing parks.
    ///
    /// # Errors
    /// Settings that no pod can run with.
    pub fn new(
        settings: Settings,
        instance: &str,
        (target, publisher): (T, P),
        metrics: Arc<Metrics>,
    ) -> Result<Self, Error> {
        let topology = Topology::of_all(&settings);
        let link = Link::new(&settings.broker, instance)?;
        let (stop, force) = (CancellationToken::new(), CancellationToken::new());
        let notices = Notices::new(link.clone(), settings.broker.notices_max, topology.prefix());
        let publisher = Arc::new(publisher);
        let publishing = (publisher.clone(), Arc::new(notices));
        let edges =
            Edges::new(target, publishing, &topology, &settings, instance, (&stop, metrics));
        let tally = Arc::new(Tally::default());
        let judging = (guard(&settings), texts(&settings));
        let dispatch =
            Dispatch::new(edges, limits(&settings), judging, tally.clone(), stop.clone());
        let dispatch = Arc::new(dispatch);
        let forwarder = Arc::new(Forwarder::new(&publisher, &topology, &settings));
        let (generations, known) = watch::channel(Generations::begun(topology.generation()));
        let stops = Stops { stop: stop.clone(), force: force.clone() };
        // Of a real broker: for what only such a one has.
        let real = Arc::new(Publisher::new(link.clone(), settings.broker.publish_timeout));
        let consumer = Arc::new(Consumer::new(
            link,
            real,
            &topology,
            generations,
            &settings,
            instance,
            (stops, dispatch.paused()),
        ));
        let counts = (tally.clone(), Arc::default());
        let front = Front::new(&settings, dispatch.clone(), counts, forwarder.clone(), known);
        let (front, sight) = (Arc::new(front), Sight { consumer, dispatch, tally });
        Ok(Self { settings, sight, forwarder, front, stop, force })
    }

    /// What can be seen of it while it runs.
    pub fn sight(&self) -> Sight<T, P> {
        self.sight.clone()
    }

    /// Consumes until `shutdown` completes, then drains, as [`super::App::run`] does.
    pub async fn run<W: Wire + Clone>(
        self,
        wire: W,
        first: W::Tie,
        shutdown: impl Future<Output = ()>,
    ) -> Ended {
        let Self { settings, sight, forwarder, front, stop, force } = self;
        let mut tasks = JoinSet::new();
        let consuming = sight.consumer.clone().run_over((wire.clone(), wire.clone()), first, front);
        tasks.spawn(wire.task(consuming));
        shutdown.await;
        let grace = settings.drain.grace;
        let ended = drain(&sight.dispatch, &mut tasks, (&stop, &force), grace).await;
        while tasks.join_next().await.is_some() {}
        forwarder.end();
        ended
    }
}
