mod guards;
mod replays;

use std::path::Path;

use bytes::Bytes;

use super::*;
use crate::order::{Changes, KeyValue, Literal, OrderKey};

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

/// Every way in which one step can go on, for the walk over all of them.
#[derive(Debug, Clone, Copy)]
enum Event {
    Outdated,
    AlreadyApplied,
    Superseded,
    GuardRefused,
    Done,
    Conflict,
    Failure,
    Systemic,
    Throttled,
    Outage,
    Refused,
}

fn trouble(event: Event) -> Option<Trouble> {
    match event {
        Event::Conflict => Some(Trouble::Conflict(Code::EtagConflict)),
        Event::Failure => Some(Trouble::Failure(Code::Gateway)),
        Event::Systemic => Some(Trouble::Systemic(Code::Redirected)),
        Event::Throttled => Some(Trouble::Throttled { code: Code::Throttled, retry_after: None }),
        Event::Outage => Some(Trouble::Outage(Code::Gateway)),
        Event::Refused => Some(Trouble::Refused(Code::Rejected)),
        Event::Outdated
        | Event::AlreadyApplied
        | Event::Superseded
        | Event::GuardRefused
        | Event::Done => None,
    }
}

/// What one path through the protocol did.
#[derive(Debug, Clone, Default)]
struct Path_ {
    gets: u32,
    patches: u32,
    waited: Duration,
    /// How often the target was to blame, which costs nothing: bounded here and nowhere else.
    held: u32,
    /// The ETag of the last GET, taken away by whatever ends an attempt.
    fresh: Option<ETag>,
}

/// The rules of a walk, and how often the target is to blame in it.
struct Terms {
    rules: Rules,
    held_max: u32,
    events: &'static [Event],
}

/// Walks every sequence of replies from `step` on and returns the number of paths.
fn walk_all(step: Step, path: &Path_, terms: &Terms, longest: &mut Path_) -> u64 {
    let mut path = path.clone();
    let is_hold = |event: &Event| matches!(event, Event::Throttled | Event::Outage);
    let may_hold = path.held < terms.held_max;
    let events = terms.events.iter().copied().filter(|event| may_hold || !is_hold(event));
    match step {
        Step::Settle(settlement) => {
            if settlement == Settlement::Applied {
                assert!(path.patches > 0, "applied without a write: {path:?}");
            }
            longest.gets = longest.gets.max(path.gets);
            longest.patches = longest.patches.max(path.patches);
            longest.waited = longest.waited.max(path.waited);
            1
        }
        Step::Get(fetching) => {
            path.gets += 1;
            let Fetching { budget, last } = fetching;
            let seen = etag(&format!("\"{}\"", path.gets));
            let each = events.filter(|event| !matches!(event, Event::Done)).map(|event| {
                let judgement = match event {
                    Event::AlreadyApplied => Judgement::AlreadyApplied,
                    Event::Superseded => Judgement::Superseded,
                    Event::GuardRefused => Judgement::Refused(Code::ExpectationFailed),
                    Event::Outdated
                    | Event::Done
                    | Event::Conflict
                    | Event::Failure
                    | Event::Systemic
                    | Event::Throttled
                    | Event::Outage
                    | Event::Refused => Judgement::Outdated,
                };
                let (fetch, fresh) = match trouble(event) {
                    Some(trouble) => (Fetch::Missed(trouble), None),
                    None => (Fetch::Found(seen.clone(), judgement), Some(seen.clone())),
                };
                let held = path.held + u32::from(is_hold(&event));
                let path = Path_ { held, fresh, ..path.clone() };
                let next = Fetching { budget, last }.on_fetch(fetch, &terms.rules);
                if is_hold(&event) {
                    assert_eq!(next, Step::Get(Fetching { budget, last }), "it costs nothing");
                }
                walk_all(next, &path, terms, longest)
            });
            each.sum()
        }
        Step::Patch(patching) => {
            path.patches += 1;
            assert_eq!(Some(patching.etag()), path.fresh.as_ref(), "ETag of this attempt's GET");
            path.fresh = None;
            let budget = patching.budget;
            let not_of_get =
                |event: &Event| matches!(event, Event::Done) || trouble(*event).is_some();
            let each = events.filter(not_of_get).map(|event| {
                let trouble = trouble(event);
                let verdict = trouble.map_or(Verdict::Done, Verdict::Not);
                let patching = Patching { budget, etag: etag("\"any\"") };
                let path = Path_ { held: path.held + u32::from(is_hold(&event)), ..path.clone() };
                let next = patching.on_verdict(verdict, &terms.rules);
                if is_hold(&event) {
                    let unsure = budget.unsure || trouble.is_some_and(Trouble::leaves_doubt);
                    let budget = Budget { unsure, ..budget };
                    assert_eq!(next, Step::Get(Fetching { budget, last: None }));
                }
                walk_all(next, &path, terms, longest)
            });
            each.sum()
        }
        Step::Wait(waiting) => {
            path.waited += waiting.duration(1.0, &terms.rules);
            walk_all(waiting.elapsed(), &path, terms, longest)
        }
        Step::Ask(asking) => {
            let (budget, code) = (asking.budget, asking.code);
            let afresh = Budget { unsure: budget.unsure, ..Budget::default() };
            let down = Asking { budget, code }.on_answer(false);
            assert_eq!(down, Step::Get(Fetching { budget: afresh, last: None }));
            walk_all(asking.on_answer(true), &path, terms, longest)
        }
    }
}

#[test]
fn every_sequence_of_replies_settles_within_the_budget() {
    let mut longest = Path_::default();
    let events = &[
        Event::Outdated,
        Event::AlreadyApplied,
        Event::Superseded,
        Event::GuardRefused,
        Event::Done,
        Event::Conflict,
        Event::Failure,
        Event::Refused,
    ];
    let terms = Terms { rules: RULES, held_max: 0, events };
    let paths = walk_all(start(), &Path_::default(), &terms, &mut longest);
    let attempts_max = 1 + RULES.conflicts.retries_max + RULES.failures.retries_max;
    // One GET more: the last look after a PATCH of unknown outcome.
    assert_eq!((longest.gets, longest.patches), (attempts_max + 1, attempts_max));
    // Twice 1 + 2 + 4 seconds, each at most a fifth longer.
    assert_eq!(longest.waited, Duration::from_millis(16_800));
    assert!(paths > 10_000, "only {paths} paths were walked");
}

#[test]
fn what_is_the_targets_fault_costs_nothing_wherever_it_happens() {
    let mut longest = Path_::default();
    let events = &[
        Event::Outdated,
        Event::AlreadyApplied,
        Event::Superseded,
        Event::GuardRefused,
        Event::Done,
        Event::Conflict,
        Event::Failure,
        Event::Systemic,
        Event::Throttled,
        Event::Outage,
        Event::Refused,
    ];
    let once = |retry| Retry { retries_max: 1, ..retry };
    let rules = Rules { conflicts: once(RULES.conflicts), failures: once(RULES.failures), ..RULES };
    let terms = Terms { rules, held_max: 3, events };
    let paths = walk_all(start(), &Path_::default(), &terms, &mut longest);
    // One attempt, two retries, a last look; and as many more as the target was to blame.
    assert_eq!((longest.gets, longest.patches), (4 + 3, 3 + 3));
    assert_eq!(longest.waited, Duration::from_millis(2_400), "the same as without");
    assert!(paths > 10_000, "only {paths} paths were walked");
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
fn etag_is_taken_from_the_header_else_from_the_body() {
    let wanted = update(r#"{"A":2}"#);
    let body = r#"{"@odata.etag":"W/\"body\"","A":1}"#;
    assert_eq!(fetched(&Ok(answer(200, body)), &wanted), found("W/\"body\"", Judgement::Outdated));
    let both = Answer { etag: Some(etag("W/\"header\"")), ..answer(200, body) };
    assert_eq!(fetched(&Ok(both), &wanted), found("W/\"header\"", Judgement::Outdated));
    let missed = fetched(&Ok(answer(200, r#"{"A":1}"#)), &wanted);
    assert_eq!(missed, Fetch::Missed(Trouble::Refused(Code::NoEtag)));
    let cut = fetched(&Ok(answer(200, "{\"A\":")), &wanted);
    let unknown = Trouble::Failure(Code::UnknownOutcome);
    assert_eq!(cut, Fetch::Missed(unknown));
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

#[test]
fn codes_are_distinct_and_every_one_is_documented() {
    let document = protocol_document();
    for (index, code) in Code::ALL.iter().enumerate() {
        let earlier = Code::ALL[..index].iter().any(|other| other.as_str() == code.as_str());
        assert!(!earlier, "{code:?} shares its name");
        assert!(document.contains(&format!("`{}`", code.as_str())), "{code:?} is not documented");
    }
}

fn protocol_document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PROTOCOL.md");
    std::fs::read_to_string(path).unwrap()
}

/// The replies that a row's status and text columns stand for.
fn replies(status: &str, text: &str) -> Vec<Reply> {
    let infolog = |message: &str, kind: &str| {
        format!(
            r#"{{"error":{{"code":"","message":"An error has occurred.","innererror":{{"message":"{message}","type":"{kind}","stacktrace":""}}}}}}"#
        )
    };
    let write = "Microsoft.Dynamics.Platform.Integration.Services.OData.AxODataWriteException";
    let body = match text {
        "JSON" => r#"{"A":1}"#.to_owned(),
        "HTML" => "<html>Sign in</html>".to_owned(),
        "empty" | "Retry-After" => String::new(),
        "update conflict" => infolog("An Update conflict occurred due to another user.", write),
        "deadlock" => infolog("The statement was a deadlock victim.", write),
        "AxODataWriteException" => infolog("Write failed. Infolog: Warning: no.", write),
        "wrong address" => infolog("Resource not found for the segment 'X'.", ""),
        "-" | "Repeatability-Result: rejected" => infolog("no", "System.InvalidOperationException"),
        other => panic!("unknown text {other:?} in the table"),
    };
    let fault = match status {
        "no connection" => Some(Fault::Unreachable),
        "certificate not trusted" => Some(Fault::Untrusted),
        "deadline passed" => Some(Fault::Timeout),
        "connection broken" => Some(Fault::Broken),
        "answer too large" => Some(Fault::TooLarge),
        "sign-in refused" => Some(Fault::SignIn(SignIn::Config)),
        "no sign-in now" => Some(Fault::SignIn(SignIn::Unavailable)),
        "CSRF token refused" => Some(Fault::Csrf),
        _ => None,
    };
    if let Some(fault) = fault {
        return vec![Err(fault)];
    }
    let told = (text == "Retry-After").then_some(Duration::from_secs(1));
    let repeat_rejected = text == "Repeatability-Result: rejected";
    let one = |status: &str| Answer {
        retry_after: told,
        repeat_rejected,
        ..answer(status.parse().unwrap(), &body)
    };
    status.split(' ').map(|status| Ok(one(status))).collect()
}

#[test]
fn documented_table_is_what_the_code_does() {
    let document = protocol_document();
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let rows: Vec<_> = document.lines().map(cells).filter(|row| row.len() == 5).collect();
    let mut checked = 0;
    for row in rows.iter().filter(|row| ["GET", "PATCH", "both"].contains(&row[0].as_str())) {
        let requests: &[Request] = match row[0].as_str() {
            "GET" => &[Request::Get],
            "PATCH" => &[Request::Patch],
            _ => &[Request::Get, Request::Patch],
        };
        for request in requests {
            for reply in replies(&row[1], &row[2]) {
                let (class, code) = match judged(*request, &reply) {
                    Verdict::Done => ("done", String::new()),
                    Verdict::Not(trouble @ Trouble::Conflict(_)) => ("conflict", name(trouble)),
                    Verdict::Not(trouble @ Trouble::Failure(_)) => ("failure", name(trouble)),
                    Verdict::Not(trouble @ Trouble::Throttled { .. }) => {
                        ("throttled", name(trouble))
                    }
                    Verdict::Not(trouble @ Trouble::Systemic(_)) => ("systemic", name(trouble)),
                    Verdict::Not(trouble @ Trouble::Outage(_)) => {
                        panic!("{trouble:?} of one reply")
                    }
                    Verdict::Not(trouble @ Trouble::Refused(_)) => ("refused", name(trouble)),
                };
                assert_eq!((class, &*code), (&*row[3], &*row[4]), "{request:?} {row:?} {reply:?}");
                checked += 1;
            }
        }
    }
    assert!(checked > 90, "only {checked} cases were read from the table");
}

fn name(trouble: Trouble) -> String {
    format!("`{}`", trouble.code().as_str())
}

#[test]
fn texts_of_another_language_are_a_matter_of_the_settings() {
    let body = r#"{"error":{"code":"","message":"Fehler","innererror":{"message":"Aktualisierungskonflikt in Aufträge.","type":"X"}}}"#;
    let reply = Ok(answer(500, body));
    let failure = Verdict::Not(Trouble::Failure(Code::ServerError));
    assert_eq!(judged(Request::Patch, &reply), failure);
    let german = Texts::new(&["AKTUALISIERUNGSKONFLIKT".to_owned()], &[], &[], &[]);
    let conflict = Verdict::Not(Trouble::Conflict(Code::UpdateConflict));
    assert_eq!(verdict::verdict(Request::Patch, &reply, &german), conflict);
}

#[test]
fn only_what_certainly_changed_nothing_leaves_no_doubt() {
    let doubt = |code| Trouble::Failure(code).leaves_doubt();
    for code in [Code::Gateway, Code::Timeout, Code::UnknownOutcome, Code::ServerError] {
        assert!(doubt(code), "{code:?}");
    }
    for code in [Code::Unreachable, Code::Auth, Code::Forbidden, Code::Certificate] {
        assert!(!doubt(code), "{code:?}");
    }
    let throttled = |code| Trouble::Throttled { code, retry_after: None }.leaves_doubt();
    assert!(throttled(Code::Unavailable) && !throttled(Code::Throttled));
}
