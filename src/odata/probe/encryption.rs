//! What stands in the way of a TLS connection, as its library words it. Pure.

use super::State;

/// Why there is no TLS connection, though the port is open.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    /// The step that it ends: `tls` before, `certificate` after the service has shown who it is.
    pub(super) step: &'static str,
    pub(super) state: State,
    /// What it is, in a few words.
    pub(super) what: &'static str,
    pub(super) hint: &'static str,
}

/// A word of the library, and what it means. The first that fits decides.
static KNOWN: [(&str, Obstacle); 13] = [
    (
        "certificate not valid for name",
        certificate(
            State::Wrong,
            "it is for other names",
            "is the name in target.url the service's own, and not an alias or an address?",
        ),
    ),
    (
        "certificate expired",
        certificate(
            State::Unavailable,
            "it has expired",
            "whoever runs the service must renew it, unless this machine's clock is wrong",
        ),
    ),
    (
        "certificate not valid yet",
        certificate(State::Wrong, "it is not valid yet", "is this machine's clock right?"),
    ),
    (
        "UnknownIssuer",
        certificate(
            State::Wrong,
            "nobody that this machine trusts has issued it",
            "a proxy that looks into TLS? Add its issuer to the certificates of this machine, or name \
             a file with it in SSL_CERT_FILE",
        ),
    ),
    (
        "Revoked",
        certificate(State::Unavailable, "it is revoked", "whoever runs the service must renew it"),
    ),
    (
        "invalid peer certificate",
        certificate(State::Wrong, "it is not to be trusted", "is target.url the service itself?"),
    ),
    (
        "InvalidContentType",
        handshake(
            State::Wrong,
            "it is not TLS that answers",
            "is the port in target.url the one for https?",
        ),
    ),
    (
        "ProtocolVersion",
        handshake(
            State::Wrong,
            "no version of TLS in common",
            "TLS 1.2 or 1.3 is needed: is something old on the way?",
        ),
    ),
    (
        "UnrecognisedName",
        handshake(
            State::Wrong,
            "the service does not know its name",
            "is the name in target.url the service's own?",
        ),
    ),
    (
        "NoApplicationProtocol",
        handshake(
            State::Wrong,
            "no version of HTTP in common",
            "does target.http_version fit the service?",
        ),
    ),
    (
        "fatal alert",
        handshake(
            State::Wrong,
            "the service refuses the handshake",
            "does it want a certificate of ours, or ciphers that are no longer safe?",
        ),
    ),
    (
        "peer is incompatible",
        handshake(
            State::Wrong,
            "no version or cipher of TLS in common",
            "TLS 1.2 or 1.3 is needed: is something old on the way?",
        ),
    ),
    (
        "timed out",
        handshake(
            State::Unavailable,
            "nobody answers the handshake in target.connect_timeout",
            "a firewall that lets connections through and nothing else?",
        ),
    ),
];

const fn certificate(state: State, what: &'static str, hint: &'static str) -> Obstacle {
    Obstacle { step: "certificate", state, what, hint }
}

const fn handshake(state: State, what: &'static str, hint: &'static str) -> Obstacle {
    Obstacle { step: "tls", state, what, hint }
}

impl Obstacle {
    /// Reads what the library says.
    pub(super) fn read(said: &str) -> &'static Self {
        const BROKEN: Obstacle = handshake(
            State::Unavailable,
            "the connection is cut during the handshake",
            "a firewall or a proxy on the way, or a service that is restarting",
        );
        KNOWN.iter().find(|(word, _)| said.contains(word)).map_or(&BROKEN, |(_, known)| known)
    }
}
