//! What an operator should do about a reason, in one sentence.

use std::borrow::Cow;

/// The advice. Empty for a reason that is not known here, such as one of a newer version.
///
/// `is_unseen` says of a letter that it never saw its order: then a replay alone does not write it, and how it is
/// written is said as well.
#[must_use]
pub fn advice(reason: &str, is_unseen: bool) -> Cow<'static, str> {
    let advice = of(reason);
    if is_unseen && advice.contains("replay") {
        format!("{advice}; {UNSEEN}").into()
    } else {
        advice.into()
    }
}

/// For a letter that never saw its order.
const UNSEEN: &str =
    "it never saw its order: replay it with --never-seen where nothing newer was written since";

fn of(reason: &str) -> &'static str {
    match reason {
        "etag_conflict" | "conflict" | "update_conflict" | "repeat_window"
        | "conflict_exhausted" => {
            "others kept writing this order, or hold it: find out who (show), then replay"
        }
        "not_found" => {
            "the order is not there, or not for our user: create it, then replay; or discard"
        }
        "no_etag" | "etag_required" => {
            "the service gives no ETag for this entity: have it turn them on, then replay"
        }
        "expectation_failed" | "transition_refused" => {
            "the order's state stands in the way: mend the order and replay, or discard"
        }
        "superseded" => "a newer update is written already: discard, unless this one must win",
        "sequence_unreadable" => {
            "the property of guard.sequence_property holds no number: mend the order, then replay"
        }
        "rejected" => {
            "the service refuses it as it is: mend the message (edit) or the service, then replay"
        }
        "business_rule" => {
            "a rule of the business logic says no: mend the order's data, then replay"
        }
        "too_large" => {
            "body or URL is larger than the service takes: have the publisher send less, then discard"
        }
        "not_supported" => {
            "the service cannot do this at all: look at target.profile and the entity, then replay"
        }
        "auth" | "auth_config" => {
            "our sign-in is refused: mend target.auth (orderwright check target), then replay"
        }
        "auth_unavailable" => "the token endpoint gave no token: once it does, replay",
        "csrf" => "the service takes none of its own CSRF tokens: look at target.csrf, then replay",
        "forbidden" => "our user may not write this order: mend its permissions, then replay",
        "redirected" | "not_odata" | "certificate" | "wrong_address" => {
            "something else answers in the service's place: mend target.url or the network, then replay"
        }
        "throttled_alone" => {
            "the service takes other orders and refuses this one as too much: ask its owner why, then replay"
        }
        "timeout" | "throttled" | "unavailable" | "gateway" | "server_error" | "dependency"
        | "deadlock" | "unreachable" => {
            "trouble of the service that outlived the retries: see whether it is over, then replay"
        }
        "unknown_outcome" => {
            "the write may have happened: look at the order; a replay writes only what is not there"
        }
        "crash_loop" | "bug" => {
            "a bug in orderwright: report it with the log and this letter; replay with a mended version"
        }
        "forward_loop" => {
            "pods disagree on the number of shards: run one version with one topology, then replay"
        }
        "parked_behind" => {
            "it waits behind an earlier letter of its order: replay or discard that one"
        }
        "body_too_large"
        | "content_type_unsupported"
        | "content_encoding_unsupported"
        | "utf8_invalid"
        | "json_malformed"
        | "json_not_an_object"
        | "json_duplicate_key"
        | "json_too_deep"
        | "field_unknown"
        | "field_invalid"
        | "key_mismatch"
        | "key_value_invalid"
        | "key_too_long"
        | "changes_empty"
        | "changes_key_property"
        | "changes_sequence_property"
        | "expect_invalid"
        | "sequence_too_large" => {
            "the message breaks the contract: mend the publisher and have it publish anew, and discard this letter; or mend \
             this one (edit), then replay"
        }
        "broker_delivery_limit" => {
            "its workers died or lost their channel again and again: see their log, then replay"
        }
        "broker_expired" => "the publisher set an expiration: have it stop, then replay or discard",
        "broker_maxlen" => "its queue has a limit that drops: take the policy away, then replay",
        "broker_rejected" => "somebody else's consumer is on the queue: find it, then replay",
        "broker_other" => "the broker's own word stands in the letter (show)",
        "foreign" => "it says nothing of itself: look at it (show), then replay or discard",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_advice() {
        let mut reasons: Vec<&str> =
            crate::protocol::Code::ALL.iter().map(|code| code.as_str()).collect();
        reasons.extend(super::super::REASONS.map(|(name, _)| name));
        let contract = include_str!("../../docs/MESSAGES.md");
        let decode = contract.split("## Decode errors").nth(1).unwrap();
        let decode = decode.split("\n## ").next().unwrap();
        let rows = decode.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let before = reasons.len();
        reasons.extend(rows);
        assert!(
            reasons.len() > before + 10,
            "the table of decode errors is written in another way"
        );
        reasons.extend(["forward_loop", "parked_behind"]);
        let is_silent = |it: &&str| advice(it, false).is_empty();
        let without: Vec<_> = reasons.iter().filter(|it| is_silent(it)).collect();
        assert!(without.is_empty(), "{without:?}");
        // Who is told to replay what a plan calls never_seen is told how.
        for reason in reasons {
            let (seen, unseen) = (advice(reason, false), advice(reason, true));
            assert!(!seen.contains("--never-seen"), "{reason}: {seen}");
            assert_eq!(unseen.contains("--never-seen"), unseen.contains("replay"), "{unseen}");
        }
    }
}
