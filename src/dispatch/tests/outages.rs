//! The target is in trouble: what is held, for how long, and what comes of it.

use super::*;

const INTERVAL: u64 = 5_000;

#[tokio::test(start_paused = true)]
async fn outage_of_any_kind_dead_letters_nothing_keeps_the_order_and_ends_within_an_interval() {
    for reply in [
        Err(Fault::Unreachable),
        Err(Fault::Broken),
        Ok(answer(503, "")),
        Ok(answer(500, "")),
        Ok(answer(401, "")),
        Ok(answer(302, "")),
        Ok(answer(403, "")),
        Ok(answer(200, "<html>")),
        Ok(Answer { is_json: false, ..answer(200, "<html>") }),
        // Whoever answers instead of the service: the web server below, an ingress, a gateway.
        Ok(answer(400, "<!DOCTYPE HTML><H2>Bad Request - Invalid Hostname</H2>")),
        Ok(answer(400, "")),
        Ok(Answer { is_json: false, ..answer(404, "default backend - 404") }),
        Ok(answer(404, r#"{"statusCode":404,"message":"Resource not found"}"#)),
        Ok(answer(405, "")),
        Ok(answer(409, "")),
        Ok(answer(410, "<html>")),
        Ok(answer(412, "")),
        Ok(answer(501, "<html>")),
    ] {
        let bench = bench(4);
        bench.send("before", "0");
        sleep(Duration::from_millis(30)).await;
        bench.outage(Some(reply.clone()));
        for number in 1..=3 {
            for order in ["a", "b", "c", "d", "e", "f"] {
                bench.send(order, &format!("{order}{number}"));
            }
        }
        bench.until(600_000).await;
        assert_eq!(bench.settled(), ["ack 0"], "{reply:?}");
        assert!(bench.dispatch.status().down.is_some(), "{reply:?}");
        bench.outage(None);
        bench.dispatch.drained().await;
        let settled = bench.settled();
        assert_eq!((bench.letters(), settled.len()), (0, 19), "{reply:?} {settled:?}");
        for order in ["a", "b", "c", "d", "e", "f"] {
            let mine = format!("ack {order}");
            let own: Vec<_> =
                settled.iter().filter(|what| what.starts_with(&mine)).cloned().collect();
            assert_eq!(own, [1, 2, 3].map(|number| format!("ack {order}{number}")));
        }
        let first = bench.story().into_iter().find(|(at, what)| *at > 600_000 && what != "look");
        assert!(first.unwrap().0 <= 600_000 + INTERVAL + 100, "{reply:?}");
        let last = bench.story().last().unwrap().0;
        assert!(last <= 600_000 + INTERVAL + 2_000, "{reply:?}: {last}");
        assert_eq!(bench.tally.snapshot().outages, 1, "{reply:?}");
        assert!(bench.dispatch.status().down.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn outage_sends_one_request_an_interval() {
    let bench = bench(50);
    bench.outage(Some(Err(Fault::Unreachable)));
    for order in 0..200 {
        bench.send(&format!("o{order}"), &order.to_string());
    }
    bench.until(60_000).await;
    let before = bench.tally.snapshot().failures;
    bench.until(660_000).await;
    let probes = bench.tally.snapshot().failures - before + bench.looks() as u64;
    assert!((110..=125).contains(&probes), "{probes} in ten minutes");
    bench.stop.cancel();
    bench.dispatch.drained().await;
}

#[tokio::test(start_paused = true)]
async fn bad_order_among_good_ones_spends_its_retries_and_stops_nobody() {
    let bench = bench(4);
    bench.behave("bad", Behaviour::Unreadable);
    bench.send("bad", "bad");
    for number in 0..100 {
        bench.until(number * 100).await;
        bench.send(&format!("good{number}"), &number.to_string());
    }
    bench.dispatch.drained().await;
    let counts = bench.tally.snapshot();
    assert_eq!((counts.applied, counts.outages, bench.looks()), (100, 0, 0));
    assert_eq!(counts.dead_lettered, BTreeMap::from([("server_error", 1)]));
    let at = bench.story().into_iter().find(|(_, what)| what == "server_error bad").unwrap().0;
    assert_eq!(at, 7_000 + 4 * 10, "after its waits of 1, 2 and 4 seconds");
}

#[tokio::test(start_paused = true)]
async fn bad_order_that_is_alone_is_told_from_an_outage_by_a_look() {
    let bench = bench(4);
    bench.behave("bad", Behaviour::Unreadable);
    bench.send("bad", "bad");
    bench.dispatch.drained().await;
    let expected = [(7_040, "look"), (7_050, "server_error bad")];
    assert_eq!(bench.story(), expected.map(|(at, what)| (at, what.to_owned())));
    assert_eq!(bench.tally.snapshot().outages, 0);
}

#[tokio::test(start_paused = true)]
async fn single_order_in_an_outage_waits_for_its_end() {
    let bench = bench(4);
    bench.outage(Some(Ok(answer(503, ""))));
    bench.send("only", "1");
    bench.until(3_600_000).await;
    assert_eq!((bench.letters(), bench.tally.snapshot().outages), (0, 1));
    // What it spent before and during the outage is not held against it.
    bench.behave("only", Behaviour::Down);
    bench.outage(None);
    bench.dispatch.drained().await;
    let letters = bench.fake.world.letters.lock().unwrap().clone();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.code, letter.attempts.len()), ("unknown_outcome", 64));
    let numbers: Vec<_> = letter.attempts.iter().map(|attempt| attempt.number).collect();
    assert!(numbers[0] == 1 && numbers[63] > 400, "{numbers:?}");
    let last: Vec<_> = letter.attempts[59..].iter().map(|attempt| attempt.patch_status).collect();
    assert_eq!(last, [None; 5]);
    let sent = letter.attempts.iter().filter(|attempt| attempt.etag_sent.is_some()).count();
    assert_eq!(sent, 1 + 4, "one as a probe, then a fresh budget");
}

#[tokio::test(start_paused = true)]
async fn systemic_answer_that_is_confirmed_holds_everything_at_once() {
    let bench = bench(1);
    bench.outage(Some(Ok(answer(401, ""))));
    for order in 0..50 {
        bench.send(&format!("o{order}"), &order.to_string());
    }
    bench.until(100).await;
    let counts = bench.tally.snapshot();
    assert_eq!((counts.failures, counts.outages), (2, 1), "the second confirms the first");
    bench.stop.cancel();
    bench.dispatch.drained().await;
}

#[tokio::test(start_paused = true)]
async fn drain_and_the_end_of_the_lease_do_not_wait_for_a_target_in_trouble() {
    for reply in [Err(Fault::Unreachable), Ok(refused(Some(300)))] {
        for drains in [true, false] {
            let bench = bench(4);
            bench.outage(Some(reply.clone()));
            for order in 0..20 {
                bench.send(&format!("o{order}"), &order.to_string());
            }
            bench.until(20_000).await;
            assert!(*bench.dispatch.paused().borrow());
            assert!(bench.dispatch.status().waiting > 0);
            if drains {
                bench.stop.cancel();
            } else {
                bench.ending.cancel();
            }
            let asked = Instant::now();
            // A look may be on the wire while nobody waits any more.
            bench.outage(None);
            bench.dispatch.drained().await;
            assert_eq!(bench.settled(), [""; 0], "the broker keeps them all");
            assert_eq!(bench.tally.snapshot().released, 20);
            assert!(!drains || asked.elapsed().is_zero(), "{:?}", asked.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn end_of_an_outage_is_found_out_where_no_update_waits() {
    let bench = bench(4);
    bench.outage(Some(Err(Fault::Unreachable)));
    for order in 0..5 {
        bench.send(&format!("o{order}"), &order.to_string());
    }
    let mut paused = bench.dispatch.paused();
    paused.wait_for(|paused| *paused).await.unwrap();
    bench.ending.cancel();
    bench.until(100_000).await;
    assert!(*paused.borrow() && bench.dispatch.status().waiting == 0);
    bench.outage(None);
    paused.wait_for(|paused| !paused).await.unwrap();
    let ended = bench.fake.begun.elapsed();
    assert!(ended <= Duration::from_millis(100_000 + INTERVAL + 100), "{ended:?}");
    bench.dispatch.drained().await;
}

#[tokio::test(start_paused = true)]
async fn orders_that_are_bad_by_themselves_come_to_an_end_though_they_look_like_an_outage() {
    for behaviour in [Behaviour::Unreadable, Behaviour::Unwritable, Behaviour::Down] {
        let bench = bench(4);
        for order in 0..7 {
            let order = format!("bad{order}");
            bench.behave(&order, behaviour);
            bench.send(&order, &order);
        }
        bench.until(60_000).await;
        assert!(bench.tally.snapshot().outages > 0, "nothing else goes on: taken for one");
        for order in 0..60 {
            bench.until(60_000 + order * 10_000).await;
            bench.send(&format!("good{order}"), "good");
        }
        bench.until(700_000).await;
        let counts = bench.tally.snapshot();
        assert_eq!((counts.applied, bench.letters()), (60, 7), "{behaviour:?} {:?}", bench.told());
    }
}

#[tokio::test(start_paused = true)]
async fn outage_of_writing_alone_is_held_from_the_second_order_on_and_ends_with_a_write() {
    let page = "<html>";
    for reply in [
        Ok(answer(503, "")),
        Ok(answer(500, "")),
        Ok(answer(403, "")),
        Err(Fault::Broken),
        Ok(answer(302, "")),
        Ok(Answer { is_json: false, ..answer(200, page) }),
        Ok(answer(400, page)),
        Ok(answer(404, "")),
        Ok(answer(405, "")),
        Ok(answer(409, page)),
        Ok(answer(412, page)),
        Ok(answer(413, page)),
        Ok(answer(414, page)),
        Ok(answer(422, page)),
        Ok(answer(428, "")),
        Ok(answer(501, "")),
    ] {
        let bench = bench(4);
        bench.send("before", "0");
        sleep(Duration::from_millis(30)).await;
        bench.read_only(Some(reply.clone()));
        // Two orders, fewer than it takes to be sure at once.
        for order in ["a", "b"] {
            for number in 1..=3 {
                bench.send(order, &format!("{order}{number}"));
            }
        }
        bench.until(3_600_000).await;
        assert_eq!(bench.settled(), ["ack 0"], "{reply:?}");
        let (code, _) = bench.dispatch.status().down.unwrap();
        assert_eq!(bench.tally.snapshot().outages, 1, "{reply:?} {code:?}");
        bench.read_only(None);
        bench.dispatch.drained().await;
        assert_eq!((bench.letters(), bench.tally.snapshot().applied), (0, 7), "{reply:?}");
        let last = bench.story().last().unwrap().0;
        assert!(last <= 3_600_000 + INTERVAL + 2_000, "{reply:?}: {last}");
    }
}

#[tokio::test(start_paused = true)]
async fn bad_orders_of_a_burst_are_dead_lettered_though_nothing_follows() {
    let bench = bench(4);
    for order in 0..8 {
        bench.behave(&format!("bad{order}"), Behaviour::Unwritable);
        bench.send(&format!("bad{order}"), "bad");
    }
    for order in 0..90 {
        bench.send(&format!("good{order}"), "good");
    }
    bench.until(8_000).await;
    let counts = bench.tally.snapshot();
    assert_eq!((counts.applied, bench.letters(), counts.outages), (90, 8, 0));
}

#[tokio::test(start_paused = true)]
async fn orders_whose_writes_alone_fail_wait_for_one_that_is_answered() {
    let bench = bench(4);
    for order in ["a", "b", "c", "d"] {
        bench.behave(order, Behaviour::Unwritable);
        bench.send(order, order);
    }
    bench.until(3_600_000).await;
    assert_eq!(bench.letters(), 0, "nothing proves that the target takes a write");
    assert!(bench.dispatch.status().down.is_some());
    bench.send("good", "good");
    // It has its turn behind the four that wait; then they have their retries.
    bench.dispatch.drained().await;
    let (told, last) = (bench.settled(), bench.story().last().unwrap().0);
    assert_eq!((told[0].as_str(), bench.letters()), ("ack good", 4), "{told:?}");
    assert!(last <= 3_600_000 + 5 * INTERVAL + 8_000, "{last}");
    assert_eq!(bench.tally.snapshot().outages, 1);
}
