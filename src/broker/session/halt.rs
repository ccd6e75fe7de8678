//! What an operator asks of a consumer: to take nothing, to go on, to let one shard go.

use std::sync::Arc;

use super::Consumer;
use crate::broker::slot::{Slot, Source};

impl Consumer {
    /// Takes nothing more: what was begun is finished, then every queue is given back, without a cancel, so
    /// that the next pod in line has it, in order. False if that was asked before. Over with the process.
    pub fn halt(&self) -> bool {
        let is_news = self.peers.leave();
        // A lease that comes into being meanwhile looks at what was just said.
        for lease in self.consumed().iter().filter_map(|slot| slot.lease.borrow().clone()) {
            lease.ending.cancel();
        }
        is_news
    }

    /// Takes its share again, behind those who stand in line by now. False if it was never halted.
    pub fn go_on(&self) -> bool {
        self.peers.come_back()
    }

    /// Whether it was halted.
    pub fn is_halted(&self) -> bool {
        *self.peers.away().borrow()
    }

    /// Finishes what was begun of this shard, gives it back, and queues up for it again. What it comes to:
    /// its queue, and how many messages are at work. `None` if it is not subscribed to.
    pub fn hand_back(&self, shard: u16) -> Option<(Arc<str>, usize)> {
        let is_it = |slot: &&Arc<Slot>| matches!(slot.source, Source::Shard { number, .. } if number == shard);
        let slots = self.consumed();
        let slot = slots.iter().find(is_it)?;
        let lease = slot.lease.borrow().clone()?;
        lease.ending.cancel();
        Some((slot.queue.clone(), lease.working.len()))
    }
}
