//! Brings broker, simulator and workers up, plays the run, and takes all down again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::Result;
use crate::broker::Broker;
use crate::fault::{Deck, Kind, Lane, Term};
use crate::fleet::{Fleet, Ground, Obituary};
use crate::history::History;
use crate::ledger::{Ledger, Reader};
use crate::link::Link;
use crate::options::Options;
use crate::program::Program;
use crate::publisher::{Published, Publisher};
use crate::ring::{Letters, Ring};
use crate::trouble::{Injected, Trouble};

/// How long the workers may take for what is left once nothing goes wrong any more.
const SETTLE_MAX: Duration = Duration::from_mins(2);
/// No request for so long means that nobody works: longer than any latency and any wait, the settle
/// window included.
const QUIET: Duration = Duration::from_secs(3);
/// The same where nothing else tells that all work is done: longer than the broker leaves messages
/// with a worker that it does not hear of.
const QUIET_FENCED: Duration = Duration::from_secs(16);
/// `orderwright topology declare`.
const DECLARE_MAX: Duration = Duration::from_mins(1);
/// Keeps the publisher's dice apart from those of the faults.
const PUBLISHER_SEED: u64 = 0x7075_626C;

/// What the run is played on, in the order in which it is dropped.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) ground: Ground,
    /// To any node of the broker, for what no fault is to touch: publisher and questions.
    _front: Link,
    simulator: Program,
    broker: Broker,
    version: String,
    folder: TempDir,
}

/// Everything that is known after a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) published: Published,
    pub(crate) book: Vec<Injected>,
    pub(crate) workers: Vec<Obituary>,
    pub(crate) complaints: Vec<String>,
    pub(crate) ledger: Ledger,
    pub(crate) bad_orders: Value,
    pub(crate) history: History,
    pub(crate) letters: Letters,
    pub(crate) waiting: u32,
    pub(crate) unroutable: u32,
    /// Whether all work was done in time.
    pub(crate) is_settled: bool,
    pub(crate) settled_after: Duration,
    /// When the last update was confirmed.
    pub(crate) load_ended: Timestamp,
    /// Of the broker.
    pub(crate) version: String,
}

impl Outcome {
    /// How many faults of a kind there were.
    pub(crate) fn count(&self, kind: Kind) -> u64 {
        self.book.iter().filter(|fault| fault.kind == kind).count() as u64
    }
}

impl Stage {
    /// Starts broker and simulator, and declares what publishers need.
    pub(crate) async fn build(options: &Options, seed: u64) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("orderwright-chaos.").tempdir();
        let folder = folder.map_err(|error| format!("no temporary folder: {error}"))?;
        let program = copy(options.daemon.as_deref(), folder.path())?;
        let broker = Broker::try_start_nodes(options.cluster).await?;
        let version = version(&broker).await?;
        println!("RabbitMQ {version}");
        let (simulator, simulator_url) = simulator(options, seed, folder.path()).await?;
        let nodes: Vec<_> = broker.nodes().iter().map(|url| address(url)).collect::<Result<_>>()?;
        let front = Link::open_to_any(nodes.clone()).await?;
        let url = broker.url();
        let url = url.replace(&address(url)?.to_string(), &front.address().to_string());
        let ground = Ground {
            program,
            folder: folder.path().to_owned(),
            broker: front.address(),
            url,
            nodes,
            simulator: address(&simulator_url)?,
            prefix: "orderwright".to_owned(),
        };
        let stage = Self { ground, _front: front, simulator, broker, version, folder };
        stage.declare(options).await?;
        Ok(stage)
    }

    async fn declare(&self, options: &Options) -> Result<()> {
        let ground = &self.ground;
        let settings = ground.settings(options, "declarer", ground.broker, ground.simulator);
        let mut command = Command::new(&self.ground.program);
        command.args(["topology", "declare"]).envs(settings).kill_on_drop(true);
        let output = timeout(DECLARE_MAX, command.output()).await;
        let output = output.map_err(|_elapsed| "topology declare hangs".to_owned())?;
        let output = output.map_err(|error| format!("topology declare: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("topology declare: {}", said.trim_end()));
        }
        if options.inbox {
            Ring::new(&ground.url, &ground.prefix, options).make_inbox().await?;
        }
        // RabbitMQ 4.0.5 forgets a quorum queue that was declared less than some seconds before the
        // node is killed. A restart in good order writes the queues down.
        if options.kinds().contains(&Kind::Crash) {
            self.broker.restart().await;
        }
        Ok(())
    }

    /// Publishes and makes trouble until the time is up, then lets the workers finish.
    pub(crate) async fn play(&self, options: &Options, seed: u64) -> Result<Outcome> {
        let fleet = Fleet::new(&self.ground, options);
        let ring = Ring::new(&self.ground.url, &self.ground.prefix, options);
        let starts = (0..options.workers).map(|_| fleet.start());
        futures_util::future::try_join_all(starts).await?;
        let trouble = Trouble {
            fleet: &fleet,
            broker: &self.broker,
            ring: &ring,
            workers: options.workers,
            begun: Instant::now(),
            book: Mutex::default(),
            broker_at_rest: tokio::sync::Mutex::default(),
        };
        let published = publish_under(&trouble, options, seed).await?;
        let book = trouble.book.into_inner().unwrap_or_else(PoisonError::into_inner);
        let reader = Reader::new(&format!("http://{}", self.ground.simulator))?;
        let (begun, load_ended) = (Instant::now(), Timestamp::now());
        let settling = settle(&reader, &ring, &published, options.is_fenced());
        let settling = timeout(SETTLE_MAX, settling).await;
        let is_settled = settling.is_ok();
        let rest = settling.unwrap_or(Ok(QUIET))?;
        let settled_after = begun.elapsed().saturating_sub(rest);
        let (workers, complaints) = fleet.finish().await?;
        let (waiting, unroutable) = ring.waiting().await?;
        let born = workers.last().map_or(0, |worker| worker.number);
        Ok(Outcome {
            published,
            book,
            workers,
            complaints,
            ledger: reader.read(0).await?,
            bad_orders: reader.bad_orders().await?,
            history: self.history(born).await?,
            letters: ring.letters().await?,
            waiting,
            unroutable,
            is_settled,
            settled_after,
            load_ended,
            version: self.version.clone(),
        })
    }

    /// What was written, and by which of the workers 1 to `born`.
    pub(crate) async fn history(&self, born: u64) -> Result<History> {
        let reader = Reader::new(&format!("http://{}", self.ground.simulator))?;
        History::read(&reader, self.folder.path(), born).await
    }

    /// Stops what is left, and keeps the logs where there is something to find in them.
    pub(crate) async fn clear(self, keep_logs: bool) -> Option<PathBuf> {
        let Self { mut simulator, broker, folder, .. } = self;
        simulator.ask_to_end();
        drop(timeout(Duration::from_secs(5), simulator.ended()).await);
        broker.end().await;
        keep_logs.then(|| folder.keep())
    }
}

/// The things that happen at the same time.
async fn publish_under(trouble: &Trouble<'_>, options: &Options, seed: u64) -> Result<Published> {
    let stop = CancellationToken::new();
    let (url, entry) = (trouble.ring.url(), trouble.ring.entry());
    let dice = seed ^ PUBLISHER_SEED;
    let publisher = Publisher::new(url, entry, options, dice);
    let until = trouble.begun + Duration::from_secs(options.seconds);
    let latest = until + Duration::from_secs(options.more_seconds_max());
    let term = Term { until, latest, due: options.due() };
    let kinds = options.kinds();
    let lanes = Lane::ALL.map(|lane| trouble.lane(Deck::new(lane, &kinds, seed), term));
    let all = async {
        let lanes = futures_util::future::try_join_all(lanes).await;
        // Lanes end early; the load does not.
        if lanes.is_ok() {
            tokio::time::sleep_until(until).await;
        }
        stop.cancel();
        lanes
    };
    let (lanes, load) = tokio::join!(all, publisher.run(stop.clone()));
    lanes.map(|_all| load)
}

/// Returns when everything published is written or dead, and nobody works any more; for how long
/// nobody has worked.
///
/// What was superseded is seen nowhere, or leaves a letter though it was written: with a fence, a longer rest
/// has to do.
async fn settle(
    reader: &Reader,
    ring: &Ring,
    published: &Published,
    is_fenced: bool,
) -> Result<Duration> {
    let mut quiet_since = Instant::now();
    let mut gets = 0;
    loop {
        let ledger = reader.read(0).await?;
        if ledger.gets + ledger.patches != gets {
            (gets, quiet_since) = (ledger.gets + ledger.patches, Instant::now());
        }
        if quiet_since.elapsed() >= QUIET {
            let (waiting, _) = ring.waiting().await?;
            let dead = u64::from(ring.dead().await?);
            // Some letters are of updates that were written.
            let is_done = !is_fenced && ledger.applied_distinct + dead >= published.distinct();
            let is_at_rest = is_fenced && quiet_since.elapsed() >= QUIET_FENCED;
            if waiting == 0 && (is_done || is_at_rest) {
                return Ok(quiet_since.elapsed());
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn simulator(options: &Options, seed: u64, folder: &Path) -> Result<(Program, String)> {
    let (orders, seed) = (options.orders.to_string(), seed.to_string());
    let conflicts = options.conflict_rate.to_string();
    #[rustfmt::skip]
    let args = [
        "--listen", "127.0.0.1:0", "--exit-with-stdin",
        "--orders", &orders, "--seed", &seed,
        "--get-latency", &options.get_latency, "--patch-latency", &options.patch_latency,
        "--conflict-rate", &conflicts, "--error-rate", "0.03", "--reset-rate", "0.02",
    ];
    let log = folder.join("simulator.log");
    let mut program = Program::start("orderwright-sim", &args, &[], &log)?;
    let line = program.line_with("listening").await?;
    let url = line.get("listening").and_then(Value::as_str).map(str::to_owned);
    Ok((program, url.ok_or("the simulator's address is not a text")?))
}

/// A copy, since workers start all the time and somebody may build a new one meanwhile.
fn copy(daemon: Option<&Path>, folder: &Path) -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = own.parent().and_then(Path::parent).ok_or("this program has no target folder")?;
    let from = daemon.map_or_else(|| target.join("orderwright"), Path::to_owned);
    let to = folder.join("orderwright");
    std::fs::copy(&from, &to).map_err(|error| format!("{}: {error}", from.display()))?;
    Ok(to)
}

/// The broker's version, as its management API says it.
async fn version(broker: &Broker) -> Result<String> {
    let url = format!("{}/api/overview", broker.management().ok_or("no management API")?);
    // A proxy could not reach this machine's loopback.
    let client = reqwest::Client::builder().no_proxy().timeout(DECLARE_MAX).build();
    let asked = async {
        let request = client?.get(url).basic_auth("guest", Some("guest"));
        request.send().await?.error_for_status()?.text().await
    };
    let text = asked.await.map_err(|error| format!("the management API: {error}"))?;
    let overview: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let version = overview.get("rabbitmq_version").and_then(Value::as_str);
    version.map(str::to_owned).ok_or_else(|| "the management API tells no version".to_owned())
}

/// Host and port of a URL on this machine.
fn address(url: &str) -> Result<SocketAddr> {
    let authority = url.split(['@', '/']).find(|part| part.contains("127.0.0.1:"));
    let address = authority.and_then(|authority| authority.parse().ok());
    address.ok_or_else(|| format!("{url} is not on this machine"))
}
