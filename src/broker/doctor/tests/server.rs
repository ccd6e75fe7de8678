//! Other consumers, permissions, versions, and parts that could not be looked at.

use super::*;

#[test]
fn consumers_of_somebody_elses_are_told() {
    check(&[
        (
            |it| it.consumers.as_mut().unwrap().push(consumer("theirs", "ann")),
            Warn,
            "foreign_consumer",
            SHARD,
            "\"theirs\"",
        ),
        (
            |it| it.consumers.as_mut().unwrap().push(consumer("unnamed", "ann")),
            Warn,
            "foreign_consumer",
            SHARD,
            "not applied",
        ),
        (
            |it| it.consumers.as_mut().unwrap().push(consumer("not shown", "bob")),
            Warn,
            "foreign_consumer",
            SHARD,
            "user \"bob\"",
        ),
        (
            |it| it.consumers.as_mut().unwrap()[0].timeout = json!(600_000),
            Warn,
            "consumer_timeout",
            SHARD,
            "is 10m as its consumer shows, and broker.consumer_timeout says 30m",
        ),
    ]);
    let mut observed = well("4.3.6");
    observed.consumers.as_mut().unwrap().push(consumer("not shown", "ann"));
    assert_eq!(found(judged(&observed)), [], "may be another pod, whose connection we may not see");
}

#[test]
fn permissions_are_matched_as_the_broker_matches_them() {
    let granted = |configure: &str, write: &str, read: &str| {
        let mut observed = well("4.3.6");
        let [configure, write, read] = [configure, write, read].map(str::to_owned);
        let vhost = "v".to_owned();
        observed.permissions = Ok(vec![Permission { vhost, configure, write, read }]);
        observed
    };
    let text = |observed: &Observed, declare: bool| {
        let found = found(judged_with(observed, &topology(2), declare));
        found
            .into_iter()
            .map(|(severity, state, _, text)| (severity, state, text))
            .collect::<Vec<_>>()
    };
    assert_eq!(text(&granted("", "^p\\.", "^(p\\.|erp$)"), false), []);
    let one = text(&granted("", "^p\\.", "^p\\."), false);
    assert_eq!(one.len(), 1);
    assert_eq!((one[0].0, one[0].1), (Refuse, "permission"));
    assert!(one[0].2.contains("permission ann: may not read erp: the pattern is"), "{one:?}");
    // Declaring needs more, and an empty pattern grants nothing at all.
    let two = text(&granted("", "^p\\.(dead-letters|forward|peers)$", ".*"), true);
    assert_eq!(two.len(), 2);
    assert!(two[0].2.contains("may not configure p.dead-letters and 13 more"), "{two:?}");
    assert!(two[1].2.contains("may not write p.journal and 7 more"), "{two:?}");
    // Without hints pods only share badly.
    let hints = text(&granted("", "dead-letters|forward", ".*"), false);
    assert_eq!(hints.len(), 1);
    assert_eq!(hints[0].0, Warn);
    assert!(hints[0].2.contains("may not write p.peers: "), "{hints:?}");
    let unclear = text(&granted("^(?!amq)", ".*", ".*"), true);
    assert_eq!((unclear[0].0, unclear[0].1), (Warn, "permission"));
}

#[test]
fn versions_are_judged_by_what_was_measured_and_reported() {
    let khepri = || vec![Feature { name: "khepri_db".to_owned(), state: "enabled".to_owned() }];
    let scrambles = "may scramble the hash ring";
    for (version, shards, khepri, wanted) in [
        ("3.9.29", 1, Vec::new(), Some((Refuse, "at least once"))),
        ("3.10.8", 2, Vec::new(), Some((Warn, scrambles))),
        ("4.0.5", 2, Vec::new(), Some((Warn, scrambles))),
        ("4.0.5", 2, khepri(), None),
        ("4.0.5", 1, Vec::new(), None),
        ("4.2.9", 1, Vec::new(), None),
        ("4.3.0-rc.1", 2, khepri(), Some((Warn, "#17317"))),
        ("4.3.5", 1, Vec::new(), Some((Warn, "#17317"))),
        ("4.3.6", 2, Vec::new(), None),
        ("4.10.0", 2, Vec::new(), None),
        ("mine", 2, Vec::new(), Some((Warn, "no version"))),
    ] {
        let mut observed = well(version);
        observed.features = Ok(khepri);
        let all = judged_with(&observed, &topology(shards), true);
        let found: Vec<_> = all.iter().filter(|it| it.state == "version").collect();
        assert_eq!(found.len(), usize::from(wanted.is_some()), "{version}, {shards}: {found:?}");
        if let Some((severity, words)) = wanted {
            assert_eq!(found[0].severity, severity, "{version}");
            assert!(found[0].to_string().contains(words), "{version}: {}", found[0]);
        }
    }
}

#[test]
fn parts_that_were_not_looked_at_are_told_one_by_one() {
    let mut observed = well("4.3.6");
    observed.overview = Err(Unseen::Status(401));
    observed.queues = Err(Unseen::TooMany(10_000));
    observed.exchanges = Err(Unseen::Unclear("no JSON".to_owned()));
    observed.bindings = Err(Unseen::TooLarge(16));
    observed.consumers = Err(Unseen::Silent("refused".to_owned()));
    observed.permissions = Err(Unseen::Status(401));
    let found = found(judged(&observed));
    assert_eq!(found.len(), 6);
    for (severity, state, _, text) in &found {
        assert_eq!((severity, state), (&Warn, &"not_looked_at"), "{text}");
    }
    assert!(found[5].3.contains("status 401"), "{found:?}");
}

/// As 3.10.8, 4.0.5 and 4.3.6 really answered, for one queue under a policy and an operator policy.
#[test]
fn answers_of_real_brokers_are_understood() {
    let arguments = json!({"x-queue-type": "quorum", "x-single-active-consumer": true});
    for answer in [
        json!({"arguments": arguments, "auto_delete": false, "durable": true,
               "effective_policy_definition": {"delivery-limit": 7}, "exclusive": false,
               "name": SHARD, "operator_policy": "oplim", "policy": null, "type": "quorum"}),
        json!({"arguments": arguments, "auto_delete": false, "delivery_limit": 7, "durable": true,
               "effective_policy_definition": {"consumer-timeout": 120_000, "delivery-limit": 7},
               "exclusive": false, "name": SHARD, "operator_policy": "oplim", "policy": "ct",
               "type": "quorum"}),
        json!({"arguments": arguments, "auto_delete": false, "delayed_retry": "disabled",
               "delivery_limit": 7, "durable": true,
               "effective_policy_definition": {"delivery-limit": 7}, "exclusive": false,
               "name": SHARD, "operator_policy": "oplim", "policy": null, "type": "quorum"}),
    ] {
        let queue: Queue = serde_json::from_value(answer).unwrap();
        assert_eq!(queue.operator_policy.as_deref(), Some("oplim"));
        assert_eq!(queue.effective_policy_definition.unwrap()["delivery-limit"], 7);
    }
    // Just made, before 4.3: the statistics have not come yet.
    let fresh: Queue = serde_json::from_value(json!({"name": SHARD, "type": "quorum"})).unwrap();
    assert_eq!(fresh.effective_policy_definition, None);
    // Erlang has one empty list for both.
    let empty = json!({"name": SHARD, "arguments": [], "effective_policy_definition": []});
    let empty: Queue = serde_json::from_value(empty).unwrap();
    assert_eq!(empty.effective_policy_definition, Some(serde_json::Map::new()));
    let gone: Consumer =
        serde_json::from_value(json!({"queue": {"name": SHARD}, "channel_details": []})).unwrap();
    assert_eq!(gone.channel_details.user, "");
}

#[test]
fn table_of_versions_in_the_readme_is_what_a_start_does() {
    let readme = include_str!("../../../../README.md");
    let mut lines =
        readme.lines().skip_while(|line| !line.starts_with("| RabbitMQ | what a start"));
    assert!(lines.next().is_some(), "the table");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    let said: Vec<_> =
        rows.map(|row| row.split('|').map(str::trim).skip(1).take(2).collect::<Vec<_>>()).collect();
    // The first and the last of each row, as far as there is one.
    let of = [["3.8.0", "3.9.29"], ["3.10.0", "4.2.9"], ["4.3.0", "4.3.5"], ["4.3.6", "4.4.0"]];
    assert_eq!(said.len(), of.len(), "{said:?}");
    for (row, versions) in said.iter().zip(of) {
        for version in versions {
            let found = found(judged(&well(version)));
            let found = found.iter().filter(|(_, state, _, _)| *state == "version");
            let does = match found.map(|(severity, ..)| *severity).max() {
                Some(Refuse) => "refuses",
                Some(Warn) => "warns",
                Some(Severity::Fine) | None => "starts",
            };
            assert_eq!(row[1], does, "{version}: {row:?}");
        }
    }
    assert!(said[0][0].ends_with("3.10") && said[1][0].starts_with("3.10"), "{said:?}");
    assert!(said[2][0] == "4.3.0 to 4.3.5" && said[3][0].starts_with("4.3.6"), "{said:?}");
}
