//! The rules of the admin listeners.

use std::net::SocketAddr;

use secrecy::ExposeSecret;

use super::{Finding, finding};
use crate::config::Settings;

const LISTEN: &str = "admin.listen";
const ACTIONS: &str = "admin.actions.listen";
const TOKEN: &str = "admin.actions.token";

pub(super) fn findings(settings: &Settings) -> Vec<Finding> {
    let admin = &settings.admin;
    let (listen, actions) = (&admin.listen, &admin.actions.listen);
    let mut findings = Vec::new();
    for (key, text, example) in
        [(LISTEN, listen, "0.0.0.0:9464"), (ACTIONS, actions, "127.0.0.1:9465")]
    {
        if !text.is_empty() && text.parse::<SocketAddr>().is_err() {
            let rule = format!("must be empty, or an IP address and a port, such as {example}");
            findings.push(finding(key, rule));
        }
    }
    if !actions.is_empty() && actions == listen && !actions.ends_with(":0") {
        findings.push(Finding {
            keys: vec![ACTIONS, LISTEN],
            rule: "must be two addresses: whoever may look must not be able to act".to_owned(),
        });
    }
    let token = admin.actions.token.as_ref().map(ExposeSecret::expose_secret);
    let is_fit = |token: &str| {
        (16..=1024).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match token {
        None if actions.is_empty() => {}
        None => findings.push(Finding {
            keys: vec![TOKEN, ACTIONS],
            rule: "there is no such listener without a token: set admin.actions.token or \
                   admin.actions.token_file"
                .to_owned(),
        }),
        Some(token) if is_fit(token) => {}
        Some(_) => {
            let rule = "must be 16 to 1024 printable ASCII characters without spaces";
            findings.push(finding(TOKEN, rule));
        }
    }
    findings
}
