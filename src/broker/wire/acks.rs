//! Acks on their way out, those of a connection together.
//!
//! Each ack by itself would wake the library's thread, be a packet of its own, and wake the broker's reader: under
//! load that was a third of what the broker had to do. Here the first one goes out at once, and those that come
//! within a moment after it go together. Each is still an ack of its own: none is said for others.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use lapin::Channel;
use lapin::options::BasicAckOptions;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How long acks gather behind one that went out. A process that dies meanwhile leaves messages that come again and
/// are found applied.
const MOMENT: Duration = Duration::from_millis(1);

/// Acks that gather at most; whoever brings the last one sends them.
const GATHERED_MAX: usize = 64;

/// The acks of one connection.
#[derive(Debug, Default)]
pub(super) struct Acks {
    gathered: Mutex<Vec<(Arc<Channel>, u64)>>,
    due: Notify,
}

impl Acks {
    /// Takes an ack for this channel. False if the channel is gone, as far as is known.
    pub(super) fn add(&self, channel: &Arc<Channel>, tag: u64) -> bool {
        if !channel.status().connected() {
            return false;
        }
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.push((channel.clone(), tag));
        let count = gathered.len();
        drop(gathered);
        if count >= GATHERED_MAX {
            self.send();
        } else if count == 1 {
            self.due.notify_one();
        }
        true
    }

    /// Puts all that has gathered into the line of what is to be sent. One that finds its channel gone is lost, as one
    /// that the loss overtakes on the wire: whoever has the lease is told of that by the channel.
    pub(super) fn send(&self) {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: what is sent after it is said to be sent stands behind these.
        for (channel, tag) in gathered.drain(..) {
            // The library puts it into the line at the first look at its future.
            let _sent = channel.basic_ack(tag, BasicAckOptions::default()).now_or_never();
        }
    }

    /// Sends them, until it is dropped.
    async fn run(&self) {
        loop {
            self.due.notified().await;
            self.send();
            sleep(MOMENT).await;
        }
    }
}

/// The acks of one connection, with the task that sends them.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) acks: Arc<Acks>,
    _task: JoinSet<()>,
}

impl Sending {
    /// Must be called within the runtime.
    pub(super) fn begin() -> Self {
        let (acks, mut task) = (Arc::<Acks>::default(), JoinSet::new());
        let sent = acks.clone();
        task.spawn(async move { sent.run().await });
        Self { acks, _task: task }
    }
}
