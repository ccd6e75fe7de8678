//! Makes entity tags in the form that Finance & Operations makes them.
//!
//! A tag is base64 of `'RecVersion,RecId;RecVersion,RecId;…'`, one pair per data source of the
//! entity. So a change in *any* joined table changes the tag, even one that no visible property
//! shows; and a RecVersion is random, never rising, so no order can be read from two tags.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// Data sources of SalesOrderHeadersV2, counted in a tag of a real system.
const SOURCES: usize = 6;
/// The table that holds the visible properties.
const VISIBLE: usize = 0;
/// A joined table that no visible property comes from.
const INVISIBLE: usize = 1;

/// The versions of all rows behind one order. Kept as numbers, because a million ledger entries
/// with two rendered tags each would fill the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    rec_id: i64,
    rec_versions: [u32; SOURCES],
}

/// Which of the joined tables a change touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The table of the visible properties.
    Visible,
    /// A joined table: only the entity tag shows that it changed.
    Invisible,
}

impl Version {
    /// The version of a row that was never updated.
    pub const fn new(rec_id: i64) -> Self {
        Self { rec_id, rec_versions: [0; SOURCES] }
    }

    /// The version after a change. Always differs from this one, whatever the dice say.
    #[must_use = "the version itself is not changed"]
    pub fn changed(mut self, source: Source, rng: &mut fastrand::Rng) -> Self {
        let index = match source {
            Source::Visible => VISIBLE,
            Source::Invisible => INVISIBLE,
        };
        if let Some(version) = self.rec_versions.get_mut(index) {
            let drawn = rng.u32(1..=i32::MAX.unsigned_abs());
            *version = if drawn == *version { drawn ^ 1 } else { drawn };
        }
        self
    }

    /// The entity tag, weak as all tags of Finance & Operations.
    pub fn tag(&self) -> String {
        let mut plain = String::with_capacity(80);
        for (index, version) in self.rec_versions.iter().enumerate() {
            let lead = if index == 0 { '\'' } else { ';' };
            // Rows of the visible and the invisible table exist; the other joins found none.
            let rec_id = if index <= INVISIBLE { self.rec_id } else { 0 };
            let written = write!(plain, "{lead}{version},{rec_id}");
            debug_assert!(written.is_ok(), "writing to a String cannot fail");
        }
        plain.push('\'');
        let mut tag = String::with_capacity(120);
        tag.push_str("W/\"");
        BASE64_STANDARD.encode_string(&plain, &mut tag);
        tag.push('"');
        tag
    }

    /// Whether an If-Match value names this version: `*`, or one tag of its list, compared weakly.
    pub fn matches(&self, if_match: &str) -> bool {
        let strong = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let own = strong(&self.tag());
        if_match.trim() == "*" || if_match.split(',').any(|tag| strong(tag) == own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_has_the_form_of_a_real_one() {
        let tag = Version::new(5_637_144_576).tag();
        let encoded = tag.strip_prefix("W/\"").unwrap().strip_suffix('"').unwrap();
        let plain = String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap();
        assert_eq!(plain, "'0,5637144576;0,5637144576;0,0;0,0;0,0;0,0'");
        assert!(tag.starts_with("W/\"JzAsNTYzNzE0NDU3Njsw"), "{tag}");
    }

    #[test]
    fn every_change_changes_the_tag_and_visible_differs_from_invisible() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut version = Version::new(1);
        for source in [Source::Visible, Source::Invisible].into_iter().cycle().take(1000) {
            let next = version.changed(source, &mut rng);
            assert_ne!(next.tag(), version.tag());
            version = next;
        }
    }

    #[test]
    fn if_match_takes_star_lists_and_weak_or_strong_spelling() {
        let version = Version::new(7);
        let tag = version.tag();
        let strong = tag.trim_start_matches("W/").to_owned();
        for good in [&tag, &strong, "*", &format!("\"x\", {tag}")] {
            assert!(version.matches(good), "{good}");
        }
        for bad in ["", "\"x\"", "W/", &tag.to_lowercase()] {
            assert!(!version.matches(bad), "{bad}");
        }
    }
}
