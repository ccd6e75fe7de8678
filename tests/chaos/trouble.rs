//! Does the faults, one lane beside the other, and writes down when it did what.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::Result;
use crate::broker::Broker;
use crate::fault::{Deck, Kind, Term};
use crate::fleet::{Fleet, HEARTBEAT, Worker};
use crate::ledger::Reader;
use crate::reshard::reshard;
use crate::ring::Ring;

/// A restart takes some 5 to 10 s; the broker's script has bounds of its own.
const BROKER_MAX: Duration = Duration::from_secs(150);
/// Fewer workers than this could not take over from each other.
const WORKERS_MIN: u64 = 2;

/// What a service that is down may answer to everything.
const OUTAGES: [&str; 8] = [
    "f5_gateway_page",
    "f7_no_retry_after",
    "f8_unauthorized",
    "f8_forbidden",
    "f9_redirect",
    "f10_login_page",
    "f15_no_etag",
    "f18_maintenance",
];

/// One fault, as it was done.
#[derive(Debug, Clone)]
pub(crate) struct Injected {
    pub(crate) kind: Kind,
    pub(crate) begun: Timestamp,
    pub(crate) ended: Timestamp,
    /// The worker that it struck.
    pub(crate) worker: Option<u64>,
}

/// A fault was done.
struct Struck {
    worker: Option<u64>,
}

/// What faults are done to, and the book that is kept of them.
pub(crate) struct Trouble<'a> {
    pub(crate) fleet: &'a Fleet<'a>,
    pub(crate) broker: &'a Broker,
    pub(crate) ring: &'a Ring,
    /// Workers at the start.
    pub(crate) workers: u64,
    pub(crate) begun: Instant,
    pub(crate) book: Mutex<Vec<Injected>>,
    /// Held while the broker is down: nothing can be bound then.
    pub(crate) broker_at_rest: tokio::sync::Mutex<()>,
}

impl Trouble<'_> {
    /// Draws faults from a deck and does them until the time is up.
    pub(crate) async fn lane(&self, mut deck: Deck, term: Term) -> Result<()> {
        while let Some((pause, kind, dice)) = deck.draw() {
            let rarest = deck.kinds().iter().map(|kind| self.count(*kind)).min();
            if term.is_over(Instant::now() + pause, rarest.unwrap_or_default()) {
                break;
            }
            sleep(pause).await;
            let begun = Timestamp::now();
            let Some(Struck { worker }) = Box::pin(self.inject(kind, dice)).await? else {
                continue;
            };
            let injected = Injected { kind, begun, ended: Timestamp::now(), worker };
            self.book.lock().unwrap_or_else(PoisonError::into_inner).push(injected);
        }
        Ok(())
    }

    fn count(&self, kind: Kind) -> u64 {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.iter().filter(|fault| fault.kind == kind).count() as u64
    }

    /// `None` if there was nobody to do it to.
    async fn inject(&self, kind: Kind, mut dice: fastrand::Rng) -> Result<Option<Struck>> {
        let nobody = Some(Struck { worker: None });
        match kind {
            Kind::Ring => {
                let _at_rest = self.broker_at_rest.lock().await;
                let Some(shard) = self.ring.scramble(&mut dice).await? else { return Ok(None) };
                self.tell(kind, &format!("shard {shard} unbound and bound again"));
                return Ok(nobody);
            }
            Kind::Reshard => {
                self.reshard(&mut dice).await?;
                return Ok(nobody);
            }
            Kind::Throttle | Kind::Down => {
                self.service(kind, &mut dice).await?;
                return Ok(nobody);
            }
            Kind::Broker | Kind::Crash | Kind::Node | Kind::Freeze => {
                return self.broker(kind, &mut dice).await.map(|()| nobody);
            }
            Kind::Kill
            | Kind::Term
            | Kind::Scale
            | Kind::Reset
            | Kind::Stop
            | Kind::Cut
            | Kind::Mute => {}
        }
        if kind == Kind::Scale && self.grows(&mut dice) {
            let new = self.fleet.start().await?;
            self.tell(kind, &format!("worker-{new} joins, {} alive", self.fleet.alive()));
            return Ok(nobody);
        }
        let Some(worker) = self.fleet.lend(&mut dice) else { return Ok(None) };
        let number = worker.number;
        match kind {
            Kind::Kill => self.replace(kind, worker, "KILL").await?,
            Kind::Term => self.replace(kind, worker, "TERM").await?,
            Kind::Scale => {
                self.tell(kind, &format!("worker-{number} leaves"));
                self.fleet.end(worker, "TERM").await?;
            }
            Kind::Reset => {
                worker.link.reset();
                self.tell(kind, &format!("worker-{number}"));
                self.fleet.give_back(worker);
            }
            Kind::Stop => self.stop(worker, &mut dice).await?,
            Kind::Cut => self.cut(worker, &mut dice).await,
            Kind::Mute => self.mute(worker, &mut dice).await,
            Kind::Throttle
            | Kind::Down
            | Kind::Ring
            | Kind::Reshard
            | Kind::Broker
            | Kind::Crash
            | Kind::Node
            | Kind::Freeze => {}
        }
        Ok(Some(Struck { worker: Some(number) }))
    }

    fn grows(&self, dice: &mut fastrand::Rng) -> bool {
        let alive = self.fleet.alive();
        alive <= WORKERS_MIN || (alive < self.workers + 2 && dice.bool())
    }

    async fn replace(&self, kind: Kind, worker: Worker, signal: &str) -> Result<()> {
        let number = worker.number;
        self.fleet.end(worker, signal).await?;
        let new = self.fleet.start().await?;
        self.tell(kind, &format!("worker-{number}, and worker-{new} in its place"));
        Ok(())
    }

    /// There and back. A command that is killed leaves a cluster between two generations, for a while.
    async fn reshard(&self, dice: &mut fastrand::Rng) -> Result<()> {
        let shards = self.ring.other_number();
        let killed = dice.bool().then(|| Duration::from_millis(dice.u64(100..5_000)));
        self.tell(Kind::Reshard, &format!("to {shards} shards"));
        let Fleet { ground, options, .. } = self.fleet;
        let mut done = reshard(ground, options, shards, killed).await?;
        if done.is_none() {
            self.tell(Kind::Reshard, "killed");
            sleep(Duration::from_millis(dice.u64(0..4_000))).await;
            done = reshard(ground, options, shards, None).await?;
        }
        if let Some(generation) = done {
            self.ring.turned(generation);
            self.tell(
                Kind::Reshard,
                &format!("generation {} has {} shards", generation.0, generation.1),
            );
        }
        Ok(())
    }

    /// Longer than the broker waits for a sign of life.
    async fn stop(&self, worker: Worker, dice: &mut fastrand::Rng) -> Result<()> {
        let pause = HEARTBEAT * 3 + Duration::from_millis(dice.u64(500..3_000));
        self.tell(Kind::Stop, &format!("worker-{} for {} s", worker.number, pause.as_secs()));
        worker.process.signal("STOP").await?;
        sleep(pause).await;
        worker.process.signal("CONT").await?;
        self.fleet.give_back(worker);
        Ok(())
    }

    /// From a moment that nobody notices up to one after which the broker has given it up.
    async fn cut(&self, worker: Worker, dice: &mut fastrand::Rng) {
        let short = dice.u8(0..4) == 0;
        let cut = Duration::from_millis(dice.u64(if short { 500..11_000 } else { 14_500..18_000 }));
        self.tell(Kind::Cut, &format!("worker-{} for {} s", worker.number, cut.as_secs()));
        worker.link.cut();
        sleep(cut).await;
        worker.link.heal();
        self.fleet.give_back(worker);
    }

    /// Long enough for several requests to be given up, too short to exhaust their retries.
    async fn mute(&self, worker: Worker, dice: &mut fastrand::Rng) {
        let mute = Duration::from_millis(dice.u64(1_000..9_000));
        self.tell(Kind::Mute, &format!("worker-{} for {} s", worker.number, mute.as_secs()));
        worker.service.cut();
        sleep(mute).await;
        worker.service.heal();
        self.fleet.give_back(worker);
    }

    /// Some seconds of trouble that all workers meet alike, so that none of it is any update's fault.
    async fn service(&self, kind: Kind, dice: &mut fastrand::Rng) -> Result<()> {
        let pause = Duration::from_millis(dice.u64(2_000..9_000));
        let (name, [trouble, end]) = if kind == Kind::Throttle {
            // Each update takes two requests, so this is three quarters of what is needed. With less, no
            // backlog of a long run would be worked off: pods are slow to try more again.
            let few = self.fleet.options.rate * 3 / 2;
            let limit = json!({"throttle": {"per_second": few}});
            (format!("{few} requests a second"), [limit, json!({"throttle": {}})])
        } else {
            let fault = dice.choice(OUTAGES).unwrap_or("f18_maintenance");
            (fault.to_owned(), [1, 0].map(|rate| json!({fault: rate})))
        };
        self.tell(kind, &format!("{name} for {} s", pause.as_secs()));
        let simulator = Reader::new(&format!("http://{}", self.fleet.ground.simulator))?;
        simulator.faults(&trouble).await?;
        sleep(pause).await;
        simulator.faults(&end).await
    }

    async fn broker(&self, kind: Kind, dice: &mut fastrand::Rng) -> Result<()> {
        let _at_rest = self.broker_at_rest.lock().await;
        let nodes = self.broker.nodes().len() as u64;
        let node = dice.u64(1..=nodes);
        let name = if nodes > 1 { format!("node {node} ") } else { String::new() };
        self.tell(kind, &format!("{name}down"));
        let back = async {
            match kind {
                Kind::Crash => {
                    self.broker.kill().await;
                    self.broker.start_again().await;
                    Ok(())
                }
                Kind::Node => self.down(node, ["kill", "start"], dice.u64(1_000..8_000)).await,
                Kind::Freeze => {
                    // Nodes miss each other after a tick of 8 s and a quarter: `deploy/local/broker.sh`.
                    self.down(node, ["freeze", "thaw"], dice.u64(12_000..15_000)).await
                }
                Kind::Broker if nodes > 1 => self.broker.node("restart", node).await,
                Kind::Broker
                | Kind::Kill
                | Kind::Term
                | Kind::Scale
                | Kind::Reset
                | Kind::Stop
                | Kind::Cut
                | Kind::Mute
                | Kind::Throttle
                | Kind::Down
                | Kind::Ring
                | Kind::Reshard => {
                    self.broker.restart().await;
                    Ok(())
                }
            }
        };
        let back = timeout(BROKER_MAX, back).await;
        back.map_err(|_elapsed| "the broker does not come back".to_owned())??;
        self.tell(kind, &format!("{name}up again"));
        Ok(())
    }

    /// Takes a node down and brings it back after so many milliseconds.
    async fn down(&self, node: u64, [down, up]: [&str; 2], pause: u64) -> Result<()> {
        self.broker.node(down, node).await?;
        sleep(Duration::from_millis(pause)).await;
        self.broker.node(up, node).await
    }

    fn tell(&self, kind: Kind, what: &str) {
        println!("{:7.1} s  {:<7} {what}", self.begun.elapsed().as_secs_f64(), kind.name());
    }
}
