//! What goes wrong on purpose, and what the ledger makes of it.

use super::*;
use crate::simulator::rates::Rates;

#[test]
fn conflict_rate_makes_every_patch_stale_half_of_the_times_invisibly() {
    let faults = Rates { conflict_rate: 1.0, ..Rates::default() };
    let mut bench = bench(Settings { faults, ..Settings::default() });
    let mut visible = 0;
    for _ in 0..200 {
        let before = bench.read();
        assert_eq!(bench.walk("a", &json!({"UpdateSequence": 1})), 412);
        let after = bench.read();
        assert_ne!(after["@odata.etag"], before["@odata.etag"]);
        visible += u32::from(after["DeliveryModeCode"] != before["DeliveryModeCode"]);
    }
    assert!((50..100).contains(&visible), "{visible} (a quarter of the visible ones repeat)");
    assert_eq!((bench.totals().conflicts, bench.totals().actor_changes), (200, 200));
    assert_eq!(bench.totals().overlaps, 0, "the outside actor is no writer");
}

#[test]
fn conflicts_are_spelled_in_the_configured_shares() {
    let faults = Rates {
        conflict_rate: 1.0,
        conflict_as_409: 0.3,
        conflict_as_text: 0.2,
        ..Rates::default()
    };
    let mut bench = bench(Settings { faults, ..Settings::default() });
    let statuses: Vec<u16> = (0..1000).map(|_| bench.walk("a", &json!({}))).collect();
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert!((250..350).contains(&count(409)), "{}", count(409));
    assert!((150..250).contains(&count(400)), "{}", count(400));
    assert_eq!(count(409) + count(400) + count(412), 1000);
    assert_eq!(bench.totals().conflicts, 1000);
}

#[test]
fn lost_reply_is_applied_and_cut_is_not() {
    let mut bench = scripted(&json!([
        {"on": "patch", "do": "cut"},
        {"on": "patch", "do": "lost_reply"},
        {"on": "get", "do": "cut"},
    ]));
    assert_eq!(bench.send(patch_of("a", "*", &json!({"UpdateSequence": 1}))), Outcome::Cut);
    assert_eq!(bench.totals().applied, 0);
    assert_eq!(bench.send(patch_of("a", "*", &json!({"UpdateSequence": 2}))), Outcome::Cut);
    assert_eq!(bench.totals().applied, 1);
    assert_eq!(bench.send(get_of("a")), Outcome::Cut);
    assert_eq!((bench.totals().faults.cut, bench.totals().faults.lost_reply), (2, 1));
    assert_eq!(bench.read()["UpdateSequence"], 2);
}

#[test]
fn scripted_status_may_carry_a_text_and_may_be_applied() {
    let mut bench = scripted(&json!([
        {"on": "patch", "do": "status", "status": 503, "retry_after": "1"},
        {"on": "patch", "do": "status", "status": 500, "message": "deadlock", "applied": true},
        {"on": "patch", "do": "status", "status": 429, "retry_after": "-1"},
    ]));
    let first = bench.reply(patch_of("a", "*", &json!({})));
    assert_eq!((first.status, first.retry_after.as_deref()), (503, Some("1")));
    assert!(matches!(first.body, Body::Html(_)));
    assert_eq!(bench.totals().applied, 0);
    let second = bench.reply(patch_of("a", "*", &json!({})));
    assert_eq!((second.status, inner_of(&second).as_str()), (500, "deadlock"));
    assert_eq!(bench.totals().applied, 1);
    assert_eq!(bench.reply(patch_of("a", "*", &json!({}))).status, 429);
    assert_eq!((bench.totals().faults.unavailable, bench.totals().faults.other), (2, 1));
}

#[test]
fn get_can_withhold_the_tag_or_be_no_odata_at_all() {
    let mut bench = scripted(&json!([
        {"on": "get", "do": "no_etag"},
        {"on": "get", "do": "no_etag_header"},
        {"on": "get", "do": "html"},
        {"on": "get", "do": "bad_json"},
    ]));
    let bare = bench.reply(get_of("a"));
    assert_eq!((&bare.etag, json_of(&bare).get("@odata.etag")), (&None, None));
    let annotated = bench.reply(get_of("a"));
    assert_eq!(annotated.etag, None);
    assert!(json_of(&annotated)["@odata.etag"].is_string());
    assert!(matches!(bench.reply(get_of("a")).body, Body::Html(_)));
    let Body::Json(bytes) = bench.reply(get_of("a")).body else { panic!("claims to be JSON") };
    assert!(serde_json::from_slice::<Json>(&bytes).is_err());
}

#[test]
fn conflict_on_get_makes_its_answer_stale_and_ignored_patch_changes_nothing() {
    let mut bench = scripted(&json!([{"on": "get", "do": "conflict"}]));
    assert_eq!(bench.walk("a", &json!({})), 412);
    bench.script(&json!([{"on": "patch", "do": "ignore"}]));
    let before = bench.read();
    assert_eq!(bench.walk("b", &json!({"UpdateSequence": 1})), 204);
    assert_eq!(bench.read(), before);
    assert_eq!(bench.totals().applied, 0);
}

#[test]
fn deleted_order_is_gone_between_get_and_patch() {
    let mut bench = scripted(&json!([{"on": "patch", "do": "delete"}]));
    assert_eq!(bench.walk("a", &json!({})), 412);
    assert_eq!(bench.reply(get_of("a")).status, 404);
    assert_eq!(bench.totals().orders, 1);
}

#[test]
fn stall_delays_the_deed_beside_the_latency_on_both_sides() {
    let patch_latency = "10ms".parse().unwrap();
    let mut bench = bench(Settings { patch_latency, ..Settings::default() });
    bench.script(&json!([{"on": "patch", "do": "stall", "for": "30s"}]));
    let arrived = bench.world.arrive(patch_of("a", "*", &json!({})), at());
    assert_eq!(arrived.before(), Duration::from_millis(30_005));
    assert_eq!(bench.totals().applied, 0);
    let judged = bench.world.judge(arrived, at());
    assert_eq!((judged.after(), bench.totals().applied), (Duration::from_millis(5), 1));
    assert!(matches!(bench.world.leave(judged), Outcome::Reply(Reply { status: 204, .. })));
}

#[test]
fn overlap_is_counted_while_a_patch_is_on_its_way_back() {
    let mut bench = plain();
    let etag = bench.reply(get_of("a")).etag.unwrap();
    let arrived = bench.world.arrive(patch_of("a", &etag, &json!({})), at());
    let judged = bench.world.judge(arrived, at());
    bench.reply(get_of("b"));
    assert_eq!((bench.totals().overlaps, bench.totals().in_flight_max), (1, 2));
    bench.world.leave(judged);
    bench.reply(get_of("c"));
    assert_eq!(bench.totals().overlaps, 1);
    let shown: Json = serde_json::from_slice(&bench.world.list(true, 10)).unwrap();
    assert_eq!(shown["total"], 1);
    assert_eq!(shown["orders"][0]["latest_overlaps"][0]["writer"], "b");
    assert_eq!(shown["orders"][0]["latest_overlaps"][0]["other"], "a");
}

#[test]
fn sequences_tell_distinct_repeated_and_disordered_updates_apart() {
    let mut bench = plain();
    for (sequence, distinct, twice, disordered) in
        [(5, 1, 0, 0), (9, 2, 0, 0), (9, 2, 1, 0), (7, 3, 1, 1), (5, 3, 2, 2), (10, 4, 2, 2)]
    {
        bench.reply(patch_of("a", "*", &json!({ "UpdateSequence": sequence })));
        let totals = bench.totals();
        let seen = (totals.applied_distinct, totals.applied_twice, totals.out_of_order);
        assert_eq!(seen, (distinct, twice, disordered), "after {sequence}");
    }
    bench.reply(patch_of("a", "*", &json!({"SalesStatus": "Delivered"})));
    assert_eq!((bench.totals().applied, bench.totals().applied_distinct), (7, 4));
}

#[test]
fn changes_are_listed_in_order_and_say_when_they_are_truncated() {
    let mut bench = bench(Settings { changes_max: 2, ..Settings::default() });
    let first = bench.etag();
    for sequence in 1..=3 {
        bench.walk("a", &json!({ "UpdateSequence": sequence }));
    }
    let page = |after, limit| {
        let view = bench.world.changes(after, limit);
        serde_json::to_value(&view).unwrap()
    };
    let all = page(0, 10);
    assert_eq!((&all["truncated"], &all["last"]), (&json!(true), &json!(3)));
    let seqs: Vec<_> = all["changes"].as_array().unwrap().iter().map(|one| &one["seq"]).collect();
    assert_eq!(seqs, [&json!(2), &json!(3)]);
    assert_eq!(all["changes"][1]["changed"], json!({"UpdateSequence": 3}));
    assert_eq!(all["changes"][0]["etag_after"], all["changes"][1]["etag_before"]);
    assert_ne!(all["changes"][0]["etag_before"], json!(first));
    assert_eq!(page(1, 1)["changes"][0]["seq"], 2);
    assert_eq!(page(1, 1)["truncated"], false);
    assert_eq!(page(3, 10)["changes"], json!([]));
}

#[test]
fn reset_begins_a_new_book_and_keeps_the_orders() {
    let mut bench = plain();
    bench.walk("a", &json!({"UpdateSequence": 1}));
    bench.world.reset_ledger();
    assert_eq!(*bench.totals(), Totals { orders: 2, ..Totals::default() });
    assert_eq!(bench.read()["UpdateSequence"], 1);
    bench.walk("b", &json!({"UpdateSequence": 1}));
    assert_eq!((bench.totals().applied_distinct, bench.totals().applied_twice), (1, 0));
    let shown: Json =
        serde_json::from_slice(&bench.world.show(&Key::new("USMF", "SO-000001")).unwrap()).unwrap();
    assert_eq!(shown["changes"].as_array().unwrap().len(), 1);
    assert_eq!(shown["properties"]["UpdateSequence"], 1);
}

#[test]
fn one_request_too_many_is_unavailable() {
    let mut bench = bench(Settings { requests_max: 1, ..Settings::default() });
    let under_way = bench.world.arrive(get_of("a"), at());
    assert_eq!(bench.reply(get_of("b")).status, 503);
    let judged = bench.world.judge(under_way, at());
    assert!(matches!(bench.world.leave(judged), Outcome::Reply(Reply { status: 200, .. })));
    assert_eq!(bench.reply(get_of("b")).status, 200);
}

/// The fate of an order must not depend on what happens to others in between.
#[test]
fn same_seed_gives_an_order_the_same_fate_whatever_happens_to_others() {
    let fates = |seed, others: bool| {
        let faults =
            Rates { conflict_rate: 0.2, error_rate: 0.2, reset_rate: 0.2, ..Rates::default() };
        let get_latency = "1ms..9ms".parse().unwrap();
        let mut bench = bench(Settings { seed, faults, get_latency, ..Settings::default() });
        let other = format!("{}?cross-company=true", ORDER.replace("000001", "000002"));
        let mut fates = Vec::new();
        for _ in 0..200 {
            let arrived = bench.world.arrive(get_of("a"), at());
            fates.push(format!("{:?}", arrived.before()));
            let judged = bench.world.judge(arrived, at());
            fates.push(format!("{:?}", bench.world.leave(judged)));
            if others {
                bench.send(request(&Method::GET, &other, &[], &Json::Null));
                bench.send(request(&Method::GET, "Nonsense", &[], &Json::Null));
            }
            fates.push(format!("{:?}", bench.send(patch_of("a", "*", &json!({})))));
        }
        fates
    };
    assert_eq!(fates(7, false), fates(7, true));
    assert_ne!(fates(7, false), fates(8, false));
}
