//! Watches for shards of ours that stand still.
//!
//! By a clock of its own: neither pods that come and go nor a hand-over that waits for a request may
//! keep it from looking.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::time::{sleep, timeout};

use super::balance::{Peer, assign};
use super::delivery::Lease;
use super::peers::Peers;
use super::slot::{Slot, Source};
use super::standing::add;
use crate::config;
use crate::telemetry::field;

pub(super) struct Watchdog<'a> {
    pub(super) slots: &'a [Arc<Slot>],
    pub(super) peers: &'a Peers,
    pub(super) settings: &'a config::Balance,
    pub(super) answer_max: Duration,
    pub(super) shards: u16,
    /// Counts how often it was needed.
    pub(super) fired: &'a AtomicU64,
}

impl Watchdog<'_> {
    /// Runs until it is dropped, with its session.
    pub(super) async fn run(&self, connection: &Connection) {
        let mut channel = None;
        loop {
            sleep(self.settings.watch_interval).await;
            let owners = assign(self.shards, &self.peers.view().borrow().clone());
            self.look(connection, &mut channel, &owners).await;
        }
    }

    /// A shard of ours with messages waiting, nothing at work and nothing delivered for a while:
    /// whatever the reason (broker versions have had several), a new channel is the remedy.
    async fn look(&self, connection: &Connection, channel: &mut Option<Channel>, owners: &[Peer]) {
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
                    add(self.fired);
                    add(&slot.stood_still);
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
