//! The rules of the sign-in: what each kind needs, and what would be given to no use.

use secrecy::ExposeSecret;

use super::{Finding, finding};
use crate::config::{AuthKind, Settings};

const KIND: &str = "target.auth.kind";
const BEARER_TOKEN: &str = "target.bearer_token";
const TENANT: &str = "target.auth.tenant";
const CLIENT_ID: &str = "target.auth.client_id";
const SECRET: &str = "target.auth.client_secret";
const FILE: &str = "target.auth.federated_token_file";
const SCOPE: &str = "target.auth.scope";

/// Longest secret, in bytes. Entra's have 40 characters.
const SECRET_BYTES_MAX: usize = 4096;

pub(super) fn findings(settings: &Settings) -> Vec<Finding> {
    let mut findings = texts(settings);
    findings.extend(kinds(settings));
    let target = &settings.target;
    if target.auth.kind != AuthKind::Bearer && target.auth.timeout > target.get_timeout {
        findings.push(Finding {
            keys: vec!["target.auth.timeout", "target.get_timeout"],
            rule: "the first must not be longer than the second: a GET waits for its token"
                .to_owned(),
        });
    }
    findings
}

fn texts(settings: &Settings) -> Vec<Finding> {
    let auth = &settings.target.auth;
    let mut findings = Vec::new();
    let in_path = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    // A path of dots would leave the authority's folder.
    let dots = !auth.tenant.is_empty() && auth.tenant.bytes().all(|byte| byte == b'.');
    if auth.tenant.len() > 128 || dots || !auth.tenant.bytes().all(in_path) {
        let rule = "must be at most 128 of A-Z a-z 0-9 . -: an identifier or a domain";
        findings.push(finding(TENANT, rule));
    }
    for (key, text, most) in [(CLIENT_ID, &auth.client_id, 128), (SCOPE, &auth.scope, 512)] {
        if text.len() > most || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let rule = format!("must be at most {most} printable ASCII characters without spaces");
            findings.push(finding(key, rule));
        }
    }
    let secret = auth.client_secret.as_ref().map(ExposeSecret::expose_secret);
    let is_well = |secret: &str| {
        (1..=SECRET_BYTES_MAX).contains(&secret.len()) && !secret.contains(char::is_control)
    };
    if secret.is_some_and(|secret| !is_well(secret)) {
        findings.push(finding(SECRET, "must be 1 to 4096 bytes without control characters"));
    }
    findings
}

/// What a kind needs and lacks, and what it has and would not look at: whoever gives a secret
/// wants it used, and has most likely forgotten to say so.
fn kinds(settings: &Settings) -> Vec<Finding> {
    let (target, auth) = (&settings.target, &settings.target.auth);
    let given = [
        (BEARER_TOKEN, target.bearer_token.is_some()),
        (TENANT, !auth.tenant.is_empty()),
        (CLIENT_ID, !auth.client_id.is_empty()),
        (SECRET, auth.client_secret.is_some()),
        (FILE, !auth.federated_token_file.is_empty()),
    ];
    let (name, needed, allowed): (_, &[&str], &[&str]) = match auth.kind {
        AuthKind::Bearer => ("bearer", &[], &[BEARER_TOKEN]),
        AuthKind::ClientSecret => ("client_secret", &[TENANT, CLIENT_ID, SECRET], &[]),
        AuthKind::WorkloadIdentity => ("workload_identity", &[TENANT, CLIENT_ID, FILE], &[]),
    };
    let mut findings = Vec::new();
    for (key, is_given) in given {
        let rule = if needed.contains(&key) {
            (!is_given).then(|| format!("the second is needed where the first is {name}"))
        } else {
            let rule = || format!("the second is not looked at where the first is {name}");
            (is_given && !allowed.contains(&key)).then(rule)
        };
        findings.extend(rule.map(|rule| Finding { keys: vec![KIND, key], rule }));
    }
    findings
}
