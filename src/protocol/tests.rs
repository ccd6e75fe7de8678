mod guards;

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
    retry_after_max: Duration::from_secs(30),
    superseded: Superseded::Settle,
};

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
    }
}

fn answer(status: u16, body: &str) -> Answer {
    Answer {
        status,
        etag: None,
        retry_after: None,
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
    Refused,
}

fn trouble(event: Event) -> Option<Trouble> {
    match event {
        Event::Conflict => Some(Trouble::Conflict(Code::EtagConflict)),
        Event::Failure => Some(Trouble::Failure { code: Code::Gateway, retry_after: None }),
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
    /// The ETag of the last GET, taken away by whatever ends an attempt.
    fresh: Option<ETag>,
}

/// Walks every sequence of replies from `step` on and returns the number of paths.
fn walk_all(step: Step, path: &Path_, longest: &mut Path_) -> u64 {
    let mut path = path.clone();
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
            let events = [
                Event::Outdated,
                Event::AlreadyApplied,
                Event::Superseded,
                Event::GuardRefused,
                Event::Conflict,
                Event::Failure,
                Event::Refused,
            ];
            let each = events.into_iter().map(|event| {
                let judgement = match event {
                    Event::AlreadyApplied => Judgement::AlreadyApplied,
                    Event::Superseded => Judgement::Superseded,
                    Event::GuardRefused => Judgement::Refused(Code::ExpectationFailed),
                    Event::Outdated
                    | Event::Done
                    | Event::Conflict
                    | Event::Failure
                    | Event::Refused => Judgement::Outdated,
                };
                let (fetch, fresh) = match trouble(event) {
                    Some(trouble) => (Fetch::Missed(trouble), None),
                    None => (Fetch::Found(seen.clone(), judgement), Some(seen.clone())),
                };
                let path = Path_ { fresh, ..path.clone() };
                walk_all(Fetching { budget, last }.on_fetch(fetch, &RULES), &path, longest)
            });
            each.sum()
        }
        Step::Patch(patching) => {
            path.patches += 1;
            assert_eq!(Some(patching.etag()), path.fresh.as_ref(), "ETag of this attempt's GET");
            path.fresh = None;
            let budget = patching.budget;
            let events = [Event::Done, Event::Conflict, Event::Failure, Event::Refused];
            let each = events.into_iter().map(|event| {
                let verdict = trouble(event).map_or(Verdict::Done, Verdict::Not);
                let patching = Patching { budget, etag: etag("\"any\"") };
                walk_all(patching.on_verdict(verdict, &RULES), &path, longest)
            });
            each.sum()
        }
        Step::Wait(waiting) => {
            path.waited += waiting.duration(1.0, &RULES);
            walk_all(waiting.elapsed(), &path, longest)
        }
    }
}

#[test]
fn every_sequence_of_replies_settles_within_the_budget() {
    let mut longest = Path_::default();
    let paths = walk_all(start(), &Path_::default(), &mut longest);
    let attempts_max = 1 + RULES.conflicts.retries_max + RULES.failures.retries_max;
    // One GET more: the last look after a PATCH of unknown outcome.
    assert_eq!((longest.gets, longest.patches), (attempts_max + 1, attempts_max));
    // Twice 1 + 2 + 4 seconds, each at most a fifth longer.
    assert_eq!(longest.waited, Duration::from_millis(16_800));
    assert!(paths > 10_000, "only {paths} paths were walked");
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
    let lost = verdict::verdict(Request::Patch, &Err(Fault::Broken));
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
        let lost = verdict::verdict(Request::Patch, &Err(Fault::Broken));
        get(patching.on_verdict(lost, &rules))
    };
    let applied = look().on_fetch(found("\"2\"", Judgement::AlreadyApplied), &rules);
    assert_eq!(applied, Step::Settle(Settlement::AlreadyApplied));
    let dead = Step::Settle(Settlement::DeadLetter(Code::UnknownOutcome));
    assert_eq!(look().on_fetch(found("\"1\"", Judgement::Outdated), &rules), dead);
    let down = Trouble::Failure { code: Code::Gateway, retry_after: None };
    assert_eq!(look().on_fetch(Fetch::Missed(down), &rules), dead, "the code of the first trouble");
}

#[test]
fn retry_after_is_the_least_that_is_waited_and_is_clamped() {
    let waits = |seconds| {
        let told = Some(Duration::from_secs(seconds));
        let trouble = Trouble::Failure { code: Code::Throttled, retry_after: told };
        wait(get(start()).on_fetch(Fetch::Missed(trouble), &RULES)).duration(0.0, &RULES)
    };
    assert_eq!(waits(7), Duration::from_secs(7));
    assert_eq!(waits(86_400), RULES.retry_after_max);
    assert_eq!(waits(0), Duration::from_millis(800));
}

#[test]
fn retry_after_is_clamped_over_all_attempts_of_a_message_together() {
    let told = Some(Duration::from_secs(20));
    let trouble = || Fetch::Missed(Trouble::Failure { code: Code::Throttled, retry_after: told });
    let mut step = start();
    let mut waits = Vec::new();
    while let Step::Wait(waiting) = get(step).on_fetch(trouble(), &RULES) {
        waits.push(waiting.duration(0.5, &RULES).as_secs());
        step = waiting.elapsed();
    }
    assert_eq!(waits, [20, 10, 4], "30 s on the server's word, then our own wait");
}

#[test]
fn etag_is_taken_from_the_header_else_from_the_body() {
    let wanted = update(r#"{"A":2}"#);
    let body = r#"{"@odata.etag":"W/\"body\"","A":1}"#;
    assert_eq!(
        fetch(&Ok(answer(200, body)), &wanted, &Guard::default()),
        found("W/\"body\"", Judgement::Outdated)
    );
    let both = Answer { etag: Some(etag("W/\"header\"")), ..answer(200, body) };
    assert_eq!(
        fetch(&Ok(both), &wanted, &Guard::default()),
        found("W/\"header\"", Judgement::Outdated)
    );
    let missed = fetch(&Ok(answer(200, r#"{"A":1}"#)), &wanted, &Guard::default());
    assert_eq!(missed, Fetch::Missed(Trouble::Refused(Code::NoEtag)));
    let cut = fetch(&Ok(answer(200, "{\"A\":")), &wanted, &Guard::default());
    let unknown = Trouble::Failure { code: Code::UnknownOutcome, retry_after: None };
    assert_eq!(cut, Fetch::Missed(unknown));
}

#[test]
fn update_is_judged_on_the_state_that_was_fetched() {
    let judge = |current: &str, update: &OrderUpdate| {
        Fetched::read(current.as_bytes()).unwrap().judge(update, &Guard::default())
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
        "-" => infolog("no", "System.InvalidOperationException"),
        other => panic!("unknown text {other:?} in the table"),
    };
    let fault = match status {
        "no connection" => Some(Fault::Unreachable),
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
    let one = |status: &str| Answer { retry_after: told, ..answer(status.parse().unwrap(), &body) };
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
                let (class, code) = match verdict::verdict(*request, &reply) {
                    Verdict::Done => ("done", String::new()),
                    Verdict::Not(trouble @ Trouble::Conflict(_)) => ("conflict", name(trouble)),
                    Verdict::Not(trouble @ Trouble::Failure { .. }) => ("failure", name(trouble)),
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
