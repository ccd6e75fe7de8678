//! The rules of single values and between values.

use super::*;

#[test]
fn bounds_are_allowed_and_a_step_beyond_is_not() {
    for (name, allowed, refused) in [
        ("BROKER__PREFETCH", ["1", "1024"], ["0", "1025"]),
        ("BROKER__HEARTBEAT", ["5s", "60s"], ["4s", "61s"]),
        ("TOPOLOGY__DELIVERY_LIMIT", ["20", "100000"], ["19", "100001"]),
        ("RETRY__JITTER", ["0", "0.5"], ["-0.1", "0.51"]),
        ("RETRY__FAILURES__RETRIES_MAX", ["0", "4"], ["21", "4294967295"]),
        ("DRAIN__GRACE", ["1s", "10m"], ["999ms", "601s"]),
    ] {
        for text in allowed {
            assert!(load("", &[(name, text)]).is_ok(), "{name} {text}");
        }
        for text in refused {
            let found = mistakes("", &[(name, text)]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(" from ") && found[0].contains(text), "{found:?}");
        }
    }
}

#[test]
fn text_outside_its_alphabet_is_refused() {
    for (name, texts) in [
        ("TOPOLOGY__PREFIX", vec!["", "a/b", "a b", "\u{e4}"]),
        ("INSTANCE__NAME", vec!["a b", "\u{e4}"]),
        ("LOG__LEVEL", vec!["inof", "orderwright=loud", "info,warm"]),
        ("ORDER__ENTITY_SET", vec!["", "2nd", "a-b"]),
        ("ORDER__KEY", vec!["", "a,,b", "a,a,dataAreaId"]),
        ("ORDER__KEY_FOLD_CASE", vec!["DataAreaId", "dataAreaId,dataAreaId"]),
        ("BROKER__HEARTBEAT", vec!["5500ms"]),
    ] {
        for text in texts {
            assert!(load("", &[(name, text)]).is_err(), "{name} {text:?}");
        }
    }
    for (name, text) in [
        ("TOPOLOGY__PREFIX", "Test-1.a_b"),
        ("LOG__LEVEL", "WARN,orderwright::broker=debug,lapin=off"),
        ("LOG__LEVEL", "orderwright[order{key=a}]=trace"),
        ("ORDER__KEY", "dataAreaId"),
    ] {
        assert!(load("", &[(name, text)]).is_ok(), "{name} {text:?}");
    }
}

#[test]
fn broker_url_must_be_what_the_client_reads_as_written() {
    for (url, rule) in [
        ("http://rabbit/v", "must begin with amqp:// or amqps://"),
        ("amqp://[::1]/v", "must name a host"),
        ("amqp:///v", "must name a host"),
        ("amqp:rabbit", "must name a host"),
        ("amqp://rabbit/", "the one named / is written /%2f"),
        ("amqp://rabbit/a/b", "must percent-encode"),
        ("amqp://rabbit/v?heartbeat=5", "may have no query but auth_mechanism"),
        ("amqp://rabbit/%ff", "must be an AMQP address"),
        ("rabbit:5672", "must begin with amqp:// or amqps://"),
        ("rabbit", "must be a URL"),
    ] {
        let found = mistakes("", &[("BROKER__URL", url)]);
        assert!(found.len() == 1 && found[0].contains(rule), "{url} {found:?}");
    }
    for url in ["amqp://rabbit", "amqp://10.0.0.1:5673/%2f", "amqp://r/v?auth_mechanism=external"] {
        assert!(load("", &[("BROKER__URL", url)]).is_ok(), "{url}");
    }
    let encrypted = load("", &[("BROKER__URL", "amqps://rabbit/v")]);
    assert_eq!(encrypted.is_ok(), cfg!(feature = "amqps"));
}

#[test]
fn target_url_must_be_a_plain_root() {
    for url in
        ["ftp://h/data", "http://h/data?x=1", "http://h/data#x", "http://ann@h/data", "h/data"]
    {
        assert_eq!(mistakes("", &[("TARGET__URL", url)]).len(), 1, "{url}");
    }
    assert!(load("", &[("TARGET__URL", "https://h/data/")]).is_ok());
}

#[test]
fn shortest_wait_must_not_exceed_the_longest() {
    let toml = "[broker]\nreconnect_wait_min = \"31s\"\n[retry.conflicts]\nwait_max = \"900ms\"";
    assert_eq!(
        mistakes(toml, &[("RETRY__FAILURES__WAIT_MIN", "5s")]),
        [
            "broker.reconnect_wait_min = \"31s\" (file FILE), broker.reconnect_wait_max = \"30s\" \
             (default): the first must not be longer than the second",
            "retry.conflicts.wait_min = \"1s\" (default), retry.conflicts.wait_max = \"900ms\" \
             (file FILE): the first must not be longer than the second",
            "retry.failures.wait_min = \"5s\" (environment variable \
             ORDERWRIGHT__RETRY__FAILURES__WAIT_MIN), retry.failures.wait_max = \"4s\" (default): \
             the first must not be longer than the second",
        ]
    );
}

#[test]
fn sequence_property_must_be_a_name_and_none_of_the_key() {
    for name in ["", "UpdateSequence", "_x9"] {
        assert!(load("", &[("GUARD__SEQUENCE_PROPERTY", name)]).is_ok(), "{name}");
    }
    let found = mistakes("", &[("GUARD__SEQUENCE_PROPERTY", "a b")]);
    assert!(found.len() == 1 && found[0].contains("must be empty, or a letter"), "{found:?}");
    assert_eq!(
        mistakes("[guard]\nsequence_property = \"dataAreaId\"", &[]),
        ["guard.sequence_property = \"dataAreaId\" (file FILE), order.key = \
          [\"dataAreaId\",\"SalesOrderNumber\"] (default): the first must be none of the second: \
          a key cannot be written"]
    );
}

#[test]
fn transitions_must_name_property_and_both_values() {
    let good = "SalesStatus: Backorder -> Delivered, SalesStatus:Delivered->On hold,state: 0 -> 1";
    let loaded = load("", &[("GUARD__TRANSITIONS", good)]).unwrap();
    let ways: Vec<_> = loaded.settings.guard.transitions().collect();
    let wanted = [
        ["SalesStatus", "Backorder", "Delivered"],
        ["SalesStatus", "Delivered", "On hold"],
        ["state", "0", "1"],
    ];
    assert_eq!(ways, wanted.map(Some));
    for bad in [
        "SalesStatus",
        "SalesStatus: Backorder",
        "Backorder -> Delivered",
        "SalesStatus: -> Delivered",
        "SalesStatus: Backorder ->",
        "a b: Backorder -> Delivered",
        "SalesStatus: Backorder -> Delivered -> Invoiced",
        "dataAreaId: a -> b",
        "Sequence: 1 -> 2",
    ] {
        let found =
            mistakes("", &[("GUARD__TRANSITIONS", bad), ("GUARD__SEQUENCE_PROPERTY", "Sequence")]);
        assert!(found.len() == 1 && found[0].contains("PROPERTY: FROM -> TO"), "{bad}: {found:?}");
    }
    let many = "A: 1 -> 2,".repeat(257);
    assert_eq!(mistakes("", &[("GUARD__TRANSITIONS", many.trim_end_matches(','))]).len(), 1);
}

#[test]
fn folded_property_must_be_part_of_the_key() {
    assert_eq!(
        mistakes("[order]\nkey = [\"Number\"]", &[]),
        ["order.key_fold_case = [\"dataAreaId\"] (default), order.key = [\"Number\"] (file \
             FILE): the first may name only what the second names, spelt alike"]
    );
}

#[test]
fn longest_hold_must_stay_below_half_of_the_consumer_timeout() {
    let hold = Settings::default().hold_max();
    // 7 attempts of 30 s and 60 s, waits of 1, 2 and 4 s twice times 1.2, 5 s for the requests of a
    // former owner, and 30 s each for the look at the target and the last one at the order.
    let waits = 2 * 7_000 * 12 / 10 + 5_000;
    assert_eq!(hold, Duration::from_millis(7 * 90_000 + waits + 2 * 30_000));
    let toml = "[target]\npatch_timeout = \"100s\"";
    assert_eq!(
        mistakes(toml, &[]),
        ["target.patch_timeout = \"100s\" (file FILE): one delivery could be held for 16m 32s: \
          7 attempts, each a GET and a PATCH, may take 16m 10s, and the waits 22s; it must stay \
          below 15m, half of broker.consumer_timeout: lower retries_max, target.patch_timeout, \
          target.get_timeout or the waits"]
    );
    assert!(load(toml, &[("BROKER__CONSUMER_TIMEOUT", "34m")]).is_ok());
}

#[test]
fn memory_for_bodies_must_not_exceed_four_gibibytes() {
    assert_eq!(Settings::default().memory_max(), 128 * 1024 * 1024);
    let toml = "[broker]\nprefetch = 1000";
    assert_eq!(
        mistakes(toml, &[("ORDER__BODY_BYTES_MAX", "1048576")]),
        ["broker.prefetch = 1000 (file FILE), topology.shards = 64 (default), \
          order.body_bytes_max = 1048576 (environment variable \
          ORDERWRIGHT__ORDER__BODY_BYTES_MAX): multiplied, they allow 67108864000 bytes of bodies \
          in memory, and 4294967296 is the most: lower one"]
    );
}

#[test]
fn most_shards_are_what_four_gibibytes_of_bodies_hold_beside_the_queues_that_are_taken_from() {
    let mut settings = Settings::default();
    assert_eq!(settings.shards_max(), 2048);
    settings.topology.shards = 2046;
    settings.topology.intake = vec!["erp".to_owned()];
    settings.topology.intake_unordered = vec!["shop".to_owned()];
    assert_eq!(settings.shards_max(), 2046);
    assert_eq!(settings.memory_max(), MEMORY_BYTES_MAX);
    settings.broker.prefetch = 1;
    assert_eq!(settings.shards_max(), 65_534);
    settings.broker.prefetch = 1000;
    settings.order.body_bytes_max = usize::MAX;
    assert_eq!(settings.shards_max(), 0);
}

#[test]
fn queue_is_taken_from_in_order_or_not_and_not_both() {
    let both = [("TOPOLOGY__INTAKE", "erp, shop"), ("TOPOLOGY__INTAKE_UNORDERED", "crm, shop")];
    let found = mistakes("", &both);
    assert!(found.len() == 1 && found[0].contains("shop stands in both"), "{found:?}");
    let twice = mistakes("topology.intake = ['erp', 'erp']", &[]);
    assert!(twice.len() == 1 && twice[0].contains("erp stands there twice"), "{twice:?}");
    assert!(load("", &[both[0], ("TOPOLOGY__INTAKE_UNORDERED", "crm")]).is_ok());
}

#[test]
fn part_of_an_error_text_must_not_be_in_every_text() {
    let found = mistakes("", &[("ANSWERS__DEADLOCK", "Verklemmung, x")]);
    assert!(found.len() == 1 && found[0].contains("at least 4 characters"), "{found:?}");
    let loaded =
        load("", &[("ANSWERS__DEADLOCK", "Verklemmung, Zeit\u{fc}berschreitung")]).unwrap();
    assert_eq!(loaded.settings.answers.deadlock, ["Verklemmung", "Zeit\u{fc}berschreitung"]);
}

#[test]
fn quota_must_leave_every_pod_something() {
    let quota = |requests, pods| {
        mistakes("", &[("THROTTLE__QUOTA_REQUESTS", requests), ("THROTTLE__QUOTA_PODS", pods)])
    };
    assert_eq!(quota("39", "4").len(), 1);
    let share = |requests, pods| {
        let set = [("THROTTLE__QUOTA_REQUESTS", requests), ("THROTTLE__QUOTA_PODS", pods)];
        load("", &set).unwrap().settings.throttle.quota_share()
    };
    assert_eq!((share("0", "4"), share("6000", "4")), (None, Some(1_500.0)));
}

#[test]
fn rule_between_keys_is_not_judged_where_one_of_them_is_wrong() {
    let variables = [("RETRY__FAILURES__WAIT_MIN", "9s"), ("RETRY__FAILURES__WAIT_MAX", "soon")];
    let found = mistakes("", &variables);
    assert!(found.len() == 1 && found[0].starts_with("retry.failures.wait_max = \"soon\""));
}

#[test]
fn waits_double_up_to_the_longest() {
    let waits = |retries_max, wait_min: u64, wait_max| {
        let (wait_min, wait_max) = (Duration::from_secs(wait_min), Duration::from_secs(wait_max));
        Retries { retries_max, wait_min, wait_max }.waits_total(0.0).as_secs()
    };
    assert_eq!(waits(0, 1, 4), 0);
    assert_eq!(waits(2, 1, 4), 1 + 2);
    assert_eq!(waits(5, 1, 5), 1 + 2 + 4 + 5 + 5);
    assert_eq!(waits(u32::MAX, 0, 4), 0);
    assert_eq!(waits(u32::MAX, 1, 1), u64::from(u32::MAX));
}

#[test]
fn listener_for_actions_has_a_token_and_an_address_of_its_own() {
    let listen = ("ADMIN__ACTIONS__LISTEN", "127.0.0.1:9465");
    let token = ("ADMIN__ACTIONS__TOKEN", "0123456789abcdef");
    assert!(load("", &[listen, token]).is_ok());
    assert!(load("", &[token]).is_ok(), "a token that waits for its listener");
    for (name, settings, rule) in [
        ("without a token", vec![listen], "no such listener without a token"),
        ("a short one", vec![listen, (token.0, "0123456789abcde")], "must be 16 to 1024 printable"),
        ("a space", vec![listen, (token.0, "0123456789 abcdef")], "must be 16 to 1024 printable"),
        ("no address", vec![(listen.0, "9465"), token], "must be empty, or an IP address"),
        ("that of looking", vec![(listen.0, "127.0.0.1:9464"), token], "must be two addresses"),
    ] {
        let found = mistakes("", &settings);
        assert!(found.len() == 1 && found[0].contains(rule), "{name}: {found:?}");
        assert!(!found[0].contains("abcde"), "{name}: {found:?}");
    }
}

#[test]
fn updates_that_are_written_as_one_are_never_dead_lettered_for_their_own_write() {
    let toml = "[dispatch]\ncoalesce = \"merge\"\n[guard]\nsuperseded = \"dead_letter\"";
    let found = mistakes(toml, &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("cannot be merge and dead_letter at once"), "{found:?}");
}
