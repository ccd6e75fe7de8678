//! Sequences and transitions: judged on single states, then over everything that can happen between
//! the requests of one update.

use super::*;
use crate::order::{Expect, Sequence};
use crate::protocol::guard::Transition;

fn fence() -> Guard {
    Guard { sequence_property: Some("Seq".into()), ..Guard::default() }
}

fn numbered(changes: &str, sequence: u64) -> OrderUpdate {
    OrderUpdate { sequence: Sequence::new(sequence), ..update(changes) }
}

fn judge(current: &str, update: &OrderUpdate, guard: &Guard) -> Judgement {
    Fetched::read(current.as_bytes()).unwrap().judge(update, guard, &etag("\"1\""))
}

#[test]
fn sequence_decides_before_the_values_do() {
    let guard = fence();
    let wanted = numbered(r#"{"A":2}"#, 7);
    let judge = |current: &str| judge(current, &wanted, &guard);
    for older in
        [r#"{"A":1,"Seq":6}"#, r#"{"A":1,"Seq":null}"#, r#"{"A":1}"#, r#"{"A":1,"Seq":-1}"#]
    {
        assert_eq!(judge(older), Judgement::Outdated, "{older}");
    }
    for same in [r#"{"A":1,"Seq":7}"#, r#"{"A":2,"Seq":"7"}"#, r#"{"A":1,"Seq":7.0}"#] {
        assert_eq!(judge(same), Judgement::AlreadyApplied, "a person changed it since: {same}");
    }
    for newer in [r#"{"A":2,"Seq":8}"#, r#"{"A":1,"Seq":"9223372036854775807"}"#] {
        assert_eq!(judge(newer), Judgement::Superseded, "{newer}");
    }
    for nonsense in [r#"{"A":2,"Seq":"x"}"#, r#"{"A":2,"Seq":7.5}"#, r#"{"A":2,"Seq":true}"#] {
        let unreadable = Judgement::Refused(Code::SequenceUnreadable);
        assert_eq!(judge(nonsense), unreadable, "{nonsense}");
    }
}

#[test]
fn update_whose_values_are_there_is_written_all_the_same_if_the_stored_sequence_is_lower() {
    let mut wanted = numbered(r#"{"A":2}"#, 7);
    assert_eq!(judge(r#"{"A":2,"Seq":6}"#, &wanted, &fence()), Judgement::Outdated);
    let expect = serde_json::from_str(r#"{"A":[1]}"#).unwrap();
    wanted.expect = Some(Expect::new(expect));
    let stamped = judge(r#"{"A":2,"Seq":6}"#, &wanted, &fence());
    assert_eq!(stamped, Judgement::Outdated, "expect guards values, and none is overwritten");
    let superseded = judge(r#"{"A":3,"Seq":8}"#, &wanted, &fence());
    assert_eq!(superseded, Judgement::Superseded, "before expect is looked at");
}

#[test]
fn neighbouring_sequences_beyond_the_precision_of_a_float_are_told_apart() {
    let wanted = numbered(r#"{"A":2}"#, (1 << 53) + 1);
    for (stored, judgement) in [
        ("9007199254740992", Judgement::Outdated),
        ("9007199254740993", Judgement::AlreadyApplied),
        ("\"9007199254740994\"", Judgement::Superseded),
    ] {
        let current = format!(r#"{{"A":1,"Seq":{stored}}}"#);
        assert_eq!(judge(&current, &wanted, &fence()), judgement, "{stored}");
    }
}

#[test]
fn zero_is_what_an_unwritten_property_holds_and_proves_nothing() {
    let first = numbered(r#"{"A":2}"#, 0);
    assert_eq!(judge(r#"{"A":1,"Seq":0}"#, &first, &fence()), Judgement::Outdated);
    assert_eq!(judge(r#"{"A":2,"Seq":0}"#, &first, &fence()), Judgement::AlreadyApplied);
    assert_eq!(judge(r#"{"A":1,"Seq":1}"#, &first, &fence()), Judgement::Superseded);
}

#[test]
fn without_sequence_or_without_property_the_values_decide() {
    let (plain, wanted) = (update(r#"{"A":2}"#), numbered(r#"{"A":2}"#, 7));
    for (update, guard) in [(&plain, fence()), (&wanted, Guard::default())] {
        let judge = |current: &str| judge(current, update, &guard);
        assert_eq!(judge(r#"{"A":1,"Seq":9}"#), Judgement::Outdated);
        assert_eq!(judge(r#"{"A":2,"Seq":1}"#), Judgement::AlreadyApplied);
        assert_eq!(guard.body(update), r#"{"A":2}"#);
    }
}

#[test]
fn body_holds_the_changes_digit_for_digit_and_the_sequence() {
    let wanted = numbered("{ \"A\":10.10,\n\"B\":{\"c\":[1]} }", (1 << 53) + 1);
    let body = fence().body(&wanted).into_owned();
    assert_eq!(body, "{ \"A\":10.10,\n\"B\":{\"c\":[1]} ,\"Seq\":9007199254740993}");
    assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
}

fn ways(ways: &[[&str; 3]]) -> Guard {
    let way = |[property, from, to]: &[&str; 3]| Transition {
        property: (*property).into(),
        from: (*from).to_owned(),
        to: (*to).to_owned(),
    };
    Guard { sequence_property: None, transitions: ways.iter().map(way).collect() }
}

#[test]
fn status_takes_only_the_allowed_ways() {
    let guard = ways(&[
        ["Status", "Backorder", "Delivered"],
        ["Status", "Backorder", "Canceled"],
        ["Status", "Delivered", "Invoiced"],
        ["state", "0", "1"],
        ["Hold", "true", "false"],
    ]);
    let refused = Judgement::Refused(Code::TransitionRefused);
    for (from, to, judgement) in [
        (r#""Backorder""#, r#""Delivered""#, Judgement::Outdated),
        (r#""Backorder""#, r#""Canceled""#, Judgement::Outdated),
        (r#""Backorder""#, r#""Ns.SalesStatus'Delivered'""#, Judgement::Outdated),
        (r#""Delivered""#, r#""Invoiced""#, Judgement::Outdated),
        (r#""Delivered""#, r#""Delivered""#, Judgement::Outdated),
        (r#""Invoiced""#, r#""Invoiced""#, Judgement::Outdated),
        (r#""Backorder""#, r#""Invoiced""#, refused),
        (r#""Delivered""#, r#""Backorder""#, refused),
        (r#""Invoiced""#, r#""Canceled""#, refused),
        ("null", r#""Delivered""#, refused),
        ("{}", r#""Delivered""#, refused),
    ] {
        let wanted = update(&format!(r#"{{"Status":{to},"Date":2}}"#));
        let current = format!(r#"{{"Status":{from},"Date":1}}"#);
        assert_eq!(judge(&current, &wanted, &guard), judgement, "{from} to {to}");
    }
    let absent = judge(r#"{"Date":1}"#, &update(r#"{"Status":"Delivered"}"#), &guard);
    assert_eq!(absent, refused, "from nobody knows what");
    let free = judge(r#"{"Status":"Invoiced","Date":1}"#, &update(r#"{"Date":2}"#), &guard);
    assert_eq!(free, Judgement::Outdated, "what is not named is free");
    for (from, to, judgement) in [("0", "1", Judgement::Outdated), ("1", "0", refused)] {
        let wanted = update(&format!(r#"{{"state":{to}}}"#));
        assert_eq!(judge(&format!(r#"{{"state":{from}}}"#), &wanted, &guard), judgement);
    }
    let both = update(r#"{"Hold":false,"Status":"Invoiced"}"#);
    assert_eq!(judge(r#"{"Hold":true,"Status":"Backorder"}"#, &both, &guard), refused, "every one");
}

#[test]
fn objection_says_what_of_the_order_stands_in_the_way() {
    let guard = Guard { sequence_property: Some("Seq".into()), ..ways(&[["Status", "a", "b"]]) };
    let expect = Expect::new(serde_json::from_str(r#"{"Date":[1]}"#).unwrap());
    let wanted = OrderUpdate { expect: Some(expect), ..numbered(r#"{"Status":"b"}"#, 7) };
    let long = format!(r#"{{"Seq":8,"Date":"{}"}}"#, "x".repeat(5_000));
    for (current, objection) in [
        (&*long, "Seq is 8, and the update's sequence is 7"),
        (r#"{"Seq":"x"}"#, "Seq is \"x\", and the update's sequence is 7"),
        (r#"{"Date":2}"#, "Date is 2, which the update does not expect"),
        (
            r#"{"Date":1,"Status":"c"}"#,
            "Status is \"c\", and may not become from there what the update wants",
        ),
        (r#"{"Date":1,"Status":"a"}"#, ""),
    ] {
        let found = objection_of(current, &wanted, &guard);
        assert_eq!(found, objection);
    }
    let bounded = objection_of(&long.replace('8', "6"), &wanted, &guard);
    assert!(bounded.starts_with("Date is \"xxx") && bounded.len() < 200, "{bounded}");
}

fn objection_of(current: &str, update: &OrderUpdate, guard: &Guard) -> String {
    objection(&Ok(answer(200, current)), update, guard, &etag("\"1\""))
}

#[test]
fn superseded_update_ends_as_the_rules_say_also_on_the_last_look() {
    for (superseded, ended) in [
        (Superseded::Settle, Settlement::Superseded),
        (Superseded::DeadLetter, Settlement::DeadLetter(Code::Superseded)),
    ] {
        let rules = Rules { superseded, ..RULES };
        for last in [None, Some(Code::Gateway)] {
            let budget = Budget { unsure: last.is_some(), ..Budget::default() };
            let fetching = Fetching { budget, last };
            let step = fetching.on_fetch(found("\"2\"", Judgement::Superseded), &rules);
            assert_eq!(step, Step::Settle(ended));
        }
    }
}

const OURS: u64 = 5;
const NEWER: u64 = 7;
/// Two retries of each kind: enough for every pair of troubles and the last look.
const TWICE: Rules = Rules {
    conflicts: Retry { retries_max: 2, ..RULES.conflicts },
    failures: Retry { retries_max: 2, ..RULES.failures },
    ..RULES
};

/// The order at the service, and what is on its way there.
#[derive(Debug, Clone)]
struct Row {
    sequence: Option<u64>,
    value: u64,
    version: u32,
    /// ETags of PATCHes of ours that nobody waits for any more, but that may still be carried out.
    late: Vec<ETag>,
    /// How often our update was written.
    written: u32,
    /// What others may still do: one write each.
    newer_left: bool,
    person_left: bool,
    /// The sequence that the last GET brought, 0 for null. None if no GET brought any.
    seen: Option<u64>,
}

impl Row {
    fn etag(&self) -> ETag {
        etag(&format!("\"{}\"", self.version))
    }

    /// A PATCH of ours under this ETag. False if the ETag is stale.
    fn patch(&mut self, with: &ETag) -> bool {
        let fits = *with == self.etag();
        if fits {
            assert!(self.sequence < Some(OURS), "written over the same or a newer one: {self:?}");
            self.sequence = Some(OURS);
            self.value = OURS;
            self.version += 1;
            self.written += 1;
        }
        fits
    }

    /// Everything that can happen before our next request reaches the service, nothing included.
    fn meanwhile(&self) -> Vec<Self> {
        let mut rows = vec![self.clone()];
        for (index, with) in self.late.iter().enumerate() {
            let mut row = self.clone();
            row.late.remove(index);
            row.patch(with);
            rows.push(row);
        }
        if self.newer_left {
            let (sequence, version) = (Some(NEWER), self.version + 1);
            rows.push(Self { sequence, value: NEWER, version, newer_left: false, ..self.clone() });
        }
        if self.person_left {
            let version = self.version + 1;
            rows.push(Self { value: 99, version, person_left: false, ..self.clone() });
        }
        rows
    }
}

/// Walks everything that can happen to one update from `step` on; returns the settlements.
fn walk(step: Step, row: &Row, wanted: &OrderUpdate, ends: &mut Vec<(Settlement, Row)>) {
    match step {
        Step::Settle(settlement) => ends.push((settlement, row.clone())),
        Step::Wait(waiting) => walk(waiting.elapsed(), row, wanted, ends),
        Step::Ask(asking) => walk(asking.on_answer(true), row, wanted, ends),
        Step::Get(Fetching { budget, last }) => {
            for row in row.meanwhile() {
                let failed = Fetch::Missed(Trouble::Failure(Code::Gateway));
                let sequence = row.sequence.map_or("null".to_owned(), |it| it.to_string());
                let body = format!(r#"{{"A":{},"Seq":{sequence}}}"#, row.value);
                let answer = Answer { etag: Some(row.etag()), ..answer(200, &body) };
                let seen = Row { seen: Some(row.sequence.unwrap_or(0)), ..row.clone() };
                for (fetch, row) in
                    [(failed, row), (fetch(&Ok(answer), wanted, &fence(), &texts()), seen)]
                {
                    walk(Fetching { budget, last }.on_fetch(fetch, &TWICE), &row, wanted, ends);
                }
            }
        }
        Step::Patch(Patching { budget, etag }) => {
            for row in row.meanwhile() {
                let lost = Verdict::Not(Trouble::Failure(Code::Timeout));
                let mut done = row.clone();
                let answered = if done.patch(&etag) {
                    Verdict::Done
                } else {
                    Verdict::Not(Trouble::Conflict(Code::EtagConflict))
                };
                let mut late = row.clone();
                late.late.push(etag.clone());
                // Answered; carried out, and the answer lost; lost on the way there; still at work.
                let each = [(answered, done.clone()), (lost, done), (lost, row), (lost, late)];
                for (verdict, row) in each {
                    let patching = Patching { budget, etag: etag.clone() };
                    walk(patching.on_verdict(verdict, &TWICE), &row, wanted, ends);
                }
            }
        }
    }
}

#[test]
fn whatever_happens_between_the_requests_no_older_update_is_written_over_a_newer_one() {
    let wanted = numbered(&format!(r#"{{"A":{OURS}}}"#), OURS);
    let mut ends = Vec::new();
    // The wanted value may be there already, by chance.
    for (sequence, value) in [(None, 0), (Some(3), 3), (Some(3), OURS)] {
        let (late, written, seen) = (Vec::new(), 0, None);
        let (newer_left, person_left) = (true, true);
        let row = Row { sequence, value, version: 1, late, written, newer_left, person_left, seen };
        walk(start(), &row, &wanted, &mut ends);
    }
    let mut counts = [0_u32; 4];
    for (settlement, row) in &ends {
        assert!(row.written <= 1, "written twice: {row:?}");
        let can_land = row.late.contains(&row.etag());
        match settlement {
            Settlement::Applied => {
                counts[0] += 1;
                assert_eq!(row.written, 1, "{row:?}");
            }
            Settlement::AlreadyApplied => {
                counts[1] += 1;
                assert_eq!((row.written, row.seen), (1, Some(OURS)), "{row:?}");
                assert!(!can_land, "nothing of ours is still to come: {row:?}");
            }
            Settlement::Superseded => {
                counts[2] += 1;
                assert_eq!(row.seen, Some(NEWER), "{row:?}");
                assert!(!can_land, "nothing of ours is still to come: {row:?}");
            }
            Settlement::DeadLetter(_) => {
                counts[3] += 1;
                assert!(row.seen < Some(OURS), "it was seen to be done: {row:?}");
            }
        }
    }
    assert!(counts.iter().all(|count| *count > 500), "{counts:?}");
}
