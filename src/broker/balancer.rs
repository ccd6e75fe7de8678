//! Brings each shard to the pod that should hold it, and watches for shards that stand still.
//!
//! One shard at a time, idle ones first, so that the others go on. See [`super::balance`] for who
//! should hold what.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::balance::{Peer, Yields, assign};
use super::delivery::Lease;
use super::peers::Peers;
use super::slot::{Slot, Source};
use crate::config;
use crate::telemetry::field;

pub(super) struct Balancer<'a> {
    slots: &'a [Arc<Slot>],
    peers: &'a Peers,
    settings: &'a config::Balance,
    answer_max: Duration,
    shards: u16,
    yields: Yields,
}

impl<'a> Balancer<'a> {
    pub(super) fn new(
        slots: &'a [Arc<Slot>],
        peers: &'a Peers,
        settings: &'a config::Balance,
        answer_max: Duration,
    ) -> Self {
        let shards =
            slots.iter().filter(|slot| matches!(slot.source, Source::Shard { .. })).count();
        let shards = u16::try_from(shards).unwrap_or(u16::MAX);
        Self { slots, peers, settings, answer_max, shards, yields: Yields::default() }
    }

    /// Runs until it is dropped, with its session.
    pub(super) async fn run(mut self, connection: &Connection) {
        let mut view = self.peers.view();
        let mut channel = None;
        let mut watched = Instant::now();
        loop {
            view.mark_unchanged();
            // Pods that flap move nothing: a view must have stood for a while.
            if timeout(self.settings.interval, view.changed()).await.is_ok() {
                continue;
            }
            let owners = assign(self.shards, &view.borrow().clone());
            self.hand_over(&owners, &mut view).await;
            if watched.elapsed() >= self.settings.watch_interval {
                self.watch(connection, &mut channel, &owners).await;
                watched = Instant::now();
            }
        }
    }

    async fn hand_over(&mut self, owners: &[Peer], view: &mut watch::Receiver<Vec<Peer>>) {
        let mut due: Vec<_> = self
            .yields
            .due(owners, self.peers.me())
            .into_iter()
            .filter_map(|shard| Some((shard, self.slot(shard)?, *owners.get(usize::from(shard))?)))
            .collect();
        due.sort_by_key(|(_, slot, _)| {
            slot.lease.borrow().as_ref().map(|lease| lease.working.len())
        });
        for (shard, slot, owner) in due {
            if view.has_changed().unwrap_or(true) {
                return;
            }
            give_back(slot, self.answer_max).await;
            self.yields.done(shard, owner);
        }
    }

    fn slot(&self, shard: u16) -> Option<&'a Slot> {
        let is_it = |slot: &&Arc<Slot>| matches!(slot.source, Source::Shard { number, .. } if number == shard);
        self.slots.iter().find(is_it).map(Arc::as_ref)
    }

    /// A shard of ours with messages waiting, nothing at work and nothing delivered for a while:
    /// whatever the reason (broker versions have had several), a new channel is the remedy.
    async fn watch(&self, connection: &Connection, channel: &mut Option<Channel>, owners: &[Peer]) {
        for slot in self.slots {
            let Source::Shard { number: shard, .. } = slot.source else { continue };
            let mine =
                owners.get(usize::from(shard)).is_some_and(|it| it.pod == self.peers.me().pod);
            let lease = slot.lease.borrow().clone();
            let Some(lease) = lease.filter(|lease| mine && self.stands_still(lease)) else {
                continue;
            };
            let asking = waiting(connection, channel, &slot.queue);
            match timeout(self.answer_max, asking).await {
                Ok(Ok(0)) => {}
                Ok(Ok(messages)) => {
                    tracing::warn!(
                        { field::QUEUE } = %slot.queue,
                        messages,
                        "messages wait and none is delivered; subscribing again"
                    );
                    lease.ending.cancel();
                }
                Ok(Err(error)) => tracing::debug!(%error, "cannot look at a shard"),
                Err(_elapsed) => *channel = None,
            }
        }
    }

    fn stands_still(&self, lease: &Arc<Lease>) -> bool {
        lease.working.is_empty() && lease.silent_for() >= self.settings.watch_interval
    }
}

/// Gives the channel back and waits until the next one stands in line.
async fn give_back(slot: &Slot, answer_max: Duration) {
    let mut leases = slot.lease.subscribe();
    let Some(lease) = leases.borrow_and_update().clone() else { return };
    lease.ending.cancel();
    let newer = |now: &Arc<Lease>| now.generation > lease.generation;
    // Bounded by the deadlines of what is on the wire.
    drop(leases.wait_for(|now| now.as_ref().is_none_or(newer)).await);
    // A queue that cannot be subscribed to must not keep the others from moving.
    let next = leases.wait_for(|now| now.as_ref().is_some_and(newer));
    if timeout(answer_max.saturating_mul(2), next).await.is_err() {
        tracing::debug!({ field::QUEUE } = %slot.queue, "not subscribed to again yet");
    }
}

async fn waiting(
    connection: &Connection,
    channel: &mut Option<Channel>,
    queue: &str,
) -> Result<u32, lapin::Error> {
    let open = match channel.take() {
        Some(open) => open,
        None => connection.create_channel().await?,
    };
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = open.queue_declare(queue.into(), options, FieldTable::default()).await?;
    *channel = Some(open);
    Ok(declared.message_count())
}
