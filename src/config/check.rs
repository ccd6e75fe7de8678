//! The rules of single values and between values. Every finding, not only the first.

use std::collections::BTreeSet;
use std::time::Duration;

use humantime::format_duration as text;
use lapin::uri::AMQPUri;
use secrecy::ExposeSecret;
use tracing_subscriber::EnvFilter;
use url::Url;

use super::{MEMORY_BYTES_MAX, SecretUrl, Settings, catalogue};

mod admin;
mod auth;
mod guards;
mod intake;

/// Longest bearer token, in bytes. HTTP servers refuse larger headers.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// A rule that is broken, and the keys that break it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) keys: Vec<&'static str>,
    pub(super) rule: String,
}

impl Settings {
    /// Everything that is wrong with these settings. Says rules, never a secret.
    pub(super) fn check(&self) -> Vec<Finding> {
        let mut findings = bounds(self);
        findings.extend(texts(self));
        findings.extend(identifiers(self));
        findings.extend(guards::findings(self));
        findings.extend(intake::findings(self));
        findings.extend(addresses(self));
        findings.extend(auth::findings(self));
        findings.extend(admin::findings(self));
        findings.extend(answers(self));
        findings.extend(waits(self));
        findings.extend(quota(self));
        findings.extend(memory(self));
        findings.extend(hold(self));
        findings
    }
}

fn finding(key: &'static str, rule: impl Into<String>) -> Finding {
    Finding { keys: vec![key], rule: rule.into() }
}

fn bounds(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (key, (_, value)) in catalogue::keys().zip(catalogue::values(settings)) {
        if !key.allows(&value) {
            findings.push(finding(&key.path, format!("must be {}", key.expected())));
        }
    }
    findings
}

fn texts(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let prefix = &settings.topology.prefix;
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !(1..=64).contains(&prefix.len()) || !prefix.bytes().all(named) {
        findings.push(finding("topology.prefix", "must be 1 to 64 of A-Z a-z 0-9 . _ -"));
    }
    let name = &settings.instance.name;
    if name.len() > 64 || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        let rule = "must be at most 64 printable ASCII characters without spaces";
        findings.push(finding("instance.name", rule));
    }
    if let Some(rule) = level(&settings.log.level) {
        findings.push(finding("log.level", rule));
    }
    let token = settings.target.bearer_token.as_ref().map(ExposeSecret::expose_secret);
    let sent = |token: &str| {
        (1..=TOKEN_BYTES_MAX).contains(&token.len())
            && token.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if token.is_some_and(|token| !sent(token)) {
        let rule = "must be 1 to 16384 printable ASCII characters without spaces";
        findings.push(finding("target.bearer_token", rule));
    }
    if settings.broker.heartbeat.subsec_nanos() != 0 {
        findings.push(finding("broker.heartbeat", "must be whole seconds: AMQP counts it so"));
    }
    findings
}

/// What is wrong with a filter. The parser takes a lone word that is no level for a module's name,
/// so that `inof` would silence everything else: refused here.
pub(crate) fn level(directives: &str) -> Option<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    if let Err(error) = EnvFilter::try_new(directives) {
        return Some(format!("must be a log filter: {error}"));
    }
    let lone = |word: &&str| !word.contains(['=', '[', ']', '}']);
    let mut lone = directives.split(',').map(str::trim).filter(lone);
    lone.find(|word| !LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word)))
        .map(|_| format!("must be one of {}, or such per module: module=level", LEVELS.join(", ")))
}

/// What [`identifier`] asks for, in words.
const IDENTIFIER: &str = "a letter or _, then letters, digits and _, at most 128";

fn identifiers(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let order = &settings.order;
    if !identifier(&order.entity_set) {
        findings.push(finding("order.entity_set", format!("must be {IDENTIFIER}")));
    }
    let parts =
        [("order.key_fold_case", &order.key_fold_case), ("order.key_guid", &order.key_guid)];
    for (key, names) in [("order.key", &order.key)].into_iter().chain(parts) {
        if !names.iter().all(|name| identifier(name)) {
            findings.push(finding(key, format!("must be names of properties: each {IDENTIFIER}")));
        }
        if names.iter().collect::<BTreeSet<_>>().len() < names.len() {
            findings.push(finding(key, "must not name a property twice"));
        }
    }
    for (part, names) in parts {
        if !names.iter().all(|name| order.key.contains(name)) {
            let rule = "the first may name only what the second names, spelt alike".to_owned();
            findings.push(Finding { keys: vec![part, "order.key"], rule });
        }
    }
    findings
}

/// Whether a name is what OData calls a simple identifier, in ASCII.
fn identifier(name: &str) -> bool {
    let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.len() <= 128
        && name.bytes().next().is_some_and(begins)
        && name.bytes().all(|byte| begins(byte) || byte.is_ascii_digit())
}

fn addresses(settings: &Settings) -> Vec<Finding> {
    let broker = broker_rule(&settings.broker.url).map(|rule| finding("broker.url", rule));
    let target = root_rule(&settings.target.url).map(|rule| finding("target.url", rule));
    let authority = &settings.target.auth.authority;
    let authority = root_rule(authority).map(|rule| finding("target.auth.authority", rule));
    let otlp = otlp_rule(&settings.otlp.endpoint).map(|rule| finding("otlp.endpoint", rule));
    let management = settings.broker.management_url.as_ref().and_then(management_rule);
    let management = management.map(|rule| finding("broker.management_url", rule));
    broker.into_iter().chain(management).chain(target).chain(authority).chain(otlp).collect()
}

fn otlp_rule(endpoint: &str) -> Option<&'static str> {
    if endpoint.is_empty() {
        return None;
    }
    match Url::parse(endpoint) {
        Ok(url) if ["http", "https"].contains(&url.scheme()) => {
            let is_bare = url.username().is_empty() && url.password().is_none();
            let is_root = is_bare && url.query().is_none() && url.fragment().is_none();
            (!is_root).then_some("must hold no user, password, query or fragment")
        }
        Ok(_) | Err(_) => Some("must be empty, or an address such as http://collector:4318"),
    }
}

/// The rule that an address breaks which paths are added to.
fn root_rule(url: &Url) -> Option<&'static str> {
    if !["http", "https"].contains(&url.scheme()) {
        Some("must begin with http:// or https://")
    } else if !url.username().is_empty() || url.password().is_some() {
        Some("must not hold a user or password: see target.auth")
    } else if url.query().is_some() || url.fragment().is_some() {
        Some("must not hold a query or fragment: it is the root that paths are added to")
    } else {
        None
    }
}

/// The rule that the management API's address breaks; strict for the same reason as below.
fn management_rule(url: &SecretUrl) -> Option<&'static str> {
    let parts = url.parts();
    if !["http", "https"].contains(&parts.scheme()) {
        Some("must begin with http:// or https://")
    } else if parts.query().is_some() || parts.fragment().is_some() || parts.path().contains('@') {
        Some("must percent-encode / ? # @ in user and password, and hold no query or fragment")
    } else if parts.path().trim_end_matches('/').ends_with("/api") {
        Some("must be the root of the management API: what stands before /api")
    } else {
        None
    }
}

/// The rule that the broker's address breaks. A character of a password that is not escaped ends
/// the password early and puts the rest where it would show, so the parts are judged strictly.
fn broker_rule(url: &SecretUrl) -> Option<&'static str> {
    let parts = url.parts();
    let vhost = parts.path().strip_prefix('/');
    if !["amqp", "amqps"].contains(&parts.scheme()) {
        Some("must begin with amqp:// or amqps://")
    } else if parts.scheme() == "amqps" && !cfg!(feature = "amqps") {
        Some("must begin with amqp://, since this program is built without TLS to the broker")
    } else if parts.host_str().is_none_or(str::is_empty) || parts.domain().is_none() {
        // The client library reads an IPv6 address as no host at all, and takes localhost.
        Some("must name a host, or its IPv4 address")
    } else if parts.fragment().is_some() || vhost.is_some_and(|vhost| vhost.contains(['/', '@'])) {
        Some("must percent-encode / ? # @ in user, password and virtual host")
    } else if parts.query_pairs().any(|(name, _)| name != "auth_mechanism") {
        Some("may have no query but auth_mechanism; percent-encode a ? that is meant")
    } else if vhost == Some("") {
        Some("must name the virtual host: the one named / is written /%2f")
    } else if url.expose().parse::<AMQPUri>().is_err() {
        Some("must be an AMQP address: amqp://user:password@host:port/vhost")
    } else {
        None
    }
}

fn waits(settings: &Settings) -> Vec<Finding> {
    let (broker, retry) = (&settings.broker, &settings.retry);
    let throttle = &settings.throttle;
    let pairs = [
        (
            ["throttle.told_wait_min", "throttle.told_wait_max"],
            (throttle.told_wait_min, throttle.told_wait_max),
        ),
        (
            ["throttle.untold_wait_min", "throttle.untold_wait_max"],
            (throttle.untold_wait_min, throttle.untold_wait_max),
        ),
        (
            ["broker.reconnect_wait_min", "broker.reconnect_wait_max"],
            (broker.reconnect_wait_min, broker.reconnect_wait_max),
        ),
        (
            ["retry.conflicts.wait_min", "retry.conflicts.wait_max"],
            (retry.conflicts.wait_min, retry.conflicts.wait_max),
        ),
        (
            ["retry.failures.wait_min", "retry.failures.wait_max"],
            (retry.failures.wait_min, retry.failures.wait_max),
        ),
        (
            ["retry.not_found.wait_min", "retry.not_found.wait_max"],
            (retry.not_found.wait_min, retry.not_found.wait_max),
        ),
    ];
    let wrong = pairs.into_iter().filter(|(_, (least, most))| least > most);
    let rule = || "the first must not be longer than the second".to_owned();
    wrong.map(|(keys, _)| Finding { keys: keys.to_vec(), rule: rule() }).collect()
}

/// A part that is in every text would make all trouble one.
fn answers(settings: &Settings) -> Vec<Finding> {
    let short = |part: &String| part.chars().count() < 4;
    let lists = settings.answers.lists().into_iter();
    let wrong = lists.filter(|(_, parts)| parts.iter().any(short));
    wrong.map(|(key, _)| finding(key, "must be texts of at least 4 characters each")).collect()
}

fn quota(settings: &Settings) -> Option<Finding> {
    let share = settings.throttle.quota_share()?;
    (share < 10.0).then(|| Finding {
        keys: vec!["throttle.quota_requests", "throttle.quota_pods"],
        rule: "the first must be 0, or at least ten times the second".to_owned(),
    })
}

fn memory(settings: &Settings) -> Option<Finding> {
    let bytes = settings.memory_max();
    (bytes > MEMORY_BYTES_MAX).then(|| Finding {
        keys: vec!["broker.prefetch", "topology.shards", "order.body_bytes_max"],
        rule: format!(
            "multiplied, they allow {bytes} bytes of bodies in memory, and {MEMORY_BYTES_MAX} is \
             the most: lower one"
        ),
    })
}

fn hold(settings: &Settings) -> Option<Finding> {
    let (held, half) = (settings.hold_max(), settings.broker.consumer_timeout / 2);
    let attempts = settings.attempts_max();
    let requests = settings.target.get_timeout.saturating_add(settings.target.patch_timeout);
    let company = settings.target.batch.wait_max().saturating_mul(2);
    let requests = requests.saturating_add(company);
    let looks = settings.target.get_timeout.saturating_mul(2);
    let requests = requests.saturating_mul(attempts).saturating_add(looks);
    (held >= half).then(|| Finding {
        keys: vec![
            "retry.conflicts.retries_max",
            "retry.failures.retries_max",
            "retry.not_found.retries_max",
            "target.get_timeout",
            "target.patch_timeout",
            "retry.conflicts.wait_min",
            "retry.conflicts.wait_max",
            "retry.failures.wait_min",
            "retry.failures.wait_max",
            "retry.not_found.wait_min",
            "retry.not_found.wait_max",
            "retry.jitter",
            "broker.consumer_timeout",
        ],
        rule: format!(
            "one delivery could be held for {}: {attempts} attempts, each a GET and a PATCH, may \
             take {}, and the waits {}; it must stay below {}, half of broker.consumer_timeout: \
             lower retries_max, target.patch_timeout, target.get_timeout or the waits",
            text(seconds(held)),
            text(seconds(requests)),
            text(seconds(held.saturating_sub(requests))),
            text(half),
        ),
    })
}

/// Without the fraction, which no reader needs, rounded up so that the sum still exceeds its limit.
fn seconds(duration: Duration) -> Duration {
    let up = u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(duration.as_secs().saturating_add(up))
}
