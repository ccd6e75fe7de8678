//! Secrets that do not show: the broker's address, and masks for what is serialised.

use std::fmt;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use url::Url;

/// What stands in for a secret. Fixed, so that not even its length shows.
pub(super) const MASK: &str = "***";

/// An address that may hold a password. `Debug`, `Display` and `Serialize` hide the password and
/// show the rest, which is needed to see where a process connects to.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(Url);

impl SecretUrl {
    /// A broker on this machine, as a fresh installation of RabbitMQ answers.
    pub(super) const DEFAULT: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";

    /// The address with its password. For the connection only: never log it.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }

    /// The address in parts, password included.
    pub(crate) fn parts(&self) -> &Url {
        &self.0
    }
}

impl Default for SecretUrl {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "a constant, and every test loads it")]
        Self(Url::parse(Self::DEFAULT).expect("a constant URL"))
    }
}

impl std::str::FromStr for SecretUrl {
    type Err = url::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Url::parse(text).map(Self)
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.0))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The parser's error holds no text, unlike the one of the url crate's own Deserialize.
        text.parse().map_err(|error: url::ParseError| de::Error::custom(error))
    }
}

/// An address without its password.
fn masked(url: &Url) -> String {
    let mut shown = url.clone();
    if shown.password().is_some() && shown.set_password(Some(MASK)).is_err() {
        return MASK.to_owned();
    }
    shown.into()
}

/// Serialises an address that should hold no password, but may until it is checked.
pub(super) fn masked_url<S: Serializer>(url: &Url, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&masked(url))
}

/// Serialises whether there is a secret, never the secret.
#[expect(clippy::ref_option, reason = "the signature that serde calls")]
pub(super) fn masked_text<S: Serializer>(
    secret: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| MASK).serialize(serializer)
}
