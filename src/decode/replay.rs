//! What the headers of a replayed message say of how it is to be judged.

use crate::order::{ETag, Replay};

/// The headers that the program which replays has written, as they came. One that is there and cannot
/// be read counts as an empty text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Marks<'a> {
    /// The dead letter that is replayed.
    pub of: Option<&'a str>,
    /// The replay that it belongs to.
    pub id: Option<&'a str>,
    /// The ETag that the dead letter saw last.
    pub etag: Option<&'a str>,
    /// `1` where an operator wants it written whatever the order has become.
    pub forced: Option<&'a str>,
}

/// `None` for a message that is no replay. In doubt about one that is, nothing may be overwritten.
#[must_use]
pub fn replay(marks: &Marks<'_>) -> Option<Replay> {
    let Marks { of, id, etag, forced } = marks;
    if of.is_none() && id.is_none() && etag.is_none() {
        return None;
    }
    Some(match (etag, forced) {
        // Both is a contradiction: the stricter one counts.
        (Some(text), _) => ETag::new(text).map_or(Replay::Unknown, Replay::Since),
        (None, Some("1")) => Replay::Forced,
        (None, Some(_) | None) => Replay::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_doubt_a_replay_may_overwrite_nothing() {
        let since = ETag::new("W/\"1\"").map(Replay::Since);
        for (marks, expected) in [
            (Marks::default(), None),
            (Marks { forced: Some("1"), ..Marks::default() }, None),
            (Marks { of: Some("x"), ..Marks::default() }, Some(Replay::Unknown)),
            (Marks { id: Some("x"), ..Marks::default() }, Some(Replay::Unknown)),
            (Marks { etag: Some("W/\"1\""), ..Marks::default() }, since.clone()),
            (Marks { etag: Some("*"), ..Marks::default() }, Some(Replay::Unknown)),
            (
                Marks { etag: Some(""), forced: Some("1"), ..Marks::default() },
                Some(Replay::Unknown),
            ),
            (Marks { etag: Some("W/\"1\""), forced: Some("1"), ..Marks::default() }, since),
            (Marks { of: Some("x"), forced: Some("1"), ..Marks::default() }, Some(Replay::Forced)),
            (
                Marks { of: Some("x"), forced: Some("yes"), ..Marks::default() },
                Some(Replay::Unknown),
            ),
        ] {
            assert_eq!(replay(&marks), expected, "{marks:?}");
        }
    }
}
