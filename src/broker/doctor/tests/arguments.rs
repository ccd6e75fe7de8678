//! Arguments and policies: what is in force on a queue or an exchange.

use super::*;

#[test]
fn arguments_that_break_a_promise_refuse_the_start() {
    check(&[
        (
            |it| queue(it, SHARD).r#type = "classic".to_owned(),
            Refuse,
            "not_quorum",
            SHARD,
            "classic",
        ),
        (
            |it| drop(queue(it, SHARD).arguments.remove("x-single-active-consumer")),
            Refuse,
            "not_single_active",
            SHARD,
            "two pods",
        ),
        (
            |it| argument(it, "x-single-active-consumer", json!(false)),
            Refuse,
            "not_single_active",
            SHARD,
            "two pods",
        ),
        (
            |it| drop(queue(it, SHARD).arguments.remove("x-dead-letter-exchange")),
            Refuse,
            "not_dead_lettered",
            SHARD,
            "dead-letter-exchange is none, not \"p.dead-letters\"",
        ),
        (
            |it| argument(it, "x-dead-letter-strategy", json!("at-most-once")),
            Refuse,
            "not_dead_lettered",
            SHARD,
            "\"at-most-once\", not \"at-least-once\"",
        ),
        (
            |it| argument(it, "x-overflow", json!("drop-head")),
            Refuse,
            "overflow",
            SHARD,
            "argument",
        ),
        (|it| argument(it, "x-message-ttl", json!(9)), Refuse, "loses_messages", SHARD, "9 ms"),
        (
            |it| argument(it, "x-delivery-limit", json!(19)),
            Refuse,
            "delivery_limit",
            SHARD,
            "is 19",
        ),
        (|it| argument(it, "x-delivery-limit", json!(20)), Warn, "delivery_limit", SHARD, "is 20"),
        (
            |it| drop(queue(it, SHARD).arguments.remove("x-delivery-limit")),
            Warn,
            "no_delivery_limit",
            SHARD,
            "for ever",
        ),
        (
            |it| argument(it, "x-delayed-retry-type", json!("returned")),
            Refuse,
            "delayed_retry",
            SHARD,
            "overtake",
        ),
        (
            |it| {
                let updates = it.exchanges.as_mut().unwrap().get_mut("p.updates").unwrap();
                updates.arguments.clear();
            },
            Refuse,
            "not_caught",
            "p.updates",
            "alternate exchange is none, not \"p.unroutable\"",
        ),
        (
            |it| {
                let spread = it.exchanges.as_mut().unwrap().get_mut("p.shards.g1").unwrap();
                spread.r#type = "fanout".to_owned();
            },
            Refuse,
            "other_type",
            "p.shards.g1",
            "\"fanout\", not \"x-consistent-hash\"",
        ),
    ]);
}

#[test]
fn policies_are_judged_by_what_is_in_force_with_the_arguments() {
    check(&[
        // The smaller limit holds.
        (
            |it| policy(it, SHARD, json!({"delivery-limit": 7})),
            Refuse,
            "delivery_limit",
            SHARD,
            "7 by policy \"all-queues\", not 100: take delivery-limit out of policy \"all-queues\"",
        ),
        (
            |it| policy(it, "p.dead-letters", json!({"delivery-limit": 20})),
            Warn,
            "delivery_limit",
            "p.dead-letters",
            "is 20",
        ),
        (
            |it| policy(it, SHARD, json!({"delivery-limit": -1})),
            Warn,
            "delivery_limit",
            SHARD,
            "-1 by policy",
        ),
        // A policy beats the argument here, and makes dead letters at most once.
        (
            |it| policy(it, SHARD, json!({"overflow": "drop-head"})),
            Refuse,
            "overflow",
            SHARD,
            "all-queues",
        ),
        (
            |it| policy(it, SHARD, json!({"message-ttl": 1})),
            Refuse,
            "loses_messages",
            SHARD,
            "1 ms",
        ),
        (
            |it| policy(it, "p.unroutable", json!({"message-ttl": 1})),
            Refuse,
            "loses_messages",
            "p.unroutable",
            "is lost",
        ),
        (|it| policy(it, SHARD, json!({"expires": 5})), Refuse, "loses_messages", SHARD, "deleted"),
        // Full, it rejects, and nothing is lost.
        (|it| policy(it, SHARD, json!({"max-length": 5})), Warn, "bounded", SHARD, "publishers"),
        (
            |it| policy(it, "p.dead-letters", json!({"max-length-bytes": 5})),
            Refuse,
            "loses_messages",
            "p.dead-letters",
            "oldest",
        ),
        (
            |it| {
                policy(
                    it,
                    "p.dead-letters",
                    json!({"max-length": 5, "overflow": "reject-publish"}),
                );
            },
            Warn,
            "bounded",
            "p.dead-letters",
            "dead letters wait",
        ),
        (
            |it| policy(it, SHARD, json!({"delayed-retry-type": "all"})),
            Refuse,
            "delayed_retry",
            SHARD,
            "\"all\"",
        ),
        (
            |it| policy(it, SHARD, json!({"consumer-timeout": 120_000})),
            Warn,
            "consumer_timeout",
            SHARD,
            "set broker.consumer_timeout = \"2m\"",
        ),
        (
            |it| queue(it, SHARD).effective_policy_definition = None,
            Warn,
            "policies_unseen",
            SHARD,
            "check` again",
        ),
    ]);
}

#[test]
fn policies_that_change_nothing_are_not_found() {
    for definition in [
        // These arguments win over a policy.
        json!({"dead-letter-exchange": "elsewhere", "dead-letter-strategy": "at-most-once"}),
        json!({"delivery-limit": 100, "consumer-timeout": 1_800_000, "queue-leader-locator": "x"}),
        json!({"delivery-limit": 5000, "delayed-retry-type": "disabled"}),
    ] {
        let mut observed = well("4.3.6");
        policy(&mut observed, SHARD, definition.clone());
        assert_eq!(found(judged(&observed)), [], "{definition}");
    }
}

#[test]
fn many_queues_under_one_policy_are_one_finding() {
    let mut observed = well("4.3.6");
    for name in ["p.shard.g1.000", SHARD] {
        policy(&mut observed, name, json!({"expires": 5}));
    }
    let all = judged(&observed);
    assert_eq!(all[0].names, ["p.shard.g1.000", SHARD]);
    assert!(
        all[0].to_string().starts_with("queue p.shard.g1.000 and 1 more: expires"),
        "{}",
        all[0]
    );
    assert_eq!(found(all).len(), 1);
}
