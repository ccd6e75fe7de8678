//! Lists that may be written as an array, or as text with commas where there are no arrays.

use serde::{Deserialize, Deserializer};

/// Either way of writing a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Array(Vec<String>),
    Text(String),
}

/// Takes an array of text, or one text separated by commas. Spaces around a comma do not count, and
/// empty text is the empty list.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(match Written::deserialize(deserializer)? {
        Written::Array(items) => items,
        Written::Text(text) if text.trim().is_empty() => Vec::new(),
        Written::Text(text) => text.split(',').map(|item| item.trim().to_owned()).collect(),
    })
}
