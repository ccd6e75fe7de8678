//! Watches for queues of ours that stand still.
//!
//! By a clock of its own: neither pods that come and go nor a hand-over that waits for a request may
//! keep it from looking.
//!
//! No frame tells a consumer that it is the active one of its queue. What can be known: a lease that was
//! handed anything is active until it ends; the broker counts the active consumers of a queue; and where
//! pods tell each other of themselves, a shard's owner should be active. Of a queue on which another
//! consumer is active, as far as we know, nothing is judged.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::time::{sleep, timeout};

use super::balance::assign;
use super::lease::Lease;
use super::peers::Peers;
use super::slot::{Order, Slot, Source};
use super::standing::add;
use crate::config;
use crate::telemetry::field;

/// Between two looks at a queue that seems to stand still: what has just been published is on its way.
const SECOND_LOOK: Duration = Duration::from_millis(500);

pub(super) struct Watchdog<'a> {
    pub(super) slots: &'a [Arc<Slot>],
    pub(super) peers: &'a Peers,
    pub(super) settings: &'a config::Balance,
    pub(super) prefetch: u16,
    pub(super) answer_max: Duration,
    pub(super) shards: u16,
    /// Counts how often it was needed.
    pub(super) fired: &'a AtomicU64,
}

/// What the broker says of a queue.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Messages that nobody was handed.
    ready: u32,
    /// Consumers that may be handed some.
    active: u32,
}

/// Whether a queue's messages should come to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// They should: we were handed some, we are its owner, or every consumer is.
    Ours,
    /// They should unless another consumer is active.
    Free,
}

impl Claim {
    fn of(source: Source, was_served: bool, owns: impl FnOnce(u16) -> bool) -> Self {
        let is_ours = was_served
            || match source {
                Source::Shard { number, .. } => owns(number),
                Source::Intake { order: Order::Any } => true,
                // Whoever came first has it: no hint tells.
                Source::Intake { order: Order::Kept } | Source::Left { .. } => false,
            };
        if is_ours { Self::Ours } else { Self::Free }
    }

    fn is_broken(self, seen: Seen) -> bool {
        match self {
            Self::Ours => seen.ready > 0,
            Self::Free => seen.ready > 0 && seen.active == 0,
        }
    }
}

/// A queue that seems to stand still.
struct Still<'s> {
    slot: &'s Slot,
    lease: Arc<Lease>,
    claim: Claim,
    ready: u32,
}

impl Watchdog<'_> {
    /// Runs until it is dropped, with its session.
    ///
    /// A queue of ours with messages waiting, nothing at work and nothing delivered for a while:
    /// whatever the reason (broker versions have had several), a new channel is the remedy.
    pub(super) async fn run(&self, connection: &Connection) {
        let mut channel = None;
        loop {
            sleep(self.settings.watch_interval).await;
            let mut still: Vec<Still<'_>> =
                self.slots.iter().filter_map(|it| self.seems(it)).collect();
            self.keep_broken(&mut still, connection, &mut channel).await;
            if still.is_empty() {
                continue;
            }
            sleep(SECOND_LOOK).await;
            self.keep_broken(&mut still, connection, &mut channel).await;
            for Still { slot, lease, ready, .. } in still {
                tracing::warn!(
                    { field::QUEUE } = %slot.queue,
                    messages = ready,
                    "messages wait and none is delivered; subscribing again"
                );
                add(self.fired);
                add(&slot.stood_still);
                lease.ending.cancel();
            }
        }
    }

    fn seems<'s>(&self, slot: &'s Slot) -> Option<Still<'s>> {
        let lease = slot.lease.borrow().clone().filter(|lease| self.stands_still(lease))?;
        let claim = Claim::of(slot.source, lease.was_served(), |shard| self.owns(shard));
        Some(Still { slot, lease, claim, ready: 0 })
    }

    /// Asks the broker, and forgets those that are as they should be.
    async fn keep_broken(
        &self,
        still: &mut Vec<Still<'_>>,
        connection: &Connection,
        channel: &mut Option<Channel>,
    ) {
        for mut one in std::mem::take(still) {
            match timeout(self.answer_max, ask(connection, channel, &one.slot.queue)).await {
                Ok(Ok(seen)) if one.claim.is_broken(seen) && self.stands_still(&one.lease) => {
                    one.ready = seen.ready;
                    still.push(one);
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "cannot look at a queue"),
                Err(_elapsed) => *channel = None,
            }
        }
    }

    /// Whether hints say that this shard is ours. Without any we seem to be alone, and to own everything.
    fn owns(&self, shard: u16) -> bool {
        let owners = assign(self.shards, &self.peers.view().borrow().clone());
        let owner = owners.get(usize::from(shard));
        self.settings.enabled && owner.is_some_and(|it| it.pod == self.peers.me().pod)
    }

    /// Where all that may be handed to us is here, no more comes.
    fn stands_still(&self, lease: &Lease) -> bool {
        lease.working.is_empty()
            && lease.silent_for() >= self.settings.watch_interval
            && lease.unsettled.len() < usize::from(self.prefetch)
            && !lease.ending.is_cancelled()
    }
}

async fn ask(
    connection: &Connection,
    channel: &mut Option<Channel>,
    queue: &str,
) -> Result<Seen, lapin::Error> {
    let open = match channel.take() {
        Some(open) => open,
        None => connection.create_channel().await?,
    };
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = open.queue_declare(queue.into(), options, FieldTable::default()).await?;
    *channel = Some(open);
    Ok(Seen { ready: declared.message_count(), active: declared.consumer_count() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Generation;

    #[test]
    fn queue_is_judged_only_where_its_messages_should_come_to_us() {
        let of = Generation { number: 1, shards: 2 };
        let [kept, any] = [Order::Kept, Order::Any].map(|order| Source::Intake { order });
        let (shard, left) = (Source::Shard { number: 1, of }, Source::Left { number: 1, of });
        for (source, was_served, owns, ours) in [
            (shard, false, true, true),
            (shard, false, false, false),
            (shard, true, false, true),
            (kept, false, true, false),
            (kept, true, false, true),
            (left, false, true, false),
            (left, true, false, true),
            (any, false, false, true),
        ] {
            let claim = Claim::of(source, was_served, |_| owns);
            assert_eq!(claim == Claim::Ours, ours, "{source:?} {was_served} {owns}");
        }
        for (ready, active, ours, free) in
            [(0, 0, false, false), (0, 1, false, false), (3, 1, true, false), (3, 0, true, true)]
        {
            let seen = Seen { ready, active };
            let broken = [Claim::Ours, Claim::Free].map(|claim| claim.is_broken(seen));
            assert_eq!(broken, [ours, free], "{seen:?}");
        }
    }
}
