//! Replays of one order's letters among live updates, what others write, faults of the net, tools that die and
//! clocks that differ: nothing that is newer than a letter is overwritten by it, however often it is replayed.
//!
//! Everything that decides is the real thing: the protocol, the look and what it excuses, the order of the
//! letters, the headers of the message, of the dead letter, and how they are read. What performs is a model.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use lapin::BasicProperties;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::chain::Chain;
use super::check::Behind;
use super::message::{Sending, message};
use super::{Allowed, Candidate, Checker, Message, Place, Prospect, Turn, by_order};
use crate::app::intake::replayed;
use crate::app::limits::{guard, limits, texts};
use crate::broker::Topology;
use crate::config::{self, Settings};
use crate::dead_letter::{Fate, Found, Given, Letter, Limits, Original, record, restored};
use crate::dispatch::{self, Attempt};
use crate::order::{ETag, OrderUpdate, Replay};
use crate::protocol::{
    self, Answer, Code, Fault, Fetch, Guard, Rules, Settlement, Step, Texts, Trouble, Verdict,
};

/// What becomes of one request of the daemon's.
#[derive(Debug, Clone, Copy)]
enum Net {
    Answered,
    /// It never arrives.
    Lost,
    /// It is carried out, and nobody hears of it.
    Unheard,
    /// It is carried out before the next request.
    Late,
}

/// Some of the properties A and B.
type Properties = (bool, bool);

/// What others do just before a request.
type Meanwhile = Option<Properties>;

#[derive(Debug, Clone)]
enum Event {
    /// Somebody else writes.
    Foreign(Properties),
    /// Somebody else writes what a letter wants.
    Same(usize),
    /// A live update comes, and is written or dies.
    Live(Properties, Vec<(Net, Meanwhile)>),
    /// An update is dead-lettered at once by one of two pods. It saw the order as it is.
    Dies(Properties, bool),
    /// The same where the order could not be seen.
    DiesUnseen(Properties),
    /// A letter is discarded and restored.
    Restored(usize),
    /// All letters are replayed.
    Replay(Vec<Turning>),
}

/// One letter's turn in a replay.
#[derive(Debug, Clone)]
struct Turning {
    /// Written just before the look, and between it and the daemon's turn.
    meanwhile: [Meanwhile; 2],
    nets: Vec<(Net, Meanwhile)>,
    /// The service refuses it all the same.
    refused: bool,
    /// The tool dies before the letter leaves the queue.
    dies: bool,
}

/// When the service tells the ETag after a write.
#[derive(Debug, Default, Clone, Copy)]
enum Tells {
    #[default]
    Never,
    Sometimes,
    Always,
}

/// An order and its service. Of each property: its value, and the age of who wrote it.
#[derive(Debug, Default)]
struct Service {
    properties: BTreeMap<String, (u64, u64)>,
    version: u64,
    tells: Tells,
    late: Option<(ETag, Map<String, Value>, u64, bool)>,
}

impl Service {
    fn etag(&self) -> ETag {
        ETag::new(&format!("\"{}\"", self.version)).unwrap()
    }

    fn body(&self) -> Value {
        let of = |name: &str| self.properties.get(name).map_or(0, |it| it.0);
        json!({"A": of("A"), "B": of("B")})
    }

    fn write(&mut self, changes: &Map<String, Value>, age: u64) {
        for (name, value) in changes {
            self.properties.insert(name.clone(), (value.as_u64().unwrap(), age));
        }
        self.version += 1;
    }

    fn patch(
        &mut self,
        with: &ETag,
        changes: &Map<String, Value>,
        age: u64,
        is_replay: bool,
    ) -> bool {
        let fits = *with == self.etag();
        if fits {
            if is_replay {
                for name in changes.keys() {
                    let there = self.properties.get(name).map_or(0, |it| it.1);
                    assert!(
                        there <= age,
                        "{name}, written at {there}, is overwritten by what died at {age}"
                    );
                }
            }
            self.write(changes, age);
        }
        fits
    }

    fn tells_now(&self) -> bool {
        match self.tells {
            Tells::Never => false,
            Tells::Sometimes => self.version.is_multiple_of(2),
            Tells::Always => true,
        }
    }

    fn settle_late(&mut self) {
        if let Some((with, changes, age, is_replay)) = self.late.take() {
            self.patch(&with, &changes, age, is_replay);
        }
    }
}

/// A letter in the queue. `age` is when its update saw the order last before it died first.
#[derive(Debug, Clone)]
struct Lying {
    properties: BasicProperties,
    body: Vec<u8>,
    age: u64,
    /// Tells copies apart.
    serial: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    applied: usize,
    behind: usize,
    already: usize,
    passed_over: usize,
    superseded_again: usize,
    unsure: usize,
}

/// What is the same in every world, and takes long to make.
struct Tools {
    checker: Checker,
    rules: Rules,
    guard: Guard,
    texts: Texts,
    topology: Topology,
}

impl Tools {
    fn new() -> Self {
        let settings = Settings::default();
        Self {
            checker: Checker::new(&settings, "test").unwrap(),
            rules: limits(&settings).rules,
            guard: guard(&settings),
            texts: texts(&settings),
            topology: Topology::new(&config::Topology::default()),
        }
    }
}

struct World<'a> {
    tools: &'a Tools,
    service: Service,
    queue: Vec<Lying>,
    now: u64,
    /// How far the clocks of the two pods are from the true time.
    clocks: [i64; 2],
    counts: Counts,
}

fn changes(names: Properties, value: u64) -> Map<String, Value> {
    let mut changes = Map::new();
    // At least one.
    if names.0 || !names.1 {
        changes.insert("A".to_owned(), json!(value));
    }
    if names.1 {
        changes.insert("B".to_owned(), json!(value));
    }
    changes
}

impl<'a> World<'a> {
    fn new(tools: &'a Tools, tells: Tells, clocks: [i64; 2]) -> Self {
        Self {
            tools,
            service: Service { tells, ..Service::default() },
            queue: Vec::new(),
            now: 0,
            clocks,
            counts: Counts::default(),
        }
    }

    /// No two values are alike.
    fn fresh(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn meanwhile(&mut self, names: Meanwhile) {
        if let Some(names) = names {
            let now = self.fresh();
            self.service.write(&changes(names, now), now);
        }
    }

    fn play(&mut self, event: Event) {
        match event {
            Event::Foreign(names) => self.meanwhile(Some(names)),
            Event::Same(letter) => {
                let Some(lying) = self.queue.get(letter) else { return };
                // Nobody can tell it from the letter itself.
                let (wanted, age) = (wanted(&lying.body), lying.age);
                self.service.write(&wanted, age);
            }
            Event::Live(names, nets) => {
                let now = self.fresh();
                let lying = Self::published(names, now);
                self.handle(lying, &nets, false, 0);
            }
            Event::Dies(names, pod) => self.dies(names, usize::from(pod), false),
            Event::DiesUnseen(names) => self.dies(names, 0, true),
            Event::Restored(letter) if letter < self.queue.len() => {
                let lying = self.queue.remove(letter);
                let (properties, _) = restored(&lying.properties, "k", Timestamp::UNIX_EPOCH);
                self.queue.push(Lying { properties, ..lying });
            }
            Event::Restored(_) => {}
            Event::Replay(turnings) => self.replay(&turnings),
        }
    }

    fn published(names: Properties, now: u64) -> Lying {
        let body = body(&changes(names, now));
        Lying { properties: BasicProperties::default(), body, age: now, serial: 0 }
    }

    fn dies(&mut self, names: Properties, pod: usize, unseen: bool) {
        let now = self.fresh();
        let lying = Self::published(names, now);
        let seen = (!unseen).then(|| (self.service.etag(), self.service.body()));
        self.dead_letter(&lying, Code::Rejected, seen.as_ref(), pod);
    }

    /// As the daemon writes it, at the end of the queue.
    fn dead_letter(&mut self, lying: &Lying, code: Code, seen: Option<&(ETag, Value)>, pod: usize) {
        let names = ["pod-0", "pod-1"];
        let limits = Limits {
            attempts_bytes_max: 4_096,
            detail_bytes_max: 100,
            instance: names[pod].to_owned(),
        };
        let wanted = wanted(&lying.body);
        let concerned = |(_, order): &(ETag, Value)| {
            let of = |name: &String| (name.clone(), order[name].clone());
            Value::Object(wanted.keys().map(of).collect()).to_string()
        };
        let attempt = Attempt {
            number: 1,
            at: Timestamp::UNIX_EPOCH,
            milliseconds: 1,
            get_status: seen.map(|_| 200),
            patch_status: None,
            etag_seen: seen.map(|it| it.0.clone()),
            etag_sent: None,
            outcome: code.as_str(),
            message: String::new(),
            request_id: Uuid::nil(),
            service_request_id: None,
            error_code: None,
        };
        let letter = dispatch::Letter {
            code: code.as_str(),
            detail: String::new(),
            order: Some("USMF/1".into()),
            attempts: vec![attempt],
            seen: seen.map(concerned),
            first_seen: Timestamp::UNIX_EPOCH,
            parked_behind: None,
        };
        let original =
            Original { properties: &lying.properties, exchange: "e", routing_key: "k", queue: "q" };
        let now = self.fresh();
        let at = i64::try_from(now).unwrap() + self.clocks[pod];
        let at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000 + at);
        let id = Uuid::from_u128(now.into());
        let properties = record(original, &letter, &limits, Given { id, at, trace: None });
        self.queue.push(Lying { properties, serial: now, ..lying.clone() });
    }

    /// One update, from its first GET to its end, as the daemon does it. The ETag after it, where it was written
    /// and the service told.
    fn handle(
        &mut self,
        mut lying: Lying,
        nets: &[(Net, Meanwhile)],
        refused: bool,
        pod: usize,
    ) -> (Settlement, Option<String>) {
        let Tools { guard, texts, rules, .. } = self.tools;
        let update = self.update(&lying);
        let (wanted, is_replay) = (wanted(&lying.body), update.replay.is_some());
        let mut nets = nets.iter().copied().chain(std::iter::repeat((Net::Answered, None)));
        let (mut step, mut seen, mut after) = (protocol::start(), None, None);
        loop {
            step = match step {
                Step::Settle(settlement) => {
                    if let Settlement::DeadLetter(code) = settlement {
                        self.dead_letter(&lying, code, seen.as_ref(), pod);
                    }
                    return (settlement, after);
                }
                Step::Wait(waiting) => waiting.elapsed(),
                Step::Ask(asking) => asking.on_answer(true),
                Step::Get(fetching) => {
                    let (net, meanwhile) = nets.next().unwrap();
                    self.service.settle_late();
                    self.meanwhile(meanwhile);
                    let reply = match net {
                        Net::Answered | Net::Late => Ok(self.get()),
                        Net::Lost | Net::Unheard => Err(Fault::Timeout),
                    };
                    let fetch = protocol::fetch(&reply, &update, guard, texts);
                    if let Fetch::Found(etag, _) = &fetch {
                        // What it has seen it may write over, now and later.
                        if !is_replay {
                            lying.age = self.fresh();
                        }
                        seen = Some((etag.clone(), self.service.body()));
                    }
                    fetching.on_fetch(fetch, rules)
                }
                Step::Patch(patching) => {
                    let (net, meanwhile) = nets.next().unwrap();
                    self.service.settle_late();
                    self.meanwhile(meanwhile);
                    let with = patching.etag().clone();
                    let lost = Verdict::Not(Trouble::Failure(Code::Timeout));
                    let mut patch = || self.service.patch(&with, &wanted, lying.age, is_replay);
                    let verdict = match net {
                        _ if refused => Verdict::Not(Trouble::Refused(Code::Rejected)),
                        Net::Answered if patch() => Verdict::Done,
                        Net::Answered => Verdict::Not(Trouble::Conflict(Code::EtagConflict)),
                        Net::Lost => lost,
                        Net::Unheard => {
                            patch();
                            lost
                        }
                        Net::Late => {
                            let late = (with, wanted.clone(), lying.age, is_replay);
                            self.service.late = Some(late);
                            lost
                        }
                    };
                    if verdict == Verdict::Done && self.service.tells_now() {
                        after = Some(self.service.etag().to_string());
                    }
                    patching.on_verdict(verdict, rules)
                }
            };
        }
    }

    fn get(&self) -> Answer {
        Answer {
            status: 200,
            etag: Some(self.service.etag()),
            retry_after: None,
            repeat_rejected: false,
            is_json: true,
            service_request_id: None,
            body: Bytes::from(self.service.body().to_string()),
        }
    }

    /// As the intake reads it.
    fn update(&self, lying: &Lying) -> OrderUpdate {
        let candidate = candidate(lying, 1);
        let update = self.tools.checker.asked(&candidate, Allowed::Seen).unwrap();
        OrderUpdate { replay: replayed(&lying.properties), ..update }
    }

    /// As the tool does it: letter by letter, each in its turn, until one is not written or the tool dies.
    fn replay(&mut self, turnings: &[Turning]) {
        let lying = self.queue.clone();
        let candidates: Vec<Candidate> =
            lying.iter().zip(1..).map(|(lying, place)| candidate(lying, place)).collect();
        let all: Vec<&Candidate> = candidates.iter().collect();
        let Some(turns) = by_order(&all, |_| None).pop() else { return };
        let mut chain = Chain::default();
        let quiet = Turning { meanwhile: [None; 2], nets: vec![], refused: false, dies: false };
        let mut turnings = turnings.iter().chain(std::iter::repeat(&quiet));
        for turn in turns {
            let (turning, letter) = (turnings.next().unwrap(), &lying[turn.index]);
            let fate = self.one(turn, letter, &candidates[turn.index], turning, &mut chain);
            if fate.is_some() && turning.dies {
                return;
            }
            if fate.is_some() {
                self.queue.retain(|it| it.serial != letter.serial);
            }
            if fate == Some(false) {
                return;
            }
        }
    }

    /// Whether it leaves the queue; and if so, whether what is behind it may go on.
    fn one(
        &mut self,
        turn: Turn,
        lying: &Lying,
        candidate: &Candidate,
        turning: &Turning,
        chain: &mut Chain,
    ) -> Option<bool> {
        self.meanwhile(turning.meanwhile[0]);
        let update = self.tools.checker.asked(candidate, Allowed::Seen).unwrap();
        let behind = Behind { chain: Some(chain), is_sure: turn.is_sure };
        let checked =
            self.tools.checker.judge(candidate, update, &Ok(self.get()), (Allowed::Seen, behind));
        self.counts.unsure += usize::from(checked.why.contains("nothing tells for certain"));
        if !matches!(checked.prospect, Prospect::WouldApply | Prospect::AlreadyApplied) {
            self.counts.passed_over += 1;
            return None;
        }
        let sending = Sending {
            replay: Uuid::from_u128(7),
            may: &checked.may,
            seen: checked.seen.as_deref(),
            reply_to: "answers".into(),
            correlation_id: "1".into(),
        };
        let outgoing = message(&self.tools.topology, candidate, sending);
        self.meanwhile(turning.meanwhile[1]);
        let (properties, body) = (outgoing.properties, outgoing.body);
        let sent = Lying { properties, body, age: lying.age, serial: 0 };
        let (settlement, etag) = self.handle(sent, &turning.nets, turning.refused, 0);
        let over = match &checked.may {
            Replay::Since(etag) => Some(etag.to_string()),
            Replay::Unknown | Replay::Forced => None,
        };
        match settlement {
            Settlement::Applied => {
                self.counts.behind += usize::from(chain.is_begun());
                self.counts.applied += 1;
                chain.learn(Fate::Applied, over, wanted(&lying.body), etag.as_deref());
            }
            Settlement::AlreadyApplied => {
                self.counts.already += 1;
                // As its notice tells: of the order as it was found.
                let etag = self.service.etag().to_string();
                chain.learn(Fate::AlreadyApplied, over, wanted(&lying.body), Some(&etag));
            }
            Settlement::DeadLetter(Code::Superseded) => self.counts.superseded_again += 1,
            Settlement::DeadLetter(_) => return Some(false),
            Settlement::Superseded => panic!("nothing is numbered here"),
        }
        Some(true)
    }
}

fn candidate(lying: &Lying, position: u64) -> Candidate {
    let found =
        Found { properties: &lying.properties, exchange: "e", routing_key: "k", body: &lying.body };
    let message = Message { properties: lying.properties.clone(), body: lying.body.clone() };
    Candidate { letter: Letter::read(found), message, place: Place::Free, position, rank: None }
}

fn body(changes: &Map<String, Value>) -> Vec<u8> {
    let key = json!({"dataAreaId": "USMF", "SalesOrderNumber": "1"});
    json!({"key": key, "changes": changes}).to_string().into_bytes()
}

fn wanted(body: &[u8]) -> Map<String, Value> {
    let body: Value = serde_json::from_slice(body).unwrap();
    body["changes"].as_object().unwrap().clone()
}

fn properties() -> impl Strategy<Value = Properties> {
    (any::<bool>(), any::<bool>())
}

fn meanwhile() -> impl Strategy<Value = Meanwhile> {
    prop_oneof![6 => Just(None), 1 => properties().prop_map(Some)]
}

fn nets() -> impl Strategy<Value = Vec<(Net, Meanwhile)>> {
    let net = prop_oneof![
        6 => Just(Net::Answered), 1 => Just(Net::Lost), 1 => Just(Net::Unheard), 1 => Just(Net::Late)
    ];
    proptest::collection::vec((net, meanwhile()), 0..6)
}

fn turning() -> impl Strategy<Value = Turning> {
    let meanwhile = [meanwhile(), meanwhile()];
    (meanwhile, nets(), proptest::bool::weighted(0.15), proptest::bool::weighted(0.1))
        .prop_map(|(meanwhile, nets, refused, dies)| Turning { meanwhile, nets, refused, dies })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => properties().prop_map(Event::Foreign),
        1 => (0..4_usize).prop_map(Event::Same),
        1 => (properties(), nets()).prop_map(|(names, nets)| Event::Live(names, nets)),
        6 => (properties(), any::<bool>()).prop_map(|(names, pod)| Event::Dies(names, pod)),
        1 => properties().prop_map(Event::DiesUnseen),
        1 => (0..4_usize).prop_map(Event::Restored),
        5 => proptest::collection::vec(turning(), 0..6).prop_map(Event::Replay),
    ]
}

#[test]
fn replays_however_often_and_among_what_others_write_never_overwrite_what_is_newer_than_their_letters()
 {
    let (tools, sums) = (Tools::new(), RefCell::new(Counts::default()));
    let config = Config { cases: 3_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let clocks = proptest::array::uniform2(-6..6_i64);
    let tells = prop_oneof![Just(Tells::Never), Just(Tells::Sometimes), Just(Tells::Always)];
    let story = (tells, clocks, proptest::collection::vec(event(), 1..16));
    let ran = runner.run(&story, |(tells, clocks, story)| {
        let mut world = World::new(&tools, tells, clocks);
        for event in story {
            world.play(event);
        }
        let (mut sums, counts) = (sums.borrow_mut(), world.counts);
        sums.applied += counts.applied;
        sums.behind += counts.behind;
        sums.already += counts.already;
        sums.passed_over += counts.passed_over;
        sums.superseded_again += counts.superseded_again;
        sums.unsure += counts.unsure;
        Ok(())
    });
    ran.unwrap();
    let Counts { applied, behind, already, passed_over, superseded_again, unsure } =
        sums.into_inner();
    let counts = [applied, behind, already, passed_over, superseded_again, unsure];
    assert!(counts.iter().all(|count| *count > 100), "each way out is taken often: {counts:?}");
}
