//! Updates of one order that wait behind each other, where they are written as one.

use super::*;

/// Where they are.
fn merging() -> Bench {
    bench_with(8, Some(4_096))
}

impl Bench {
    fn send_changes(&self, name: &str, changes: &str, sequence: Option<u64>) {
        let changes = Changes::new(serde_json::from_str(changes).unwrap());
        let sequence = sequence.and_then(Sequence::new);
        let update = OrderUpdate { changes, sequence, ..plain("hot") };
        let held = self.held(name);
        self.dispatch.accept(Job { update, held, first_seen: Timestamp::UNIX_EPOCH });
    }

    fn bodies(&self) -> Vec<String> {
        self.fake.world.bodies.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_updates_are_written_as_one_and_settled_each_by_itself() {
    let bench = merging();
    for (name, changes) in [("1", r#"{"A":1}"#), ("2", r#"{"B":2}"#), ("3", r#"{"A":3}"#)] {
        bench.send_changes(name, changes, None);
    }
    bench.dispatch.drained().await;
    let expected = [(20, "ack 1"), (20, "ack 2"), (20, "ack 3")];
    assert_eq!(bench.story(), expected.map(|(at, what)| (at, what.to_owned())));
    assert_eq!(bench.bodies(), [r#"{"A":3,"B":2}"#]);
    assert_eq!(bench.tally.snapshot().applied, 3);
    assert!(bench.dispatch.shared.router.is_empty(), "an order at rest has no mailbox");
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_each_has_its_own_write() {
    let bench = bench(8);
    bench.send_changes("1", r#"{"A":1}"#, None);
    bench.send_changes("2", r#"{"A":2}"#, None);
    bench.dispatch.drained().await;
    assert_eq!(bench.bodies(), [r#"{"A":1}"#, r#"{"A":2}"#]);
}

#[tokio::test(start_paused = true)]
async fn refusal_of_a_write_for_all_sends_each_of_them_by_itself() {
    let bench = merging();
    for (name, changes) in [("1", r#"{"A":1}"#), ("2", r#"{"A":"bad"}"#), ("3", r#"{"B":3}"#)] {
        bench.send_changes(name, changes, None);
    }
    bench.dispatch.drained().await;
    assert_eq!(bench.told(), ["ack 1", "rejected 2", "ack 3"]);
    let bodies = [r#"{"A":"bad","B":3}"#, r#"{"A":1}"#, r#"{"A":"bad"}"#, r#"{"B":3}"#];
    assert_eq!(bench.bodies(), bodies);
}

#[tokio::test(start_paused = true)]
async fn conflict_of_a_write_for_all_is_tried_again_for_all() {
    let bench = merging();
    bench.send_changes("1", r#"{"A":1}"#, None);
    bench.send_changes("2", r#"{"A":2}"#, None);
    *bench.fake.world.read_only.lock().unwrap() = Some(Ok(answer(412, "")));
    sleep(Duration::from_millis(500)).await;
    *bench.fake.world.read_only.lock().unwrap() = None;
    bench.dispatch.drained().await;
    let expected = [(1_040, "ack 1"), (1_040, "ack 2")];
    assert_eq!(bench.story(), expected.map(|(at, what)| (at, what.to_owned())));
    assert_eq!(bench.bodies(), [r#"{"A":2}"#, r#"{"A":2}"#]);
}

#[tokio::test(start_paused = true)]
async fn write_for_all_of_unknown_outcome_is_looked_for_before_anything_is_written_again() {
    let bench = merging();
    for sequence in 1..=3 {
        let (name, changes) = (sequence.to_string(), format!("{{\"A\":{sequence}}}"));
        bench.send_changes(&name, &changes, Some(sequence));
    }
    bench.behave("hot", Behaviour::Down);
    sleep(Duration::from_millis(15)).await;
    // Its answer is lost on the way back.
    *bench.fake.world.shown.lock().unwrap() = Some(r#"{"A":3,"Seq":3}"#);
    bench.dispatch.drained().await;
    assert_eq!(bench.told(), ["ack 1", "ack 2", "ack 3"], "none is superseded by its own write");
    assert_eq!(bench.bodies(), [r#"{"A":3,"Seq":3}"#]);
    assert_eq!(bench.tally.snapshot().already_applied, 3);
}

#[tokio::test(start_paused = true)]
async fn write_for_all_that_did_not_come_about_is_done_again_one_by_one() {
    let bench = merging();
    for sequence in 1..=2 {
        let (name, changes) = (sequence.to_string(), format!("{{\"A\":{sequence}}}"));
        bench.send_changes(&name, &changes, Some(sequence));
    }
    bench.behave("hot", Behaviour::Down);
    sleep(Duration::from_millis(25)).await;
    bench.behave("hot", Behaviour::Fine);
    bench.dispatch.drained().await;
    assert_eq!(bench.told(), ["ack 1", "ack 2"]);
    let bodies = [r#"{"A":2,"Seq":2}"#, r#"{"A":1,"Seq":1}"#, r#"{"A":2,"Seq":2}"#];
    assert_eq!(bench.bodies(), bodies);
}

#[tokio::test(start_paused = true)]
async fn update_that_must_wait_or_asks_for_a_release_is_passed_by_none() {
    let mut bench = merging();
    bench.send_changes("1", r#"{"A":1}"#, None);
    bench.losses = 5;
    bench.send_changes("suspect", r#"{"A":2}"#, None);
    bench.losses = 0;
    bench.dispatch.release("hot".into(), bench.held("go on"));
    bench.send_changes("4", r#"{"A":4}"#, None);
    bench.send_changes("5", r#"{"A":5}"#, None);
    bench.dispatch.drained().await;
    assert_eq!(bench.told(), ["ack 1", "ack suspect", "release go on", "ack 4", "ack 5"]);
    assert_eq!(bench.bodies(), [r#"{"A":1}"#, r#"{"A":2}"#, r#"{"A":5}"#]);
}

#[tokio::test(start_paused = true)]
async fn throttled_write_for_all_is_tried_again_for_all() {
    let bench = merging();
    bench.send_changes("1", r#"{"A":1}"#, None);
    bench.send_changes("2", r#"{"A":2}"#, None);
    *bench.fake.world.read_only.lock().unwrap() = Some(Ok(refused(Some(2))));
    sleep(Duration::from_millis(500)).await;
    *bench.fake.world.read_only.lock().unwrap() = None;
    bench.dispatch.drained().await;
    assert_eq!(bench.told(), ["ack 1", "ack 2"]);
    assert_eq!(bench.bodies(), [r#"{"A":2}"#, r#"{"A":2}"#]);
}

#[tokio::test(start_paused = true)]
async fn update_that_comes_late_still_gets_its_place_among_those_that_were_taken() {
    let bench = merging();
    let send = |sequence: u64| {
        let changes = format!("{{\"A\":{sequence}}}");
        bench.send_changes(&sequence.to_string(), &changes, Some(sequence));
    };
    [1, 2, 5].into_iter().for_each(send);
    *bench.fake.world.read_only.lock().unwrap() = Some(Ok(answer(412, "")));
    sleep(Duration::from_millis(500)).await;
    *bench.fake.world.read_only.lock().unwrap() = None;
    send(3);
    bench.dispatch.drained().await;
    assert_eq!(bench.told(), ["ack 1", "ack 2", "ack 3", "ack 5"]);
    assert_eq!(bench.bodies(), [r#"{"A":5,"Seq":5}"#, r#"{"A":5,"Seq":5}"#]);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_lost_channel_is_settled() {
    let bench = merging();
    for name in ["1", "2", "3"] {
        bench.send_changes(name, r#"{"A":1}"#, None);
    }
    sleep(Duration::from_millis(15)).await;
    assert_eq!(bench.dispatch.mailboxes().waiting, 2, "those aboard are counted");
    bench.channel.cancel();
    bench.dispatch.drained().await;
    assert!(bench.told().is_empty());
    assert!(bench.dispatch.shared.router.is_empty());
}
