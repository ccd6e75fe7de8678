//! Parking: once an update of an order is dead-lettered, later ones go behind it unbegun, until the order is
//! released. The record stands in a stream before the ack, and whoever gets the shard reads the stream to
//! its end before anything is begun.
//!
//! One order, one shard; the pod dies at any point and the next one takes over. The first update is refused
//! by the service, one release is in the queue behind some of the others.

use crate::explore::{Model, breaks, holds, is_deep};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Item {
    Update(u8),
    Release,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Record {
    Died,
    Released,
}

/// What is being done with the head of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Rest,
    /// Its letter is out.
    Letter,
    /// Its record is out, and read back.
    Noted,
    Written,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    queue: Vec<Item>,
    stream: Vec<Record>,
    /// What the pod has read, and whether it has read all that was there when it came.
    read: usize,
    is_ready: bool,
    end: usize,
    at: At,
    /// Updates in letters, in order, the first copy of each.
    letters: Vec<u8>,
    written: Vec<u8>,
    released: bool,
    deaths: u8,
    broken: Option<&'static str>,
}

#[derive(Debug, Clone)]
#[expect(dead_code, reason = "told where a promise is broken")]
pub(crate) enum Action {
    Read,
    Letter(u8),
    Note,
    Ack,
    Write(u8),
    Release,
    Die,
}

pub(crate) struct Parking {
    updates: u8,
    deaths: u8,
    release_behind: u8,
    reads_first: bool,
    notes_first: bool,
}

impl Default for Parking {
    fn default() -> Self {
        let (updates, deaths) = if is_deep() { (10, 10) } else { (8, 8) };
        Self { updates, deaths, release_behind: 3, reads_first: true, notes_first: true }
    }
}

impl State {
    fn is_parked(&self) -> bool {
        self.stream[..self.read].last() == Some(&Record::Died)
    }
}

impl Model for Parking {
    type State = State;
    type Action = Action;

    fn begin(&self) -> State {
        let mut queue: Vec<_> = (0..self.updates).map(Item::Update).collect();
        queue.insert(usize::from(self.release_behind), Item::Release);
        State {
            queue,
            stream: Vec::new(),
            read: 0,
            is_ready: true,
            end: 0,
            at: At::Rest,
            letters: Vec::new(),
            written: Vec::new(),
            released: false,
            deaths: 0,
            broken: None,
        }
    }

    fn next(&self, state: &State) -> Vec<(Action, State)> {
        let mut all = Vec::new();
        let mut add = |action: Action, change: &dyn Fn(&mut State)| {
            let mut next = state.clone();
            change(&mut next);
            all.push((action, next));
        };
        if state.deaths < self.deaths {
            add(Action::Die, &|next| {
                (next.deaths, next.at, next.read) = (next.deaths + 1, At::Rest, 0);
                next.end = next.stream.len();
                next.is_ready = next.end == 0 || !self.reads_first;
            });
        }
        if state.read < state.stream.len() {
            add(Action::Read, &|next| {
                next.read += 1;
                next.is_ready |= next.read >= next.end;
            });
        }
        let Some(head) = state.queue.first().copied() else { return all };
        match (state.at, head) {
            (At::Rest, Item::Update(update)) if state.is_ready => {
                if update == 0 || state.is_parked() {
                    add(Action::Letter(update), &|next| {
                        if !next.letters.contains(&update) {
                            next.letters.push(update);
                        }
                        next.at = if next.is_parked() || !self.notes_first {
                            At::Noted
                        } else {
                            At::Letter
                        };
                    });
                } else {
                    add(Action::Write(update), &|next| {
                        if next.letters.contains(&0) && !next.released {
                            next.broken = Some("an update passed its dead letter");
                        }
                        next.written.push(update);
                        next.at = At::Written;
                    });
                }
            }
            (At::Rest, Item::Release) if state.is_ready => add(Action::Release, &|next| {
                next.stream.push(Record::Released);
                (next.read, next.released, next.at) = (next.stream.len(), true, At::Noted);
            }),
            (At::Rest, _) => {}
            (At::Letter, _) => add(Action::Note, &|next| {
                next.stream.push(Record::Died);
                (next.read, next.at) = (next.stream.len(), At::Noted);
            }),
            (At::Noted | At::Written, _) => add(Action::Ack, &|next| {
                next.queue.remove(0);
                next.at = At::Rest;
            }),
        }
        all
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        let sorted = state.letters.windows(2).all(|pair| pair[0] < pair[1]);
        state.broken.or((!sorted).then_some("letters out of order"))
    }

    fn is_done(&self, state: &State) -> bool {
        let all =
            (0..self.updates).all(|it| state.letters.contains(&it) || state.written.contains(&it));
        state.queue.is_empty() && all
    }
}

#[test]
fn nothing_passes_a_dead_letter_of_its_order_whoever_dies() {
    holds("parking", &Parking::default());
}

#[test]
fn pod_that_does_not_read_the_stream_first_lets_updates_pass() {
    let model = Parking { reads_first: false, ..Parking::default() };
    breaks("parking, not read first", &model, "an update passed its dead letter");
}

#[test]
fn letter_that_is_acked_before_its_record_lets_updates_pass() {
    let model = Parking { notes_first: false, ..Parking::default() };
    breaks("parking, not noted", &model, "an update passed its dead letter");
}
