//! The updates of one order that wait behind the one being worked on.

use std::collections::VecDeque;

use crate::order::Sequence;

/// What can wait in a mailbox.
pub(super) trait Waiting {
    /// Its place among neighbours that have one.
    fn sequence(&self) -> Option<Sequence>;

    /// Called when it goes before others that came earlier.
    fn goes_ahead(&self);
}

/// A queue that exists only while its order's runner works: an order at rest has no mailbox.
///
/// Items come out in the order in which they came in, but for one thing: neighbours that carry a
/// sequence stand in the order of their sequences, equal ones as they came. An item without a
/// sequence is a wall. It passes nothing and nothing passes it, since nothing tells whether it is
/// older or newer than another.
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

impl<T: Waiting> Mailbox<T> {
    /// Queues an item behind all others, but before those at the end that carry a greater sequence.
    /// Items that are no longer live go first: the broker hands out a copy of each again, and a
    /// stale one that is applied late would overwrite what came after.
    pub(super) fn push(&mut self, item: T, is_live: impl Fn(&T) -> bool) {
        self.waiting.retain(is_live);
        let own = item.sequence();
        let is_newer =
            |other: &&T| matches!((own, other.sequence()), (Some(own), Some(other)) if other > own);
        let newer = self.waiting.iter().rev().take_while(is_newer).count();
        if newer > 0 {
            item.goes_ahead();
        }
        self.waiting.insert(self.waiting.len() - newer, item);
    }

    /// How many wait, copies that are no longer live included.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The least of what they say, such as when each came. Not that of the first one: sequences are
    /// restored.
    pub(super) fn oldest<A: Ord>(&self, of: impl Fn(&T) -> Option<A>) -> Option<A> {
        self.waiting.iter().filter_map(of).min()
    }

    /// Takes out what is at the front, one after the other, for as long as `take` says so.
    pub(super) fn take_while(&mut self, mut take: impl FnMut(&T) -> bool) -> Vec<T> {
        let count = self.waiting.iter().take_while(|item| take(item)).count();
        self.waiting.drain(..count).collect()
    }

    /// Puts items back to the front that were taken out. What came meanwhile goes to where it would be had
    /// they never left.
    pub(super) fn put_back(&mut self, items: impl Iterator<Item = T>) {
        let came = std::mem::replace(&mut self.waiting, items.collect());
        for item in came {
            self.push(item, |_| true);
        }
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
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    /// What waits: the generation of its channel, a number of its own, perhaps a sequence, and whether it went ahead.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Item {
        generation: u8,
        number: usize,
        sequence: Option<u64>,
        ahead: Cell<bool>,
    }

    impl Waiting for Item {
        fn sequence(&self) -> Option<Sequence> {
            self.sequence.and_then(Sequence::new)
        }

        fn goes_ahead(&self) {
            self.ahead.set(true);
        }
    }

    /// Pushes an item while the channel of generation `live` is open.
    fn push(mailbox: &mut Mailbox<Item>, item: Item, live: u8) {
        mailbox.push(item, |item| item.generation == live);
    }

    fn item(generation: u8, number: usize, sequence: Option<u64>) -> Item {
        Item { generation, number, sequence, ahead: Cell::new(false) }
    }

    fn plain(generation: u8, number: usize) -> Item {
        item(generation, number, None)
    }

    fn drain(mailbox: &mut Mailbox<Item>, live: u8) -> Vec<usize> {
        let next = || mailbox.next(|item| item.generation == live);
        std::iter::from_fn(next).map(|item| item.number).collect()
    }

    #[test]
    fn items_without_sequence_come_out_in_the_order_they_came_in() {
        let mut mailbox = Mailbox::default();
        for number in 1..=3 {
            push(&mut mailbox, plain(1, number), 1);
        }
        assert_eq!(drain(&mut mailbox, 1), [1, 2, 3]);
    }

    #[test]
    fn what_is_put_back_stands_as_if_it_had_never_left() {
        let mut mailbox = Mailbox::default();
        let numbered = |number: u64| item(1, usize::try_from(number).unwrap(), Some(number));
        for number in [2, 5, 6] {
            push(&mut mailbox, numbered(number), 1);
        }
        let taken = mailbox.take_while(|_| true);
        for number in [3, 7] {
            push(&mut mailbox, numbered(number), 1);
        }
        mailbox.put_back(taken.into_iter());
        let ahead = mailbox.waiting.iter().filter(|item| item.ahead.get()).map(|item| item.number);
        assert_eq!(ahead.collect::<Vec<_>>(), [3]);
        assert_eq!(drain(&mut mailbox, 1), [2, 3, 5, 6, 7]);
    }

    #[test]
    fn stale_copies_are_dropped_when_their_redelivered_ones_arrive() {
        let mut mailbox = Mailbox::default();
        for number in 2..=3 {
            push(&mut mailbox, plain(1, number), 1);
        }
        // The channel is lost while message 1 is at work; the broker returns all three in order.
        for number in 1..=3 {
            push(&mut mailbox, plain(2, number), 2);
        }
        assert_eq!(mailbox.waiting.len(), 3, "memory is bounded by what the broker has handed out");
        assert_eq!(drain(&mut mailbox, 2), [1, 2, 3]);
    }

    #[test]
    fn stale_copies_are_dropped_though_none_was_redelivered_yet() {
        let mut mailbox = Mailbox::default();
        push(&mut mailbox, plain(1, 2), 1);
        assert!(drain(&mut mailbox, 2).is_empty());
    }

    /// What the mailbox must hold: pushed, and the run at the end that has sequences sorted again.
    fn push_to_model(model: &mut Vec<Item>, item: Item) {
        model.retain(|it| it.generation == item.generation);
        let number = item.number;
        model.push(item);
        let wall = model.iter().rposition(|it| it.sequence.is_none());
        model[wall.map_or(0, |at| at + 1)..].sort_by_key(|it| it.sequence);
        let last = model.last_mut().unwrap().number;
        let it = model.iter_mut().find(|it| it.number == number).unwrap();
        it.ahead.set(number != last);
    }

    /// What happens to a mailbox.
    #[derive(Debug, Clone)]
    enum Event {
        Arrives(Option<u64>),
        /// The runner asks for the next item.
        Taken,
        /// The channel is lost; a new one opens.
        Lost,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (0..8_u64).prop_map(|sequence| Event::Arrives(Some(sequence))),
            2 => Just(Event::Arrives(None)),
            2 => Just(Event::Taken),
            1 => Just(Event::Lost),
        ]
    }

    proptest! {
        #[test]
        fn sequences_are_restored_and_items_without_one_are_passed_by_none(
            events in prop::collection::vec(event(), 0..60),
        ) {
            let (mut mailbox, mut model) = (Mailbox::default(), Vec::new());
            let mut generation = 0;
            for (number, event) in events.into_iter().enumerate() {
                match event {
                    Event::Arrives(sequence) => {
                        let item = item(generation, number, sequence);
                        push(&mut mailbox, item.clone(), generation);
                        push_to_model(&mut model, item);
                        prop_assert_eq!(&mailbox.waiting, &model);
                    }
                    Event::Taken => {
                        model.retain(|it| it.generation == generation);
                        let wanted = (!model.is_empty()).then(|| model.remove(0));
                        let next = mailbox.next(|it| it.generation == generation);
                        prop_assert_eq!(next, wanted);
                    }
                    Event::Lost => generation += 1,
                }
            }
        }
    }
}
