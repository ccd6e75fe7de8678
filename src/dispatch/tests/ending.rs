//! A drain, a lost channel, a channel that is given back; and what a former owner left behind.

use super::*;

#[tokio::test(start_paused = true)]
async fn drain_gives_up_a_backoff_at_once_and_begins_nothing() {
    let bench = bench(2);
    bench.behave("down", Behaviour::Down);
    bench.send("down", "1");
    bench.send("down", "2");
    sleep(Duration::from_millis(100)).await;
    bench.stop.cancel();
    bench.dispatch.drained().await;
    assert_eq!(bench.fake.begun.elapsed(), Duration::from_millis(100));
    assert_eq!(bench.told(), [""; 0], "nothing was settled: the broker keeps both");
    assert_eq!(bench.tally.snapshot().released, 1);
}

#[tokio::test(start_paused = true)]
async fn drain_finishes_what_is_on_the_wire() {
    let bench = bench(2);
    bench.behave("slow", Behaviour::Slow);
    bench.send("slow", "1");
    bench.send("slow", "2");
    sleep(Duration::from_millis(100)).await;
    bench.stop.cancel();
    bench.dispatch.drained().await;
    assert_eq!(bench.story(), [(5_010, "ack 1".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn message_of_a_lost_channel_is_neither_retried_nor_settled() {
    let mut bench = bench(2);
    bench.behave("down", Behaviour::Down);
    bench.send("down", "old 1");
    bench.send("down", "old 2");
    sleep(Duration::from_millis(100)).await;
    bench.channel.cancel();
    bench.channel = CancellationToken::new();
    bench.behave("down", Behaviour::Fine);
    for name in ["new 1", "new 2"] {
        bench.send("down", name);
    }
    bench.dispatch.drained().await;
    assert_eq!(bench.told(), ["ack new 1", "ack new 2"], "each once, in order");
}

#[tokio::test(start_paused = true)]
async fn loss_of_the_channel_aborts_what_is_on_the_wire() {
    let mut bench = bench(4);
    bench.behave("slow", Behaviour::Slow);
    bench.send("slow", "old");
    sleep(Duration::from_millis(100)).await;
    bench.channel.cancel();
    bench.channel = CancellationToken::new();
    bench.behave("slow", Behaviour::Fine);
    bench.send("slow", "new");
    bench.dispatch.drained().await;
    assert_eq!(bench.story(), [(120, "ack new".to_owned())]);
    assert_eq!(bench.tally.snapshot().released, 1);
}

#[tokio::test(start_paused = true)]
async fn channel_that_is_given_back_gets_what_was_begun_settled_and_nothing_else_begun() {
    let bench = bench(4);
    bench.behave("slow", Behaviour::Slow);
    bench.behave("down", Behaviour::Down);
    for (order, name) in [("slow", "1"), ("slow", "2"), ("down", "3")] {
        bench.send(order, name);
    }
    sleep(Duration::from_millis(100)).await;
    bench.ending.cancel();
    bench.send("other", "4");
    bench.dispatch.drained().await;
    assert_eq!(bench.story(), [(5_010, "ack 1".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn redelivered_message_waits_for_its_former_owners_requests() {
    let mut bench = bench(4);
    bench.send("fresh", "f");
    bench.settle = Duration::from_secs(5);
    bench.send("redelivered", "r");
    bench.dispatch.drained().await;
    assert_eq!(bench.story(), [(20, "ack f".to_owned()), (5_020, "ack r".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_for_while_the_broker_is_not_heard_of() {
    let bench = bench(1);
    bench.heard.send_replace(false);
    bench.send("first", "1");
    sleep(Duration::from_secs(3)).await;
    assert_eq!(bench.tally.snapshot().attempts, 0);
    bench.heard.send_replace(true);
    bench.dispatch.drained().await;
    assert_eq!(bench.story(), [(3_020, "ack 1".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn patch_of_a_pod_that_hears_of_no_broker_any_more_is_not_written_and_begins_with_a_get_again()
 {
    let bench = bench(1);
    bench.behave("patch", Behaviour::Queued(Request::Patch));
    bench.send("patch", "1");
    sleep(Duration::from_secs(1)).await;
    bench.heard.send_replace(false);
    sleep(Duration::from_secs(7)).await;
    let asked = || (bench.tally.snapshot().attempts, bench.fake.world.bodies.lock().unwrap().len());
    assert_eq!(asked(), (1, 0));
    bench.heard.send_replace(true);
    bench.dispatch.drained().await;
    assert_eq!(bench.told(), ["ack 1"]);
    assert_eq!(asked(), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn attempt_whose_patch_was_held_back_as_no_broker_was_heard_of_is_told_as_broken_off() {
    let bench = bench(1);
    bench.behave("patch", Behaviour::Queued(Request::Patch));
    bench.send("patch", "1");
    bench.until(1_000).await;
    bench.heard.send_replace(false);
    // The PATCH is due at 5,010.
    bench.until(8_000).await;
    // A letter tells of all attempts, so the second one must end in one.
    bench.behave("patch", Behaviour::Missing);
    bench.heard.send_replace(true);
    bench.dispatch.drained().await;
    let letters = bench.fake.world.letters.lock().unwrap();
    let told: Vec<_> =
        letters[0].attempts.iter().map(|it| (it.outcome, it.etag_sent.is_some())).collect();
    assert_eq!(told, [("aborted", false), ("not_found", false)]);
}

#[tokio::test(start_paused = true)]
async fn drain_does_not_wait_until_the_broker_is_heard_of() {
    let bench = bench(1);
    bench.heard.send_replace(false);
    bench.send("first", "1");
    sleep(Duration::from_secs(1)).await;
    bench.stop.cancel();
    bench.dispatch.drained().await;
    assert_eq!((bench.fake.begun.elapsed(), bench.told()), (Duration::from_secs(1), vec![]));
}
