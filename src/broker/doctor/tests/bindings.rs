//! Bindings, and queues that must be there.

use super::*;

#[test]
fn bindings_that_are_missing_double_or_lead_astray_are_found() {
    check(&[
        (
            |it| unbind(it, "p.updates", "p.shards.g1"),
            Refuse,
            "binding_missing",
            "p.updates -> p.shards.g1",
            "run `orderwright topology declare`",
        ),
        (
            |it| unbind(it, "p.shards.g1", SHARD),
            Refuse,
            "binding_missing",
            "p.shards.g1 -> p.shard.g1.001",
            "reshard",
        ),
        (
            |it| unbind(it, "p.dead-letters", "p.dead-letters"),
            Refuse,
            "binding_missing",
            "p.dead-letters -> p.dead-letters",
            "nowhere",
        ),
        (
            |it| {
                unbind(it, "p.dead-letters", "p.dead-letters");
                bind(it, "p.dead-letters", "parked", "queue", "");
            },
            Warn,
            "binding_missing",
            "p.dead-letters -> p.dead-letters",
            "queue parked is bound",
        ),
        // What is left where the number of shards was changed from one to several.
        (
            |it| bind(it, "p.updates", "p.shard.g1.000", "queue", ""),
            Refuse,
            "doubles",
            "p.updates -> p.shard.g1.000",
            "twice",
        ),
        (
            |it| bind(it, "p.updates", "p.shards.g2", "exchange", ""),
            Refuse,
            "doubles",
            "p.updates -> p.shards.g2",
            "twice",
        ),
        (
            |it| bind(it, "p.updates", "erp", "queue", ""),
            Refuse,
            "doubles",
            "p.updates -> erp",
            "twice",
        ),
        (
            |it| bind(it, "p.updates", "tap", "queue", ""),
            Warn,
            "copied",
            "p.updates -> tap",
            "copy",
        ),
        // What is left where the number of shards was lowered.
        (
            |it| bind(it, "p.shards.g1", "p.shard.g1.002", "queue", "1"),
            Refuse,
            "led_away",
            "p.shards.g1 -> p.shard.g1.002",
            "nobody consumes",
        ),
        (
            |it| bind(it, "p.shards.g1", SHARD, "queue", "2"),
            Warn,
            "ring",
            "p.shards.g1 -> p.shard.g1.001",
            "reshard",
        ),
        (
            |it| bind(it, "erp.orders", SHARD, "queue", "a"),
            Warn,
            "past_the_entry",
            "erp.orders -> p.shard.g1.001",
            "bind exchange p.updates instead",
        ),
    ]);
    // Upstream's own exchange before the entry is what the entry is for.
    let mut observed = well("4.3.6");
    bind(&mut observed, "erp.orders", "p.updates", "exchange", "");
    bind(&mut observed, "p.dead-letters", "alerts", "queue", "");
    bind(&mut observed, "erp.orders", "erp", "queue", "");
    assert_eq!(found(judged(&observed)), []);
}

#[test]
fn queues_that_are_taken_from_must_be_there() {
    check(&[
        (
            |it| drop(it.queues.as_mut().unwrap().remove("erp")),
            Refuse,
            "intake_missing",
            "erp",
            "out of the settings",
        ),
        (
            |it| drop(queue(it, "erp").arguments.remove("x-single-active-consumer")),
            Refuse,
            "intake_not_single_active",
            "erp",
            "would not keep their order",
        ),
        (
            |it| drop(it.queues.as_mut().unwrap().remove(SHARD)),
            Warn,
            "unlisted",
            SHARD,
            "another broker",
        ),
    ]);
}
