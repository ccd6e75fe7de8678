//! A broker as a value: quorum queues with a single active consumer, as they were measured on RabbitMQ
//! 3.10.8, 4.0.5 and 4.3.6 (docs/PROOF.md, "The simulated broker"). Knows no time and no network.
//!
//! `tests/it/conformance.rs` runs the same script on this and on a real broker.

use std::collections::{BTreeMap, VecDeque};

/// Names a consumer: its connection, and its channel there.
pub(crate) type Id = (u64, u64);

/// What is in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored<M> {
    pub(crate) body: M,
    /// How often a holder went away without settling it: `x-delivery-count`.
    pub(crate) count: u64,
    /// Handed out before.
    pub(crate) redelivered: bool,
}

/// A message that goes to a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handed<M> {
    pub(crate) to: Id,
    pub(crate) tag: u64,
    pub(crate) message: Stored<M>,
}

#[derive(Debug)]
struct Consumer {
    id: Id,
    prefetch: usize,
}

/// What a channel holds of a queue.
#[derive(Debug)]
struct Held<M> {
    unacked: BTreeMap<u64, Stored<M>>,
    tags: u64,
}

#[derive(Debug)]
struct Queue<M> {
    /// Given back by those who went away: handed out first, those that came back first before others.
    returned: VecDeque<Stored<M>>,
    ready: VecDeque<Stored<M>>,
    /// Who subscribed, oldest first: the first one is active.
    line: VecDeque<Consumer>,
    held: BTreeMap<Id, Held<M>>,
    delivery_limit: u64,
}

/// All queues. A channel consumes from one queue, as ours do.
#[derive(Debug)]
pub(crate) struct Broker<M> {
    queues: BTreeMap<String, Queue<M>>,
    of: BTreeMap<Id, String>,
}

impl<M: Clone> Broker<M> {
    pub(crate) fn new() -> Self {
        Self { queues: BTreeMap::new(), of: BTreeMap::new() }
    }

    pub(crate) fn declare(&mut self, queue: &str, delivery_limit: u64) {
        self.queues.entry(queue.to_owned()).or_insert_with(|| Queue {
            returned: VecDeque::new(),
            ready: VecDeque::new(),
            line: VecDeque::new(),
            held: BTreeMap::new(),
            delivery_limit,
        });
    }

    /// False if there is no such queue: the message is returned.
    pub(crate) fn publish(&mut self, queue: &str, body: M) -> bool {
        let Some(queue) = self.queues.get_mut(queue) else { return false };
        queue.ready.push_back(Stored { body, count: 0, redelivered: false });
        true
    }

    /// Stands in line, behind those who are there. False if there is no such queue.
    pub(crate) fn subscribe(&mut self, name: &str, id: Id, prefetch: usize) -> bool {
        let Some(queue) = self.queues.get_mut(name) else { return false };
        queue.line.push_back(Consumer { id, prefetch });
        queue.held.insert(id, Held { unacked: BTreeMap::new(), tags: 0 });
        self.of.insert(id, name.to_owned());
        true
    }

    /// Hands out what the active consumer has room for.
    pub(crate) fn hand_out(&mut self, name: &str) -> Vec<Handed<M>> {
        let mut handed = Vec::new();
        let Some(queue) = self.queues.get_mut(name) else { return handed };
        let Some(Consumer { id, prefetch }) = queue.line.front() else { return handed };
        let Some(held) = queue.held.get_mut(id) else { return handed };
        while held.unacked.len() < *prefetch {
            let next = queue.returned.pop_front().or_else(|| queue.ready.pop_front());
            let Some(message) = next else { break };
            held.tags += 1;
            held.unacked.insert(held.tags, Stored { redelivered: true, ..message.clone() });
            handed.push(Handed { to: *id, tag: held.tags, message });
        }
        handed
    }

    /// What this ack settles: nothing if the tag is unknown, which ends the channel of a real one.
    pub(crate) fn ack(&mut self, id: Id, tag: u64, multiple: bool) -> Vec<M> {
        let Some(held) = self.held(id) else { return Vec::new() };
        let tags: Vec<u64> = if multiple {
            held.unacked.range(..=tag).map(|(tag, _)| *tag).collect()
        } else {
            vec![tag]
        };
        tags.iter().filter_map(|tag| held.unacked.remove(tag)).map(|it| it.body).collect()
    }

    /// `basic.cancel`: the next one becomes active at once, and what is unacked stays with the channel.
    pub(crate) fn cancel(&mut self, id: Id) {
        if let Some(queue) = self.of.get(&id).and_then(|name| self.queues.get_mut(name)) {
            queue.line.retain(|consumer| consumer.id != id);
        }
    }

    /// The channel is closed, in whatever way. What was unacked goes back, in order, behind what came
    /// back before. What comes back too often is dead-lettered: returned here.
    pub(crate) fn leave(&mut self, id: Id) -> Vec<M> {
        self.cancel(id);
        let Some(name) = self.of.remove(&id) else { return Vec::new() };
        let Some(queue) = self.queues.get_mut(&name) else { return Vec::new() };
        let Some(held) = queue.held.remove(&id) else { return Vec::new() };
        let mut dead = Vec::new();
        for mut message in held.unacked.into_values() {
            message.count += 1;
            if message.count > queue.delivery_limit {
                dead.push(message.body);
            } else {
                queue.returned.push_back(message);
            }
        }
        dead
    }

    /// The consumers of a connection.
    pub(crate) fn ids(&self, connection: u64) -> Vec<Id> {
        self.of.range((connection, 0)..=(connection, u64::MAX)).map(|(id, _)| *id).collect()
    }

    fn held(&mut self, id: Id) -> Option<&mut Held<M>> {
        self.queues.get_mut(self.of.get(&id)?)?.held.get_mut(&id)
    }

    /// The queue that a channel consumes from.
    pub(crate) fn queue_of(&self, id: Id) -> Option<&str> {
        self.of.get(&id).map(String::as_str)
    }

    /// Messages that nobody holds, and those that somebody does.
    pub(crate) fn depth(&self, queue: &str) -> (usize, usize) {
        let Some(queue) = self.queues.get(queue) else { return (0, 0) };
        let held = queue.held.values().map(|held| held.unacked.len()).sum();
        (queue.returned.len() + queue.ready.len(), held)
    }

    /// What a channel has not acked.
    pub(crate) fn unacked(&self, id: Id) -> usize {
        let queue = self.of.get(&id).and_then(|name| self.queues.get(name));
        queue.and_then(|queue| queue.held.get(&id)).map_or(0, |held| held.unacked.len())
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.queues.keys().map(String::as_str)
    }
}
