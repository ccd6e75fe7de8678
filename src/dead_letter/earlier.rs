//! The deaths that a letter died before: so that its first one can be told when that letter is long gone.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::view::{Letter, SUPERSEDED};

/// Deaths that are kept: the first one, and the newest.
const KEPT_MAX: usize = 10;

/// Bytes of all of them. Each is a few hundred.
pub(super) const BYTES_MAX: usize = 8 * 1024;

/// Characters of the name of an instance.
const INSTANCE_CHARACTERS_MAX: usize = 64;

/// One death.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earlier {
    /// The letter that it was.
    pub id: Uuid,
    /// When it died.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Of what.
    pub reason: String,
    /// The pod whose clock says when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The replay that it had come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<Uuid>,
    /// The letter that it was before somebody changed it by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edited_from: Option<Uuid>,
}

impl Letter {
    /// All its deaths, the present one included, as the next one will have them: the first and the newest.
    #[must_use]
    pub fn deaths_so_far(&self) -> String {
        let own = Earlier {
            id: self.id,
            at: self.dead_lettered_at,
            reason: self.reason.clone(),
            instance: self
                .instance
                .as_ref()
                .map(|name| name.chars().take(INSTANCE_CHARACTERS_MAX).collect()),
            replay: self.replays.replay_id,
            edited_from: self.edited.as_ref().map(|it| it.from),
        };
        let mut all = self.earlier.clone();
        all.push(own);
        if all.len() > KEPT_MAX {
            all.drain(1..=all.len() - KEPT_MAX);
        }
        serde_json::to_string(&all).unwrap_or_default()
    }

    /// When it died first, and the pod whose clock says so.
    #[must_use]
    pub fn first_death(&self) -> (Option<Timestamp>, Option<&str>) {
        if let Some(first) = self.earlier.first() {
            return (first.at, first.instance.as_deref());
        }
        if self.replays.count > 0 {
            // Of an older version: ids of letters hold their time (UUID, version 7).
            let time = self.replays.first_dead_letter.and_then(|it| it.get_timestamp());
            let time = time.map(|it| it.to_unix());
            let at = time.and_then(|(seconds, nanoseconds)| {
                let (seconds, nanoseconds) =
                    (seconds.try_into().ok()?, nanoseconds.try_into().ok()?);
                Timestamp::new(seconds, nanoseconds).ok()
            });
            return (at, None);
        }
        (self.dead_lettered_at, self.instance.as_deref())
    }

    /// Whether it died before it saw any state of its order: that was not there, or could not be asked for.
    #[must_use]
    pub fn is_unseen(&self) -> bool {
        self.etag.is_none() && self.base.is_none() && self.reason != SUPERSEDED
    }

    /// The ids that it had, the first one first, and the present one.
    pub fn ids(&self) -> impl Iterator<Item = Uuid> + '_ {
        let first = self.replays.first_dead_letter;
        let earlier = self.earlier.iter().flat_map(|it| [it.edited_from, Some(it.id)]).flatten();
        let edited = self.edited.as_ref().map(|it| it.from);
        first
            .into_iter()
            .chain(earlier)
            .chain(self.replays.replay_of)
            .chain(edited)
            .chain([self.id])
    }
}

/// What a header says. Nothing of one that makes no sense.
pub(super) fn read(text: &str) -> Vec<Earlier> {
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;

    use super::super::view::Found;
    use super::*;

    fn letter(number: u128, earlier: Vec<Earlier>) -> Letter {
        let properties = BasicProperties::default();
        let found = Found { properties: &properties, exchange: "e", routing_key: "k", body: b"{}" };
        Letter {
            id: Uuid::from_u128(number),
            dead_lettered_at: Timestamp::from_second(i64::try_from(number).unwrap()).ok(),
            instance: Some(format!("pod-{number}")),
            earlier,
            ..Letter::read(found)
        }
    }

    #[test]
    fn first_death_and_the_newest_are_kept_however_often_it_dies() {
        let mut now = letter(1, Vec::new());
        assert_eq!(now.first_death(), (now.dead_lettered_at, Some("pod-1")));
        for number in 2..=50 {
            now = letter(number, read(&now.deaths_so_far()));
        }
        let kept: Vec<u128> = now.earlier.iter().map(|it| it.id.as_u128()).collect();
        assert_eq!(kept, [1, 41, 42, 43, 44, 45, 46, 47, 48, 49]);
        let (at, instance) = now.first_death();
        assert_eq!((at.unwrap().as_second(), instance), (1, Some("pod-1")));
        assert!(now.deaths_so_far().len() < BYTES_MAX);
    }

    #[test]
    fn first_death_of_a_letter_of_an_older_version_is_told_by_its_id() {
        let first = super::super::letter_id("2025-02-08T10:00:00Z".parse().unwrap(), 7);
        let mut replayed = letter(9, Vec::new());
        replayed.replays.count = 1;
        replayed.replays.first_dead_letter = Some(first);
        let at = replayed.first_death();
        assert_eq!(at, ("2025-02-08T10:00:00Z".parse().ok(), None));
        assert_eq!(replayed.ids().collect::<Vec<_>>(), [first, Uuid::from_u128(9)]);
    }
}
