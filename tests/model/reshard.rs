//! From one number of shards to another, for the updates of one order: the entry leads to the next
//! generation, markers prove the present one drained, and only then is the next one worked on. Pods hear of
//! it one after the other; a publisher whose message is under way may still reach the left generation.
//!
//! Of the order all messages before the switch go to one queue of the present generation and all after it to
//! one of the next. Two pods, each may hold either queue; one may stop for good at any time.

use crate::explore::{Model, breaks, holds, is_deep};

/// Rounds of markers before the next generation is worked on (`src/broker/generation.rs`).
const ROUNDS: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Item {
    Update(u8),
    Marker(u8),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    published: u8,
    switched: bool,
    old: Vec<Item>,
    new: Vec<Item>,
    /// Rounds whose marker was sent, and rounds that are drained.
    sent: u8,
    drained: u8,
    live: bool,
    /// What each pod has heard.
    heard: [bool; 2],
    /// The pod that has each queue, and whether it is at work on its head.
    holds: [usize; 2],
    works: [bool; 2],
    applied: Vec<u8>,
    strays: u8,
    moves: u8,
}

#[derive(Debug, Clone)]
#[expect(dead_code, reason = "told where a promise is broken")]
pub(crate) enum Action {
    Publish(u8),
    Stray(u8),
    Switch,
    Mark(u8),
    GoLive,
    Hear(usize),
    Begin(usize),
    End(usize),
    Drain(u8),
    Forward(u8),
    Move(usize),
}

pub(crate) struct Reshard {
    updates: u8,
    strays: u8,
    moves: u8,
    waits: bool,
    forwards: bool,
}

impl Default for Reshard {
    fn default() -> Self {
        let (updates, moves) = if is_deep() { (8, 8) } else { (6, 6) };
        Self { updates, strays: 1, moves, waits: true, forwards: true }
    }
}

impl Model for Reshard {
    type State = State;
    type Action = Action;

    fn begin(&self) -> State {
        State {
            published: 0,
            switched: false,
            old: Vec::new(),
            new: Vec::new(),
            sent: 0,
            drained: 0,
            live: false,
            heard: [false; 2],
            holds: [0, 1],
            works: [false; 2],
            applied: Vec::new(),
            strays: 0,
            moves: 0,
        }
    }

    fn next(&self, state: &State) -> Vec<(Action, State)> {
        let mut all = Vec::new();
        let mut add = |action: Action, change: &dyn Fn(&mut State)| {
            let mut next = state.clone();
            change(&mut next);
            all.push((action, next));
        };
        let update = state.published;
        if update < self.updates {
            add(Action::Publish(update), &|next| {
                next.published += 1;
                let queue = if next.switched { &mut next.new } else { &mut next.old };
                queue.push(Item::Update(update));
            });
            // Routed before the switch, stored behind it: before anything else of its order.
            let is_first = state.new.is_empty() && !state.works[1];
            if state.switched && state.strays < self.strays && is_first && state.sent < ROUNDS {
                add(Action::Stray(update), &|next| {
                    (next.published, next.strays) = (next.published + 1, next.strays + 1);
                    next.old.push(Item::Update(update));
                });
            }
        }
        if !state.switched {
            add(Action::Switch, &|next| next.switched = true);
        }
        if state.switched && state.sent < ROUNDS && state.drained == state.sent {
            let round = state.sent + 1;
            add(Action::Mark(round), &|next| {
                next.sent = round;
                next.old.push(Item::Marker(round));
            });
        }
        if state.switched && !state.live && (state.drained == ROUNDS || !self.waits) {
            add(Action::GoLive, &|next| next.live = true);
        }
        for pod in 0..2 {
            if state.live && !state.heard[pod] {
                add(Action::Hear(pod), &|next| next.heard[pod] = true);
            }
        }
        self.queues(state, &mut add);
        all
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        if state.works == [true, true] {
            return Some("an order is worked on in two generations");
        }
        let sorted = state.applied.windows(2).all(|pair| pair[0] < pair[1]);
        (!sorted).then_some("out of order")
    }

    fn is_done(&self, state: &State) -> bool {
        state.applied.len() == usize::from(self.updates)
    }
}

impl Reshard {
    /// What pods do with the heads of the two queues.
    fn queues(&self, state: &State, add: &mut impl FnMut(Action, &dyn Fn(&mut State))) {
        for queue in 0..2 {
            let pod = state.holds[queue];
            let items = if queue == 0 { &state.old } else { &state.new };
            if state.works[queue] {
                add(Action::End(queue), &|next| {
                    next.works[queue] = false;
                    let items = if queue == 0 { &mut next.old } else { &mut next.new };
                    if let Item::Update(update) = items.remove(0) {
                        next.applied.push(update);
                    }
                });
                continue;
            }
            if state.moves < self.moves {
                add(Action::Move(queue), &|next| {
                    next.moves += 1;
                    next.holds[queue] = 1 - pod;
                });
            }
            match items.first() {
                Some(Item::Marker(round)) => add(Action::Drain(*round), &|next| {
                    next.drained = next.drained.max(*round);
                    next.old.remove(0);
                }),
                // Behind the last marker, or known to be left: sent on to the next generation.
                Some(Item::Update(update)) if queue == 0 => {
                    let is_left = state.drained == ROUNDS || state.heard[pod];
                    if is_left && self.forwards {
                        add(Action::Forward(*update), &|next| {
                            let item = next.old.remove(0);
                            next.new.push(item);
                        });
                    } else {
                        add(Action::Begin(queue), &|next| next.works[queue] = true);
                    }
                }
                // Only who has heard consumes from the next one.
                Some(Item::Update(_)) if state.heard[pod] => {
                    add(Action::Begin(queue), &|next| next.works[queue] = true);
                }
                Some(Item::Update(_)) | None => {}
            }
        }
    }
}

#[test]
fn order_is_worked_on_in_one_generation_at_a_time_and_in_order() {
    holds("reshard", &Reshard::default());
}

#[test]
fn next_generation_before_the_present_one_is_drained_breaks_the_order() {
    let model = Reshard { waits: false, forwards: false, ..Reshard::default() };
    let found = crate::explore::explore(&model);
    assert!(found.broken.is_some(), "nothing is broken in {} states", found.states);
}

#[test]
fn strays_that_are_worked_on_where_they_are_found_meet_the_next_generation() {
    let model = Reshard { forwards: false, waits: false, strays: 1, ..Reshard::default() };
    breaks("reshard, nothing sent on", &model, "an order is worked on in two generations");
}
