//! What the letters before an edited one would have written. Pure.
//!
//! A replay that was killed may have written one of them before it knew, and then the order is not as the edited one
//! saw it, though nobody else has changed it.

use serde_json::{Map, Value, json};

use crate::dead_letter::{FORMER_BYTES_MAX, Letter};
use crate::protocol::compare;

/// Of each property that this edit or an earlier one changes, the values before, as JSON; an empty list where it was
/// not among the changes. `None` where nothing of them is changed, or it is too much.
#[must_use]
pub fn former(letter: &Letter, before: &[u8], after: &[u8]) -> Option<String> {
    let changes = |body: &[u8]| {
        let body: Value = serde_json::from_slice(body).ok()?;
        body.get("changes")?.as_object().cloned()
    };
    // One that could not be read was never written.
    let (before, after) = (changes(before).unwrap_or_default(), changes(after)?);
    let known = letter.former.as_ref().and_then(Value::as_object);
    let mut all = known.cloned().unwrap_or_default();
    for (name, value) in before.iter().filter(|(name, value)| after.get(*name) != Some(value)) {
        let values = all.entry(name.as_str()).or_insert_with(|| json!([]));
        if let Some(values) = values.as_array_mut().filter(|values| !values.contains(value)) {
            values.push(value.clone());
        }
    }
    for name in after.keys().filter(|name| !before.contains_key(*name)) {
        all.entry(name.as_str()).or_insert_with(|| json!([]));
    }
    let text = Value::Object(all).to_string();
    (text != "{}" && text.len() <= FORMER_BYTES_MAX).then_some(text)
}

/// Whether the order is as one of the letters before the edit would have left it, in all that this one would change.
/// `now` are the fields concerned, `wanted` is what this one writes. Somebody else who wrote the very same values is
/// not told from that.
pub(super) fn was_written(
    letter: &Letter,
    now: &Map<String, Value>,
    wanted: &Map<String, Value>,
) -> bool {
    let Some(former) = letter.former.as_ref().and_then(Value::as_object) else { return false };
    let seen = letter.seen.as_ref().and_then(Value::as_object);
    let values = |name: &str| former.get(name).and_then(Value::as_array).map(Vec::as_slice);
    let is_former = |(name, wanted): (&String, &Value)| {
        let Some(now) = now.get(name) else { return false };
        let same = |it: &Value| compare::same(&it.to_string(), &now.to_string());
        match values(name) {
            None => same(wanted),
            Some([]) => seen.and_then(|seen| seen.get(name)).is_some_and(same),
            Some(values) => values.iter().any(same),
        }
    };
    let is_changed = |name: &String| values(name).is_some_and(|values| !values.is_empty());
    wanted.keys().any(is_changed) && wanted.iter().all(is_former)
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;

    use super::*;
    use crate::dead_letter::Found;

    fn letter(former: Option<&str>) -> Letter {
        let properties = BasicProperties::default();
        let found = Found { properties: &properties, exchange: "e", routing_key: "k", body: b"{}" };
        let seen = Some(json!({"A": 0, "B": 0, "C": 0}));
        let former = former.map(|text| serde_json::from_str(text).unwrap());
        Letter { seen, former, ..Letter::read(found) }
    }

    fn body(changes: &Value) -> Vec<u8> {
        json!({"changes": changes}).to_string().into_bytes()
    }

    #[test]
    fn edited_letter_knows_an_order_that_one_of_those_before_it_has_written() {
        let first = json!({"A": 1, "B": 1});
        let second = json!({"A": 2, "B": 1, "C": 3});
        let third = json!({"A": 3, "B": 1, "C": 4});
        let once = former(&letter(None), &body(&first), &body(&second)).unwrap();
        let twice = former(&letter(Some(&once)), &body(&second), &body(&third)).unwrap();
        let known = |now: &Value| {
            let object = |it: &Value| it.as_object().unwrap().clone();
            was_written(&letter(Some(&twice)), &object(now), &object(&third))
        };
        assert!(known(&json!({"A": 2, "B": 1, "C": 3})), "the second one");
        for (now, why) in [
            (json!({"A": 9, "B": 1, "C": 3}), "somebody else has changed what was edited"),
            (json!({"A": 2, "B": 9, "C": 3}), "or what was not"),
            (json!({"A": 2, "B": 1, "C": 0}), "or only the first one's values are there"),
            (json!({"A": 2, "B": 1}), "or it is not known"),
        ] {
            assert!(!known(&now), "{why}");
        }
        let wanted = second.as_object().unwrap();
        let now = json!({"A": 1.0, "B": 1, "C": 0});
        let now = now.as_object().unwrap();
        assert!(was_written(&letter(Some(&once)), now, wanted), "the first one");
        assert!(!was_written(&letter(None), now, wanted), "nothing was edited");
    }

    #[test]
    fn nothing_is_kept_of_an_edit_that_changes_nothing_or_too_much_of_the_order() {
        let of = |before: &Value, after: &Value| former(&letter(None), &body(before), &body(after));
        assert_eq!(of(&json!({"A": 1}), &json!({"A": 1})), None);
        assert_eq!(of(&json!({"A": "x".repeat(FORMER_BYTES_MAX)}), &json!({"A": 1})), None);
        assert_eq!(of(&json!({"A": 1}), &json!({"B": 1})).unwrap(), r#"{"A":[1],"B":[]}"#);
        let mended = former(&letter(None), b"no JSON", &body(&json!({"A": 1})));
        assert_eq!(mended.unwrap(), r#"{"A":[]}"#);
    }
}
