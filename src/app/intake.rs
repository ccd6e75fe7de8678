//! Where deliveries come in: decoded, then handed to their order's mailbox.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::ShortString;
use tokio::sync::watch;
use tokio::time::Instant;

use super::effects::Edges;
use super::message::Message;
use super::misplaced::{Cause, Reminders};
use super::overtakers::Overtakers;
use super::service::Target;
use crate::broker::wire::Publish;
use crate::broker::{
    Delivery, Forwarder, Generation, Generations, Home, Intake, Publisher, Source, Topology, origin,
};
use crate::config::Settings;
use crate::dead_letter::{REPLAY_ETAG, REPLAY_FORCED, REPLAY_ID, REPLAY_OF, header};
use crate::decode::{self, Contract, Envelope, KeyProperty, Marks, decode};
use crate::dispatch::{Dispatch, Job, Letter, Tally};
use crate::odata::Client;
use crate::order::Replay;
use crate::parking::Release;
use crate::protocol::Code;
use crate::shard::shard_of;
use crate::telemetry::field;
use crate::telemetry::panics::caught_now;

/// The reason code of a message that asks for a release in a way that makes no sense.
const RELEASE_INVALID: &str = "release_invalid";

pub(super) struct Front<T: Target = Client, P: Publish = Publisher> {
    contract: Contract,
    topology: Arc<Topology>,
    generations: watch::Receiver<Generations>,
    settle_window: Duration,
    forwarder: Arc<Forwarder<P>>,
    dispatch: Arc<Dispatch<Edges<T, P>>>,
    tally: Arc<Tally>,
    overtakers: Overtakers,
    reminders: Reminders,
    settle_waits: Arc<AtomicU64>,
}

impl<T: Target, P: Publish> std::fmt::Debug for Front<T, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("dispatch", &self.dispatch).finish_non_exhaustive()
    }
}

/// The contract that these settings agree on with publishers.
pub(crate) fn contract(settings: &Settings) -> Contract {
    let order = &settings.order;
    let property = |name: &String| KeyProperty {
        name: name.as_str().into(),
        // The letters of a GUID are digits: their case never matters.
        folds_case: order.key_fold_case.contains(name) || order.key_guid.contains(name),
        is_guid: order.key_guid.contains(name),
    };
    Contract {
        key: order.key.iter().map(property).collect(),
        sequence_property: super::guard(settings).sequence_property,
        body_bytes_max: order.body_bytes_max,
        nesting_max: order.nesting_max,
    }
}

impl<T: Target, P: Publish> Front<T, P> {
    pub(super) fn new(
        settings: &Settings,
        dispatch: Arc<Dispatch<Edges<T, P>>>,
        (tally, settle_waits): (Arc<Tally>, Arc<AtomicU64>),
        forwarder: Arc<Forwarder<P>>,
        generations: watch::Receiver<Generations>,
    ) -> Self {
        Self {
            contract: contract(settings),
            topology: Arc::new(Topology::of_all(settings)),
            generations,
            settle_window: settings.dispatch.settle_window,
            forwarder,
            dispatch,
            tally,
            overtakers: Overtakers::default(),
            reminders: Reminders::default(),
            settle_waits,
        }
    }
}

impl<T: Target, P: Publish> Front<T, P> {
    fn held(&self, delivery: Delivery) -> Message {
        let (settle_window, settle_waits) = (self.settle_window, self.settle_waits.clone());
        Message {
            delivery: Box::new(delivery),
            settle_window,
            begun: OnceLock::new(),
            settle_waits,
        }
    }

    /// The order's own queue, unless it was found there. Within a generation a message stays in it, so
    /// that it is behind the earlier ones of its order.
    fn elsewhere(&self, source: Source, key: &Arc<str>) -> Option<Home> {
        if matches!(source, Source::Shard { number, of } if shard_of(key, of.shards) == number) {
            return None;
        }
        let (topology, key) = (self.topology.clone(), key.clone());
        let home = move |of: Generation| topology.of(of).shard_queue(shard_of(&key, of.shards));
        match source {
            Source::Shard { of, .. } => Some(Box::new(move || home(of))),
            Source::Intake { .. } | Source::Left { .. } => {
                let generations = self.generations.clone();
                Some(Box::new(move || home(generations.borrow().entry())))
            }
        }
    }

    fn note_priority(&self, delivery: &Delivery) {
        let priority = *delivery.properties.priority();
        if let Some(messages) = self.overtakers.note(priority, delivery.arrived) {
            tracing::warn!(
                { field::QUEUE } = %delivery.receipt.queue(),
                messages,
                "messages carry a high priority: the broker hands them out before older ones of their order"
            );
        }
    }

    /// Counts a message that stands in another shard queue than its order's own, and tells why, now
    /// and then.
    fn misplaced(&self, delivery: &Delivery, order: &str) {
        let (_, routing_key) = origin(delivery);
        let cause = Cause::of(&routing_key, order);
        let due = self.reminders.is_due(cause, Instant::now());
        let queue: &str = delivery.receipt.queue();
        match cause {
            Cause::Ring => {
                self.tally.misplaced_by_ring();
                if due {
                    tracing::warn!(
                        { field::ORDER } = order,
                        { field::QUEUE } = queue,
                        "the hash ring is scrambled, or pods disagree on topology.shards: orders arrive \
                         in other queues than their own and are forwarded. To restore it, run \
                         `orderwright topology reshard --shards N --new-ring`; the count is \
                         misplaced_by_ring"
                    );
                }
            }
            Cause::Key => {
                self.tally.misplaced_by_key();
                if due {
                    tracing::warn!(
                        { field::ORDER } = order,
                        { field::QUEUE } = queue,
                        routing_key,
                        "a publisher does not publish with the order key as routing key: its messages \
                         are forwarded; the count is misplaced_by_key"
                    );
                }
            }
        }
    }
}

impl<T: Target, P: Publish> Front<T, P> {
    /// Not its order's own queue: somebody else may be at work on the order.
    fn forward(&self, order: Arc<str>, home: Home, delivery: Delivery) {
        if let Err(delivery) = self.forwarder.forward(order.clone(), home, delivery) {
            let detail = "forwarded again and again: pods disagree on who works on which shard";
            let (detail, first_seen) = (detail.to_owned(), delivery.received_at);
            let letter = Letter::untried("forward_loop", detail, Some(order), first_seen);
            self.dispatch.refuse(self.held(delivery), letter);
        }
    }

    /// A message that asks for the release of an order takes its place among the order's updates.
    fn release(&self, asked: Result<Release, String>, delivery: Delivery) {
        let release = match asked {
            Ok(release) => release,
            Err(detail) => {
                let first_seen = delivery.received_at;
                let letter = Letter::untried(RELEASE_INVALID, detail, None, first_seen);
                return self.dispatch.refuse(self.held(delivery), letter);
            }
        };
        let order: Arc<str> = release.order.into();
        match self.elsewhere(delivery.source, &order) {
            None => self.dispatch.release(order, self.held(delivery)),
            Some(home) => self.forward(order, home, delivery),
        }
    }
}

fn text(value: Option<&ShortString>) -> Option<&str> {
    value.map(ShortString::as_str)
}

/// What a message may overwrite that was dead-lettered before.
pub(super) fn replayed(properties: &BasicProperties) -> Option<Replay> {
    let header = |name| header(properties, name);
    decode::replay(&Marks {
        of: header(REPLAY_OF),
        id: header(REPLAY_ID),
        etag: header(REPLAY_ETAG),
        forced: header(REPLAY_FORCED),
    })
}

impl<T: Target, P: Publish> Intake for Front<T, P> {
    fn turn_to(&self, queues: &BTreeSet<&str>) {
        self.forwarder.keep(queues);
    }

    fn deliver(&self, delivery: Delivery) {
        self.tally.received();
        self.note_priority(&delivery);
        let first_seen = delivery.received_at;
        if let Some(asked) = Release::asked(&delivery.properties) {
            return self.release(asked, delivery);
        }
        let envelope = Envelope {
            content_type: text(delivery.properties.content_type().as_ref()),
            content_encoding: text(delivery.properties.content_encoding().as_ref()),
            body: &delivery.body,
        };
        // A panic here would take the shard's channel with it, in the wrong way.
        let decoded = match caught_now(|| decode(&self.contract, envelope)) {
            Ok(decoded) => decoded,
            Err(panicked) => {
                tracing::error!(
                    { field::ERROR } = panicked.place(),
                    { field::QUEUE } = %delivery.receipt.queue(),
                    "a bug: decoding a message panicked"
                );
                let detail = "decoding it panicked; the log has more".to_owned();
                let letter = Letter::untried(Code::Bug.as_str(), detail, None, first_seen);
                return self.dispatch.refuse(self.held(delivery), letter);
            }
        };
        match decoded {
            Ok(mut update) => {
                update.replay = replayed(&delivery.properties);
                tracing::debug!(
                    { field::ORDER } = %update.key,
                    { field::QUEUE } = %delivery.receipt.queue(),
                    { field::MESSAGE_ID } = text(delivery.properties.message_id().as_ref()),
                    redelivered = delivery.redelivered,
                    "received"
                );
                let Some(home) = self.elsewhere(delivery.source, update.key.canonical()) else {
                    let held = self.held(delivery);
                    return self.dispatch.accept(Job { update, held, first_seen });
                };
                if matches!(delivery.source, Source::Shard { .. }) {
                    self.misplaced(&delivery, update.key.canonical());
                }
                self.forward(update.key.canonical().clone(), home, delivery);
            }
            Err(error) => {
                let detail = match std::error::Error::source(&error) {
                    Some(source) => format!("{error}: {source}"),
                    None => error.to_string(),
                };
                let letter = Letter::untried(error.code(), detail, None, first_seen);
                self.dispatch.refuse(self.held(delivery), letter);
            }
        }
    }
}
