//! Replays among live updates and what others write: nothing that is newer than what the dead letter
//! saw is overwritten.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::order::{Replay, Sequence};

fn since(changes: &str, tag: &str) -> OrderUpdate {
    OrderUpdate { replay: Some(Replay::Since(etag(tag))), ..update(changes) }
}

fn judge(current: &str, tag: &str, update: &OrderUpdate, guard: &Guard) -> Judgement {
    Fetched::read(current.as_bytes()).unwrap().judge(update, guard, &etag(tag))
}

#[test]
fn replay_is_judged_by_its_values_then_its_sequence_then_the_etag_that_its_dead_letter_saw() {
    let fence = Guard { sequence_property: Some("Seq".into()), ..Guard::default() };
    let none = Guard::default();
    let replay = since(r#"{"A":2}"#, "\"1\"");
    assert_eq!(judge(r#"{"A":1}"#, "\"1\"", &replay, &none), Judgement::Outdated);
    assert_eq!(judge(r#"{"A":1}"#, "\"2\"", &replay, &none), Judgement::MovedOn);
    assert_eq!(judge(r#"{"A":2}"#, "\"2\"", &replay, &none), Judgement::AlreadyApplied);
    assert_eq!(judge(r#"{"A":1}"#, "W/\"1\"", &replay, &none), Judgement::MovedOn, "byte for byte");

    let numbered = OrderUpdate { sequence: Sequence::new(5), ..replay.clone() };
    let order = |sequence: u64| format!(r#"{{"A":1,"Seq":{sequence}}}"#);
    assert_eq!(judge(&order(5), "\"2\"", &numbered, &fence), Judgement::AlreadyApplied);
    assert_eq!(judge(&order(6), "\"2\"", &numbered, &fence), Judgement::Superseded);
    assert_eq!(judge(&order(4), "\"2\"", &numbered, &fence), Judgement::MovedOn, "a person wrote");
    assert_eq!(judge(&order(4), "\"1\"", &numbered, &fence), Judgement::Outdated);
}

#[test]
fn without_what_the_dead_letter_saw_only_a_lower_sequence_lets_a_replay_pass_or_an_operator() {
    let fence = Guard { sequence_property: Some("Seq".into()), ..Guard::default() };
    let current = r#"{"A":1,"Seq":4}"#;
    let unknown = OrderUpdate { replay: Some(Replay::Unknown), ..update(r#"{"A":2}"#) };
    assert_eq!(judge(current, "\"1\"", &unknown, &fence), Judgement::MovedOn);
    let numbered = OrderUpdate { sequence: Sequence::new(5), ..unknown.clone() };
    assert_eq!(judge(current, "\"1\"", &numbered, &fence), Judgement::Outdated);
    assert_eq!(judge(current, "\"1\"", &numbered, &Guard::default()), Judgement::MovedOn);
    let forced = OrderUpdate { replay: Some(Replay::Forced), ..unknown };
    assert_eq!(judge(current, "\"1\"", &forced, &fence), Judgement::Outdated);
    let late = OrderUpdate { sequence: Sequence::new(3), ..forced };
    assert_eq!(judge(current, "\"1\"", &late, &fence), Judgement::Superseded, "nor by force");
}

#[test]
fn replay_whose_order_has_moved_on_is_dead_lettered_whatever_the_rules_say_of_superseded_updates() {
    let rules = Rules { superseded: Superseded::Settle, ..RULES };
    let step = get(start()).on_fetch(found("\"2\"", Judgement::MovedOn), &rules);
    assert_eq!(step, Step::Settle(Settlement::DeadLetter(Code::Superseded)));
    let reply = Ok(Answer { etag: Some(etag("\"2\"")), ..answer(200, r#"{"A":1}"#) });
    let said = |update| objection(&reply, &update, &Guard::default(), &etag("\"2\""));
    assert_eq!(
        said(since(r#"{"A":2}"#, "\"1\"")),
        "the order's ETag is \"2\", and its dead letter saw \"1\" last"
    );
    let unknown = OrderUpdate { replay: Some(Replay::Unknown), ..update(r#"{"A":2}"#) };
    assert_eq!(
        said(unknown),
        "the order's ETag is \"2\", and what its dead letter saw is not known"
    );
}

#[test]
fn fields_concerned_are_shown_as_they_are_and_bounded() {
    let guard = Guard { sequence_property: Some("Seq".into()), ..Guard::default() };
    let wanted = OrderUpdate { sequence: Sequence::new(5), ..update(r#"{"A":2,"B":"x","C":1}"#) };
    let order = format!(r#"{{"C":10.10,"B":"{}","A":null,"Seq":4,"D":1}}"#, "y".repeat(5_000));
    let seen = concerned(order.as_bytes(), &wanted, &guard).unwrap();
    assert_eq!(seen, r#"{"A":null,"C":10.10,"Seq":4}"#);
}

/// What becomes of one request of ours.
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

#[derive(Debug, Clone)]
enum Event {
    /// Somebody else writes, a person or another system.
    Foreign(u64),
    /// A live update comes.
    Live(u64, Vec<(Net, Option<u64>)>),
    /// An update is dead-lettered at once: it saw the order as it is.
    Dies(u64),
    /// One of the dead letters is replayed. With each request, what becomes of it, and what others
    /// write just before it.
    Replayed(usize, Vec<(Net, Option<u64>)>),
}

#[derive(Debug, Default)]
struct Service {
    value: u64,
    version: u64,
    /// ETag, value and kind of a PATCH that is on its way.
    late: Option<(ETag, u64, Option<u64>)>,
}

impl Service {
    fn etag(&self) -> ETag {
        etag(&format!("\"{}\"", self.version))
    }

    fn write(&mut self, value: u64) {
        (self.value, self.version) = (value, self.version + 1);
    }

    fn meanwhile(&mut self, foreign: Option<u64>) {
        if let Some(value) = foreign {
            self.write(value);
        }
    }

    /// `saw` is the version that the dead letter of a replay saw.
    fn patch(&mut self, with: &ETag, value: u64, saw: Option<u64>) -> bool {
        let fits = *with == self.etag();
        if fits {
            if let Some(saw) = saw {
                assert_eq!(self.version, saw, "a replay overwrote what its dead letter never saw");
            }
            self.write(value);
        }
        fits
    }

    fn settle_late(&mut self) {
        if let Some((with, value, saw)) = self.late.take() {
            self.patch(&with, value, saw);
        }
    }
}

/// Walks one update to its end.
fn handle(
    service: &mut Service,
    wanted: &OrderUpdate,
    (value, saw): (u64, Option<u64>),
    nets: &[(Net, Option<u64>)],
) -> Settlement {
    let mut nets = nets.iter().copied().chain(std::iter::repeat((Net::Answered, None)));
    let mut step = start();
    loop {
        step = match step {
            Step::Settle(settlement) => return settlement,
            Step::Wait(waiting) => waiting.elapsed(),
            Step::Ask(asking) => asking.on_answer(true),
            Step::Get(fetching) => {
                let (net, foreign) = nets.next().unwrap();
                service.settle_late();
                service.meanwhile(foreign);
                let body = format!(r#"{{"A":{}}}"#, service.value);
                let good = Ok(Answer { etag: Some(service.etag()), ..answer(200, &body) });
                let reply = match net {
                    Net::Answered | Net::Late => good,
                    Net::Lost | Net::Unheard => Err(Fault::Timeout),
                };
                fetching.on_fetch(fetched(&reply, wanted), &RULES)
            }
            Step::Patch(patching) => {
                let (net, foreign) = nets.next().unwrap();
                service.settle_late();
                service.meanwhile(foreign);
                let with = patching.etag().clone();
                let lost = Verdict::Not(Trouble::Failure(Code::Timeout));
                let verdict = match net {
                    Net::Answered if service.patch(&with, value, saw) => Verdict::Done,
                    Net::Answered => Verdict::Not(Trouble::Conflict(Code::EtagConflict)),
                    Net::Lost => lost,
                    Net::Unheard => {
                        service.patch(&with, value, saw);
                        lost
                    }
                    Net::Late => {
                        service.late = Some((with, value, saw));
                        lost
                    }
                };
                patching.on_verdict(verdict, &RULES)
            }
        };
    }
}

fn nets() -> impl Strategy<Value = Vec<(Net, Option<u64>)>> {
    let net = prop_oneof![
        4 => Just(Net::Answered), 1 => Just(Net::Lost), 1 => Just(Net::Unheard), 1 => Just(Net::Late)
    ];
    let foreign = prop_oneof![4 => Just(None), 1 => (0..4_u64).prop_map(Some)];
    proptest::collection::vec((net, foreign), 0..8)
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => (0..4_u64).prop_map(Event::Foreign),
        1 => (0..4_u64, nets()).prop_map(|(value, nets)| Event::Live(value, nets)),
        2 => (0..4_u64).prop_map(Event::Dies),
        4 => (0..4_usize, nets()).prop_map(|(letter, nets)| Event::Replayed(letter, nets)),
    ]
}

#[test]
fn replay_among_live_updates_never_overwrites_what_its_dead_letter_has_not_seen() {
    let (applied, already, superseded) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let config = Config { cases: 3_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let story = proptest::collection::vec(event(), 1..14);
    let ran = runner.run(&story, |story| {
        let mut service = Service::default();
        let mut letters: Vec<(u64, u64)> = Vec::new();
        for event in story {
            match event {
                Event::Foreign(value) => service.write(value),
                Event::Live(value, nets) => {
                    let wanted = update(&format!(r#"{{"A":{value}}}"#));
                    let _settled = handle(&mut service, &wanted, (value, None), &nets);
                }
                Event::Dies(value) => letters.push((value, service.version)),
                Event::Replayed(letter, nets) => {
                    let Some(&(value, saw)) = letters.get(letter) else { continue };
                    let wanted = since(&format!(r#"{{"A":{value}}}"#), &format!("\"{saw}\""));
                    let counted = match handle(&mut service, &wanted, (value, Some(saw)), &nets) {
                        Settlement::Applied => &applied,
                        Settlement::AlreadyApplied => &already,
                        Settlement::DeadLetter(Code::Superseded) => &superseded,
                        Settlement::DeadLetter(_) => continue,
                        Settlement::Superseded => panic!("nothing is numbered here"),
                    };
                    counted.set(counted.get() + 1);
                }
            }
        }
        Ok(())
    });
    ran.unwrap();
    let counts = [applied.get(), already.get(), superseded.get()];
    assert!(counts.iter().all(|count| *count > 200), "each way out is taken often: {counts:?}");
}
