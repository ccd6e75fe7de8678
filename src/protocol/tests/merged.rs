//! Updates that are written as one: the order ends up as if they had been written one by one.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::order::{Expect, Replay, Sequence};
use crate::protocol::guard::Transition;
use crate::protocol::merge::{Merged, UPDATES_MAX};

const BYTES_MAX: usize = 4_096;

fn numbered(changes: &str, sequence: Option<u64>) -> OrderUpdate {
    OrderUpdate { sequence: sequence.and_then(Sequence::new), ..update(changes) }
}

/// How many are taken, and the body that is written.
fn merged(updates: &[OrderUpdate], guard: &Guard) -> (usize, String) {
    let Some(mut merged) = Merged::begin(&updates[0], guard, BYTES_MAX) else {
        return (1, String::new());
    };
    let taken = updates[1..].iter().take_while(|next| merged.add(next, guard)).count() + 1;
    let one = merged.update();
    (taken, one.map(|one| guard.body(&one).into_owned()).unwrap_or_default())
}

fn pair(first: &str, second: &str) -> (usize, String) {
    merged(&[update(first), update(second)], &Guard::default())
}

#[test]
fn later_value_wins_and_is_written_as_it_was_sent() {
    let (taken, body) = pair(r#"{"A":1,"B":10.10}"#, r#"{ "A" : "x\u0041" , "C":null}"#);
    assert_eq!((taken, &*body), (2, r#"{"A":"x\u0041","B":10.10,"C":null}"#));
}

#[test]
fn what_may_mean_more_than_its_value_is_written_alone() {
    let first = r#"{"A":1}"#;
    for second in [
        r#"{"Address":{"City":"x"}}"#,
        r#"{"Lines":[]}"#,
        r#"{"Customer@odata.bind":"Customers(1)"}"#,
        r#"{"a":2}"#,
    ] {
        assert_eq!(pair(first, second).0, 1, "{second}");
        assert_eq!(pair(second, first).0, 1, "{second}");
    }
}

#[test]
fn update_that_asks_for_something_is_written_alone() {
    let plain = || update(r#"{"Status":"Packed"}"#);
    let expect = Some(Expect::new(serde_json::from_str(r#"{"A":[1]}"#).unwrap()));
    let demanding = [
        OrderUpdate { expect, ..plain() },
        OrderUpdate { replay: Some(Replay::Forced), ..plain() },
    ];
    for update in demanding {
        let none = Guard::default();
        assert_eq!(merged(&[plain(), update.clone()], &none).0, 1, "{update:?}");
        assert_eq!(merged(&[update.clone(), plain()], &none).0, 1, "{update:?}");
    }
    let way =
        Transition { property: "Status".into(), from: "Open".to_owned(), to: "Packed".to_owned() };
    let guard = Guard { transitions: vec![way], ..Guard::default() };
    assert_eq!(merged(&[plain(), plain()], &guard).0, 1);
    assert_eq!(merged(&[plain(), plain()], &Guard::default()).0, 2);
}

#[test]
fn so_many_and_so_long_ones_are_written_as_one_and_no_more() {
    let many: Vec<_> = (0..2 * UPDATES_MAX).map(|at| update(&format!("{{\"A\":{at}}}"))).collect();
    assert_eq!(merged(&many, &Guard::default()).0, UPDATES_MAX);
    let long = format!("{{\"A\":\"{}\"}}", "x".repeat(BYTES_MAX / 2));
    assert_eq!(pair(&long, &long).0, 1);
}

/// An order, as the service keeps it.
type State = BTreeMap<String, Value>;

fn write(state: &mut State, body: &str) {
    state.extend(serde_json::from_str::<State>(body).unwrap());
}

/// Writes them as the runner would, one after the other.
fn one_by_one(state: &mut State, updates: &[OrderUpdate], guard: &Guard) {
    for update in updates {
        if judgement(state, update, guard) == Judgement::Outdated {
            write(state, &guard.body(update));
        }
    }
}

fn judgement(state: &State, update: &OrderUpdate, guard: &Guard) -> Judgement {
    let text = serde_json::to_vec(state).unwrap();
    Fetched::read(&text).unwrap().judge(update, guard, &etag("\"1\""))
}

fn updates() -> impl Strategy<Value = Vec<OrderUpdate>> {
    let changes = prop::collection::btree_map("[ABC]", 0..3_u8, 1..3);
    let one = (changes, prop::option::weighted(0.7, 0..12_u64)).prop_map(|(changes, sequence)| {
        numbered(&serde_json::to_string(&changes).unwrap(), sequence)
    });
    prop::collection::vec(one, 1..8)
}

proptest! {
    #[test]
    fn order_ends_up_as_if_each_had_been_written_by_itself(
        start in prop::collection::btree_map("[ABC]|Seq", 0..9_u8, 0..4),
        mut updates in updates(),
        fenced in any::<bool>(),
        sorted in any::<bool>(),
    ) {
        let property = fenced.then(|| "Seq".into());
        let guard = Guard { sequence_property: property, ..Guard::default() };
        if sorted {
            updates.sort_by_key(|update| update.sequence);
        }
        let mut separate: State = start.into_iter().map(|(name, value)| (name, value.into())).collect();
        let mut together = separate.clone();
        one_by_one(&mut separate, &updates, &guard);
        // The first one is judged, and takes others along only if it would be written.
        let mut rest = updates.as_slice();
        while let Some(first) = rest.first() {
            let mut taken = 1;
            if judgement(&together, first, &guard) == Judgement::Outdated {
                let (count, body) = merged(rest, &guard);
                let alone = guard.body(first);
                write(&mut together, if count > 1 { &body } else { &alone });
                taken = count;
            }
            rest = &rest[taken..];
        }
        prop_assert_eq!(separate, together);
    }
}
