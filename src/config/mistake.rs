//! What is wrong with a configuration: all of it, each mistake on one line.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum Origin {
    /// Nobody gave it.
    Default,
    /// Nobody gave it; the profile of this name has a default of its own.
    Profile(String),
    /// The configuration file of this path.
    File(PathBuf),
    /// The environment variable of this name.
    Environment(String),
    /// The file of this path, which holds the secret and nothing else.
    SecretFile(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Profile(name) => write!(f, "profile {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::SecretFile(path) => write!(f, "secret file {}", path.display()),
        }
    }
}

/// A value that has part in a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The dotted key. `None` where the whole file is at fault.
    pub key: Option<String>,
    /// Where the value was given.
    pub origin: Origin,
    /// The value as given. `None` for a secret, and for an unknown key, which may be a secret
    /// misspelt.
    pub given: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.key, &self.given) {
            (None, _) => self.origin.fmt(f),
            (Some(key), None) => write!(f, "{key} ({})", self.origin),
            (Some(key), Some(given)) => write!(f, "{key} = {given} ({})", self.origin),
        }
    }
}

/// One rule that is broken, and the values that break it together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// At least one. Several where a rule holds between keys.
    pub places: Vec<Place>,
    /// The rule, as a part of a sentence that begins with the key.
    pub rule: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, place) in self.places.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{place}")?;
        }
        write!(f, ": {}", self.rule)
    }
}

/// Every mistake of a configuration. The process must not start: exit code 78.
///
/// `Display` writes one line each and no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    mistakes: Vec<Mistake>,
}

impl Errors {
    pub(super) fn new(mistakes: Vec<Mistake>) -> Self {
        Self { mistakes }
    }

    /// The mistakes: at least one.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

impl std::error::Error for Errors {}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{mistake}")?;
        }
        Ok(())
    }
}
