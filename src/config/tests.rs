//! Loading, precedence, mistakes and secrets. The rules are tested in `tests/`.

mod rules;
mod secrets;
mod target;

use std::io::Write;

use secrecy::ExposeSecret;
use tempfile::NamedTempFile;

use super::*;

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn load(toml: &str, variables: &[(&str, &str)]) -> Result<Loaded, Errors> {
    let file = file(toml);
    let pair = |(name, value): &(&str, &str)| (format!("ORDERWRIGHT__{name}"), (*value).to_owned());
    let environment = variables.iter().map(pair).collect();
    Settings::load(&Sources { file: Some(file.path().to_owned()), environment })
}

/// All mistakes, with the temporary file's path as `FILE`.
fn mistakes(toml: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let errors = load(toml, variables).unwrap_err();
    let line = |mistake: &Mistake| {
        let text = mistake.to_string();
        let path = mistake.places.iter().find_map(|place| match &place.origin {
            Origin::File(path) => Some(path.display().to_string()),
            Origin::Default
            | Origin::Profile(_)
            | Origin::Environment(_)
            | Origin::SecretFile(_) => None,
        });
        path.map_or(text.clone(), |path| text.replace(&path, "FILE"))
    };
    errors.mistakes().iter().map(line).collect()
}

#[test]
fn defaults_are_valid_and_need_no_source() {
    let loaded = Settings::load(&Sources::default()).unwrap();
    assert!(loaded.origins.is_empty());
    assert_eq!(loaded.settings.broker.url.expose(), "amqp://guest:guest@127.0.0.1:5672/%2f");
    assert_eq!(loaded.settings.target.url.as_str(), "http://127.0.0.1:8090/data");
}

#[test]
fn later_source_wins_key_by_key() {
    let toml = "[broker]\nprefetch = 8\nheartbeat = \"20s\"\n[retry.failures]\nretries_max = 1";
    let loaded = load(toml, &[("BROKER__PREFETCH", "9")]).unwrap();
    assert_eq!(loaded.settings.broker.prefetch, 9);
    assert_eq!(loaded.settings.broker.heartbeat, Duration::from_secs(20));
    assert_eq!(loaded.settings.retry.failures.retries_max, 1);
    assert_eq!(loaded.settings.retry.conflicts.retries_max, 3);
    let variable = Origin::Environment("ORDERWRIGHT__BROKER__PREFETCH".to_owned());
    assert_eq!(loaded.origin("broker.prefetch"), &variable);
    assert!(matches!(loaded.origin("broker.heartbeat"), Origin::File(_)));
    assert_eq!(loaded.origin("topology.shards"), &Origin::Default);
}

#[test]
fn text_of_the_environment_takes_the_type_of_its_key() {
    let loaded = load(
        "",
        &[
            ("TOPOLOGY__SHARDS", "16"),
            ("TOPOLOGY__DECLARE", "false"),
            ("RETRY__JITTER", "0.5"),
            ("RETRY__CONFLICTS__WAIT_MIN", "250ms"),
            ("ORDER__KEY", "company, number"),
            ("ORDER__KEY_FOLD_CASE", ""),
            ("LOG__FORMAT", "json"),
            ("TARGET__URL", "https://contoso.operations.dynamics.com/data/"),
        ],
    );
    let settings = loaded.unwrap().settings;
    assert_eq!(settings.topology.shards, 16);
    assert!(!settings.topology.declare);
    assert!((settings.retry.jitter - 0.5).abs() < f64::EPSILON);
    assert_eq!(settings.retry.conflicts.wait_min, Duration::from_millis(250));
    assert_eq!(settings.order.key, ["company", "number"]);
    assert_eq!(settings.order.key_fold_case, Vec::<String>::new());
    assert_eq!(settings.log.format, LogFormat::Json);
}

#[test]
fn digits_stay_text_where_text_is_meant() {
    let loaded = load(
        "",
        &[
            ("BROKER__URL", "amqp://007:007@rabbit/007"),
            ("TARGET__BEARER_TOKEN", "007"),
            ("INSTANCE__NAME", "007"),
            ("TOPOLOGY__PREFIX", "1e3"),
        ],
    );
    let settings = loaded.unwrap().settings;
    assert_eq!(settings.broker.url.expose(), "amqp://007:007@rabbit/007");
    assert_eq!(settings.target.bearer_token.unwrap().expose_secret(), "007");
    assert_eq!((&*settings.instance.name, &*settings.topology.prefix), ("007", "1e3"));
}

#[test]
fn variables_of_others_are_not_looked_at() {
    let environment = [("ORDERWRIGHT_CONFIG", "x"), ("PATH", "x"), ("ORDERWRIGHT", "x")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert!(Settings::load(&Sources { file: None, environment }).is_ok());
}

#[test]
fn misspelt_keys_are_refused_with_the_likely_one() {
    let toml = "[broker]\nprefetchh = 1\n[brokr]\nurl = 1\n[weather]\nrain = true";
    assert_eq!(
        mistakes(toml, &[("TARGET__BEARER_TOKN", "hush"), ("RETRY__CONFLICTS", "3")]),
        [
            "broker.prefetchh (file FILE): there is no such key, did you mean broker.prefetch?",
            "brokr (file FILE): there is no such key, did you mean broker?",
            "weather (file FILE): there is no such key",
            "retry.conflicts (environment variable ORDERWRIGHT__RETRY__CONFLICTS): is a section, \
             not a key",
            "target.bearer_tokn (environment variable ORDERWRIGHT__TARGET__BEARER_TOKN): there is \
             no such key, did you mean ORDERWRIGHT__TARGET__BEARER_TOKEN?",
        ]
    );
}

#[test]
fn quoted_dot_is_no_way_into_a_section() {
    let found = mistakes("\"broker.prefetch\" = 3\n[broker.url]\nx = 1", &[]);
    assert_eq!(
        found[0],
        "\"broker.prefetch\" (file FILE): there is no such key, did you mean \
        broker.prefetch?"
    );
    assert_eq!(found[1], "broker.url (file FILE): must be a URL");
}

#[test]
fn all_mistakes_of_all_sources_are_reported_at_once() {
    let toml = "
        [broker]
        prefetch = 3.7
        heartbeat = 10
        [topology]
        shards = 70000
        declare = \"yes\"
        [retry]
        jitter = nan
        [order]
        nesting_max = 1
        key = [1]";
    let variables = [("DRAIN__GRACE", "10"), ("LOG__FORMAT", "xml"), ("ORDER__ENTITY_SET", "a b")];
    let mut found = mistakes(toml, &variables);
    found.sort();
    assert_eq!(
        found,
        [
            "broker.heartbeat = 10 (file FILE): must be a duration from 5s to 60s, such as \"10s\"",
            "broker.prefetch = 3.7 (file FILE): must be a whole number from 1 to 1024",
            "drain.grace = \"10\" (environment variable ORDERWRIGHT__DRAIN__GRACE): must be a \
             duration from 1s to 10m, such as \"20s\"",
            "log.format = \"xml\" (environment variable ORDERWRIGHT__LOG__FORMAT): must be one of \
             auto, json, human",
            "order.entity_set = \"a b\" (environment variable ORDERWRIGHT__ORDER__ENTITY_SET): \
             must be a letter or _, then letters, digits and _, at most 128",
            "order.key = [1] (file FILE): must be a list of text with 1 to 8 items",
            "order.nesting_max = 1 (file FILE): must be a whole number from 2 to 64",
            "retry.jitter (file FILE): must be a number from 0.0 to 0.5",
            "topology.declare = \"yes\" (file FILE): must be true or false",
            "topology.shards = 70000 (file FILE): must be a whole number from 1 to 1024",
        ]
    );
}

#[test]
fn file_that_does_not_parse_is_a_mistake_beside_the_others() {
    let found = mistakes("[broker]\nprefetch = \n", &[("DRAIN__GRACE", "0s")]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("file FILE: cannot be parsed: TOML parse error at line 2"));
    assert!(found[1].starts_with("drain.grace = \"0s\" "));
}

#[test]
fn oversized_file_is_refused() {
    let found = mistakes(&"# filler\n".repeat(120_000), &[]);
    assert_eq!(found, ["file FILE: is larger than 1048576 bytes"]);
}

/// Every setting that has a default, as JSON.
const DEFAULTS: &[(&str, &str)] = &[
    ("broker.management_url", "null"),
    ("broker.heartbeat", "\"10s\""),
    ("broker.connect_timeout", "\"10s\""),
    ("broker.start_timeout", "\"1m\""),
    ("broker.reconnect_wait_min", "\"500ms\""),
    ("broker.reconnect_wait_max", "\"30s\""),
    ("broker.publish_timeout", "\"15s\""),
    ("broker.prefetch", "32"),
    ("broker.consumer_timeout", "\"30m\""),
    ("broker.notices_max", "1024"),
    ("topology.prefix", "\"orderwright\""),
    ("topology.shards", "64"),
    ("topology.intake", "[]"),
    ("topology.intake_unordered", "[]"),
    ("topology.declare", "true"),
    ("topology.check_interval", "\"5m\""),
    ("topology.delivery_limit", "100"),
    ("topology.journal_age_max", "\"10years\""),
    ("topology.journal_bytes_max", "1000000000"),
    ("order.entity_set", "\"SalesOrderHeadersV2\""),
    ("order.key", "[\"dataAreaId\",\"SalesOrderNumber\"]"),
    ("order.key_fold_case", "[\"dataAreaId\"]"),
    ("order.key_guid", "[]"),
    ("order.body_bytes_max", "65536"),
    ("order.nesting_max", "16"),
    ("target.profile", "\"fo\""),
    ("target.cross_company", "true"),
    ("target.prefer_minimal", "true"),
    ("target.select", "true"),
    ("target.csrf", "false"),
    ("target.bearer_token", "null"),
    ("target.http_version", "\"http1\""),
    ("target.connect_timeout", "\"5s\""),
    ("target.get_timeout", "\"30s\""),
    ("target.patch_timeout", "\"1m\""),
    ("target.body_bytes_max", "4194304"),
    ("target.pool_idle_timeout", "\"55s\""),
    ("target.pool_idle_max", "64"),
    ("target.batch.mode", "\"off\""),
    ("target.batch.operations_max", "50"),
    ("target.batch.requests_max", "52"),
    ("target.batch.wait", "\"20ms\""),
    ("target.batch.body_bytes_max", "16777216"),
    ("target.batch.refused_for", "\"10m\""),
    ("target.batch.counts_as", "\"request\""),
    ("target.auth.kind", "\"bearer\""),
    ("target.auth.tenant", "\"\""),
    ("target.auth.client_id", "\"\""),
    ("target.auth.client_secret", "null"),
    ("target.auth.federated_token_file", "\"\""),
    ("target.auth.endpoint", "\"v2\""),
    ("target.auth.scope", "\"\""),
    ("target.auth.timeout", "\"10s\""),
    ("target.auth.renew_ahead", "\"5m\""),
    ("guard.sequence_property", "\"\""),
    ("guard.superseded", "\"settle\""),
    ("guard.transitions", "[]"),
    ("retry.jitter", "0.2"),
    ("retry.conflicts.retries_max", "3"),
    ("retry.conflicts.wait_min", "\"1s\""),
    ("retry.conflicts.wait_max", "\"4s\""),
    ("retry.failures.retries_max", "3"),
    ("retry.failures.wait_min", "\"1s\""),
    ("retry.failures.wait_max", "\"4s\""),
    ("retry.not_found.retries_max", "0"),
    ("retry.not_found.wait_min", "\"1s\""),
    ("retry.not_found.wait_max", "\"4s\""),
    ("throttle.told_wait_min", "\"1s\""),
    ("throttle.told_wait_max", "\"10m\""),
    ("throttle.untold_wait_min", "\"10s\""),
    ("throttle.untold_wait_max", "\"3m\""),
    ("throttle.quota_requests", "0"),
    ("throttle.quota_window", "\"5m\""),
    ("throttle.quota_pods", "1"),
    ("breaker.orders_min", "3"),
    ("breaker.silence_min", "\"1s\""),
    ("breaker.probe_interval", "\"5s\""),
    (
        "answers.update_conflict",
        "[\"update conflict occurred\",\"UpdateConflict\",\"Request_EntityChanged\"]",
    ),
    ("answers.deadlock", "[\"deadlock\",\"timeout expired\"]"),
    ("answers.business_rule", "[\"AxODataWriteException\"]"),
    (
        "answers.wrong_address",
        "[\"Resource not found for the segment\",\"No HTTP resource was found\"]",
    ),
    ("dispatch.concurrency_max", "52"),
    ("dispatch.settle_window", "\"5s\""),
    ("dispatch.coalesce", "\"off\""),
    ("balance.enabled", "true"),
    ("balance.interval", "\"2s\""),
    ("balance.watch_interval", "\"30s\""),
    ("dead_letter.on_dead_letter", "\"continue\""),
    ("dead_letter.parked_orders_max", "10000"),
    ("dead_letter.publish_retries_max", "30"),
    ("dead_letter.attempts_bytes_max", "16384"),
    ("dead_letter.detail_bytes_max", "2048"),
    ("dead_letter.archive_retention", "\"30days\""),
    ("drain.grace", "\"20s\""),
    ("admin.listen", "\"127.0.0.1:9464\""),
    ("admin.show_orders", "true"),
    ("admin.actions.listen", "\"\""),
    ("admin.actions.token", "null"),
    ("log.level", "\"info\""),
    ("log.format", "\"auto\""),
    ("otlp.endpoint", "\"\""),
    ("otlp.sample_ratio", "0.1"),
    ("otlp.metrics", "true"),
    ("otlp.metrics_interval", "\"30s\""),
    ("otlp.timeout", "\"2s\""),
    ("instance.name", "\"\""),
];

#[test]
fn documented_defaults_are_the_defaults() {
    let urls = ["broker.url", "target.url", "target.auth.authority"];
    let values = catalogue::values(&Settings::default());
    let found = values.iter().filter(|(key, _)| !urls.contains(&key.as_str()));
    let found: Vec<_> = found.map(|(key, value)| (key.as_str(), value.to_string())).collect();
    let expected: Vec<_> =
        DEFAULTS.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    assert_eq!(found, expected);
}
