//! The dead letters that this process wrote, by their trouble: for those who look. Bounded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::dispatch::Letter;

/// Kinds of trouble that are kept apart. What comes then is counted together.
const KINDS_MAX: usize = 100;

/// Dead letters of one trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kind {
    /// Reason code of the last one.
    pub(super) reason: &'static str,
    /// How many.
    pub(super) letters: u64,
    /// When the last one was written.
    pub(super) last: Timestamp,
    /// Its order, where it could be decoded.
    pub(super) order: Option<Arc<str>>,
}

/// All of them, by fingerprint.
#[derive(Debug, Default)]
pub(super) struct Written(Mutex<BTreeMap<String, Kind>>);

impl Written {
    /// One more was written, and its message acked.
    pub(super) fn note(&self, fingerprint: &str, letter: &Letter, now: Timestamp) {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = kinds.len() >= KINDS_MAX && !kinds.contains_key(fingerprint);
        let name = if is_full { "" } else { fingerprint };
        let order = letter.order.clone();
        let begun = || Kind { reason: letter.code, letters: 0, last: now, order: None };
        let kind = kinds.entry(name.to_owned()).or_insert_with(begun);
        kind.letters = kind.letters.saturating_add(1);
        (kind.reason, kind.last, kind.order) = (letter.code, now, order);
    }

    /// Those that came most often first.
    pub(super) fn kinds(&self) -> Vec<(String, Kind)> {
        let kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kinds: Vec<_> =
            kinds.iter().map(|(name, kind)| (name.clone(), kind.clone())).collect();
        kinds.sort_by_key(|(_, kind)| std::cmp::Reverse(kind.letters));
        kinds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_apart_up_to_a_limit_and_the_most_frequent_comes_first() {
        let (written, now) = (Written::default(), Timestamp::UNIX_EPOCH);
        let letter = |code| Letter::untried(code, String::new(), Some("USMF/1".into()), now);
        for kind in 0..KINDS_MAX {
            written.note(&format!("v1-{kind}"), &letter("not_found"), now);
        }
        for other in 0..5 {
            written.note(&format!("v1-other-{other}"), &letter("gone"), now);
        }
        written.note("v1-7", &letter("not_found"), now);
        let kinds = written.kinds();
        assert_eq!(kinds.len(), KINDS_MAX + 1);
        let (name, kind) = &kinds[0];
        assert_eq!((name.as_str(), kind.letters, kind.reason), ("", 5, "gone"));
        assert_eq!((kinds[1].0.as_str(), kinds[1].1.letters), ("v1-7", 2));
    }
}
