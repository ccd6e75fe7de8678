//! The queue of somebody else that is taken from.

use super::*;

/// What is found of the queue that is taken from, with these arguments and policies.
fn intake(
    version: &str,
    kind: &str,
    arguments: Value,
    policies: Value,
) -> Option<(Severity, String)> {
    let mut observed = well(version);
    let erp = queue(&mut observed, "erp");
    erp.r#type = kind.to_owned();
    erp.arguments = serde_json::from_value(arguments).unwrap();
    erp.arguments.insert("x-single-active-consumer".to_owned(), json!(true));
    erp.effective_policy_definition = serde_json::from_value(policies).unwrap();
    let topology = topology(1);
    let mut found = found(judged_with(&observed, &topology, true));
    found.retain(|(_, state, names, _)| *state != "version" && *names == ["erp"]);
    let (severity, state, _, text) = found.pop()?;
    assert_eq!((state, found.len()), ("intake_delivery_limit", 0), "{text}");
    Some((severity, text))
}

#[test]
fn queue_that_is_taken_from_in_order_needs_a_single_active_consumer() {
    for (is_unordered, is_single, wanted) in
        [(false, false, Some(Refuse)), (false, true, None), (true, false, None), (true, true, None)]
    {
        let mut observed = well("4.3.6");
        let erp = queue(&mut observed, "erp");
        erp.r#type = "classic".to_owned();
        erp.arguments.clear();
        if is_single {
            erp.arguments.insert("x-single-active-consumer".to_owned(), json!(true));
        }
        let (prefix, names) = ("p".to_owned(), vec!["erp".to_owned()]);
        let (intake, intake_unordered) =
            if is_unordered { (vec![], names) } else { (names, vec![]) };
        let settings = config::Topology {
            prefix,
            shards: 1,
            intake,
            intake_unordered,
            ..config::Topology::default()
        };
        let found = found(judged_with(&observed, &Topology::new(&settings), true));
        let about = found.iter().find(|(_, state, _, _)| *state == "intake_not_single_active");
        let severity = about.map(|(severity, ..)| *severity);
        assert_eq!(severity, wanted, "{is_unordered} {is_single} {found:?}");
        let remedy = |text: &str| text.contains("name it in topology.intake_unordered");
        assert!(about.is_none_or(|(_, _, _, text)| remedy(text)));
    }
}

#[test]
fn queue_that_is_taken_from_and_would_drop_what_cannot_be_forwarded_is_refused() {
    let none = || json!({});
    let kept = || json!({"x-dead-letter-exchange": "erp.refused"});
    let limit = |limit: i64| json!({"x-delivery-limit": limit});
    let policy = |limit: i64| json!({"delivery-limit": limit});
    for (version, kind, arguments, policies, wanted) in [
        // From 4.0 on there is a limit where none is set.
        ("4.0.5", "quorum", none(), none(), Some((Refuse, "limit of 20 and no"))),
        ("3.10.8", "quorum", none(), none(), None),
        ("mine", "quorum", none(), none(), Some((Refuse, "limit of 20 and no"))),
        ("4.0.5", "classic", none(), none(), None),
        ("4.0.5", "quorum", none(), Value::Null, Some((Warn, "limit of 20 and no"))),
        ("3.10.8", "quorum", limit(5), none(), Some((Refuse, "limit of 5 and no"))),
        ("4.3.6", "quorum", limit(100), none(), Some((Warn, "limit of 100 and no"))),
        ("4.3.6", "quorum", limit(100), policy(3), Some((Refuse, "limit of 3 and no"))),
        // No limit on 4, and no return at all on 3.
        ("4.3.6", "quorum", limit(-1), none(), None),
        ("4.3.6", "quorum", none(), policy(-1), None),
        ("4.3.6", "quorum", limit(7), policy(-1), Some((Refuse, "limit of 7 and no"))),
        ("3.10.8", "quorum", limit(-1), none(), Some((Refuse, "limit of 0 and no"))),
        // Kept, wherever that stands; and not so soon.
        ("4.3.6", "quorum", kept(), policy(100), None),
        ("4.3.6", "quorum", kept(), none(), Some((Warn, "past its order"))),
        (
            "4.3.6",
            "quorum",
            limit(5),
            json!({"dead-letter-exchange": "p.dead-letters"}),
            Some((Warn, "past its order")),
        ),
    ] {
        let case = format!("{version} {kind} {arguments} {policies}");
        let found = intake(version, kind, arguments, policies);
        let found = found.as_ref().map(|(severity, text)| (*severity, text.as_str()));
        assert_eq!(found.map(|(severity, _)| severity), wanted.map(|(it, _)| it), "{case}");
        if let (Some((_, text)), Some((severity, words))) = (found, wanted) {
            assert!(text.contains(words), "{case}: {text}");
            let policy = "{\"dead-letter-exchange\":\"p.dead-letters\"}";
            assert_eq!(text.contains(policy), severity == Refuse || words.contains("and no"));
        }
    }
}
