//! Queues of somebody else's that updates are taken from.

use super::queues::{Look, flag};
use super::server::{Version, parse};
use super::{Diagnosis, Queue, Severity};
use crate::broker::Order;

/// Of a quorum queue that names none, from this version on.
const DEFAULT_LIMIT: i64 = 20;
const DEFAULT_SINCE: Version = (4, 0, 0);

/// The word for a queue whose messages cannot keep their order.
pub const NOT_SINGLE_ACTIVE: &str = "intake_not_single_active";
/// What is wrong with it.
pub const MANY: &str = "named by topology.intake, and without a single active consumer: with several pods \
                        its messages would not keep their order";
/// What to do about it.
pub const MANY_FIX: &str = "declare it anew with x-single-active-consumer, or name it in \
                            topology.intake_unordered if their order does not matter";

/// `version`: of the broker, if known. `dead_letters`: our own exchange for them.
pub(super) fn intake(
    (name, order): (&str, Order),
    queue: Option<&Queue>,
    version: Option<Version>,
    dead_letters: &str,
) -> Vec<Diagnosis> {
    let about = ("queue", name);
    let Some(queue) = queue else {
        let what = "named by the settings to be taken from, and not there";
        let fix = "declare it, or take it out of the settings: a start waits for it for ever";
        return vec![Diagnosis::new(Severity::Refuse, "intake_missing", about, what, fix)];
    };
    let is_single = flag(&queue.arguments, "x-single-active-consumer");
    let many = (order == Order::Kept && !is_single)
        .then(|| Diagnosis::new(Severity::Refuse, NOT_SINGLE_ACTIVE, about, MANY, MANY_FIX));
    many.into_iter().chain(losing(queue, version, dead_letters)).collect()
}

/// What cannot be sent on is given back, again and again, and each time counts as a delivery.
fn losing(queue: &Queue, version: Option<Version>, dead_letters: &str) -> Option<Diagnosis> {
    let look = Look::bare(queue);
    let limit = limit(&look, version)?;
    let is_kept = look.argument_first("dead-letter-exchange").is_some();
    let is_low = limit <= DEFAULT_LIMIT;
    if is_kept && !is_low {
        return None;
    }
    let what = if is_kept {
        format!(
            "taken from, with a delivery limit of {limit}: after so many vain attempts \
             to forward a message it leaves for the queue's own dead letters, past its order"
        )
    } else {
        format!(
            "taken from, with a delivery limit of {limit} and no dead-letter exchange: \
             after so many vain attempts to forward a message the broker drops it"
        )
    };
    // A policy that has just been set, or one that nobody has told us of yet, may put it right.
    let is_sure = !is_kept && is_low && queue.effective_policy_definition.is_some();
    let severity = if is_sure { Severity::Refuse } else { Severity::Warn };
    let fix = if is_kept {
        "raise its delivery-limit, by a policy where it is not an argument".to_owned()
    } else {
        format!("set a policy for it with {{\"dead-letter-exchange\":\"{dead_letters}\"}}")
    };
    let about = ("queue", queue.name.as_str());
    Some(Diagnosis::new(severity, "intake_delivery_limit", about, what, fix))
}

/// How many returns the broker allows a message of this queue; `None` without end. `version` is the broker's.
pub(in crate::broker) fn returns_max(queue: &Queue, version: Option<&str>) -> Option<u64> {
    let limit = limit(&Look::bare(queue), version.and_then(parse))?;
    u64::try_from(limit).ok()
}

/// How many returns the broker allows a message; `None` without end.
fn limit(look: &Look<'_>, version: Option<Version>) -> Option<i64> {
    if look.kind() != "quorum" {
        return None;
    }
    // What we cannot read is most likely newer.
    let is_new = version.is_none_or(|version| version >= DEFAULT_SINCE);
    let limit = match look.both("delivery-limit") {
        [Some(one), Some(other)] if is_new && (one < 0 || other < 0) => Some(one.max(other)),
        [Some(one), Some(other)] => Some(one.min(other)),
        [None, None] => is_new.then_some(DEFAULT_LIMIT),
        [one, other] => one.or(other),
    }?;
    // Below zero: no limit at all on 4, and not a single return on 3.
    if limit >= 0 { Some(limit) } else { (!is_new).then_some(0) }
}
