//! Which properties of an order an update is judged by: all that its GET need bring.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::plan::Members;
use crate::order::OrderUpdate;

/// Longest names, all together: some servers take no more than 2,048 bytes behind the `?`.
const NAMES_BYTES_MAX: usize = 1_024;

/// The names of the properties that [`super::Fetched`] looks at for this update.
///
/// They are its key, what it changes, what it expects, and where the order holds its sequence. A status with
/// allowed ways is one that it changes.
///
/// `None` where the order is to be fetched whole, because a list of names might not say the same: a name
/// that is more than the name of a property, or a value with parts, which may be of another entity.
#[must_use]
pub fn fields<'a>(
    update: &'a OrderUpdate,
    sequence_property: Option<&'a str>,
) -> Option<Vec<Cow<'a, str>>> {
    let members = |json: &'a str| serde_json::from_str::<Members<'a>>(json).ok().map(|it| it.0);
    let changed = members(update.changes.as_json())?;
    let expected = match &update.expect {
        Some(expect) => members(expect.as_json())?,
        None => Vec::new(),
    };
    let is_plain = changed.iter().all(|(_, value)| !has_parts(value))
        && expected.iter().all(|(_, allowed)| {
            serde_json::from_str::<Vec<&RawValue>>(allowed.get())
                .is_ok_and(|values| !values.into_iter().any(has_parts))
        });
    if !is_plain {
        return None;
    }
    let keys = update.key.values().iter().map(|value| Cow::Borrowed(&*value.property));
    let sequence = update.sequence.and(sequence_property).map(Cow::Borrowed);
    let judged = changed.into_iter().chain(expected).map(|(name, _)| name);
    let mut names: Vec<Cow<'a, str>> = Vec::with_capacity(8);
    for name in keys.chain(judged).chain(sequence) {
        // A name that stands twice is an error for some.
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let bytes: usize = names.iter().map(|name| name.len() + 1).sum();
    (bytes <= NAMES_BYTES_MAX && names.iter().all(|name| is_simple(name))).then_some(names)
}

fn has_parts(value: &RawValue) -> bool {
    value.get().starts_with(['{', '['])
}

/// A simple identifier (OData 4.01 CSDL, section 17.2): no annotation, no path, no `*`.
fn is_simple(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|letter| letter == '_' || letter.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Changes, Expect, KeyValue, Literal, OrderKey, Sequence};

    fn update(changes: &str, expect: Option<&str>) -> OrderUpdate {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let value = |property: &str| KeyValue {
            property: property.into(),
            literal: Literal::Text("1".to_owned()),
        };
        OrderUpdate {
            key: OrderKey::new(vec![value("dataAreaId"), value("Number")], |_| false),
            changes: Changes::new(raw(changes)),
            sequence: Sequence::new(7),
            expect: expect.map(raw).map(Expect::new),
            occurred_at: None,
            replay: None,
        }
    }

    #[test]
    fn only_key_changed_expected_and_sequence_are_named_and_each_once() {
        let update = update(r#"{"Status":"Open","Größe":1}"#, Some(r#"{"Mode":[1],"Status":[2]}"#));
        let names = fields(&update, Some("Sequence")).unwrap();
        assert_eq!(names, ["dataAreaId", "Number", "Status", "Größe", "Mode", "Sequence"]);
        assert_eq!(fields(&update, None).unwrap().len(), 5, "sequences are not looked at");
        let unnumbered = OrderUpdate { sequence: None, ..update };
        assert_eq!(fields(&unnumbered, Some("Sequence")).unwrap().len(), 5);
    }

    #[test]
    fn order_is_fetched_whole_where_names_or_values_may_mean_more() {
        for changes in [
            r#"{"Customer@odata.bind":"customers(1)"}"#,
            r#"{"Ns.Type":1}"#,
            r#"{"Address/City":"x"}"#,
            r#"{"*":1}"#,
            r#"{"a b":1}"#,
            r#"{"A,B":1}"#,
            r#"{"":1}"#,
            r#"{"Address":{"City":"x"}}"#,
            r#"{"Lines":[1]}"#,
        ] {
            assert_eq!(fields(&update(changes, None), None), None, "{changes}");
        }
        let plain = r#"{"A":1}"#;
        assert_eq!(fields(&update(plain, Some(r#"{"Address":[{"City":"x"}]}"#)), None), None);
        assert_eq!(fields(&update(plain, Some(r#"{"A/B":[1]}"#)), None), None);
        let long = format!(r#"{{"{}":1}}"#, "A".repeat(NAMES_BYTES_MAX));
        assert_eq!(fields(&update(&long, None), None), None, "more than some servers read");
        assert!(fields(&update(plain, None), None).is_some());
    }
}
