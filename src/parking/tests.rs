use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn letter(number: u32) -> Uuid {
    Uuid::from_u128(number.into())
}

fn died(order: &str, number: u32) -> Record {
    Record::Died { order: order.into(), letter: letter(number), at: NOW }
}

fn released(order: &str, head: u32, letters: u64) -> Record {
    let release = Release { order: order.into(), head: letter(head), letters };
    Record::Released { id: letter(1_000), release, at: NOW }
}

fn fold(records: &[Record]) -> Set {
    let mut set = Set::default();
    for record in records {
        set.apply(record);
    }
    set
}

#[test]
fn first_death_parks_and_later_ones_stand_behind_it() {
    let mut set = Set::default();
    assert_eq!(set.apply(&died("A", 1)), Change::Parked);
    assert_eq!(set.apply(&died("A", 2)), Change::Behind);
    assert_eq!(set.apply(&died("B", 3)), Change::Parked);
    let parked = set.get("A").unwrap();
    assert_eq!((parked.head, parked.last, parked.letters), (letter(1), letter(2), 2));
    assert_eq!(set.get("C"), None);
    assert_eq!((set.len(), set.is_empty(), set.figures().orders), (2, false, 2));
}

#[test]
fn letters_of_an_order_are_known_in_their_order_to_who_wants_to_know() {
    let mut set = Set::with_letters();
    for record in [died("A", 3), died("A", 1), died("A", 1), died("B", 7), died("A", 2)] {
        set.apply(&record);
    }
    assert_eq!(set.letters("A"), [letter(3), letter(1), letter(2)]);
    assert!(set.letters("C").is_empty());
    set.apply(&released("A", 3, 3));
    assert_eq!((set.letters("A"), set.letters("B")), (&[][..], &[letter(7)][..]));
    assert!(fold(&[died("A", 1)]).letters("A").is_empty(), "the daemon does not keep them");
}

#[test]
fn record_that_is_written_twice_counts_once() {
    let set = fold(&[died("A", 1), died("A", 1), died("A", 2), died("A", 2)]);
    assert_eq!(set.get("A").unwrap().letters, 2);
}

#[test]
fn release_that_has_not_seen_the_newest_letter_frees_nothing() {
    let mut set = fold(&[died("A", 1), died("A", 2)]);
    for (head, letters) in [(1, 1), (2, 2), (1, 3)] {
        assert_eq!(set.apply(&released("A", head, letters)), Change::Kept);
    }
    assert_eq!(set.apply(&released("A", 1, 2)), Change::Released);
    assert!(set.is_empty());
    assert_eq!(set.apply(&released("A", 1, 2)), Change::Kept, "of a time that is over");
    set.apply(&died("A", 3));
    assert_eq!(set.apply(&released("A", 1, 2)), Change::Kept, "parked anew");
    assert_eq!(set.get("A").unwrap().head, letter(3));
}

#[test]
fn record_survives_the_wire() {
    let read = Record::Read { id: letter(9) };
    for record in [died("é\"/%2F", 1), released("A", 1, u64::MAX), read] {
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record, "{text}");
    }
}

#[test]
fn figures_tell_how_much_is_parked_and_since_when() {
    let late = Record::Died { order: "A".into(), letter: letter(1), at: Timestamp::MAX };
    let set = fold(&[late, died("B", 2), died("B", 3)]);
    assert_eq!(set.figures(), Figures { orders: 2, letters: 3, oldest: Some(NOW) });
    assert_eq!(Set::default().figures(), Figures::default());
}

/// Where a pod stops with a message that dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    BeforeTheLetter,
    BeforeTheRecord,
    BeforeTheAck,
    Never,
}

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// The owner works on the next message, which dies or not, and stops at some point.
    Works { dies: bool, stop: Stop },
    /// Another pod gets the shard. It has read so much of the stream by itself.
    TakenOver { read: usize },
    /// A pod that lost the shard wakes up and writes the record of a letter of long ago.
    Ghost { letter: u32 },
    /// An operator looks, replays what he finds and asks for the release of what he saw.
    Looks,
    /// The release that he asked for last comes to its turn.
    Asks,
}

fn event() -> impl Strategy<Value = Event> {
    let stop = prop_oneof![
        Just(Stop::BeforeTheLetter),
        Just(Stop::BeforeTheRecord),
        Just(Stop::BeforeTheAck),
        Just(Stop::Never)
    ];
    prop_oneof![
        8 => (prop::bool::weighted(0.3), stop).prop_map(|(dies, stop)| Event::Works { dies, stop }),
        3 => (0..40_usize).prop_map(|read| Event::TakenOver { read }),
        1 => (0..40_u32).prop_map(|letter| Event::Ghost { letter }),
        2 => Just(Event::Looks),
        2 => Just(Event::Asks),
    ]
}

/// One order, its queue, the stream, and the pod that owns the shard.
#[derive(Default)]
struct World {
    stream: Vec<Record>,
    /// How much of it the owner has read.
    read: usize,
    set: Set,
    /// The next message that is not acked.
    next: u32,
    letters: Vec<(u32, Uuid)>,
    applied: Vec<u32>,
    /// Messages that died or went behind one, of which the operator has not dealt with every letter.
    held: Vec<u32>,
    seen: Option<(Release, usize)>,
}

impl World {
    fn catch_up(&mut self) {
        for record in &self.stream[self.read..] {
            self.set.apply(record);
        }
        self.read = self.stream.len();
    }

    fn works(&mut self, dies: bool, stop: Stop) {
        let message = self.next;
        let behind = self.set.get("A").is_some();
        if !dies && !behind {
            self.applied.push(message);
            // Otherwise it was applied, and its ack was lost.
            self.next += u32::from(stop == Stop::Never);
            return;
        }
        if stop == Stop::BeforeTheLetter {
            return;
        }
        let id = letter(10_000 + u32::try_from(self.letters.len()).unwrap());
        self.letters.push((message, id));
        if stop == Stop::BeforeTheRecord {
            return;
        }
        self.stream.push(Record::Died { order: "A".into(), letter: id, at: NOW });
        self.catch_up();
        if stop == Stop::Never {
            self.held.push(message);
            self.next += 1;
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Works { dies, stop } => self.works(dies, stop),
            Event::TakenOver { read } => {
                self.read = read.min(self.stream.len());
                self.set = fold(&self.stream[..self.read]);
                // The barrier: without it, an update passes one that died.
                self.catch_up();
            }
            Event::Ghost { letter: number } => {
                let record = Record::Died { order: "A".into(), letter: letter(number), at: NOW };
                self.stream.push(record);
                self.catch_up();
            }
            Event::Looks => {
                let now = fold(&self.stream);
                self.seen = now.get("A").map(|it| (Release::of("A", it), self.held.len()));
            }
            Event::Asks => {
                let Some((release, dealt_with)) = self.seen.take() else { return };
                self.stream.push(Record::Released { id: letter(1), release, at: NOW });
                let was = self.set.get("A").is_some();
                self.catch_up();
                if was && self.set.get("A").is_none() {
                    assert_eq!(dealt_with, self.held.len(), "a letter that nobody has looked at");
                    self.held.clear();
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn no_update_passes_a_dead_one_whatever_dies_and_whoever_owns_the_shard(
        events in prop::collection::vec(event(), 0..80),
    ) {
        let mut world = World::default();
        for event in events {
            let applied = world.applied.len();
            let held = !world.held.is_empty();
            world.happens(event);
            if held {
                prop_assert_eq!(world.applied.len(), applied, "passed at {:?}", event);
            }
            for message in 0..world.next {
                let has_letter = world.letters.iter().any(|(of, _)| *of == message);
                prop_assert!(has_letter || world.applied.contains(&message), "{} is lost", message);
            }
        }
    }
}
