//! Updates that fail, that panic, or that may be what kills their holders.

use super::*;

#[tokio::test(start_paused = true)]
async fn panic_dead_letters_that_message_alone() {
    let bench = bench(2);
    bench.behave("bad", Behaviour::Panics);
    bench.send("bad", "1");
    bench.send("bad", "2");
    bench.send("good", "3");
    bench.dispatch.drained().await;
    let mut told = bench.told();
    told.sort();
    assert_eq!(told, ["ack 3", "bug 1", "bug 2"]);
    assert_eq!(bench.tally.snapshot().dead_lettered, BTreeMap::from([("bug", 2)]));
}

#[tokio::test(start_paused = true)]
async fn next_update_waits_after_a_panic_while_a_write_was_on_the_wire() {
    let bench = bench(2);
    bench.behave("order", Behaviour::PanicsLate);
    bench.send("order", "1");
    bench.send("order", "2");
    sleep(Duration::from_millis(25)).await;
    bench.behave("order", Behaviour::Fine);
    bench.dispatch.drained().await;
    let expected = [(20, "bug 1"), (5_040, "ack 2")];
    assert_eq!(bench.story(), expected.map(|(at, what)| (at, what.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn panic_while_settling_gives_the_channel_up_and_lets_nothing_overtake() {
    let bench = bench(2);
    bench.send("order", "unsettleable");
    bench.send("order", "next");
    bench.dispatch.drained().await;
    assert!(bench.ending.is_cancelled(), "the broker hands both out again");
    assert_eq!(bench.told(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn exhausted_retries_are_dead_lettered_with_every_attempt() {
    let bench = bench(2);
    bench.behave("down", Behaviour::Down);
    bench.send("down", "1");
    bench.dispatch.drained().await;
    let letters = bench.fake.world.letters.lock().unwrap().clone();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.code, letter.order.as_deref()), ("unknown_outcome", Some("down")));
    let numbers: Vec<_> = letter.attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5], "the fifth is the last look");
    assert_eq!(
        (letter.attempts[4].outcome, letter.attempts[4].milliseconds),
        ("unknown_outcome", 10)
    );
    for attempt in &letter.attempts[..4] {
        assert_eq!((attempt.get_status, attempt.patch_status), (Some(200), None));
        assert_eq!(attempt.etag_seen, attempt.etag_sent);
        assert_eq!((attempt.outcome, attempt.milliseconds), ("unknown_outcome", 20));
    }
    let snapshot = bench.tally.snapshot();
    assert_eq!((snapshot.failures, snapshot.retries), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn next_update_waits_after_a_dead_letter_whose_write_may_still_be_at_work() {
    let bench = bench(2);
    bench.behave("order", Behaviour::Down);
    bench.send("order", "lost");
    bench.send("order", "next");
    sleep(Duration::from_millis(7_095)).await;
    bench.behave("order", Behaviour::Fine);
    bench.dispatch.drained().await;
    let dead = 7_000 + 4 * 20 + 10;
    let expected = [(dead, "unknown_outcome lost"), (dead + 5_000 + 20, "ack next")];
    assert_eq!(bench.story(), expected.map(|(at, what)| (at, what.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn suspects_are_worked_on_alone_and_the_guilty_one_is_dead_lettered_unbegun() {
    let mut bench = bench(8);
    bench.losses = 5;
    for order in ["a", "b", "c"] {
        bench.send(order, order);
    }
    bench.losses = 50;
    bench.send("guilty", "g");
    bench.dispatch.drained().await;
    assert_eq!(bench.fake.world.in_flight_max.load(Ordering::SeqCst), 1);
    let mut told = bench.told();
    assert_eq!(told[0], "crash_loop g");
    told.sort();
    assert_eq!(told, ["ack a", "ack b", "ack c", "crash_loop g"]);
    let mut hurried = bench.hurried.lock().unwrap().clone();
    hurried.sort();
    assert_eq!(hurried, ["a", "b", "c"], "their acks wait for none that may kill their holder");
}

#[tokio::test(start_paused = true)]
async fn suspect_that_waits_for_a_retry_holds_up_no_other_suspect() {
    let mut bench = bench(8);
    bench.losses = 5;
    bench.behave("down", Behaviour::Down);
    bench.send("down", "d");
    sleep(Duration::from_millis(260)).await;
    // It has had its first attempt and waits for about a second.
    bench.send("fine", "f");
    bench.dispatch.drained().await;
    assert_eq!(bench.fake.world.in_flight_max.load(Ordering::SeqCst), 1);
    let story = bench.story();
    assert_eq!(story.first(), Some(&(530, "ack f".to_owned())), "{story:?}");
    assert_eq!(story.len(), 2, "{story:?}");
}
