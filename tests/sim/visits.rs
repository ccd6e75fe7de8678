//! Requests on their way to the target, at it, and back.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use orderwright::order::ETag;
use orderwright::protocol::{Answer, Fault, Reply};
use orderwright::simulator::reply::{Body, Outcome};
use orderwright::simulator::request::{Operation, Request};
use orderwright::simulator::world::{Arrived, Judged};
use tokio::sync::oneshot;

use crate::book::State;
use crate::plan::SEQUENCE;
use crate::stage::{Event, Stage, Way};

/// A request that was on the way for longer was lost: its connection is given up.
const ON_THE_WAY_MAX: Duration = Duration::from_secs(15);

/// What is true of the target's side of the network.
#[derive(Debug, Default, Clone)]
pub(crate) struct Weather {
    pub(crate) slower: Duration,
    pub(crate) lost_of_ten: u8,
    pub(crate) doubled_of_ten: u8,
}

struct Visit {
    pod: usize,
    walk: Option<uuid::Uuid>,
    sent: Duration,
    /// Since when nobody waits for the answer.
    gone: Option<Duration>,
    answer: Option<oneshot::Sender<Reply>>,
    arrived: Option<Arrived>,
    judged: Option<Judged>,
    writes: Option<(usize, u64)>,
}

/// The requests under way.
#[derive(Default)]
pub(crate) struct Visits {
    next: u64,
    open: BTreeMap<u64, Visit>,
    held: Vec<(usize, Way, Event)>,
    pub(crate) weather: Weather,
    /// Attempts of one handling of one message.
    pub(crate) attempts: BTreeMap<uuid::Uuid, u32>,
    /// What the GET of an attempt showed.
    pub(crate) etags: BTreeMap<uuid::Uuid, ETag>,
    /// Writes of one handling of one message.
    wrote: BTreeMap<uuid::Uuid, u32>,
}

/// The order and the number that a PATCH writes.
fn writes(request: &Request) -> Option<(usize, u64)> {
    let Operation::Patch(Ok(body)) = &request.operation else { return None };
    let number = body.get(SEQUENCE)?.as_u64()?;
    let order = request.target.as_ref().ok()?.number.strip_prefix("SO-")?.parse().ok()?;
    Some((order, number))
}

impl Stage {
    pub(crate) fn send(
        &mut self,
        (pod, walk): (usize, Option<uuid::Uuid>),
        request: Request,
        answer: oneshot::Sender<Reply>,
    ) -> u64 {
        self.visits.next += 1;
        let number = self.visits.next;
        let writes = writes(&request);
        let (sent, answer) = (self.now(), Some(answer));
        let visit =
            Visit { pod, walk, sent, gone: None, answer, arrived: None, judged: None, writes };
        self.visits.open.insert(number, visit);
        let is_doubled = self.rng.u8(..10) < self.visits.weather.doubled_of_ten;
        if is_doubled {
            // A second copy, whose answer nobody sees: it is carried out while the first one is.
            let copy = request.clone();
            self.way(pod, Way::ToTarget, move |stage| stage.double((number, walk), copy));
        }
        self.way(pod, Way::ToTarget, move |stage| stage.arrive(number, request));
        number
    }

    /// Over the network, where requests overtake each other.
    fn way(&mut self, pod: usize, way: Way, event: impl FnOnce(&mut Self) + Send + 'static) {
        if self.is_cut(pod, way) {
            return self.visits.held.push((pod, way, Box::new(event)));
        }
        let wait = self.on_the_way();
        self.after(wait, event);
    }

    /// A cut has healed.
    pub(crate) fn release_requests(&mut self, pod: usize, way: Way) {
        let held = std::mem::take(&mut self.visits.held);
        for (whose, which, event) in held {
            if (whose, which) == (pod, way) {
                let wait = self.on_the_way();
                self.after(wait, event);
            } else {
                self.visits.held.push((whose, which, event));
            }
        }
    }

    fn window(&self) -> Duration {
        self.plan.assumed_window()
    }

    /// Whether a request comes too late to be carried out.
    fn is_lost(&self, number: u64) -> bool {
        let Some(visit) = self.visits.open.get(&number) else { return true };
        let is_over = |since: Duration, most| self.now() > since + most;
        is_over(visit.sent, ON_THE_WAY_MAX)
            || visit.gone.is_some_and(|gone| is_over(gone, self.window()))
    }

    fn arrive(&mut self, number: u64, request: Request) {
        if self.is_lost(number) {
            self.visits.open.remove(&number);
            return;
        }
        let clock = self.wall();
        let arrived = self.world.arrive(request, clock);
        let before = arrived.before() + self.visits.weather.slower;
        let rest = self.rest(number);
        if let Some(visit) = self.visits.open.get_mut(&number) {
            visit.arrived = Some(arrived);
        }
        self.after(before.min(rest), move |stage| stage.judge(number));
    }

    /// How long a request may still be carried out.
    fn rest(&self, number: u64) -> Duration {
        let gone = self.visits.open.get(&number).and_then(|visit| visit.gone);
        gone.map_or(Duration::MAX / 4, |gone| (gone + self.window()).saturating_sub(self.now()))
    }

    fn double(&mut self, (number, walk): (u64, Option<uuid::Uuid>), request: Request) {
        if self.is_lost(number) {
            return;
        }
        let (clock, writes) = (self.wall(), writes(&request));
        let arrived = self.world.arrive(request, clock);
        let applied = self.world.totals().applied;
        let judged = self.world.judge(arrived, clock);
        let is_written = self.world.totals().applied > applied;
        self.note_write(is_written, walk, writes);
        let _nobody = self.world.leave(judged);
    }

    fn note_write(
        &mut self,
        is_written: bool,
        walk: Option<uuid::Uuid>,
        writes: Option<(usize, u64)>,
    ) {
        if let (true, Some((order, number))) = (is_written, writes) {
            self.trace.note("writes", [order as u64, number, 0]);
            let now = self.now();
            let wrote = self.visits.wrote.entry(walk.unwrap_or_default()).or_default();
            *wrote += 1;
            // Those that are written as one may be once more: after a conflict the first of them is judged, and
            // it shows what the last one wrote.
            if *wrote > 1 && !self.plan.is_merging {
                self.book.complain(
                    now,
                    format!("update {number} of order {order} was written twice by one handling"),
                );
            }
            self.book.written(order, number, now);
        }
    }

    fn judge(&mut self, number: u64) {
        let Some(visit) = self.visits.open.get_mut(&number) else { return };
        let (writes, walk, is_gone) = (visit.writes, visit.walk, visit.gone.is_some());
        let Some(arrived) = visit.arrived.take() else { return };
        let answer = visit.answer.take();
        let (clock, applied) = (self.wall(), self.world.totals().applied);
        let judged = self.world.judge(arrived, clock);
        let is_written = self.world.totals().applied > applied;
        if is_written && is_gone {
            self.book.saw(State::LateWrite);
        }
        self.note_write(is_written, walk, writes);
        let after = if is_gone { Duration::ZERO } else { judged.after() };
        if let Some(visit) = self.visits.open.get_mut(&number) {
            visit.judged = Some(judged);
            visit.answer = answer;
        }
        self.after(after, move |stage| stage.leave(number));
    }

    /// It is answered, or would be if anybody still waited.
    fn leave(&mut self, number: u64) {
        if self.visits.open.get(&number).is_none_or(|visit| visit.judged.is_none()) {
            return;
        }
        let Some(visit) = self.visits.open.remove(&number) else { return };
        let (Some(judged), pod) = (visit.judged, visit.pod) else { return };
        let outcome = self.world.leave(judged);
        let is_lost = self.rng.u8(..10) < self.visits.weather.lost_of_ten;
        let is_reset = self.rng.bool();
        let Some(answer) = visit.answer else { return };
        if is_lost && !is_reset {
            // The client waits for its deadline.
            return self.after(Duration::from_hours(1), move |_| drop(answer));
        }
        let reply = if is_lost { Err(Fault::Broken) } else { reply(outcome) };
        self.note_answer(&reply);
        self.way(pod, Way::FromTarget, move |_| drop(answer.send(reply)));
    }

    fn note_answer(&mut self, reply: &Reply) {
        match reply {
            Ok(Answer { status: 412, .. }) => self.book.saw(State::Conflict),
            Ok(Answer { status: 429, .. }) => self.book.saw(State::Throttled),
            Ok(_) | Err(_) => {}
        }
    }

    /// Its client is gone: the service goes on with it for a while, or is about to end.
    pub(crate) fn nobody_waits(&mut self, number: u64) {
        let now = self.now();
        let window = self.window().mul_f64(self.rng.f64());
        let Some(visit) = self.visits.open.get_mut(&number) else { return };
        visit.gone = Some(now);
        visit.answer = None;
        self.after(window, move |stage| {
            stage.judge(number);
            stage.leave(number);
        });
    }
}

fn reply(outcome: Outcome) -> Reply {
    let reply = match outcome {
        Outcome::Cut | Outcome::CutInBody(_) => return Err(Fault::Broken),
        Outcome::Reply(reply) => reply,
    };
    let (is_json, body) = match reply.body {
        Body::Json(json) => (true, json),
        Body::Html(page) => (false, Bytes::from_static(page.as_bytes())),
        Body::Empty | Body::Multipart { .. } => (false, Bytes::new()),
    };
    let seconds = |text: &String| text.parse().ok().map(Duration::from_secs);
    Ok(Answer {
        status: reply.status,
        etag: reply.etag.as_deref().and_then(ETag::new),
        retry_after: reply.retry_after.as_ref().and_then(seconds),
        repeat_rejected: false,
        is_json,
        service_request_id: None,
        body,
    })
}
