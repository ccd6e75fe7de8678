//! The target asks for less: for how long it is left alone, and what that costs nobody.

use super::*;

#[tokio::test(start_paused = true)]
async fn throttled_target_is_left_alone_by_all_for_as_long_as_it_said_and_it_costs_no_attempt() {
    let bench = bench(1);
    bench.outage(Some(Ok(refused(Some(30)))));
    bench.send("first", "1");
    bench.send("second", "2");
    bench.until(29_000).await;
    assert_eq!(bench.tally.snapshot().throttled, 1, "nothing else was sent");
    bench.outage(None);
    bench.dispatch.drained().await;
    let story = bench.story();
    assert_eq!(story.len(), 2, "{story:?}");
    assert!((30_000..=36_500).contains(&story[0].0), "{story:?}");
    assert!(story[1].0 < story[0].0 + 2_000, "at one request a second at first: {story:?}");
    let counts = bench.tally.snapshot();
    assert_eq!((counts.failures, counts.retries, counts.outages), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn write_that_waited_for_its_moment_is_not_sent_to_a_target_that_has_refused_meanwhile() {
    let bench = bench(4);
    bench.behave("slow", Behaviour::Slow);
    bench.send("slow", "s");
    bench.until(3_400).await;
    bench.outage(Some(Ok(refused(Some(1)))));
    bench.send("paced", "p");
    bench.until(3_900).await;
    // Its second GET is answered at about 4,770, and its PATCH is due at about 5,230.
    bench.outage(None);
    bench.until(4_900).await;
    bench.outage(Some(Ok(refused(Some(1)))));
    // The GET of the other one is refused at 5,000.
    bench.until(5_100).await;
    bench.outage(None);
    bench.dispatch.drained().await;
    let written = bench.story().into_iter().find(|(_, what)| what == "ack p").unwrap().0;
    assert!((6_100..8_000).contains(&written), "{written}");
    assert_eq!(bench.letters(), 0);
}

#[tokio::test(start_paused = true)]
async fn throttling_without_end_dead_letters_nothing() {
    let bench = bench(4);
    bench.outage(Some(Ok(refused(None))));
    for order in 0..20 {
        bench.send(&format!("o{order}"), &order.to_string());
    }
    bench.until(3_600_000).await;
    assert_eq!((bench.letters(), bench.tally.snapshot().outages), (0, 0));
    let throttled = bench.tally.snapshot().throttled;
    assert!(throttled < 60, "{throttled} refusals in an hour");
    bench.outage(None);
    bench.dispatch.drained().await;
    assert_eq!(bench.settled().len(), 20);
}
