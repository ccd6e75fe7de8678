//! Requests that wait to be written, for a quota or for company, after their turn has come.

use super::*;

#[tokio::test(start_paused = true)]
async fn drain_and_the_end_of_the_lease_do_not_wait_for_what_is_yet_to_be_written() {
    for request in [Request::Get, Request::Patch] {
        for drains in [true, false] {
            let bench = bench(4);
            bench.behave("queued", Behaviour::Queued(request));
            bench.send("queued", "q");
            bench.until(1_000).await;
            if drains {
                bench.stop.cancel();
            } else {
                bench.ending.cancel();
            }
            bench.dispatch.drained().await;
            assert_eq!(bench.fake.begun.elapsed(), Duration::from_secs(1), "{request:?} {drains}");
            let counts = bench.tally.snapshot();
            let attempts = u64::from(request == Request::Patch);
            assert_eq!((counts.released, counts.attempts), (1, attempts), "{request:?}");
            assert_eq!(bench.told(), [""; 0]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_written_is_not_sent_to_a_target_that_has_refused_meanwhile() {
    for request in [Request::Get, Request::Patch] {
        let bench = bench(4);
        bench.behave("queued", Behaviour::Queued(request));
        bench.send("queued", "q");
        bench.until(1_000).await;
        bench.outage(Some(Ok(Answer { retry_after: Some(MINUTE), ..answer(429, "") })));
        bench.send("other", "o");
        bench.until(2_000).await;
        bench.outage(None);
        bench.until(60_000).await;
        let counts = bench.tally.snapshot();
        let attempts = 1 + u64::from(request == Request::Patch);
        assert_eq!((counts.attempts, counts.throttled), (attempts, 1), "{request:?}");
        let doing = bench.dispatch.one("queued").unwrap().doing;
        assert_eq!(doing, Doing::Turn, "{request:?}: it stands in line again");
        bench.dispatch.drained().await;
        assert_eq!((bench.letters(), bench.tally.snapshot().applied), (0, 2), "{request:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_written_is_not_sent_to_a_target_that_is_down() {
    for request in [Request::Get, Request::Patch] {
        let bench = bench(4);
        bench.behave("queued", Behaviour::Queued(request));
        bench.send("queued", "q");
        bench.until(1_000).await;
        bench.outage(Some(Ok(answer(401, ""))));
        bench.send("a", "a");
        bench.send("b", "b");
        bench.until(5_500).await;
        assert!(bench.dispatch.status().down.is_some());
        let doing = bench.dispatch.one("queued").unwrap().doing;
        assert_eq!(doing, Doing::Turn, "{request:?}: it stands in line again");
        bench.outage(None);
        bench.dispatch.drained().await;
        assert_eq!((bench.letters(), bench.tally.snapshot().applied), (0, 3), "{request:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn request_is_on_the_wire_for_those_who_ask_only_once_it_is_written() {
    let bench = bench(4);
    bench.behave("get", Behaviour::Queued(Request::Get));
    bench.behave("patch", Behaviour::Queued(Request::Patch));
    for order in ["get", "patch"] {
        bench.send(order, order);
    }
    let doing = |order: &str| {
        let busy = bench.dispatch.one(order).unwrap();
        (busy.doing, busy.attempt)
    };
    bench.until(4_000).await;
    assert_eq!((doing("get"), doing("patch")), ((Doing::Queue, 0), (Doing::Queue, 1)));
    bench.until(5_005).await;
    assert_eq!(doing("get"), (Doing::Get, 1));
    assert_eq!(bench.dispatch.one("get").unwrap().doing_for, Duration::from_millis(5));
    bench.until(5_015).await;
    assert_eq!(doing("patch"), (Doing::Patch, 1));
    bench.dispatch.drained().await;
}
