//! Whether a body that was changed by hand may replace the one before. Pure.

use crate::decode::{self, Contract, Envelope, decode};
use crate::order::OrderUpdate;

/// Why it may not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no update.
    #[error("{code}", code = why.code())]
    Contract {
        /// What is wrong with it.
        #[from]
        why: decode::Error,
    },
    /// It would be an update of another order, or name it in other letters.
    #[error("/key is locked: it is {was}, and would be {now}")]
    Key {
        /// The canonical key, or its values where these alone differ.
        was: String,
        /// Likewise.
        now: String,
    },
    /// Its place among the updates of its order is the publisher's: with another one it would be written over
    /// newer ones, or these not over it.
    #[error("/sequence is locked: it is {was:?}, and would be {now:?}")]
    Sequence {
        /// Before.
        was: Option<i64>,
        /// Now.
        now: Option<i64>,
    },
}

/// Looks at a changed body as at a publisher's. `order` is what its dead letter was routed by, for where the one
/// before cannot be read.
///
/// # Errors
/// What stands in the way, with its place.
pub fn check(
    contract: &Contract,
    before: Envelope<'_>,
    after: Envelope<'_>,
    order: &str,
) -> Result<OrderUpdate, Error> {
    let now = decode(contract, after)?;
    let canonical = |update: &OrderUpdate| update.key.canonical().to_string();
    match decode(contract, before) {
        Err(_unreadable) => {
            if canonical(&now) != order {
                return Err(Error::Key { was: order.to_owned(), now: canonical(&now) });
            }
        }
        Ok(was) => {
            if canonical(&now) != canonical(&was) {
                return Err(Error::Key { was: canonical(&was), now: canonical(&now) });
            }
            if now.key.values() != was.key.values() {
                let values = |update: &OrderUpdate| format!("{:?}", update.key.values());
                return Err(Error::Key { was: values(&was), now: values(&now) });
            }
            if now.sequence != was.sequence {
                let number =
                    |update: &OrderUpdate| update.sequence.map(crate::order::Sequence::get);
                return Err(Error::Sequence { was: number(&was), now: number(&now) });
            }
        }
    }
    Ok(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    const ORDER: &str = "USMF/1";
    const GOOD: &str =
        r#"{"key":{"dataAreaId":"USMF","SalesOrderNumber":"1"},"changes":{"A":1},"sequence":5}"#;

    fn judged(before: &str, after: &str) -> Result<(), String> {
        let contract = crate::app::intake_contract(&Settings::default());
        let of = |body| Envelope { content_type: None, content_encoding: None, body };
        let checked = check(&contract, of(before.as_bytes()), of(after.as_bytes()), ORDER);
        // As it is told: with its causes.
        checked.map(drop).map_err(|error| {
            let why = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error}: {}", why.unwrap_or_default())
        })
    }

    #[test]
    fn changes_may_change_and_what_the_order_is_known_by_may_not() {
        assert_eq!(judged(GOOD, &GOOD.replace("\"A\":1", "\"B\":\"x\"")), Ok(()));
        for (from, to, place) in [
            ("\"SalesOrderNumber\":\"1\"", "\"SalesOrderNumber\":\"2\"", "/key"),
            // The same order in other letters: the service may know it by one form alone.
            ("USMF", "usmf", "/key"),
            ("\"sequence\":5", "\"sequence\":6", "/sequence"),
            (",\"sequence\":5", "", "/sequence"),
            ("{\"A\":1}", "{}", "changes_empty"),
            ("\"changes\"", "\"change\"", "field_unknown"),
            ("{\"A\":1}", "7", "changes"),
        ] {
            let error = judged(GOOD, &GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(place), "{place} in {error}");
        }
    }

    #[test]
    fn body_that_could_not_be_read_is_mended_for_the_order_that_it_was_routed_by() {
        assert_eq!(judged("no JSON", GOOD), Ok(()));
        let error = judged("no JSON", &GOOD.replace("\"1\"", "\"2\"")).unwrap_err();
        assert!(error.contains("/key is locked: it is USMF/1"), "{error}");
    }
}
