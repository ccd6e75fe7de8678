//! What happens to one order: live updates, letters, and what others write.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use lapin::BasicProperties;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::{Allowed, Checker};
use super::replays::{Turning, candidate};
use super::service::{Meanwhile, Net, Properties, Service, Tells, changes};
use crate::app::intake::replayed;
use crate::app::limits::{guard, limits, texts};
use crate::broker::Topology;
use crate::config::{self, Settings};
use crate::dead_letter::{Given, Limits, Original, record, restored};
use crate::dispatch::{self, Attempt};
use crate::order::{ETag, OrderUpdate};
use crate::protocol::{
    self, Answer, Code, Fault, Fetch, Guard, Rules, Settlement, Step, Texts, Trouble, Verdict,
};

#[derive(Debug, Clone)]
pub(super) enum Event {
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

/// A letter in the queue. `age` is when its update saw the order last before it died first.
#[derive(Debug, Clone)]
pub(super) struct Lying {
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
    pub(super) age: u64,
    /// Tells copies apart.
    pub(super) serial: u64,
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) applied: usize,
    pub(super) behind: usize,
    pub(super) already: usize,
    pub(super) passed_over: usize,
    pub(super) superseded_again: usize,
    pub(super) unsure: usize,
}

/// What is the same in every world, and takes long to make.
pub(super) struct Tools {
    pub(super) checker: Checker,
    pub(super) rules: Rules,
    pub(super) guard: Guard,
    pub(super) texts: Texts,
    pub(super) topology: Topology,
}

impl Tools {
    pub(super) fn new() -> Self {
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

pub(super) struct World<'a> {
    pub(super) tools: &'a Tools,
    pub(super) service: Service,
    pub(super) queue: Vec<Lying>,
    pub(super) now: u64,
    /// How far the clocks of the two pods are from the true time.
    pub(super) clocks: [i64; 2],
    pub(super) counts: Counts,
}

impl<'a> World<'a> {
    pub(super) fn new(tools: &'a Tools, tells: Tells, clocks: [i64; 2]) -> Self {
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
    pub(super) fn fresh(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    pub(super) fn meanwhile(&mut self, names: Meanwhile) {
        if let Some(names) = names {
            let now = self.fresh();
            self.service.write(&changes(names, now), now);
        }
    }

    pub(super) fn play(&mut self, event: Event) {
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

    pub(super) fn published(names: Properties, now: u64) -> Lying {
        let body = body(&changes(names, now));
        Lying { properties: BasicProperties::default(), body, age: now, serial: 0 }
    }

    pub(super) fn dies(&mut self, names: Properties, pod: usize, unseen: bool) {
        let now = self.fresh();
        let lying = Self::published(names, now);
        let seen = (!unseen).then(|| (self.service.etag(), self.service.body()));
        self.dead_letter(&lying, Code::Rejected, seen.as_ref(), pod);
    }

    /// As the daemon writes it, at the end of the queue.
    pub(super) fn dead_letter(
        &mut self,
        lying: &Lying,
        code: Code,
        seen: Option<&(ETag, Value)>,
        pod: usize,
    ) {
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
    pub(super) fn handle(
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

    pub(super) fn get(&self) -> Answer {
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
    pub(super) fn update(&self, lying: &Lying) -> OrderUpdate {
        let candidate = candidate(lying, 1);
        let update = self.tools.checker.asked(&candidate, Allowed::Seen).unwrap();
        OrderUpdate { replay: replayed(&lying.properties), ..update }
    }
}

pub(super) fn body(changes: &Map<String, Value>) -> Vec<u8> {
    let key = json!({"dataAreaId": "USMF", "SalesOrderNumber": "1"});
    json!({"key": key, "changes": changes}).to_string().into_bytes()
}

pub(super) fn wanted(body: &[u8]) -> Map<String, Value> {
    let body: Value = serde_json::from_slice(body).unwrap();
    body["changes"].as_object().unwrap().clone()
}
