//! Over everything that can happen to one update: it settles, and within its budget.

use super::*;

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
            let Asking { budget, code, question } = asking;
            let afresh = Budget { unsure: budget.unsure, ..Budget::default() };
            let down = Asking { budget, code, question }.on_answer(false);
            assert_eq!(down, Step::Get(Fetching { budget: afresh, last: None }));
            walk_all(Asking { budget, code, question }.on_answer(true), &path, terms, longest)
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
