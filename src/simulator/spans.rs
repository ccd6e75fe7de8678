//! Watches one order for two writers at work at the same time.
//!
//! ```text
//! A  GET ──────────────────▶ PATCH ═════▶ reply       a span: from the GET to the end of the PATCH
//! B        GET                                        overlap, counted when A's PATCH arrives
//! B                                  GET              overlap, counted when it arrives
//! B                                            GET    no overlap
//! ```
//!
//! A GET that no PATCH follows opens no span: its writer found nothing to do. But any request of
//! another writer inside a span is an overlap, also a lonely GET: one order, one worker.

use std::collections::VecDeque;
use std::sync::Arc;

use super::faults::On;

/// Writers whose last GET is remembered. More than ever work on one order at a time; a writer that
/// is pushed out and PATCHes later is taken for one that never read.
const GETS_MAX: usize = 32;

/// Who was at work on an order, and when, counted in arrivals.
#[derive(Debug, Default)]
pub(super) struct Spans {
    arrivals: u64,
    /// The last arrival.
    last: Option<(Arc<str>, u64)>,
    /// The last arrival of anyone else than the writer of `last`.
    last_other: Option<(Arc<str>, u64)>,
    /// Writer and arrival of its last GET, oldest first.
    gets: VecDeque<(Arc<str>, u64)>,
    /// PATCHes under way: visit and writer.
    patching: Vec<(u64, Arc<str>)>,
}

impl Spans {
    /// Notes an arrival. Returns the other writer if the two are at work at the same time.
    pub(super) fn arrive(&mut self, on: On, writer: &Arc<str>, visit: u64) -> Option<Arc<str>> {
        let during = self.patching.iter().find(|(_, other)| other != writer);
        let during = during.map(|(_, other)| Arc::clone(other));
        let between = match on {
            On::Get => None,
            On::Patch => self.other_since_get(writer),
        };
        self.note(on, writer, visit);
        during.or(between)
    }

    /// Notes that a request has ended, answered or not.
    pub(super) fn leave(&mut self, visit: u64) {
        self.patching.retain(|(patching, _)| *patching != visit);
    }

    /// Forgets what was seen, but not what is under way.
    pub(super) fn reset(&mut self) {
        let patching = std::mem::take(&mut self.patching);
        *self = Self { patching, ..Self::default() };
    }

    fn other_since_get(&self, writer: &Arc<str>) -> Option<Arc<str>> {
        let (_, read_at) = self.gets.iter().find(|(reader, _)| reader == writer)?;
        let is_other = |arrival: &&(Arc<str>, u64)| arrival.0 != *writer;
        let (other, at) = [&self.last, &self.last_other].into_iter().flatten().find(is_other)?;
        (at > read_at).then(|| Arc::clone(other))
    }

    fn note(&mut self, on: On, writer: &Arc<str>, visit: u64) {
        self.arrivals += 1;
        let arrival = (Arc::clone(writer), self.arrivals);
        match on {
            On::Get => {
                self.gets.retain(|(reader, _)| reader != writer);
                if self.gets.len() == GETS_MAX {
                    self.gets.pop_front();
                }
                self.gets.push_back(arrival.clone());
            }
            On::Patch => self.patching.push((visit, Arc::clone(writer))),
        }
        let before = self.last.replace(arrival);
        if before.as_ref().is_some_and(|(last, _)| last != writer) {
            self.last_other = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays `"A:get A:patch A:end"` and returns at which steps an overlap was seen.
    fn overlaps(story: &str) -> Vec<&str> {
        let mut spans = Spans::default();
        let mut seen = Vec::new();
        for step in story.split_whitespace() {
            let (writer, what) = step.split_once(':').unwrap();
            let visit = u64::from(writer.as_bytes()[0]);
            let overlap = match what {
                "get" => spans.arrive(On::Get, &writer.into(), visit),
                "patch" => spans.arrive(On::Patch, &writer.into(), visit),
                _end => {
                    spans.leave(visit);
                    None
                }
            };
            if overlap.is_some() {
                seen.push(step);
            }
        }
        seen
    }

    #[test]
    fn writers_one_after_the_other_do_not_overlap() {
        assert!(overlaps("A:get A:patch A:end B:get B:patch B:end A:get A:patch A:end").is_empty());
        assert!(overlaps("A:get A:patch A:end A:get A:patch A:end").is_empty());
    }

    #[test]
    fn get_or_patch_of_another_between_get_and_patch_is_an_overlap() {
        assert_eq!(overlaps("A:get B:get A:patch A:end"), ["A:patch"]);
        assert_eq!(overlaps("A:get B:patch B:end A:patch A:end"), ["A:patch"]);
        assert_eq!(overlaps("A:get B:get B:patch B:end A:patch A:end"), ["A:patch"]);
        assert_eq!(overlaps("A:get B:get A:patch A:end B:patch"), ["A:patch", "B:patch"]);
    }

    #[test]
    fn request_of_another_while_a_patch_is_under_way_is_an_overlap() {
        assert_eq!(overlaps("A:get A:patch B:get A:end B:patch B:end"), ["B:get"]);
        assert_eq!(overlaps("A:get A:patch A:get A:end A:patch"), [""; 0]);
    }

    #[test]
    fn get_that_no_patch_follows_is_no_overlap() {
        assert!(overlaps("A:get B:get B:patch B:end").is_empty());
        assert!(overlaps("A:get B:get C:get").is_empty());
    }

    #[test]
    fn ghost_that_patches_after_another_has_worked_is_an_overlap() {
        let story = "A:get A:patch A:end B:get B:patch B:end A:patch A:end";
        assert_eq!(overlaps(story), ["A:patch"]);
    }

    #[test]
    fn blind_patch_is_judged_only_by_what_is_under_way() {
        assert!(overlaps("B:get B:patch B:end A:patch A:end").is_empty());
        assert_eq!(overlaps("B:get B:patch A:patch"), ["A:patch"]);
    }
}
