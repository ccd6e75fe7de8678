//! Replays of one order's letters among live updates, what others write, faults of the net, tools that die and
//! clocks that differ: nothing that is newer than a letter is overwritten by it, however often it is replayed.
//!
//! Everything that decides is the real thing: the protocol, the look and what it excuses, the order of the
//! letters, the headers of the message, of the dead letter, and how they are read. What performs is a model.

mod replays;
mod service;
mod world;

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use replays::Turning;
use service::{Meanwhile, Net, Properties, Tells};
use world::{Counts, Event, Tools, World};

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
