//! One shard queue with the updates of one order, and pods that crash, are cut off, hand over and come again
//! (D3 of the design: mailbox, single active consumer, ETag and settle window).
//!
//! Time is in the order of events: what the settle window promises is that a request whose sender is gone
//! is carried out or dead before anybody begins what that sender held; what two heartbeats against 2.8
//! promise is that a pod that is cut off has given its work up before the broker gives it to another.

use crate::explore::{Model, breaks, holds, is_deep};

const NONE: u8 = u8::MAX;

/// What a pod is at with the message at the head of what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Rest,
    /// It has seen this ETag.
    Saw(u8),
    /// Its PATCH is on the wire.
    Sent,
    /// It was answered: the ack is next.
    Answered,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Pod {
    /// Handed out and not acked, oldest first: the update, and whether it was out before.
    holds: Vec<(u8, bool)>,
    at: At,
    /// The broker hears it and is heard.
    is_reached: bool,
    /// It begins nothing more: to be given back when what was begun is finished.
    ends: bool,
}

/// A PATCH on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Request {
    pod: u8,
    update: u8,
    etag: u8,
    /// Nobody waits for its answer.
    is_gone: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    ready: Vec<(u8, bool)>,
    /// Who is active; the other one waits.
    active: u8,
    pods: Vec<Pod>,
    wire: Vec<Request>,
    etag: u8,
    shows: u8,
    /// Acked, one bit an update.
    acked: u8,
    written: u8,
    troubles: u8,
    outsiders: u8,
    broken: Option<&'static str>,
}

#[derive(Debug, Clone)]
#[expect(dead_code, reason = "told where a promise is broken")]
pub(crate) enum Action {
    HandOut,
    Get(u8),
    Patch(u8),
    CarryOut(Request),
    Die(Request),
    Answer(u8),
    Lose(u8),
    Ack(u8),
    Crash(u8),
    Cut(u8),
    GiveUp(u8),
    TakeAway(u8),
    HandOver(u8),
    Yield(u8),
    Outsider,
}

#[expect(clippy::struct_excessive_bools, reason = "nets that can be taken away one by one")]
pub(crate) struct Ownership {
    updates: u8,
    pods: u8,
    troubles: u8,
    window: bool,
    etags: bool,
    finish: bool,
    gives_up_first: bool,
}

impl Default for Ownership {
    fn default() -> Self {
        let (updates, troubles) = if is_deep() { (6, 6) } else { (4, 4) };
        let (window, etags, finish, gives_up_first) = (true, true, true, true);
        Self { updates, pods: 2, troubles, window, etags, finish, gives_up_first }
    }
}

impl State {
    /// The requests of a pod go on without it; what it held goes back, in order.
    fn lose(&mut self, pod: u8) {
        self.orphan(pod);
        self.take_away(pod);
    }

    fn orphan(&mut self, pod: u8) {
        for request in self.wire.iter_mut().filter(|it| it.pod == pod) {
            request.is_gone = true;
        }
        self.pods[usize::from(pod)].at = At::Rest;
    }

    fn take_away(&mut self, pod: u8) {
        let held = std::mem::take(&mut self.pods[usize::from(pod)].holds);
        let mut ready: Vec<_> = held.into_iter().map(|(update, _)| (update, true)).collect();
        ready.append(&mut self.ready);
        self.ready = ready;
        if self.active == pod {
            self.active = 1 - pod;
        }
        self.wire.sort();
    }

    fn works(&self, pod: u8) -> bool {
        self.pods[usize::from(pod)].at != At::Rest
    }
}

impl Model for Ownership {
    type State = State;
    type Action = Action;

    fn begin(&self) -> State {
        let pod = || Pod { holds: Vec::new(), at: At::Rest, is_reached: true, ends: false };
        State {
            ready: (0..self.updates).map(|update| (update, false)).collect(),
            active: 0,
            pods: (0..self.pods).map(|_| pod()).collect(),
            wire: Vec::new(),
            etag: 0,
            shows: NONE,
            acked: 0,
            written: 0,
            troubles: 0,
            outsiders: 0,
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
        // The broker hands out to the one that is active, one at a time.
        let active = usize::from(state.active);
        if state.pods[active].is_reached && !state.ready.is_empty() {
            add(Action::HandOut, &|next| {
                let message = next.ready.remove(0);
                next.pods[active].holds.push(message);
            });
        }
        for (pod, it) in (0..).zip(&state.pods) {
            let index = usize::from(pod);
            self.work(pod, it, state, &mut add);
            if it.ends && it.is_reached && (it.at == At::Rest || !self.finish) {
                add(Action::HandOver(pod), &|next| {
                    next.take_away(pod);
                    next.pods[index].ends = false;
                });
            }
            if it.is_reached && state.active == pod && !it.ends && state.troubles < self.troubles {
                add(Action::Yield(pod), &|next| {
                    next.troubles += 1;
                    next.pods[index].ends = true;
                });
            }
            if state.troubles < self.troubles {
                add(Action::Crash(pod), &|next| {
                    next.troubles += 1;
                    next.lose(pod);
                    next.pods[index].ends = false;
                    next.pods[index].is_reached = true;
                });
                if it.is_reached {
                    add(Action::Cut(pod), &|next| {
                        next.troubles += 1;
                        next.pods[index].is_reached = false;
                    });
                }
            }
            if !it.is_reached {
                let has_work = it.at != At::Rest;
                if has_work {
                    add(Action::GiveUp(pod), &|next| next.orphan(pod));
                }
                if !has_work || !self.gives_up_first {
                    // And it connects again.
                    add(Action::TakeAway(pod), &|next| {
                        next.take_away(pod);
                        next.pods[index].is_reached = true;
                        next.pods[index].ends = false;
                    });
                }
            }
        }
        for request in &state.wire {
            add(Action::CarryOut(request.clone()), &|next| carry_out(next, request, self.etags));
            if request.is_gone {
                add(Action::Die(request.clone()), &|next| next.wire.retain(|it| it != request));
            }
        }
        if state.outsiders == 0 && state.etag > 0 {
            add(Action::Outsider, &|next| {
                next.outsiders += 1;
                next.etag += 1;
            });
        }
        all
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        if state.broken.is_some() {
            return state.broken;
        }
        let working = (0..self.pods).filter(|pod| state.works(*pod)).count();
        let ghosts = state.wire.iter().any(|request| request.is_gone);
        (working > 1 || (working == 1 && ghosts)).then_some("two writers")
    }

    fn is_done(&self, state: &State) -> bool {
        state.acked.count_ones() == u32::from(self.updates) && state.shows == self.updates - 1
    }
}

impl Ownership {
    /// The steps of one handling of the message at the head.
    fn work(
        &self,
        pod: u8,
        it: &Pod,
        state: &State,
        add: &mut impl FnMut(Action, &dyn Fn(&mut State)),
    ) {
        let index = usize::from(pod);
        let Some((update, redelivered)) = it.holds.first().copied() else { return };
        let ghosts = state.wire.iter().any(|request| request.is_gone);
        match it.at {
            At::Rest => {
                let waits = redelivered && self.window && ghosts;
                if !it.ends && it.is_reached && !waits {
                    add(Action::Get(pod), &|next| {
                        // What is there already is not written again.
                        let is_there = next.shows == update;
                        next.pods[index].at =
                            if is_there { At::Answered } else { At::Saw(next.etag) };
                    });
                }
            }
            At::Saw(etag) => add(Action::Patch(pod), &|next| {
                next.pods[index].at = At::Sent;
                next.wire.push(Request { pod, update, etag, is_gone: false });
                next.wire.sort();
            }),
            // Its answer is lost: the handling begins again, and the request is nobody's.
            At::Sent => {
                if state.troubles < self.troubles {
                    add(Action::Lose(pod), &|next| {
                        next.troubles += 1;
                        next.wire.retain(|request| request.pod != pod || request.is_gone);
                        next.pods[index].at = At::Rest;
                    });
                }
                if !state.wire.iter().any(|request| request.pod == pod && !request.is_gone) {
                    add(Action::Answer(pod), &|next| {
                        let is_written = next.written & (1 << update) != 0 && next.shows == update;
                        next.pods[index].at = if is_written { At::Answered } else { At::Rest };
                    });
                }
            }
            At::Answered => add(Action::Ack(pod), &|next| {
                next.pods[index].at = At::Rest;
                next.pods[index].holds.remove(0);
                if it.is_reached {
                    next.acked |= 1 << update;
                } else {
                    // It arrives nowhere: the broker still has the message.
                    next.pods[index].holds.insert(0, (update, redelivered));
                    next.pods[index].at = At::Answered;
                }
            }),
        }
    }
}

fn carry_out(next: &mut State, request: &Request, etags: bool) {
    next.wire.retain(|it| it != request);
    if etags && request.etag != next.etag {
        return;
    }
    next.etag += 1;
    let newer = (request.update + 1..8).any(|update| next.acked & (1 << update) != 0);
    if newer {
        next.broken = Some("older over a newer one that is settled");
    }
    next.shows = request.update;
    next.written |= 1 << request.update;
}

#[test]
fn one_writer_and_order_survive_crashes_cuts_and_hand_overs() {
    holds("ownership", &Ownership::default());
}

#[test]
fn without_the_settle_window_two_write() {
    let model = Ownership { window: false, ..Ownership::default() };
    breaks("ownership without settle window", &model, "two writers");
}

#[test]
fn handing_over_before_what_was_begun_is_finished_makes_two_writers() {
    let model = Ownership { finish: false, ..Ownership::default() };
    breaks("ownership, cancel first", &model, "two writers");
}

#[test]
fn broker_that_gives_a_shard_away_before_its_pod_gives_up_makes_two_writers() {
    let model = Ownership { gives_up_first: false, ..Ownership::default() };
    breaks("ownership, late to give up", &model, "two writers");
}

#[test]
fn without_etag_and_window_an_older_update_lands_on_a_newer_one() {
    let model = Ownership { window: false, etags: false, ..Ownership::default() };
    let found = crate::explore::explore(&Blind(model));
    let (why, _) = found.broken.expect("nothing is broken");
    assert_eq!(why, "older over a newer one that is settled");
}

/// The same, and two writers are nothing to it: what then comes of the order?
struct Blind(Ownership);

impl Model for Blind {
    type State = State;
    type Action = Action;

    fn begin(&self) -> State {
        self.0.begin()
    }

    fn next(&self, state: &State) -> Vec<(Action, State)> {
        self.0.next(state)
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        state.broken
    }

    fn is_done(&self, state: &State) -> bool {
        self.0.is_done(state)
    }
}

#[test]
fn with_the_etag_alone_no_older_update_lands_on_a_newer_one() {
    let model = Ownership { window: false, ..Ownership::default() };
    holds("ownership, ETag alone", &Blind(model));
}
