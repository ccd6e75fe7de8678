//! Dead letters put together by their trouble. Bounded, whatever there is.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::advice::advice;
use super::view::{Letter, Writer};

/// Groups that are kept apart. More of them means that the fingerprint tells too much apart; what comes
/// then is counted together.
const GROUPS_MAX: usize = 1_000;

/// Characters of a sample's detail.
const DETAIL_CHARACTERS_MAX: usize = 400;

/// The same trouble.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Its fingerprint; empty for what came after too many groups.
    pub fingerprint: String,
    /// Reason code.
    pub reason: String,
    /// HTTP status of the last answer.
    pub status: Option<u16>,
    /// Who wrote the letters.
    pub writer: Writer,
    /// How many.
    pub letters: u64,
    /// Of how many orders.
    pub orders: usize,
    /// How many were replayed before, and died again.
    pub replayed: u64,
    /// When the oldest died.
    pub first: Option<Timestamp>,
    /// When the newest died.
    pub last: Option<Timestamp>,
    /// Age of the oldest in seconds.
    pub oldest_seconds: Option<i64>,
    /// One of them.
    pub sample: Uuid,
    /// Its order.
    pub sample_order: Option<String>,
    /// What it says.
    pub detail: String,
    /// What to do about it.
    pub advice: Cow<'static, str>,
}

/// Groups under way.
#[derive(Debug, Default)]
pub struct Groups {
    groups: BTreeMap<String, (Group, BTreeSet<u64>)>,
    letters: u64,
}

impl Groups {
    /// Counts a letter.
    pub fn add(&mut self, letter: &Letter) {
        self.letters += 1;
        let is_known = self.groups.contains_key(&letter.fingerprint);
        let is_full = !is_known && self.groups.len() >= GROUPS_MAX;
        let name = if is_full { String::new() } else { letter.fingerprint.clone() };
        let (group, orders) = self
            .groups
            .entry(name.clone())
            .or_insert_with(|| (begun(name, letter), BTreeSet::new()));
        group.letters += 1;
        group.replayed += u64::from(letter.replays.count > 0);
        if let Some(at) = letter.dead_lettered_at {
            group.first = Some(group.first.map_or(at, |first| first.min(at)));
            group.last = Some(group.last.map_or(at, |last| last.max(at)));
        }
        if let Some(order) = &letter.order {
            // Of a name only its hash: eight bytes for each order, and two of one hash are one in a billion.
            let mut hasher = DefaultHasher::new();
            order.hash(&mut hasher);
            orders.insert(hasher.finish());
        }
    }

    /// Letters counted.
    #[must_use]
    pub const fn letters(&self) -> u64 {
        self.letters
    }

    /// The largest first. `now` is what ages are counted to.
    #[must_use]
    pub fn finish(self, now: Timestamp) -> Vec<Group> {
        let mut groups: Vec<_> = self
            .groups
            .into_values()
            .map(|(group, orders)| Group {
                orders: orders.len(),
                oldest_seconds: group.first.map(|first| now.duration_since(first).as_secs()),
                ..group
            })
            .collect();
        groups.sort_by(|one, other| {
            other.letters.cmp(&one.letters).then_with(|| one.fingerprint.cmp(&other.fingerprint))
        });
        groups
    }
}

fn begun(fingerprint: String, letter: &Letter) -> Group {
    Group {
        fingerprint,
        reason: letter.reason.clone(),
        status: letter.status,
        writer: letter.writer,
        letters: 0,
        orders: 0,
        replayed: 0,
        first: None,
        last: None,
        oldest_seconds: None,
        sample: letter.id,
        sample_order: letter.order.clone(),
        detail: letter.detail.chars().take(DETAIL_CHARACTERS_MAX).collect(),
        advice: advice(&letter.reason, letter.is_unseen()),
    }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;
    use lapin::types::{AMQPValue, FieldTable};

    use super::super::view::Found;
    use super::*;

    fn letter(reason: &str, order: &str, at: &str) -> Letter {
        let mut headers = FieldTable::default();
        for (name, value) in [("reason", reason), ("order", order), ("dead-lettered-at", at)] {
            let name = format!("orderwright-{name}");
            headers.insert(name.as_str().into(), AMQPValue::LongString(value.into()));
        }
        let properties = BasicProperties::default().with_headers(headers);
        Letter::read(Found { properties: &properties, exchange: "", routing_key: "", body: b"" })
    }

    #[test]
    fn same_trouble_is_counted_once_with_its_orders_and_its_span() {
        let mut groups = Groups::default();
        groups.add(&letter("rejected", "A/1", "2025-01-01T10:00:00Z"));
        groups.add(&letter("not_found", "A/1", "2025-01-01T09:00:00Z"));
        groups.add(&letter("rejected", "A/2", "2025-01-01T08:00:00Z"));
        groups.add(&letter("rejected", "A/1", "2025-01-01T11:00:00Z"));
        assert_eq!(groups.letters(), 4);
        let groups = groups.finish("2025-01-01T12:00:00Z".parse().unwrap());
        let shown: Vec<_> =
            groups.iter().map(|it| (it.reason.as_str(), it.letters, it.orders)).collect();
        assert_eq!(shown, [("rejected", 3, 2), ("not_found", 1, 1)]);
        assert_eq!(groups[0].oldest_seconds, Some(4 * 3600));
        assert_eq!(groups[0].last.unwrap().to_string(), "2025-01-01T11:00:00Z");
    }

    #[test]
    fn number_of_groups_is_bounded_and_nothing_is_left_uncounted() {
        let mut groups = Groups::default();
        for number in 0..GROUPS_MAX + 500 {
            groups.add(&letter(&format!("reason{number}"), "A/1", ""));
        }
        let groups = groups.finish(Timestamp::UNIX_EPOCH);
        assert_eq!(groups.len(), GROUPS_MAX + 1);
        assert_eq!((groups[0].fingerprint.as_str(), groups[0].letters), ("", 500));
    }
}
