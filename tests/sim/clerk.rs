//! How the broker writes acks down.
//!
//! A channel of RabbitMQ passes so many commands on to a quorum queue at a time, keeps the rest to itself, and
//! forgets it when it is closed (`ACKS_REST` in `src/broker/delivery.rs`). What it has passed on is written down,
//! also where the channel is gone by then.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::book::State;
use crate::broker::Id;
use crate::stage::{Stage, Way};

/// Longest that a command is on its way into the log of a queue.
const WRITING_MAX: u64 = 15;

/// Who was cut off or stood still so lately has no clean close: what it sent comes all at once.
const DISTURBED: Duration = Duration::from_secs(2);

/// A tag, and whether it stands for all before it.
type Ack = (u64, bool);

/// The acks of one channel.
#[derive(Debug)]
pub(crate) struct Clerk {
    /// On their way into the log, in order.
    passed: VecDeque<Vec<Ack>>,
    /// Kept until there is room, and then passed on as one.
    kept: Vec<Ack>,
    /// When the last one is written.
    free: Instant,
}

/// Acks that the broker forgot though their channel was closed in good order: of this pod.
#[derive(Debug)]
pub(crate) struct Forgotten {
    pub(crate) pod: usize,
    at: Duration,
    acks: usize,
}

impl Stage {
    /// An ack arrives.
    pub(crate) fn acked(&mut self, id: Id, tag: u64, multiple: bool) {
        if self.broker.queue_of(id).is_none() {
            return;
        }
        let free = Instant::now();
        let new = || Clerk { passed: VecDeque::new(), kept: Vec::new(), free };
        let clerk = self.clerks.entry(id).or_insert_with(new);
        if clerk.passed.len() < self.plan.passed_max && clerk.kept.is_empty() {
            self.pass(id, vec![(tag, multiple)]);
        } else {
            clerk.kept.push((tag, multiple));
            self.book.saw(State::AckKept);
        }
    }

    fn pass(&mut self, id: Id, acks: Vec<Ack>) {
        let wait = Duration::from_millis(self.rng.u64(1..=WRITING_MAX));
        let Some(clerk) = self.clerks.get_mut(&id) else { return };
        clerk.passed.push_back(acks);
        clerk.free = clerk.free.max(Instant::now() + wait);
        let at = clerk.free;
        self.at(at, Box::new(move |stage| stage.write_next(id)));
    }

    fn write_next(&mut self, id: Id) {
        let next = self.clerks.get_mut(&id).and_then(|clerk| clerk.passed.pop_front());
        next.into_iter().flatten().for_each(|ack| self.write(id, ack));
        let Some(clerk) = self.clerks.get_mut(&id) else { return };
        if clerk.passed.len() < self.plan.passed_max && !clerk.kept.is_empty() {
            let kept = std::mem::take(&mut clerk.kept);
            self.pass(id, kept);
        }
    }

    fn write(&mut self, id: Id, (tag, multiple): Ack) {
        let now = self.begun.elapsed();
        let settled = self.broker.ack(id, tag, multiple);
        self.trace.note("acked", [id.0, id.1, tag]);
        if settled.is_empty() && self.broker.queue_of(id).is_some() {
            // A real one would end the channel.
            self.book.complain(now, format!("an ack of an unknown delivery: {tag} on {id:?}"));
        }
        for message in settled {
            self.book.acked(id, tag, &message, now);
        }
        if let Some(queue) = self.broker.queue_of(id).map(str::to_owned) {
            self.hand_out(&queue);
        }
    }

    /// The channel is gone: what was passed on is written, and the rest is forgotten.
    pub(crate) fn let_clerk_go(&mut self, id: Id) -> usize {
        let Some(clerk) = self.clerks.remove(&id) else { return 0 };
        clerk.passed.into_iter().flatten().for_each(|ack| self.write(id, ack));
        if !clerk.kept.is_empty() {
            self.trace.note("forgets acks", [id.0, id.1, clerk.kept.len() as u64]);
            self.book.saw(State::AckForgotten);
        }
        clerk.kept.len()
    }

    /// A pod closes a channel, with nothing at work any more.
    pub(crate) fn closes(&mut self, id: Id) {
        let pod = self.tcps.get(&id.0).map(|it| it.pod).unwrap_or_default();
        let acks = self.let_clerk_go(id);
        if acks > 0 && !self.is_disturbed(pod) {
            self.forgotten.push(Forgotten { pod, at: self.begun.elapsed(), acks });
        }
        self.leaves(id);
    }

    fn is_disturbed(&self, pod: usize) -> bool {
        let Some(around) = self.around.get(pod) else { return true };
        let is_cut = [Way::ToBroker, Way::FromBroker].iter().any(|way| self.is_cut(pod, *way));
        is_cut || around.stands || around.disturbed.is_some_and(|at| at.elapsed() < DISTURBED)
    }

    /// A pod ended. One that drained has closed its channels in good order; one whose grace ran out, or that
    /// was killed meanwhile, has not.
    pub(crate) fn ended(&mut self, pod: usize, has_drained: bool) {
        let (its, others) =
            std::mem::take(&mut self.forgotten).into_iter().partition(|it| it.pod == pod);
        self.forgotten = others;
        if has_drained {
            self.complain_of(its);
        }
    }

    pub(crate) fn complain_of(&mut self, forgotten: Vec<Forgotten>) {
        for Forgotten { pod, at, acks } in forgotten {
            let what = format!("{acks} acks of pod {pod} were forgotten at a clean close");
            self.book.complain(at, what);
        }
    }
}
