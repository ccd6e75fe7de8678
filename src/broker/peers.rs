//! Hints between pods: who is there, and who has handed a shard over cleanly.
//!
//! Over a fanout exchange, on a connection of its own, unconfirmed and unkept. Losing a hint costs
//! balance or a few seconds of waiting, never safety.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::balance::Peer;
use super::clean::{Handing, Word};
use super::wire::{Hints, Wire};
use crate::telemetry::field;

/// Announcements that may be missed before a pod is forgotten: a busy machine is late now and then,
/// and a pod that is gone has lost its shards at once in any case.
const MISSED_MAX: u32 = 4;

/// Hints that wait to be sent. One for each shard of a pod that leaves.
const OUTGOING_MAX: usize = 2048;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "hint")]
enum Hint {
    /// Sent at each interval.
    Here {
        pod: uuid::Uuid,
        epoch: u64,
        /// Messages of a shard that it is handed at once. A pod of an older version does not say.
        prefetch: Option<u16>,
    },
    /// Sent once, on a drain.
    Bye { pod: uuid::Uuid },
    /// Nothing of this queue is on the wire any more, and this message is the first that goes back.
    Clean {
        queue: String,
        #[serde(flatten)]
        first: Handing,
    },
}

/// Who was last heard to have given a queue back with nothing on the wire.
type Words = BTreeMap<Arc<str>, watch::Sender<Option<Word>>>;

/// What other pods told, and what we tell them.
#[derive(Debug)]
pub(super) struct Peers {
    pod: uuid::Uuid,
    exchange: String,
    interval: Duration,
    prefetch: u16,
    /// It was told that another pod has another prefetch.
    differs: AtomicBool,
    epoch: watch::Sender<u64>,
    /// This pod takes nothing: the others reckon without it.
    away: watch::Sender<bool>,
    view: watch::Sender<Vec<Peer>>,
    words: Mutex<Words>,
    outgoing: mpsc::Sender<Hint>,
    to_send: tokio::sync::Mutex<mpsc::Receiver<Hint>>,
}

impl Peers {
    pub(super) fn new(
        pod: uuid::Uuid,
        exchange: String,
        interval: Duration,
        prefetch: u16,
    ) -> Self {
        let (outgoing, to_send) = mpsc::channel(OUTGOING_MAX);
        Self {
            pod,
            exchange,
            interval,
            prefetch,
            differs: AtomicBool::new(false),
            epoch: watch::Sender::new(0),
            away: watch::Sender::new(false),
            view: watch::Sender::new(vec![Peer { pod, epoch: 0 }]),
            words: Mutex::default(),
            outgoing,
            to_send: tokio::sync::Mutex::new(to_send),
        }
    }

    /// This pod under its present subscriptions.
    pub(super) fn me(&self) -> Peer {
        Peer { pod: self.pod, epoch: *self.epoch.borrow() }
    }

    /// The pods that are there and take their share, this one included.
    pub(super) fn view(&self) -> watch::Receiver<Vec<Peer>> {
        self.view.subscribe()
    }

    /// Whether this pod takes nothing.
    pub(super) fn away(&self) -> watch::Receiver<bool> {
        self.away.subscribe()
    }

    /// It takes nothing from now on. False if it was so before.
    pub(super) fn leave(&self) -> bool {
        !self.away.send_replace(true)
    }

    /// It takes its share again, with new subscriptions. False if it never left.
    pub(super) fn come_back(&self) -> bool {
        let was_away = self.away.send_replace(false);
        if was_away {
            self.renew();
        }
        was_away
    }

    /// Our subscriptions are new: they stand behind everybody's.
    pub(super) fn renew(&self) {
        self.epoch.send_modify(|epoch| *epoch += 1);
    }

    /// What is heard of this queue.
    pub(super) fn word(&self, queue: &Arc<str>) -> watch::Receiver<Option<Word>> {
        match self.words().get(queue) {
            Some(word) => word.subscribe(),
            None => watch::Sender::new(None).subscribe(),
        }
    }

    /// Word of these queues matters from now on, and of no others.
    pub(super) fn expect(&self, queues: impl Iterator<Item = Arc<str>>) {
        let mut words = self.words();
        let mut known = std::mem::take(&mut *words);
        words.extend(queues.map(|queue| {
            let word = known.remove(&queue).unwrap_or_else(|| watch::Sender::new(None));
            (queue, word)
        }));
    }

    fn words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells that nothing of this queue is on the wire any more. Does not wait: a hint that has no room
    /// costs the next owner its settle window.
    pub(super) fn tell_clean(&self, queue: &str, first: Handing) {
        let hint = Hint::Clean { queue: queue.to_owned(), first };
        if let Err(full) = self.outgoing.try_send(hint) {
            tracing::debug!({ field::SAID } = ?full.into_inner(), "no room for a hint");
        }
    }

    /// Our own lease on this queue broke: what was clean when it came to us is so no longer.
    pub(super) fn forget_clean(&self, queue: &str) {
        if let Some(word) = self.words().get(queue) {
            word.send_replace(None);
        }
    }

    /// Speaks and listens until `stop`, then says good-bye. Connects again whenever it has to.
    pub(super) async fn run(&self, wire: &impl Wire, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.session(wire, &stop).await {
                tracing::debug!(%error, "no hints from other pods for the moment");
            }
            tokio::select! { biased;
                () = stop.cancelled() => {}
                () = sleep(self.interval) => {}
            }
        }
    }

    async fn session(&self, wire: &impl Wire, stop: &CancellationToken) -> Result<(), Error> {
        let mut hints = wire.hints(&self.exchange).await?;
        let ended = self.talk(&mut hints, stop).await;
        hints.close().await;
        ended
    }

    async fn talk(&self, wire: &mut impl Hints, stop: &CancellationToken) -> Result<(), Error> {
        let mut to_send = self.to_send.lock().await;
        // What could not be told in time is no longer true.
        while to_send.try_recv().is_ok() {}
        let mut seen: BTreeMap<uuid::Uuid, (Peer, Instant)> = BTreeMap::new();
        let mut tick = interval(self.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut renewed, mut away) = (self.epoch.subscribe(), self.away());
        loop {
            tokio::select! { biased;
                () = stop.cancelled() => {
                    while let Ok(hint) = to_send.try_recv() {
                        self.send(wire, &hint).await?;
                    }
                    return self.send(wire, &Hint::Bye { pod: self.pod }).await;
                }
                Some(hint) = to_send.recv() => self.send(wire, &hint).await?,
                Ok(()) = away.changed() => {
                    if *away.borrow_and_update() {
                        self.send(wire, &Hint::Bye { pod: self.pod }).await?;
                    }
                    self.here(wire, &mut seen).await?;
                }
                Ok(()) = renewed.changed() => self.here(wire, &mut seen).await?,
                _ = tick.tick() => self.here(wire, &mut seen).await?,
                heard = wire.next() => match heard {
                    Some(Ok(body)) => self.hear(&body, &mut seen),
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                },
            }
        }
    }

    /// Announces this pod, and forgets those that were not heard of for too long.
    async fn here(
        &self,
        wire: &impl Hints,
        seen: &mut BTreeMap<uuid::Uuid, (Peer, Instant)>,
    ) -> Result<(), Error> {
        let Peer { pod, epoch } = self.me();
        let is_here = !*self.away.borrow();
        if is_here {
            let prefetch = Some(self.prefetch);
            self.send(wire, &Hint::Here { pod, epoch, prefetch }).await?;
        }
        let age_max = self.interval.saturating_mul(MISSED_MAX);
        seen.retain(|_, (_, at)| at.elapsed() <= age_max);
        self.publish_view(seen);
        Ok(())
    }

    async fn send(&self, wire: &impl Hints, hint: &Hint) -> Result<(), Error> {
        wire.send(serde_json::to_vec(hint).unwrap_or_default()).await
    }

    fn hear(&self, body: &[u8], seen: &mut BTreeMap<uuid::Uuid, (Peer, Instant)>) {
        match serde_json::from_slice(body) {
            Ok(Hint::Here { pod, .. }) if pod == self.pod => {}
            Ok(Hint::Here { pod, epoch, prefetch }) => {
                self.compare(prefetch);
                // More pods than anybody runs: a stranger publishes here.
                if seen.len() < usize::from(u16::MAX) {
                    seen.insert(pod, (Peer { pod, epoch }, Instant::now()));
                }
                self.publish_view(seen);
            }
            Ok(Hint::Bye { pod }) => {
                seen.remove(&pod);
                self.publish_view(seen);
            }
            Ok(Hint::Clean { queue, first }) => {
                if let Some(word) = self.words().get(queue.as_str()) {
                    word.send_replace(Some(Word { first, at: Instant::now() }));
                }
            }
            Err(error) => tracing::debug!(%error, "a hint that makes no sense"),
        }
    }

    /// Says once if another pod is handed fewer or more messages at once.
    fn compare(&self, prefetch: Option<u16>) {
        let Some(theirs) = prefetch.filter(|theirs| *theirs != self.prefetch) else { return };
        if !self.differs.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "another pod has another broker.prefetch ({theirs}, ours is {}): when two pods die one after \
                 the other, messages of an order may come back in another order",
                self.prefetch
            );
        }
    }

    fn publish_view(&self, seen: &BTreeMap<uuid::Uuid, (Peer, Instant)>) {
        let me = (!*self.away.borrow()).then(|| self.me());
        let mut view: Vec<_> = seen.values().map(|(peer, _)| *peer).chain(me).collect();
        view.sort_unstable();
        self.view.send_if_modified(|known| {
            let changed = *known != view;
            *known = view;
            changed
        });
    }
}
