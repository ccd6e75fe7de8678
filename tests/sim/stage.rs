//! The world around the pods: virtual time, the network with its faults, the broker, the target, and the
//! book of what happened. One value behind one lock, on one thread.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lapin::BasicProperties;
use orderwright::simulator;
use orderwright::simulator::world::World;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::book::Book;
use crate::broker::{Broker, Id};
use crate::clerk::{Clerk, Forgotten};
use crate::network::Tcp;
use crate::plan::Plan;
use crate::trace::Trace;
use crate::visits::Visits;

/// What happens at a moment.
pub(crate) type Event = Box<dyn FnOnce(&mut Stage) + Send>;

struct Due {
    at: Instant,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Which way is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToBroker,
    FromBroker,
    ToTarget,
    FromTarget,
}

/// What is wrong around one pod at present.
#[derive(Debug, Default, Clone)]
pub(crate) struct Around {
    pub(crate) cut: [u32; 4],
    /// Since when the broker has heard nothing.
    pub(crate) silent: Option<Instant>,
    pub(crate) stands: bool,
    /// When it last began or ceased to be cut off, or to stand still.
    pub(crate) disturbed: Option<Instant>,
    /// How far its wall clock is off.
    pub(crate) skew: SignedDuration,
}

/// A message on the broker.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// Which update, if it is one of the plan's.
    pub(crate) update: Option<usize>,
    /// The queue that it goes to.
    pub(crate) queue: String,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Arc<Vec<u8>>,
}

pub(crate) struct Stage {
    pub(crate) begun: Instant,
    pub(crate) rng: fastrand::Rng,
    pub(crate) plan: Plan,
    events: BinaryHeap<Reverse<Due>>,
    pub(crate) numbers: u64,
    pub(crate) broker: Broker<Message>,
    /// Whether the broker answers.
    pub(crate) is_up: bool,
    pub(crate) tcps: BTreeMap<u64, Tcp>,
    /// Acks that the broker writes down, by channel.
    pub(crate) clerks: BTreeMap<Id, Clerk>,
    pub(crate) forgotten: Vec<Forgotten>,
    /// Of ten publications so many are refused, as where a queue is full.
    pub(crate) refused_of_ten: u8,
    pub(crate) around: Vec<Around>,
    pub(crate) world: World,
    pub(crate) visits: Visits,
    pub(crate) book: Book,
    pub(crate) trace: Trace,
    /// Since when the target answers nothing but 503.
    pub(crate) down_since: Option<Duration>,
    /// What publishers could not get rid of yet.
    pub(crate) publishing: VecDeque<Message>,
    changed: Arc<Notify>,
}

/// The stage, shared.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Stage>>, Arc<Notify>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    pub(crate) fn new(plan: &Plan, is_told: bool) -> Self {
        let changed = Arc::new(Notify::new());
        let mut broker = Broker::new();
        for shard in 0..plan.shards {
            broker.declare(&Plan::queue(shard), u64::from(plan.settings().topology.delivery_limit));
        }
        broker.declare(DEAD_LETTERS, u64::MAX);
        let world = World::new(simulator::Settings {
            orders: plan.orders,
            seed: plan.seed,
            get_latency: plan.latency(),
            patch_latency: plan.latency(),
            ..simulator::Settings::default()
        });
        let stage = Stage {
            begun: Instant::now(),
            rng: fastrand::Rng::with_seed(plan.seed ^ 0x5eed),
            plan: plan.clone(),
            events: BinaryHeap::new(),
            numbers: 0,
            broker,
            is_up: true,
            tcps: BTreeMap::new(),
            clerks: BTreeMap::new(),
            forgotten: Vec::new(),
            refused_of_ten: 0,
            around: vec![Around::default(); plan.pods],
            world: world.expect("the settings of the target make sense"),
            visits: Visits::default(),
            book: Book::new(plan),
            trace: Trace::new(is_told),
            down_since: None,
            publishing: VecDeque::new(),
            changed: changed.clone(),
        };
        Self(Arc::new(Mutex::new(stage)), changed)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets what is due happen, for ever.
    pub(crate) async fn run(&self) {
        loop {
            let changed = self.1.notified();
            let next = self.lock().happen();
            match next {
                Some(at) => tokio::select! { biased;
                    () = sleep_until(at) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }
}

/// The queue of dead letters.
pub(crate) const DEAD_LETTERS: &str = "orderwright.dead-letters";

impl Stage {
    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// A number that nothing else has.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The true wall clock.
    pub(crate) fn wall(&self) -> Timestamp {
        let begun = Timestamp::from_second(1_700_000_000).expect("a time in 2023");
        begun + SignedDuration::try_from(self.now()).unwrap_or_default()
    }

    /// What a pod takes it for.
    pub(crate) fn wall_of(&self, pod: usize) -> Timestamp {
        self.wall() + self.around.get(pod).map(|it| it.skew).unwrap_or_default()
    }

    /// Does this in a while.
    pub(crate) fn after(&mut self, wait: Duration, event: impl FnOnce(&mut Self) + Send + 'static) {
        self.at(Instant::now() + wait, Box::new(event));
    }

    pub(crate) fn at(&mut self, at: Instant, event: Event) {
        self.numbers += 1;
        let is_first = self.events.peek().is_none_or(|Reverse(due)| at < due.at);
        self.events.push(Reverse(Due { at, number: self.numbers, event }));
        if is_first {
            self.changed.notify_one();
        }
    }

    /// Performs what is due. When the next thing is.
    fn happen(&mut self) -> Option<Instant> {
        while let Some(Reverse(due)) = self.events.peek() {
            if due.at > Instant::now() {
                return Some(due.at);
            }
            if let Some(Reverse(due)) = self.events.pop() {
                (due.event)(self);
            }
        }
        None
    }

    /// How long something is on its way, mostly short.
    pub(crate) fn on_the_way(&mut self) -> Duration {
        let most = if self.rng.u8(..20) == 0 { 200 } else { 8 };
        Duration::from_millis(self.rng.u64(1..=most))
    }

    pub(crate) fn is_cut(&self, pod: usize, way: Way) -> bool {
        self.around.get(pod).is_some_and(|around| around.cut[way as usize] > 0)
    }
}
