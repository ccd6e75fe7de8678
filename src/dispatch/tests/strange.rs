//! One order is answered what looks like an outage, or an outage what looks like one order's fault.

use super::*;
use crate::protocol::Code;

/// Good orders, one every 100 ms.
async fn traffic(bench: &Bench, orders: u64) {
    for number in 0..orders {
        bench.until(number * 100).await;
        bench.send(&format!("good{number}"), &number.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn order_that_something_on_the_way_takes_offence_at_is_dead_lettered_and_stops_nobody() {
    for (behaviour, code) in [
        (Behaviour::Page(Request::Get), "not_odata"),
        (Behaviour::Page(Request::Patch), "not_odata"),
        (Behaviour::Redirect(Request::Get), "redirected"),
        (Behaviour::Redirect(Request::Patch), "redirected"),
        (Behaviour::Tagless, "no_etag"),
    ] {
        for others in [100, 1] {
            let bench = bench(4);
            bench.behave("bad", behaviour);
            if others == 1 {
                // Nobody else is asked for while it fails.
                bench.send("good", "good");
                sleep(Duration::from_millis(100)).await;
            }
            bench.send("bad", "bad");
            if others > 1 {
                traffic(&bench, others).await;
            }
            bench.dispatch.drained().await;
            let counts = bench.tally.snapshot();
            assert_eq!((counts.applied, counts.outages), (others, 0), "{behaviour:?}");
            assert_eq!(counts.dead_lettered, BTreeMap::from([(code, 1)]), "{behaviour:?}");
            let letters = bench.fake.world.letters.lock().unwrap();
            let failed = letters[0].attempts.iter().filter(|it| it.outcome == code).count();
            assert!(failed >= 4, "after its retries: {behaviour:?} {letters:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_orders_that_are_answered_so_stop_everything_once_and_come_to_their_end() {
    for behaviour in [Behaviour::Page(Request::Get), Behaviour::Redirect(Request::Patch)] {
        let bench = bench(4);
        for order in ["bad1", "bad2"] {
            bench.behave(order, behaviour);
            bench.send(order, order);
        }
        bench.until(60_000).await;
        assert_eq!(bench.tally.snapshot().outages, 1, "{behaviour:?}");
        for order in 0..30 {
            bench.until(60_000 + order * 10_000).await;
            bench.send(&format!("good{order}"), "good");
        }
        bench.until(400_000).await;
        let counts = bench.tally.snapshot();
        assert_eq!((counts.applied, bench.letters(), counts.outages), (30, 2, 1), "{behaviour:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn order_that_is_not_there_is_dead_lettered_at_once_for_one_look_at_most() {
    let bench = bench(4);
    bench.behave("missing", Behaviour::Missing);
    bench.send("missing", "m");
    bench.dispatch.drained().await;
    let expected = [(10, "look"), (20, "not_found m")];
    assert_eq!(bench.story(), expected.map(|(at, what)| (at, what.to_owned())));
    assert_eq!(bench.tally.snapshot().outages, 0);
}

#[tokio::test(start_paused = true)]
async fn many_orders_that_are_not_there_share_few_looks_and_need_none_where_others_are_shown() {
    let bench = bench(50);
    for number in 0..500 {
        let order = format!("missing{number}");
        bench.behave(&order, Behaviour::Missing);
        bench.send(&order, &order);
    }
    bench.dispatch.drained().await;
    assert_eq!(bench.tally.snapshot().dead_lettered, BTreeMap::from([("not_found", 500)]));
    assert!(bench.looks() <= 25, "{} looks", bench.looks());

    let bench = self::bench(2);
    bench.behave("missing", Behaviour::Missing);
    bench.behave("slow", Behaviour::Slow);
    bench.send("slow", "s");
    bench.until(4_995).await;
    // Asked for before the answer to the slow one is there, which was sent long before.
    bench.send("missing", "m");
    bench.dispatch.drained().await;
    assert_eq!(bench.looks(), 1, "what was sent before proves nothing");
}

#[tokio::test(start_paused = true)]
async fn outage_that_goes_on_as_404s_dead_letters_nothing() {
    let bench = bench(4);
    bench.outage(Some(Ok(answer(502, ""))));
    for order in 0..20 {
        bench.send(&format!("o{order}"), &order.to_string());
    }
    bench.until(60_000).await;
    for (minute, body) in [(2, "default backend - 404"), (3, r#"{"statusCode":404}"#)] {
        bench.outage(Some(Ok(answer(404, body))));
        bench.until(minute * 60_000).await;
        assert_eq!((bench.letters(), bench.tally.snapshot().outages), (0, 1), "{body}");
        assert!(bench.dispatch.status().down.is_some(), "{body}");
    }
    bench.outage(None);
    bench.dispatch.drained().await;
    assert_eq!((bench.letters(), bench.tally.snapshot().applied), (0, 20));
}

#[tokio::test(start_paused = true)]
async fn renamed_entity_set_is_an_outage_from_the_first_order_on_in_whatever_words() {
    let bench = bench(4);
    bench.outage(Some(Ok(answer(404, r#"{"error":{"code":"","message":"Unbekannt"}}"#))));
    bench.send("only", "1");
    bench.until(600_000).await;
    assert_eq!(bench.letters(), 0);
    let (code, _) = bench.dispatch.status().down.unwrap();
    assert_eq!(code, Code::WrongAddress);
    bench.outage(None);
    bench.dispatch.drained().await;
    assert_eq!(bench.settled(), ["ack 1"]);
}

#[tokio::test(start_paused = true)]
async fn service_that_shows_no_lists_is_looked_at_by_an_order_that_it_has_shown() {
    let bench = bench(4);
    *bench.fake.world.lists.lock().unwrap() = Some(Ok(answer(501, "")));
    bench.behave("missing", Behaviour::Missing);
    bench.send("good", "g");
    sleep(Duration::from_millis(100)).await;
    bench.send("missing", "m");
    bench.dispatch.drained().await;
    assert_eq!(bench.told(), ["ack g", "look", "look at good", "not_found m"]);
    assert_eq!(bench.tally.snapshot().outages, 0);
}

#[tokio::test(start_paused = true)]
async fn entity_set_without_tags_is_waited_for_though_its_orders_come_one_by_one() {
    let bench = bench(4);
    bench.outage(Some(Ok(Answer { etag: None, ..answer(200, r#"{"A":0}"#) })));
    *bench.fake.world.lists.lock().unwrap() = Some(Ok(answer(200, r#"{"value":[]}"#)));
    for order in 0..5 {
        bench.until(order * 20_000).await;
        bench.send(&format!("o{order}"), &order.to_string());
    }
    bench.until(600_000).await;
    assert_eq!(bench.letters(), 0, "{:?}", bench.settled());
    bench.outage(None);
    bench.dispatch.drained().await;
    assert_eq!((bench.letters(), bench.tally.snapshot().applied), (0, 5));
}

#[tokio::test(start_paused = true)]
async fn order_that_is_always_too_much_while_others_are_taken_is_dead_lettered_and_shuts_no_gate_again()
 {
    for request in [Request::Get, Request::Patch] {
        for told in [Some(2), None] {
            let bench = bench(4);
            bench.behave("hot", Behaviour::TooMuch(request, told));
            bench.send("hot", "first");
            bench.send("hot", "second");
            for number in 0..3_000 {
                bench.until(number * 100).await;
                bench.send(&format!("good{number}"), &number.to_string());
            }
            bench.dispatch.drained().await;
            let counts = bench.tally.snapshot();
            assert_eq!(counts.dead_lettered, BTreeMap::from([("throttled_alone", 2)]), "{told:?}");
            assert_eq!((counts.applied, counts.outages), (3_000, 0));
            // A few that shut the gate; from then on it pays for itself, the next update as well.
            let throttled = counts.throttled;
            assert!((5..=12).contains(&throttled), "{throttled}: {request:?} {told:?}");
            assert_eq!(counts.failures, 2 * 4, "{request:?} {told:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn order_that_is_too_much_and_alone_waits_and_so_do_all_where_all_are_too_much() {
    let bench = bench(4);
    bench.behave("hot", Behaviour::TooMuch(Request::Get, None));
    bench.send("hot", "hot");
    bench.until(3_600_000).await;
    assert_eq!((bench.letters(), bench.tally.snapshot().failures), (0, 0), "nobody else was taken");
    bench.stop.cancel();
    bench.dispatch.drained().await;
}
