//! One source of settings, flattened: which keys it gives, and where.

use std::collections::BTreeMap;
use std::path::Path;

use config::{FileFormat, Source};
use serde_json::{Map, Number, Value};

use super::catalogue::{self, Kind};
use super::mistake::{Mistake, Origin, Place};
use super::{bounded, suggestion};

/// What every variable of ours begins with. The double underscore separates sections, too.
pub(crate) const PREFIX: &str = "ORDERWRIGHT__";

/// Largest configuration file, in bytes. The reference, comments included, has a fiftieth of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A value as one source gives it. No `Debug`: it may be a secret.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// What one source gives, by dotted key. A secret's file is under the key with `_file`.
#[derive(Default)]
pub(super) struct Layer {
    pub(super) given: BTreeMap<String, Given>,
    pub(super) mistakes: Vec<Mistake>,
}

impl Layer {
    /// Reads a TOML file. One that cannot be read or parsed is one mistake and gives nothing.
    pub(super) fn file(path: &Path) -> Self {
        let mut layer = Self::default();
        let origin = Origin::File(path.to_owned());
        match parse(path) {
            Ok(table) => layer.descend("", &table, &origin),
            Err(rule) => {
                let place = Place { key: None, origin, given: None };
                layer.mistakes.push(Mistake { places: vec![place], rule });
            }
        }
        layer
    }

    /// Takes the variables that begin with [`PREFIX`]; all others belong to somebody else.
    pub(super) fn environment(variables: &BTreeMap<String, String>) -> Self {
        let mut layer = Self::default();
        for (variable, text) in variables {
            let Some(name) = variable.strip_prefix(PREFIX) else { continue };
            let path = name.to_lowercase().replace("__", ".");
            let origin = Origin::Environment(variable.clone());
            if text.contains(char::REPLACEMENT_CHARACTER) {
                layer.refuse(&path, origin, "must be UTF-8 text");
            } else if let Some(key) = catalogue::key(&path) {
                layer.given.insert(path, Given { value: typed(&key.kind, text), origin });
            } else {
                layer.insert(&path, Value::String(text.clone()), origin);
            }
        }
        layer
    }

    fn descend(&mut self, parent: &str, table: &Map<String, Value>, origin: &Origin) {
        for (name, value) in table {
            // A quoted name may hold a dot, which must not look like a path.
            let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            let name = if name.bytes().all(bare) { name.clone() } else { format!("{name:?}") };
            let path = if parent.is_empty() { name } else { format!("{parent}.{name}") };
            if let Some(table) = value.as_object().filter(|_| catalogue::is_section(&path)) {
                self.descend(&path, table, origin);
            } else {
                self.insert(&path, value.clone(), origin.clone());
            }
        }
    }

    /// Takes a value whose key is known, and refuses any other.
    fn insert(&mut self, path: &str, value: Value, origin: Origin) {
        let secret_file = path.strip_suffix("_file").and_then(catalogue::key);
        if let Some(key) = catalogue::key(path) {
            // JSON has no such number, and null would pass for "not given".
            if value.is_null() {
                self.refuse(path, origin, format!("must be {}", key.expected()));
            } else {
                self.given.insert(path.to_owned(), Given { value, origin });
            }
        } else if secret_file.is_some_and(|key| key.secret) {
            self.given.insert(path.to_owned(), Given { value, origin });
        } else if catalogue::is_section(path) {
            self.refuse(path, origin, "is a section, not a key");
        } else {
            let spelt = |known: String| match origin {
                Origin::Environment(_) => variable(&known),
                Origin::Default | Origin::Profile(_) | Origin::File(_) | Origin::SecretFile(_) => {
                    known
                }
            };
            let hint = suggestion::closest(path)
                .map(|known| format!(", did you mean {}?", spelt(known)))
                .unwrap_or_default();
            self.refuse(path, origin, format!("there is no such key{hint}"));
        }
    }

    /// Notes a mistake without the value: it may be a secret under a misspelt key.
    fn refuse(&mut self, path: &str, origin: Origin, rule: impl Into<String>) {
        let place = Place { key: Some(path.to_owned()), origin, given: None };
        self.mistakes.push(Mistake { places: vec![place], rule: rule.into() });
    }
}

/// The environment variable of a key.
pub(crate) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.to_uppercase().replace('.', "__"))
}

fn parse(path: &Path) -> Result<Map<String, Value>, String> {
    let text = bounded::read(path, FILE_BYTES_MAX)?;
    let parsed = config::File::from_str(&text, FileFormat::Toml)
        .collect()
        .and_then(|table| config::Value::from(table).try_deserialize());
    parsed.map_err(|error| format!("cannot be parsed: {}", without_source(&error.to_string())))
}

/// A parser's message without the line that it quotes, which may hold a secret: the position and
/// what was expected, which are its first and last line.
fn without_source(message: &str) -> String {
    let mut lines = message.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default();
    match lines.next_back() {
        Some(last) if !last.contains('|') => format!("{first}: {last}"),
        _ => first.to_owned(),
    }
}

/// Gives text from the environment the type of its key. What does not fit stays text, so that the
/// type's own rule refuses it.
fn typed(kind: &Kind, text: &str) -> Value {
    let value = match kind {
        Kind::Whole => text.trim().parse().ok().map(|whole: u64| Value::Number(whole.into())),
        Kind::Number => text.trim().parse().ok().and_then(Number::from_f64).map(Value::Number),
        Kind::Flag => text.trim().parse().ok().map(Value::Bool),
        // Not guessed from the text: `007` is a password, not seven.
        Kind::Text | Kind::Url | Kind::Duration | Kind::List | Kind::Choice(_) => None,
    };
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}
