//! One update, step by step.

mod answers;
mod guards;
mod merged;
mod replays;
mod walks;

use std::path::Path;

use bytes::Bytes;

use super::backoff::Retry;
use super::*;
use crate::order::{Changes, KeyValue, Literal, OrderKey, OrderUpdate};

const NONE: Retry =
    Retry { retries_max: 0, wait_min: Duration::from_secs(1), wait_max: Duration::from_secs(4) };

const RULES: Rules = Rules {
    conflicts: Retry {
        retries_max: 3,
        wait_min: Duration::from_secs(1),
        wait_max: Duration::from_secs(4),
    },
    failures: Retry {
        retries_max: 3,
        wait_min: Duration::from_secs(1),
        wait_max: Duration::from_secs(4),
    },
    not_found: NONE,
    jitter: 0.2,
    superseded: Superseded::Settle,
};

/// The defaults of the settings.
fn texts() -> Texts {
    let crate::config::Answers { update_conflict, deadlock, business_rule, wrong_address } =
        crate::config::Answers::default();
    Texts::new(&update_conflict, &deadlock, &business_rule, &wrong_address)
}

fn judged(request: Request, reply: &Reply) -> Verdict {
    verdict::verdict(request, reply, &texts())
}

fn fetched(reply: &Reply, update: &OrderUpdate) -> Fetch {
    fetch(reply, update, &Guard::default(), &texts())
}

fn etag(text: &str) -> ETag {
    ETag::new(text).unwrap()
}

fn update(changes: &str) -> OrderUpdate {
    let number = KeyValue { property: "Number".into(), literal: Literal::Text("SO-1".to_owned()) };
    OrderUpdate {
        key: OrderKey::new(vec![number], |_| false),
        changes: Changes::new(serde_json::from_str(changes).unwrap()),
        sequence: None,
        expect: None,
        occurred_at: None,
        replay: None,
    }
}

fn answer(status: u16, body: &str) -> Answer {
    Answer {
        status,
        etag: None,
        retry_after: None,
        repeat_rejected: false,
        is_json: body.starts_with('{'),
        service_request_id: None,
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

#[test]
fn what_is_asked_while_the_target_is_down_is_asked_again_with_everything_to_spend() {
    let rules = Rules { failures: Retry { retries_max: 0, ..RULES.failures }, ..RULES };
    let exhausted = || {
        let patching = patch(get(start()).on_fetch(found("\"1\"", Judgement::Outdated), &rules));
        patching.on_verdict(Verdict::Not(Trouble::Failure(Code::Gateway)), &rules)
    };
    let Step::Ask(asking) = exhausted() else { panic!("it must ask first") };
    assert_eq!(asking.code(), Code::Gateway);
    let look = get(asking.on_answer(true));
    assert_eq!(look.last, Some(Code::Gateway), "it may have been applied: look once more");
    let Step::Ask(asking) = exhausted() else { panic!("it must ask first") };
    let again = get(asking.on_answer(false));
    assert_eq!((again.last, again.budget.failures, again.budget.unsure), (None, 0, true));
}

#[test]
fn broken_rule_that_comes_as_an_error_of_the_server_is_retried_twice() {
    let broken = Trouble::Failure(Code::BusinessRule);
    let mut step = start();
    let mut waits = 0;
    let ended = loop {
        let next = get(step).on_fetch(Fetch::Missed(broken), &RULES);
        let Step::Wait(waiting) = next else { break next };
        step = waiting.elapsed();
        waits += 1;
    };
    assert_eq!(waits, 2);
    assert!(matches!(ended, Step::Ask(asking) if asking.code() == Code::BusinessRule));
}

fn get(step: Step) -> Fetching {
    let Step::Get(fetching) = step else { panic!("{step:?} is no GET") };
    fetching
}

fn patch(step: Step) -> Patching {
    let Step::Patch(patching) = step else { panic!("{step:?} is no PATCH") };
    patching
}

fn wait(step: Step) -> Waiting {
    let Step::Wait(waiting) = step else { panic!("{step:?} is no wait") };
    waiting
}

fn found(tag: &str, judgement: Judgement) -> Fetch {
    Fetch::Found(etag(tag), judgement)
}

#[test]
fn conflicts_wait_one_two_four_seconds_and_are_dead_lettered_after_the_third_retry() {
    let mut step = start();
    let mut waits = Vec::new();
    let ended = loop {
        let patching = patch(get(step).on_fetch(found("\"1\"", Judgement::Outdated), &RULES));
        let conflict = Verdict::Not(Trouble::Conflict(Code::EtagConflict));
        let next = patching.on_verdict(conflict, &RULES);
        let Step::Wait(waiting) = next else { break next };
        waits.push(waiting.duration(0.5, &RULES).as_secs());
        step = waiting.elapsed();
    };
    assert_eq!(waits, [1, 2, 4]);
    assert_eq!(ended, Step::Settle(Settlement::DeadLetter(Code::ConflictExhausted)));
}

#[test]
fn order_that_may_be_new_is_looked_for_as_often_as_the_rules_say() {
    let not_found = judged(Request::Get, &Ok(answer(404, "")));
    let Verdict::Not(missing) = not_found else { panic!("{not_found:?}") };
    let none_is_left = |step: Step| {
        let Step::Ask(asking) = step else { panic!("it must ask first") };
        assert_eq!((asking.code(), asking.question()), (Code::NotFound, Question::Shows));
    };
    none_is_left(get(start()).on_fetch(Fetch::Missed(missing), &RULES));
    let rules = Rules { not_found: Retry { retries_max: 2, ..NONE }, ..RULES };
    let first = wait(get(start()).on_fetch(Fetch::Missed(missing), &rules));
    assert_eq!(first.duration(0.5, &rules), Duration::from_secs(1));
    let second = wait(get(first.elapsed()).on_fetch(Fetch::Missed(missing), &rules));
    assert_eq!(second.duration(0.5, &rules), Duration::from_secs(2));
    let third = get(second.elapsed());
    assert_eq!((third.budget.failures, third.budget.conflicts), (0, 0), "counted apart");
    none_is_left(third.on_fetch(Fetch::Missed(missing), &rules));
}

#[test]
fn order_that_is_not_shown_is_dead_lettered_when_others_are_and_looked_for_again_when_none_is() {
    for status in [400, 404, 410] {
        let refused = judged(Request::Get, &Ok(answer(status, "")));
        let Verdict::Not(trouble @ Trouble::Refused(code)) = refused else { panic!("{refused:?}") };
        let ask = || {
            let step = get(start()).on_fetch(Fetch::Missed(trouble), &RULES);
            let Step::Ask(asking) = step else { panic!("{step:?}") };
            asking
        };
        let dead = Step::Settle(Settlement::DeadLetter(code));
        assert_eq!(ask().on_answer(true), dead, "{status}");
        assert_eq!(ask().on_answer(false), start(), "{status}");
    }
}

#[test]
fn lost_patch_reply_is_looked_up_and_not_repeated() {
    let patching = patch(get(start()).on_fetch(found("\"1\"", Judgement::Outdated), &RULES));
    let lost = judged(Request::Patch, &Err(Fault::Broken));
    let fetching = get(wait(patching.on_verdict(lost, &RULES)).elapsed());
    assert_eq!(
        fetching.on_fetch(found("\"2\"", Judgement::AlreadyApplied), &RULES),
        Step::Settle(Settlement::AlreadyApplied)
    );
}

#[test]
fn write_whose_last_reply_was_lost_is_looked_for_before_it_is_dead_lettered() {
    let rules = Rules { failures: Retry { retries_max: 0, ..RULES.failures }, ..RULES };
    let look = || {
        let patching = patch(get(start()).on_fetch(found("\"1\"", Judgement::Outdated), &rules));
        let lost = judged(Request::Patch, &Err(Fault::Broken));
        let Step::Ask(asking) = patching.on_verdict(lost, &rules) else { panic!("it must ask") };
        get(asking.on_answer(true))
    };
    let applied = look().on_fetch(found("\"2\"", Judgement::AlreadyApplied), &rules);
    assert_eq!(applied, Step::Settle(Settlement::AlreadyApplied));
    let dead = Step::Settle(Settlement::DeadLetter(Code::UnknownOutcome));
    assert_eq!(look().on_fetch(found("\"1\"", Judgement::Outdated), &rules), dead);
    let down = Trouble::Failure(Code::Gateway);
    assert_eq!(look().on_fetch(Fetch::Missed(down), &rules), dead, "the code of the first trouble");
}

#[test]
fn update_is_judged_on_the_state_that_was_fetched() {
    let judge = |current: &str, update: &OrderUpdate| {
        let order = Fetched::read(current.as_bytes()).unwrap();
        order.judge(update, &Guard::default(), &etag("\"1\""))
    };
    let mut wanted = update(r#"{"Status":"Delivered","Amount":10.0}"#);
    assert_eq!(judge(r#"{"Status":"Backorder","Amount":10}"#, &wanted), Judgement::Outdated);
    assert_eq!(judge(r#"{"Status":"Delivered","Amount":10}"#, &wanted), Judgement::AlreadyApplied);
    assert_eq!(judge(r#"{"Status":"Delivered"}"#, &wanted), Judgement::Outdated, "absent");

    let expect = serde_json::from_str(r#"{"Status":["Backorder","None"]}"#).unwrap();
    wanted.expect = Some(crate::order::Expect::new(expect));
    let refused = Judgement::Refused(Code::ExpectationFailed);
    assert_eq!(judge(r#"{"Status":"None","Amount":1}"#, &wanted), Judgement::Outdated);
    assert_eq!(judge(r#"{"Status":"Invoiced","Amount":1}"#, &wanted), refused);
    assert_eq!(judge(r#"{"Amount":1}"#, &wanted), refused, "what is absent is not as expected");
    assert_eq!(
        judge(r#"{"Status":"Delivered","Amount":10}"#, &wanted),
        Judgement::AlreadyApplied,
        "a redelivery must not be refused by its own effect"
    );
}
