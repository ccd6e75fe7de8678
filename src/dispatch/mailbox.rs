//! The updates of one order that wait behind the one being worked on.

use std::collections::VecDeque;

/// A FIFO that exists only while its order's runner works: an order at rest has no mailbox.
///
/// Bounded by the prefetch of the shards: nothing is in a mailbox that the broker has not handed out.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    waiting: VecDeque<T>,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new() }
    }
}

impl<T> Mailbox<T> {
    /// Queues an item behind all others. Items that are no longer live go: the broker hands out a
    /// copy of each again, and a stale one that is applied late would overwrite what came after.
    pub(super) fn push(&mut self, item: T, is_live: impl Fn(&T) -> bool) {
        self.waiting.retain(is_live);
        self.waiting.push_back(item);
    }

    /// The next item that is still live.
    pub(super) fn next(&mut self, is_live: impl Fn(&T) -> bool) -> Option<T> {
        while let Some(item) = self.waiting.pop_front() {
            if is_live(&item) {
                return Some(item);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Items are (generation, number); `live` is the generation whose channel is open.
    fn drain(mailbox: &mut Mailbox<(u8, u8)>, live: u8) -> Vec<u8> {
        std::iter::from_fn(|| mailbox.next(|item| item.0 == live)).map(|item| item.1).collect()
    }

    #[test]
    fn items_come_out_in_the_order_they_came_in() {
        let mut mailbox = Mailbox::default();
        for number in 1..=3 {
            mailbox.push((1, number), |_| true);
        }
        assert_eq!(drain(&mut mailbox, 1), [1, 2, 3]);
    }

    #[test]
    fn stale_copies_are_dropped_when_their_redelivered_ones_arrive() {
        let mut mailbox = Mailbox::default();
        for number in 2..=3 {
            mailbox.push((1, number), |item| item.0 == 1);
        }
        // The channel is lost while message 1 is at work; the broker returns all three in order.
        for number in 1..=3 {
            mailbox.push((2, number), |item| item.0 == 2);
        }
        assert_eq!(mailbox.waiting.len(), 3, "memory is bounded by what the broker has handed out");
        assert_eq!(drain(&mut mailbox, 2), [1, 2, 3]);
    }

    #[test]
    fn stale_copies_are_dropped_though_none_was_redelivered_yet() {
        let mut mailbox = Mailbox::default();
        mailbox.push((1, 2), |_| true);
        assert!(drain(&mut mailbox, 2).is_empty());
    }
}
