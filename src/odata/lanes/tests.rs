use std::cell::Cell;
use std::rc::Rc;

use super::*;

#[derive(Debug, Clone)]
struct One {
    number: u128,
    writes: bool,
    bytes: usize,
    gone: Rc<Cell<bool>>,
}

impl Waits for One {
    fn walk(&self) -> Uuid {
        Uuid::from_u128(self.number)
    }

    fn writes(&self) -> bool {
        self.writes
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_void(&self) -> bool {
        self.gone.get()
    }
}

fn get(number: u128) -> One {
    One { number, writes: false, bytes: 10, gone: Rc::default() }
}

fn patch(number: u128) -> One {
    One { writes: true, ..get(number) }
}

const RULES: Rules = Rules {
    operations_max: 4,
    bytes_max: 1_000,
    wait: Duration::from_millis(20),
    refused_for: Duration::from_mins(1),
    counts_operations: false,
};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn lanes() -> Lanes<One> {
    Lanes::new(RULES, None)
}

fn numbers(taken: &[One]) -> Vec<u128> {
    taken.iter().map(|one| one.number).collect()
}

#[test]
fn one_that_nobody_joins_goes_when_its_wait_is_over_and_not_before() {
    let mut lanes = lanes();
    assert_eq!(lanes.due(ms(0)), None);
    lanes.push(get(1), ms(5));
    assert_eq!((lanes.due(ms(5)), numbers(&lanes.take(ms(24)))), (Some(ms(25)), vec![]));
    assert_eq!((numbers(&lanes.take(ms(25))), lanes.len()), (vec![1], 0));
}

#[test]
fn requests_of_a_kind_go_together_as_soon_as_they_fill_a_batch() {
    let mut lanes = lanes();
    for number in 1..=5 {
        lanes.push(get(number), ms(1));
        lanes.push(patch(number + 10), ms(1));
    }
    assert_eq!(lanes.due(ms(1)), Some(ms(1)));
    assert_eq!(numbers(&lanes.take(ms(1))), [11, 12, 13, 14], "an ETag grows old");
    assert_eq!(numbers(&lanes.take(ms(1))), [1, 2, 3, 4]);
    assert_eq!((numbers(&lanes.take(ms(1))), lanes.due(ms(1))), (vec![], Some(ms(21))));
    assert_eq!(numbers(&lanes.take(ms(21))), [15]);
}

#[test]
fn batch_is_bounded_by_its_bytes_and_one_that_is_larger_goes_by_itself() {
    let mut lanes = lanes();
    for (number, bytes) in [(1, 600), (2, 600), (3, 5_000), (4, 10)] {
        lanes.push(One { bytes, ..get(number) }, ms(0));
    }
    let taken: Vec<_> = (0..4).map(|_| numbers(&lanes.take(ms(20)))).collect();
    assert_eq!(taken, [vec![1], vec![2], vec![3], vec![4]]);
}

#[test]
fn one_that_nobody_waits_for_any_more_is_taken_out() {
    let mut lanes = lanes();
    let left = patch(1);
    for one in [left.clone(), patch(2)] {
        lanes.push(one, ms(0));
    }
    left.gone.set(true);
    assert_eq!(numbers(&lanes.take(ms(20))), [2]);
    lanes.push(left, ms(30));
    assert_eq!((lanes.len(), lanes.purge(), lanes.len()), (1, 0, 0));
}

#[test]
fn walk_whose_batch_failed_goes_by_itself_from_then_on() {
    let mut lanes = lanes();
    lanes.part_from_others(Uuid::from_u128(2));
    for number in 1..=3 {
        lanes.push(get(number), ms(0));
    }
    assert_eq!(numbers(&lanes.take(ms(0))), [2], "and at once");
    assert_eq!(numbers(&lanes.take(ms(20))), [1, 3]);
    for number in 100..100 + LONERS_MAX as u128 {
        lanes.part_from_others(Uuid::from_u128(number));
    }
    assert_eq!((lanes.loners.0.len(), lanes.loners.1.len()), (LONERS_MAX, LONERS_MAX));
    lanes.push(get(2), ms(30));
    assert_eq!(numbers(&lanes.take(ms(30))), [0; 0], "it is forgotten, and waits for others");
}

#[test]
fn refused_batches_get_smaller_down_to_none_and_are_tried_again_later() {
    let mut lanes = lanes();
    assert_eq!(lanes.shrink(4, ms(0)), 2);
    for number in 1..=3 {
        lanes.push(get(number), ms(0));
    }
    assert_eq!(numbers(&lanes.take(ms(0))), [1, 2]);
    assert_eq!(lanes.shrink(2, ms(0)), 1);
    lanes.push(get(4), ms(1));
    assert_eq!(numbers(&lanes.take(ms(1))), [4], "one by one, and nobody waits");
    assert!(!lanes.stop_batching(ms(2)), "known already");
    let later = ms(60_002);
    for number in 5..=8 {
        lanes.push(get(number), later);
    }
    assert_eq!(numbers(&lanes.take(later)), [3, 5, 6, 7]);
    assert!(lanes.stop_batching(later), "news again");
}

#[test]
fn what_may_not_be_written_any_more_costs_no_quota() {
    let mut lanes = Lanes::new(RULES, Allowance::new(10, Duration::from_secs(10), 1));
    for number in 1..=8 {
        let one = get(number);
        one.gone.set(number < 7);
        lanes.push(one, ms(0));
    }
    assert_eq!(numbers(&lanes.take(ms(20))), [7, 8], "those before it are taken out");
    let mut quota = Quota::new(Allowance::new(10, Duration::from_secs(10), 1).unwrap());
    quota.take(1, ms(20));
    assert_eq!(lanes.quota, Some(quota.clone()), "one was taken");
    let left = get(9);
    left.gone.set(true);
    lanes.push(left, ms(5_000));
    assert_eq!((numbers(&lanes.take(ms(5_020))), lanes.len()), (vec![], 0));
    assert_eq!(lanes.quota, Some(quota), "and none more");
}

#[test]
fn batches_that_come_to_nothing_are_given_up_where_single_requests_are_answered_and_not_elsewhere()
{
    let mut lanes = lanes();
    lanes.single_answered();
    for _ in 0..9 {
        assert!(
            !lanes.batch_spoilt(),
            "answered before the first of them: nothing is answered now"
        );
    }
    lanes.batch_answered();
    for _ in 0..2 {
        assert!(!lanes.batch_spoilt(), "it may be chance");
        lanes.single_answered();
    }
    assert!(lanes.batch_spoilt() && lanes.stop_batching(ms(0)));
    lanes.push(get(1), ms(1));
    assert_eq!(numbers(&lanes.take(ms(1))), [1], "nobody is waited for");
    assert!(!lanes.batch_spoilt(), "one that was under way still");
}

/// Sends all that it can for ten minutes, and returns the most that counted in any window.
fn most_in_a_window(mut lanes: Lanes<One>, counts: fn(usize) -> usize) -> (usize, usize) {
    let window = Duration::from_secs(10);
    let mut sent: Vec<(Duration, usize)> = Vec::new();
    let mut now = Duration::ZERO;
    while now < 20 * window {
        while lanes.len() < 100 {
            lanes.push(get(lanes.len() as u128), now);
        }
        let taken = lanes.take(now);
        if !taken.is_empty() {
            sent.push((now, counts(taken.len())));
            continue;
        }
        now += ms(10);
    }
    let of = |from: Duration| {
        let within = sent.iter().filter(|(at, _)| (from..from + window).contains(at));
        within.map(|(_, count)| count).sum::<usize>()
    };
    (sent.iter().map(|(from, _)| of(*from)).max().unwrap(), sent.iter().map(|it| it.1).sum())
}

#[test]
fn quota_counts_batches_or_what_is_in_them_and_is_kept_in_every_window() {
    let quota = Allowance::new(100, Duration::from_secs(10), 1);
    let rules = Rules { operations_max: 50, ..RULES };
    let (most, all) = most_in_a_window(Lanes::new(rules, quota), |_| 1);
    assert!((90..=100).contains(&most) && all > 20 * 85, "{most} {all}");
    let rules = Rules { counts_operations: true, ..rules };
    let (most, all) = most_in_a_window(Lanes::new(rules, quota), |count| count);
    assert!((90..=100).contains(&most) && all > 20 * 85, "{most} {all}");
    // Of the same quota four pods take a quarter each, batches as long as that allows.
    let mut shared = Lanes::new(rules, Allowance::new(400, Duration::from_secs(10), 1));
    shared.shared_by(4);
    let (most, all) = most_in_a_window(shared, |count| count);
    assert!((90..=100).contains(&most) && all > 20 * 85, "{most} {all}");
}
