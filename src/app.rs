//! The composition root: builds the edges, wires them together, and owns the order of the drain.

mod control;
mod drain;
mod effects;
mod error;
pub mod exit;
mod explain;
pub mod inspection;
mod intake;
mod limits;
mod message;
mod metering;
mod misplaced;
mod notice;
mod overtakers;
mod parker;
pub mod pod;
pub mod replay;
mod rounds;
mod service;
mod sight;
pub mod target;
mod watched;
mod written;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, Phase};
use crate::broker::{
    self, Consumer, Forwarder, Generations, Link, Notices, Parking, Publisher, Stops, Topology,
};
use crate::config::Settings;
use crate::dispatch::{Dispatch, Snapshot, Tally};
use crate::odata;
use crate::protocol::backoff;
use crate::telemetry::metrics::Metrics;
use control::Helm;
pub use drain::Ended;
use drain::{drain, ends_by_itself};
use effects::Edges;
pub use error::Error;
use explain::Places;
use intake::Front;
pub(crate) use intake::contract as intake_contract;
use limits::{guard, limits, texts};
pub use metering::Scene;
use rounds::Rounds;
pub use service::Target;
use sight::{Bounds, Sight};

/// How long closing channels and connections may take once everything is settled.
pub const CLOSE_MAX: Duration = Duration::from_secs(3);

/// How often it is looked whether the connection still lives during the start.
const LOSS_LOOK: Duration = Duration::from_millis(200);

/// A daemon that is connected and about to consume.
#[derive(Debug)]
pub struct App {
    settings: Settings,
    consumer: Arc<Consumer>,
    generations: watch::Receiver<Generations>,
    /// How many are heard of.
    pods: watch::Sender<usize>,
    connection: lapin::Connection,
    publisher: Arc<Publisher>,
    notices: Arc<Notices>,
    forwarder: Arc<Forwarder>,
    parking: Option<Arc<Parking>>,
    dispatch: Arc<Dispatch<Edges>>,
    tally: Arc<Tally>,
    settle_waits: Arc<AtomicU64>,
    admin: Arc<Admin>,
    rounds: Arc<Rounds>,
    stop: CancellationToken,
    force: CancellationToken,
}

/// Connects, waiting for a broker that is not up yet for at most `broker.start_timeout`.
///
/// # Errors
/// The last error when the time is up, or at once one that time cannot heal.
pub async fn connect(settings: &Settings, link: &Link) -> Result<lapin::Connection, Error> {
    let begun = Instant::now();
    let broker = &settings.broker;
    for failures in 0.. {
        let error = match broker::connect(link).await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        let (min, max) = (broker.reconnect_wait_min, broker.reconnect_wait_max);
        let wait =
            backoff::jittered(backoff::exponential(failures, min, max), 0.5, fastrand::f64());
        if !error.may_heal() || begun.elapsed() + wait > broker.start_timeout {
            return Err(error.into());
        }
        tracing::warn!(%error, "waiting for the broker");
        tokio::time::sleep(wait).await;
    }
    unreachable!("the loop ends with a connection or with the start timeout")
}

/// Connects and prepares. A broker that goes away meanwhile is waited for like one that is not there
/// yet.
async fn prepared(
    settings: &Settings,
    link: &Link,
    publisher: &Publisher,
    topology: &Topology,
) -> Result<(lapin::Connection, Generations), Error> {
    let begun = Instant::now();
    loop {
        let connection = connect(settings, link).await?;
        // The library never completes an answer that the loss of the connection overtook.
        let lost = async {
            while connection.status().connected() {
                tokio::time::sleep(LOSS_LOOK).await;
            }
        };
        let preparing = inspection::prepare(&connection, publisher, topology, settings);
        let prepared = tokio::select! { biased;
            prepared = preparing => prepared,
            () = lost => Err(broker::Error::Withdrawn.into()),
        };
        match prepared {
            Ok(generations) => return Ok((connection, generations)),
            Err(Error::Broker(error))
                if error.may_heal() && begun.elapsed() < settings.broker.start_timeout =>
            {
                tracing::warn!(%error, "the broker went away during the start; trying again");
                tokio::time::sleep(settings.broker.reconnect_wait_min).await;
            }
            Err(error) => return Err(error),
        }
    }
}

impl App {
    /// Connects, and checks or declares the broker's objects. Consumes nothing yet.
    ///
    /// # Errors
    /// Any [`Error`]; nothing has been touched then.
    pub async fn build(
        settings: Settings,
        instance: &str,
        (admin, metrics, scene): (Arc<Admin>, Arc<Metrics>, Scene),
    ) -> Result<Self, Error> {
        let link = Link::new(&settings.broker, &format!("orderwright {instance}"))?;
        let topology = Topology::of_all(&settings);
        let pods = watch::Sender::new(1);
        let client = odata::Client::new(&settings, instance)?;
        let client = client.gathering(&settings, pods.subscribe());
        let letters = link.named(&format!("orderwright {instance} dead letters"));
        let publisher = Arc::new(Publisher::new(letters, settings.broker.publish_timeout));
        let (connection, generations) = prepared(&settings, &link, &publisher, &topology).await?;

        let (stop, force) = (CancellationToken::new(), CancellationToken::new());
        let letters = &settings.dead_letter;
        let parking = letters.parks().then(|| {
            Arc::new(Parking::new(publisher.clone(), &topology, letters.parked_orders_max))
        });
        let answers = link.named(&format!("orderwright {instance} notices"));
        let notices =
            Arc::new(Notices::new(answers, settings.broker.notices_max, topology.prefix()));
        let publishing = (publisher.clone(), notices.clone());
        let watched = (&stop, metrics.clone());
        let edges = Edges::new(client.clone(), publishing, &topology, &settings, instance, watched)
            .parking(parking.clone());
        let written = edges.written();
        let tally = Arc::new(Tally::default());
        let (limits, judging) = (limits(&settings), (guard(&settings), texts(&settings)));
        let dispatch = Arc::new(Dispatch::new(edges, limits, judging, tally.clone(), stop.clone()));
        let forwarder = Arc::new(Forwarder::new(&publisher, &topology, &settings));
        let looks = link.named(&format!("orderwright {instance} looks"));
        let rounds = Arc::new(Rounds::new(looks, publisher.clone(), &topology, &settings));
        let stops = Stops { stop: stop.clone(), force: force.clone() };
        let (generations, known) = watch::channel(generations);
        let consumer = Consumer::new(
            link,
            publisher.clone(),
            &topology,
            generations,
            &settings,
            instance,
            (stops, dispatch.paused()),
        );
        let consumer = Arc::new(consumer.parking(parking.clone()));
        let settle_waits = Arc::default();
        let sight = Arc::new(Sight {
            dispatch: dispatch.clone(),
            tally: tally.clone(),
            consumer: consumer.clone(),
            publisher: publisher.clone(),
            forwarder: forwarder.clone(),
            client,
            settle_waits: Arc::clone(&settle_waits),
            bounds: Bounds::new(&settings),
            written,
            rounds: rounds.clone(),
            places: Places::new(&settings, &known, parking.as_ref()),
            shows_orders: settings.admin.show_orders,
        });
        scene.set(sight.clone());
        admin.show(sight);
        admin.obey(Arc::new(Helm(consumer.clone())));
        Ok(Self {
            settings,
            consumer,
            generations: known,
            pods,
            connection,
            publisher,
            notices,
            forwarder,
            parking,
            dispatch,
            tally,
            settle_waits,
            admin,
            rounds,
            stop,
            force,
        })
    }

    /// Tells those who share the quota how many pods there are.
    fn following(&self) -> JoinSet<()> {
        let mut following = JoinSet::new();
        let (consumer, dispatch) = (self.consumer.clone(), self.dispatch.clone());
        let pods = self.pods.clone();
        following.spawn(async move {
            let tell = |count| {
                dispatch.shared_by(count);
                pods.send_replace(count);
            };
            consumer.follow_pods(tell).await;
        });
        following
    }

    /// Consumes until `shutdown` completes, then drains. `ready` is called once every shard is
    /// subscribed to.
    pub async fn run(
        self,
        ready: impl FnOnce(),
        shutdown: impl Future<Output = ()>,
    ) -> (Ended, Snapshot) {
        // Ends with this function.
        let _following = self.following();
        let (dispatch, tally) = (self.dispatch.clone(), self.tally.clone());
        let (tally, forwarder) = ((tally, self.settle_waits.clone()), self.forwarder.clone());
        let front = Front::new(&self.settings, dispatch, tally, forwarder, self.generations);
        let mut tasks = JoinSet::new();
        tasks.spawn(self.consumer.clone().run(self.connection, Arc::new(front)));
        // Ends with the drain. If it ended by itself, nothing would stand still for it.
        let mut looking = JoinSet::new();
        let (rounds, consumer) = (self.rounds, self.consumer.clone());
        looking.spawn(async move { rounds.run(&consumer).await });
        let asked = async {
            tokio::pin!(shutdown);
            tokio::select! { biased;
                () = &mut shutdown => {}
                () = self.consumer.ready() => {
                    self.admin.enter(Phase::Consuming);
                    ready();
                    shutdown.await;
                }
            }
        };
        let failed = ends_by_itself(&mut tasks, asked).await;
        // From here on nothing begins: what is on the wire is finished, backoffs are given up.
        looking.abort_all();
        self.admin.enter(Phase::Draining);
        let (stops, grace) = ((&self.stop, &self.force), self.settings.drain.grace);
        let drained = drain(&self.dispatch, &mut tasks, stops, grace).await;
        let ended = if failed { Ended::Failed } else { drained };
        let closing = async {
            while tasks.join_next().await.is_some() {}
            self.forwarder.end();
            tokio::join!(self.publisher.close(), self.notices.close());
        };
        if timeout(CLOSE_MAX, closing).await.is_err() {
            tracing::warn!("the broker did not answer the goodbye");
        }
        let parked = self.parking.map(|parking| parking.figures()).unwrap_or_default();
        let snapshot = Snapshot {
            forwarded: self.forwarder.forwarded(),
            parked_orders: parked.orders,
            parked_oldest: parked.oldest,
            notices_sent: self.notices.sent(),
            notices_lost: self.notices.lost(),
            ..self.tally.snapshot()
        };
        (ended, snapshot)
    }
}
