//! Orders that stand still behind a dead letter.

use super::*;

const HEAD: uuid::Uuid = uuid::Uuid::from_u128(7);

impl Bench {
    fn gate(&self, order: &str, gate: Option<Gate>) {
        self.fake.world.gates.lock().unwrap().insert(order.to_owned(), gate);
    }
}

#[tokio::test(start_paused = true)]
async fn update_of_an_order_that_stands_still_goes_behind_its_head_and_is_not_begun() {
    let bench = bench(8);
    bench.gate("parked", Some(Gate::Behind(HEAD)));
    for (order, name) in [("parked", "1"), ("other", "2"), ("parked", "3")] {
        bench.send(order, name);
    }
    bench.dispatch.drained().await;
    let expected = [(0, "parked_behind 1"), (0, "parked_behind 3"), (20, "ack 2")];
    assert_eq!(bench.story(), expected.map(|(at, what)| (at, what.to_owned())));
    for letter in &*bench.fake.world.letters.lock().unwrap() {
        assert_eq!((letter.parked_behind, letter.attempts.len()), (Some(HEAD), 0));
        assert_eq!(letter.order.as_deref(), Some("parked"));
    }
    let counts = bench.tally.snapshot();
    assert_eq!((counts.dead_lettered[PARKED_BEHIND], counts.applied), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn release_takes_its_place_among_the_updates_of_its_order() {
    let bench = bench(8);
    bench.gate("parked", Some(Gate::Behind(HEAD)));
    bench.send_numbered("parked", "before", Some(9));
    bench.dispatch.release("parked".into(), bench.held("now"));
    bench.send_numbered("parked", "behind", Some(8));
    bench.dispatch.drained().await;
    assert_eq!(bench.told(), ["parked_behind before", "release now", "ack behind"]);
}

#[tokio::test(start_paused = true)]
async fn update_whose_order_is_not_known_waits_and_is_given_back_on_a_drain() {
    let bench = bench(8);
    bench.gate("unknown", None);
    bench.send("unknown", "1");
    bench.send("unknown", "2");
    bench.send("known", "3");
    sleep(Duration::from_mins(1)).await;
    assert_eq!(bench.told(), ["ack 3"]);
    bench.stop.cancel();
    bench.dispatch.drained().await;
    assert_eq!(bench.told(), ["ack 3"]);
    assert_eq!(bench.tally.snapshot().released, 1, "the second was not begun");
}

#[tokio::test(start_paused = true)]
async fn release_that_fails_in_a_panic_lets_nothing_pass() {
    let bench = bench(8);
    bench.gate("parked", Some(Gate::Behind(HEAD)));
    bench.dispatch.release("parked".into(), bench.held("unsettleable"));
    bench.send("parked", "behind");
    bench.dispatch.drained().await;
    assert!(bench.told().is_empty(), "{:?}", bench.told());
    assert!(bench.ending.is_cancelled(), "its channel is given up");
}

#[tokio::test(start_paused = true)]
async fn letter_that_saw_nothing_is_written_in_its_turn_and_never_else() {
    let bench = bench(8);
    bench.gate("parked", Some(Gate::Next));
    bench.send_as("parked", "in its turn", None, Some(Replay::Unknown));
    bench.send_as("free", "late", None, Some(Replay::Unknown));
    // What saw a state is judged by it in its turn as well.
    let since = Replay::Since(ETag::new("\"another\"").unwrap());
    bench.send_as("parked", "moved on", None, Some(since));
    bench.dispatch.drained().await;
    let mut told = bench.told();
    told.sort();
    assert_eq!(told, ["ack in its turn", "superseded late", "superseded moved on"]);
}
