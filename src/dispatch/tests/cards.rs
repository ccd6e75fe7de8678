//! What those are shown who ask what a busy order is at.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn order_is_as_old_as_its_oldest_update_and_not_as_what_is_at_work() {
    let bench = bench(2);
    bench.behave("hot", Behaviour::Slow);
    for name in ["1", "2", "3"] {
        bench.send("hot", name);
    }
    // The first took five seconds: the second is at work for two, and is here for seven.
    sleep(7 * SECOND).await;
    let busy = bench.dispatch.one("hot").unwrap();
    assert_eq!((busy.held_for.as_secs(), busy.oldest_for.as_secs()), (1, 7), "{busy:?}");
    assert_eq!((busy.doing, busy.behind), (Doing::Get, 1), "{busy:?}");
    assert_eq!(bench.dispatch.busy(), [busy]);
    bench.dispatch.drained().await;
}

#[tokio::test(start_paused = true)]
async fn update_that_its_sequence_put_behind_younger_ones_counts_from_its_own_arrival() {
    let mut bench = bench(2);
    bench.behave("hot", Behaviour::Slow);
    bench.send_numbered("hot", "one", Some(9));
    let lost = std::mem::take(&mut bench.channel);
    sleep(SECOND).await;
    bench.send_numbered("hot", "old", Some(5));
    sleep(SECOND).await;
    bench.send_numbered("hot", "young", Some(3));
    let oldest = || bench.dispatch.one("hot").unwrap().oldest_for.as_secs();
    sleep(2 * SECOND).await;
    assert_eq!(oldest(), 4, "the one at work");
    sleep(2 * SECOND).await;
    assert_eq!(oldest(), 5, "the young one is at work, and the old one waits");
    lost.cancel();
    bench.channel.cancel();
    assert_eq!(oldest(), 4, "of a copy whose channel is gone another one comes");
    bench.dispatch.drained().await;
}
