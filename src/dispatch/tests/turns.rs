//! Who is next: one update of an order at a time, in order, and no order at the cost of another.

use super::*;

#[tokio::test(start_paused = true)]
async fn updates_of_one_order_are_applied_one_at_a_time_and_in_order() {
    let bench = bench(8);
    for name in ["1", "2", "3"] {
        bench.send("hot", name);
    }
    bench.dispatch.drained().await;
    let expected = [(20, "ack 1"), (40, "ack 2"), (60, "ack 3")];
    assert_eq!(bench.story(), expected.map(|(at, what)| (at, what.to_owned())));
    assert_eq!(bench.fake.world.in_flight_max.load(Ordering::SeqCst), 1);
    assert!(bench.dispatch.shared.router.is_empty(), "an order at rest has no mailbox");
}

#[tokio::test(start_paused = true)]
async fn waiting_updates_are_worked_on_in_the_order_of_their_sequences() {
    let bench = bench(8);
    for (name, sequence) in [("first", 9), ("7", 7), ("5", 5), ("6", 6)] {
        bench.send_numbered("hot", name, Some(sequence));
    }
    bench.dispatch.drained().await;
    assert_eq!(bench.told(), ["ack first", "ack 5", "ack 6", "ack 7"], "the first had begun");
    // If the ack of 7 came before theirs, 5 or 6 could come again and be written over it.
    assert_eq!(*bench.hurried.lock().unwrap(), ["5", "6"]);
}

#[tokio::test(start_paused = true)]
async fn superseded_update_is_acked_without_a_write_and_counted() {
    let bench = bench(8);
    bench.behave("ahead", Behaviour::Ahead);
    for (name, sequence) in [("older", 8), ("same", 9), ("newer", 10)] {
        bench.send_numbered("ahead", name, Some(sequence));
    }
    bench.dispatch.drained().await;
    let expected = [(10, "ack older"), (20, "ack same"), (40, "ack newer")];
    assert_eq!(bench.story(), expected.map(|(at, what)| (at, what.to_owned())));
    let counts = bench.tally.snapshot();
    assert_eq!((counts.superseded, counts.already_applied, counts.applied), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn different_orders_run_in_parallel_up_to_the_limit() {
    let bench = bench(4);
    for order in 0..12 {
        bench.send(&format!("o{order}"), &order.to_string());
    }
    bench.dispatch.drained().await;
    assert_eq!(bench.fake.world.in_flight_max.load(Ordering::SeqCst), 4);
    let last = bench.story().last().unwrap().0;
    assert_eq!(last, 60, "twelve updates of 20 ms, four at a time");
}

#[tokio::test(start_paused = true)]
async fn waiting_order_gives_up_its_place() {
    let bench = bench(1);
    bench.behave("down", Behaviour::Down);
    bench.send("down", "d");
    bench.send("fine", "f");
    bench.dispatch.drained().await;
    assert_eq!(bench.told(), ["ack f", "unknown_outcome d"]);
    assert_eq!(bench.story()[0].0, 40, "during the first wait of the other order");
    let last_look = 10;
    let at = 7_000 + 4 * 20 + last_look;
    assert_eq!(bench.story()[1].0, at, "after waits of 1, 2 and 4 seconds");
}

#[tokio::test(start_paused = true)]
async fn hot_order_cannot_shut_out_the_others() {
    let bench = bench(1);
    for number in 0..20 {
        bench.send("hot", &number.to_string());
    }
    bench.send("cold", "cold");
    bench.dispatch.drained().await;
    assert_eq!(bench.told()[..2], ["ack 0", "ack cold"]);
}

#[tokio::test(start_paused = true)]
async fn order_with_many_updates_behind_has_every_other_turn() {
    let bench = bench(1);
    for number in 0..20 {
        bench.send("hot", &format!("hot {number}"));
    }
    for number in 0..20 {
        bench.send(&format!("cold {number}"), &format!("cold {number}"));
    }
    bench.dispatch.drained().await;
    let told = bench.told();
    assert_eq!(told[..2], ["ack hot 0", "ack cold 0"]);
    let by_turns = (1..12).flat_map(|it| [format!("ack cold {it}"), format!("ack hot {it}")]);
    assert_eq!(told[2..24], by_turns.collect::<Vec<_>>(), "while 8 or more wait behind it");
    let others = (12..20).map(|it| format!("ack cold {it}"));
    assert_eq!(told[24..32], others.collect::<Vec<_>>(), "then it waits like any other");
}

#[tokio::test(start_paused = true)]
async fn orders_with_many_updates_behind_cannot_shut_out_the_others() {
    let bench = bench(1);
    for number in 0..20 {
        for hot in ["a", "b", "c"] {
            bench.send(hot, &format!("{hot} {number}"));
        }
    }
    for number in 0..5 {
        bench.send(&format!("cold {number}"), &format!("cold {number}"));
    }
    bench.dispatch.drained().await;
    let told = bench.told();
    let last = told.iter().position(|what| what == "ack cold 4").unwrap();
    assert!(last < 12, "{told:?}");
    let first = |hot: &str| told.iter().position(|what| *what == format!("ack {hot} 0")).unwrap();
    assert!(first("c") < last, "neither do the others shut out one of them: {told:?}");
}
