//! "Did you mean": the known key that a misspelt one is closest to.

use super::catalogue::{self, Entry};

/// Most edits between a misspelt path and the suggestion. More, and the guess would mislead.
const EDITS_MAX: usize = 3;

/// The known path closest to an unknown one: a few edits away, or the same name in another section.
pub(super) fn closest(unknown: &str) -> Option<String> {
    let near = known()
        .map(|path| (edits(unknown, &path), path))
        .filter(|(edits, path)| *edits <= EDITS_MAX.min(path.len() / 3))
        .min();
    let elsewhere = || known().find(|path| name(path) == name(unknown));
    near.map(|(_, path)| path).or_else(elsewhere)
}

fn known() -> impl Iterator<Item = String> {
    catalogue::entries().iter().flat_map(|entry| match entry {
        Entry::Section { path, .. } => vec![path.clone()],
        Entry::Key(key) if key.secret => vec![key.path.clone(), format!("{}_file", key.path)],
        Entry::Key(key) => vec![key.path.clone()],
    })
}

fn name(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// Insertions, deletions and replacements of characters that turn one text into the other.
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (index, have) in from.chars().enumerate() {
        let mut left = index + 1;
        let mut next = vec![left];
        let above = row.iter().zip(row.iter().skip(1));
        for ((diagonal, above), want) in above.zip(to.chars()) {
            let replaced = diagonal + usize::from(have != want);
            left = replaced.min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_count_insertions_deletions_and_replacements() {
        for (from, to, count) in
            [("", "", 0), ("abc", "abc", 0), ("", "ab", 2), ("ab", "", 2), ("kitten", "sitting", 3)]
        {
            assert_eq!(edits(from, to), count, "{from} {to}");
        }
    }

    #[test]
    fn misspelt_path_finds_the_key_and_nonsense_finds_none() {
        for (unknown, known) in [
            ("broker.prefetchh", Some("broker.prefetch")),
            ("broker_prefetch", Some("broker.prefetch")),
            ("brokr", Some("broker")),
            ("dispatch.prefetch", Some("broker.prefetch")),
            ("target.bearer_token_fle", Some("target.bearer_token_file")),
            ("weather", None),
        ] {
            assert_eq!(closest(unknown).as_deref(), known, "{unknown}");
        }
    }
}
