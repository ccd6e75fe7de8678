//! A body as a tree that keeps the text of its values, digit for digit: what is changed in it, by place. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Lines of a difference that are kept.
const LINES_MAX: usize = 200;

/// Characters of one value in a difference.
const VALUE_CHARACTERS_MAX: usize = 200;

/// Why a place cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The body is no JSON.
    #[error("the body is not JSON: give a whole one")]
    Json(#[from] serde_json::Error),
    /// Nothing is there, or it is none that holds anything.
    #[error("there is no place {path:?} in the body")]
    Place {
        /// Where it ends.
        path: String,
    },
}

/// A JSON text.
#[derive(Debug, Clone)]
pub struct Body(Node);

#[derive(Debug, Clone)]
enum Node {
    Object(Vec<(String, Node)>),
    Array(Vec<Node>),
    Value(Box<RawValue>),
}

/// What is to be done at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Put this there: JSON, or a text without its quotes.
    Set(String),
    /// Take away what is there.
    Remove,
}

impl Body {
    /// Reads a body.
    ///
    /// # Errors
    /// [`Error::Json`].
    pub fn read(body: &[u8]) -> Result<Self, Error> {
        let raw: Box<RawValue> = serde_json::from_slice(body)?;
        Ok(Self(node(&raw)?))
    }

    /// Changes one place, named by a JSON pointer (RFC 6901). What holds it must be there.
    ///
    /// # Errors
    /// [`Error::Place`].
    pub fn change(&mut self, path: &str, change: &Change) -> Result<(), Error> {
        let nowhere = || Error::Place { path: path.to_owned() };
        let tokens = path.strip_prefix('/').ok_or_else(nowhere)?.split('/');
        let mut tokens: Vec<String> =
            tokens.map(|it| it.replace("~1", "/").replace("~0", "~")).collect();
        let last = tokens.pop().ok_or_else(nowhere)?;
        let mut at = &mut self.0;
        for token in &tokens {
            at = at.below(token).ok_or_else(nowhere)?;
        }
        match change {
            Change::Set(value) => at.put(last, value_of(value)?),
            Change::Remove => at.take(&last),
        }
        .ok_or_else(nowhere)
    }

    /// The text, in one line or as people write it.
    #[must_use]
    pub fn text(&self, is_pretty: bool) -> String {
        let mut text = String::new();
        self.0.write(&mut text, is_pretty.then_some(0));
        text
    }

    /// What is not the same, place by place: `- /changes/A: 1`, `+ /changes/A: 2`.
    #[must_use]
    pub fn difference(before: Option<&Self>, after: &Self) -> Vec<String> {
        let mut old = BTreeMap::new();
        match before {
            Some(before) => before.0.leaves(String::new(), &mut old),
            None => drop(old.insert(String::new(), "(not JSON)".to_owned())),
        }
        let mut new = BTreeMap::new();
        after.0.leaves(String::new(), &mut new);
        let places: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let mut lines = Vec::new();
        for place in places.into_iter().filter(|place| old.get(*place) != new.get(*place)) {
            let line = |sign, value: &String| {
                let cut: String = value.chars().take(VALUE_CHARACTERS_MAX).collect();
                format!("{sign} {place}: {cut}")
            };
            lines.extend(old.get(place).map(|value| line('-', value)));
            lines.extend(new.get(place).map(|value| line('+', value)));
        }
        if lines.len() > LINES_MAX {
            let more = lines.len() - LINES_MAX;
            lines.truncate(LINES_MAX);
            lines.push(format!("… {more} more"));
        }
        lines
    }
}

impl Node {
    fn below(&mut self, token: &str) -> Option<&mut Self> {
        match self {
            Self::Object(members) => {
                members.iter_mut().find(|(name, _)| name == token).map(|(_, node)| node)
            }
            Self::Array(items) => items.get_mut(token.parse::<usize>().ok()?),
            Self::Value(_) => None,
        }
    }

    fn put(&mut self, token: String, value: Self) -> Option<()> {
        match self {
            Self::Object(members) => {
                let at = members.iter().position(|(name, _)| *name == token);
                // A name that was given twice has one meaning from now on.
                members.retain(|(name, _)| *name != token);
                members.insert(at.unwrap_or(members.len()), (token, value));
                Some(())
            }
            Self::Array(items) if token == "-" => {
                items.push(value);
                Some(())
            }
            Self::Array(items) => {
                *items.get_mut(token.parse::<usize>().ok()?)? = value;
                Some(())
            }
            Self::Value(_) => None,
        }
    }

    fn take(&mut self, token: &str) -> Option<()> {
        match self {
            Self::Object(members) => {
                let before = members.len();
                members.retain(|(name, _)| name != token);
                (members.len() < before).then_some(())
            }
            Self::Array(items) => {
                let at = token.parse::<usize>().ok().filter(|at| *at < items.len())?;
                drop(items.remove(at));
                Some(())
            }
            Self::Value(_) => None,
        }
    }

    fn write(&self, text: &mut String, depth: Option<usize>) {
        let inner = depth.map(|depth| depth + 1);
        let line = |text: &mut String, depth: Option<usize>| {
            if let Some(depth) = depth {
                text.push('\n');
                text.extend(std::iter::repeat_n("  ", depth));
            }
        };
        match self {
            Self::Value(raw) => text.push_str(raw.get()),
            Self::Object(members) => {
                text.push('{');
                for (index, (name, node)) in members.iter().enumerate() {
                    text.push_str(if index > 0 { "," } else { "" });
                    line(text, inner);
                    text.push_str(&serde_json::Value::from(name.as_str()).to_string());
                    text.push_str(if inner.is_some() { ": " } else { ":" });
                    node.write(text, inner);
                }
                line(text, depth.filter(|_| !members.is_empty()));
                text.push('}');
            }
            Self::Array(items) => {
                text.push('[');
                for (index, node) in items.iter().enumerate() {
                    text.push_str(if index > 0 { "," } else { "" });
                    line(text, inner);
                    node.write(text, inner);
                }
                line(text, depth.filter(|_| !items.is_empty()));
                text.push(']');
            }
        }
    }

    fn leaves(&self, path: String, all: &mut BTreeMap<String, String>) {
        match self {
            Self::Object(members) if !members.is_empty() => {
                for (name, node) in members {
                    let token = name.replace('~', "~0").replace('/', "~1");
                    node.leaves(format!("{path}/{token}"), all);
                }
            }
            Self::Array(items) if !items.is_empty() => {
                for (index, node) in items.iter().enumerate() {
                    node.leaves(format!("{path}/{index}"), all);
                }
            }
            Self::Object(_) | Self::Array(_) | Self::Value(_) => {
                let mut text = String::new();
                self.write(&mut text, None);
                all.insert(path, text);
            }
        }
    }
}

/// JSON where it is some, else a text.
fn value_of(text: &str) -> Result<Node, serde_json::Error> {
    match serde_json::from_str::<Box<RawValue>>(text) {
        Ok(raw) => node(&raw),
        Err(_no_json) => serde_json::value::to_raw_value(text).map(Node::Value),
    }
}

/// The parser refuses what nests deeper than 128, so this does not go deeper either.
fn node(raw: &RawValue) -> Result<Node, serde_json::Error> {
    let text = raw.get();
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let Members(members) = serde_json::from_str(text)?;
            let member = |(name, raw): (String, Box<RawValue>)| Ok((name, node(&raw)?));
            Node::Object(members.into_iter().map(member).collect::<Result<_, serde_json::Error>>()?)
        }
        Some(b'[') => {
            let items: Vec<Box<RawValue>> = serde_json::from_str(text)?;
            Node::Array(items.iter().map(|raw| node(raw)).collect::<Result<_, _>>()?)
        }
        Some(_) | None => Node::Value(raw.to_owned()),
    })
}

/// The members of an object in the order in which they stand there.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"key":{"a/b":"1"},"changes":{"Amount":10.10,"Big":12345678901234567890.12,"L":[1,{"x":null}],"E":{}}}"#;

    fn read(text: &str) -> Body {
        Body::read(text.as_bytes()).unwrap()
    }

    fn set(value: &str) -> Change {
        Change::Set(value.to_owned())
    }

    #[test]
    fn what_is_not_changed_keeps_its_text_digit_for_digit() {
        let mut body = read(BODY);
        assert_eq!(body.text(false), BODY);
        body.change("/changes/Amount", &set("10.20")).unwrap();
        body.change("/changes/New", &set("text")).unwrap();
        body.change("/changes/L/1/x", &set("true")).unwrap();
        body.change("/changes/L/-", &set("\"7\"")).unwrap();
        body.change("/changes/E", &Change::Remove).unwrap();
        assert_eq!(
            body.text(false),
            r#"{"key":{"a/b":"1"},"changes":{"Amount":10.20,"Big":12345678901234567890.12,"L":[1,{"x":true},"7"],"New":"text"}}"#
        );
        assert_eq!(read(&body.text(true)).text(false), body.text(false));
        assert!(body.text(true).contains("\n    \"Amount\": 10.20,\n"), "{}", body.text(true));
    }

    #[test]
    fn difference_names_each_place_with_what_was_there_and_what_is() {
        let mut after = read(BODY);
        after.change("/changes/Amount", &set("10.1")).unwrap();
        after.change("/key/a~1b", &set("2")).unwrap();
        after.change("/changes/E/n", &set("null")).unwrap();
        assert_eq!(
            Body::difference(Some(&read(BODY)), &after),
            [
                "- /changes/Amount: 10.10",
                "+ /changes/Amount: 10.1",
                "- /changes/E: {}",
                "+ /changes/E/n: null",
                "- /key/a~1b: \"1\"",
                "+ /key/a~1b: 2",
            ]
        );
        assert!(Body::difference(Some(&read(BODY)), &read(BODY)).is_empty());
        let lines = Body::difference(None, &read("{\"a\":1}"));
        assert_eq!(lines, ["- : (not JSON)", "+ /a: 1"]);
        let many: Vec<_> = (0..500).map(|it| format!("\"{it}\":1")).collect();
        let many = read(&format!("{{{}}}", many.join(",")));
        assert_eq!(Body::difference(Some(&read("{}")), &many).len(), LINES_MAX + 1);
    }

    #[test]
    fn place_that_is_not_there_is_named() {
        for path in ["/changes/none/x", "/changes/L/9", "/changes/Amount/x", "changes", ""] {
            let error = read(BODY).change(path, &set("1")).unwrap_err();
            assert!(error.to_string().contains(&format!("{path:?}")), "{error}");
        }
        assert!(read(BODY).change("/changes/none", &Change::Remove).is_err());
        assert!(Body::read(b"no JSON").is_err());
        assert!(Body::read("[".repeat(100_000).as_bytes()).is_err(), "and ends");
    }

    #[test]
    fn name_that_is_given_twice_has_one_meaning_once_it_is_set() {
        let mut body = read(r#"{"a":1,"b":2,"a":3}"#);
        body.change("/a", &set("4")).unwrap();
        assert_eq!(body.text(false), r#"{"a":4,"b":2}"#);
    }
}
