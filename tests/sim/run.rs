//! One run of a plan, from an empty cluster to an empty one.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use orderwright::app::Ended;
use orderwright::app::pod::{Pod, Sight};
use orderwright::simulator::key::Key;
use orderwright::telemetry::metrics::Metrics;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::book::State;
use crate::fault::{Fault, KINDS};
use crate::gate::{self, Gate};
use crate::plan::{Plan, SEQUENCE, Update, changed, key};
use crate::press::Press;
use crate::stage::{Message, Shared, Stage};
use crate::target::Service;
use crate::wire::{Phone, properties};

/// Nobody reads them here, and to make them takes longer than a run.
static METRICS: LazyLock<Arc<Metrics>> = LazyLock::new(|| {
    Arc::new(Metrics::new("sim", ("sim", 80), None).expect("metrics that nobody reads"))
});

/// How often the pods are looked at from outside.
const WATCH: Duration = Duration::from_secs(1);

/// What came of a run.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) complaints: Vec<String>,
    pub(crate) hash: u64,
    pub(crate) events: u64,
    pub(crate) states: std::collections::BTreeMap<State, u64>,
    pub(crate) codes: std::collections::BTreeMap<String, u64>,
    pub(crate) kinds: [u64; KINDS.len()],
    /// Virtual time.
    pub(crate) took: Duration,
    /// Of it, after the last fault.
    pub(crate) calm: Duration,
    pub(crate) words: String,
}

/// A process, and what can be done to it from outside.
struct Process {
    gate: Gate,
    term: CancellationToken,
    sight: Sight<Service, Press>,
    ended: Arc<std::sync::Mutex<Option<Ended>>>,
    /// After its end, the next one comes in so long.
    again: Duration,
}

struct Cluster {
    shared: Shared,
    plan: Plan,
    pods: Vec<Option<Process>>,
    /// When a pod that is not there comes again.
    due: Vec<Option<Instant>>,
    lives: u64,
    tasks: JoinSet<()>,
}

/// Runs a plan on a runtime of its own, in virtual time.
pub(crate) fn run(plan: &Plan, is_told: bool) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without sockets");
    // All dice of the daemon's own are thrown on this thread.
    fastrand::seed(plan.seed);
    let verdict = runtime.block_on(async {
        let shared = Shared::new(plan, is_told);
        let events = shared.clone();
        let mut cluster = Cluster {
            shared,
            plan: plan.clone(),
            pods: (0..plan.pods).map(|_| None).collect(),
            due: vec![Some(Instant::now()); plan.pods],
            lives: 0,
            tasks: JoinSet::new(),
        };
        cluster.tasks.spawn(async move { events.run().await });
        cluster.perform().await
    });
    runtime.shutdown_background();
    verdict
}

impl Cluster {
    async fn perform(&mut self) -> Verdict {
        let begun = Instant::now();
        self.schedule();
        let (calm, bound) = (self.plan.calm(), self.plan.bound());
        let mut faults = self.plan.faults.clone().into_iter().peekable();
        let mut kinds = [0; KINDS.len()];
        // When what stands goes on.
        let mut wakes: Vec<(Instant, usize)> = Vec::new();
        let mut watched = Duration::ZERO;
        let end = loop {
            let now = begun.elapsed();
            while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= now) {
                if let Some(count) = kinds.get_mut(fault.kind()) {
                    *count += 1;
                }
                self.strike(fault, &mut wakes);
            }
            let mut due = Vec::new();
            wakes.retain(|(at, pod)| {
                let is_due = *at <= Instant::now();
                if is_due {
                    due.push(*pod);
                }
                !is_due
            });
            for pod in due {
                self.go_on(pod);
            }
            self.bring_up();
            if now >= watched {
                watched = now + WATCH;
                self.watch();
            }
            if self.is_over(now, calm, bound) {
                break now;
            }
            let next = faults.peek().map(|(at, _)| begun + *at);
            let look = Instant::now() + Duration::from_millis(500);
            let wake = wakes.iter().map(|(at, _)| *at).min();
            let restart = self.due.iter().flatten().min().copied();
            let until = [next, wake, restart].into_iter().flatten().min().unwrap_or(look).min(look);
            sleep_until(until.max(Instant::now() + Duration::from_millis(1))).await;
        };
        self.end(end, calm, kinds).await
    }

    async fn end(&mut self, end: Duration, calm: Duration, kinds: [u64; KINDS.len()]) -> Verdict {
        // What is still on its way arrives.
        sleep(self.plan.settings().dispatch.settle_window).await;
        let mut stage = self.shared.lock();
        let overlaps = stage.world.totals().overlaps;
        if overlaps > 0 && !stage.book.is_etag_alone() {
            let said = String::from_utf8_lossy(&stage.world.list(true, 10)).into_owned();
            stage.book.complain(end, format!("{overlaps} overlapping writers: {said}"));
        }
        stage.book.finish(end);
        stage.show_all(end);
        let forgotten = std::mem::take(&mut stage.forgotten);
        stage.complain_of(forgotten);
        let left = (0..self.plan.shards).map(|shard| stage.broker.depth(&Plan::queue(shard)));
        let left = left.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        if left != (0, 0) {
            stage.book.complain(end, format!("{left:?} messages wait or are held at the end"));
        }
        let attempts = stage.visits.attempts.values().max().copied().unwrap_or_default();
        if attempts > self.plan.attempts_max() {
            stage.book.complain(end, format!("{attempts} attempts of one handling of a message"));
        }
        Verdict {
            complaints: stage.book.complaints.clone(),
            hash: stage.trace.hash(),
            events: stage.trace.events(),
            states: stage.book.states.clone(),
            codes: stage.book.codes.clone(),
            kinds,
            took: end,
            calm: end.saturating_sub(calm),
            words: stage.trace.words().to_owned(),
        }
    }

    /// Whether all is settled, or should be.
    fn is_over(&self, now: Duration, calm: Duration, bound: Duration) -> bool {
        let mut stage = self.shared.lock();
        if now > calm && stage.book.open() == 0 {
            return true;
        }
        if now > calm + bound {
            let what = format!("not settled within {bound:?} after the last fault");
            stage.book.complain(now, what);
            return true;
        }
        false
    }

    /// Publishes at the times of the plan.
    fn schedule(&self) {
        let mut stage = self.shared.lock();
        for (index, update) in self.plan.updates.iter().enumerate() {
            let message = message(index, update, &self.plan);
            stage.after(update.at, move |stage| {
                stage.publishing.push_back(message);
                stage.publish_waiting();
            });
        }
    }

    fn bring_up(&mut self) {
        for pod in 0..self.pods.len() {
            if self.due[pod].is_some_and(|at| at <= Instant::now()) {
                self.due[pod] = None;
                self.start(pod);
            }
        }
    }

    fn start(&mut self, pod: usize) {
        self.lives += 1;
        let name = format!("pod{pod}-{}", self.lives);
        let (gate, settings) = (Gate::new(), self.plan.settings());
        let phone = Phone { shared: self.shared.clone(), pod, gate: gate.clone() };
        let target = &settings.target;
        let service = Service {
            shared: self.shared.clone(),
            pod,
            name: name.clone(),
            deadlines: [target.get_timeout, target.patch_timeout],
        };
        let press = Press::new(phone.clone(), settings.broker.publish_timeout);
        let again = settings.broker.reconnect_wait_min;
        let made = Pod::new(settings, &name, (service, press), METRICS.clone());
        let made = made.expect("the settings of the plan make sense");
        let (sight, term) = (made.sight(), CancellationToken::new());
        let ended = Arc::new(std::sync::Mutex::new(None));
        let (shutdown, told) = (term.clone(), ended.clone());
        let task = gate.task(async move {
            use orderwright::broker::wire::Wire as _;
            let first = loop {
                match phone.connect().await {
                    Ok(first) => break first,
                    Err(_) => sleep(again).await,
                }
            };
            let end = made.run(phone, first, shutdown.cancelled()).await;
            *told.lock().expect("nobody panics with it") = Some(end);
        });
        self.tasks.spawn(task);
        self.shared.lock().trace.note("starts", [pod as u64, self.lives, 0]);
        if let Some(slot) = self.pods.get_mut(pod) {
            *slot = Some(Process { gate, term, sight, ended, again: Duration::ZERO });
        }
    }

    /// What is seen of the pods from outside: bounded, and ended as they must.
    fn watch(&mut self) {
        let most = 2 * usize::from(self.plan.prefetch) * usize::from(self.plan.shards);
        for (pod, slot) in self.pods.iter_mut().enumerate() {
            let Some(process) = slot else { continue };
            let waiting = process.sight.mailboxes().waiting;
            let unsettled = process.sight.standing().queues.iter().map(|it| it.unsettled).max();
            let mut stage = self.shared.lock();
            let now = stage.now();
            if waiting > most {
                stage.book.complain(now, format!("{waiting} updates wait in mailboxes"));
            }
            if unsettled.unwrap_or_default() > usize::from(self.plan.prefetch) {
                stage.book.complain(now, format!("{unsettled:?} deliveries are not settled"));
            }
            if process.sight.counts().outages > 0 {
                stage.book.states.entry(State::BreakerOpen).or_insert(1);
            }
            let ended = *process.ended.lock().expect("nobody panics with it");
            match ended {
                None => continue,
                Some(Ended::Drained) => stage.book.saw(State::Drained),
                Some(Ended::Abandoned(_)) => stage.book.saw(State::NotDrained),
                Some(Ended::Failed) => stage.book.complain(now, "a pod ended by itself"),
            }
            stage.ended(pod, ended == Some(Ended::Drained));
            for tcp in stage.tcps_of(Some(pod)) {
                stage.hang_up(tcp);
            }
            process.gate.become_(gate::State::Dead);
            let again = process.again;
            *slot = None;
            self.due[pod].get_or_insert(Instant::now() + again);
        }
    }

    fn go_on(&mut self, pod: usize) {
        self.shared.lock().stand(pod, false);
        if let Some(Some(process)) = self.pods.get(pod) {
            process.gate.become_(gate::State::Runs);
        }
    }

    fn strike(&mut self, fault: Fault, wakes: &mut Vec<(Instant, usize)>) {
        self.shared.lock().trace.note(KINDS[fault.kind()], [0; 3]);
        match fault {
            Fault::Kill(pod, wait) => {
                wakes.retain(|(_, whose)| *whose != pod);
                let Some(process) = self.pods.get_mut(pod).and_then(Option::take) else { return };
                process.gate.become_(gate::State::Dead);
                let mut stage = self.shared.lock();
                if process.term.is_cancelled() {
                    stage.ended(pod, false);
                }
                stage.stand(pod, false);
                for tcp in stage.tcps_of(Some(pod)) {
                    stage.hang_up(tcp);
                }
                self.due[pod] = Some(Instant::now() + wait);
            }
            Fault::Term(pod, wait) => {
                let Some(Some(process)) = self.pods.get_mut(pod) else { return };
                process.term.cancel();
                process.again = wait;
            }
            Fault::Stop(pod, wait) => {
                let Some(Some(process)) = self.pods.get(pod) else { return };
                process.gate.become_(gate::State::Stands);
                self.shared.lock().stand(pod, true);
                wakes.retain(|(_, whose)| *whose != pod);
                wakes.push((Instant::now() + wait, pod));
            }
            Fault::CutBroker(..)
            | Fault::CutTarget(..)
            | Fault::Reset(..)
            | Fault::FailOver(_)
            | Fault::Slow(..)
            | Fault::LoseReplies(..)
            | Fault::Double(..)
            | Fault::Outage(_)
            | Fault::Throttle(_)
            | Fault::Conflicts(..)
            | Fault::Service(..)
            | Fault::Clock(..)
            | Fault::Refuse(..) => self.shared.lock().strike(fault),
        }
    }
}

fn message(index: usize, update: &Update, plan: &Plan) -> Message {
    let number = format!("SO-{:06}", update.order);
    let mut body = json!({
        "key": {"dataAreaId": "USMF", "SalesOrderNumber": number},
        "changes": {},
    });
    body["changes"][changed(update.number)] = match changed(update.number) {
        "TotalDiscountPercentage" => update.number.into(),
        _text => format!("update {}", update.number).into(),
    };
    if plan.is_sequenced {
        body["sequence"] = update.number.into();
    } else {
        body["changes"][SEQUENCE] = update.number.into();
    }
    let body = if update.is_garbage { b"{".to_vec() } else { body.to_string().into_bytes() };
    Message {
        update: Some(index),
        queue: Plan::queue(update.shard),
        exchange: "orderwright.shards.g1".to_owned(),
        routing_key: key(update.order),
        properties: properties(index),
        body: Arc::new(body),
    }
}

impl Stage {
    /// Looks at what all orders show at the end.
    fn show_all(&mut self, at: Duration) {
        for order in 1..=self.plan.orders {
            let key = Key::new("USMF", format!("SO-{order:06}"));
            let shown = self.world.show(&key).unwrap_or_default();
            let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap_or_default();
            self.book.shows(order, |name| number_of(&shown["properties"][name]), at);
        }
    }
}

/// Which update wrote a value: see [`message`].
fn number_of(value: &serde_json::Value) -> u64 {
    match value.as_str() {
        Some(text) => {
            text.strip_prefix("update ").and_then(|it| it.parse().ok()).unwrap_or_default()
        }
        None => value.as_u64().unwrap_or_default(),
    }
}
