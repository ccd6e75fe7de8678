//! What consuming and publishing need of a broker, so that the same code runs over sockets and, under
//! `tests/sim`, over none. Lapin's side of it is [`lapin`](mod@self::lapin).

mod lapin;

use std::sync::Arc;
use std::time::Duration;

use ::lapin::message::Delivery;
use ::lapin::options::BasicAckOptions;
use futures_util::FutureExt;
use jiff::Timestamp;

use super::unsettled::Ack;
use super::{Error, Outgoing};

/// A broker that can be connected to.
pub trait Wire: Send + Sync + 'static {
    /// A connection to it.
    type Tie: Tie;
    /// A connection for hints.
    type Hints: Hints;

    /// Connects.
    fn connect(&self) -> impl Future<Output = Result<Self::Tie, Error>> + Send;

    /// Connects for hints over this exchange.
    fn hints(&self, exchange: &str) -> impl Future<Output = Result<Self::Hints, Error>> + Send;

    /// Where a task of this pod runs: in a simulation a pod may stand still.
    fn task<F: Future + Send>(
        &self,
        task: F,
    ) -> impl Future<Output = F::Output> + Send + use<Self, F> {
        task
    }
}

/// A connection.
pub trait Tie: Send + Sync + 'static {
    /// A channel that is subscribed.
    type Line: Line;

    /// Whether it is up, as far as is known.
    fn is_connected(&self) -> bool;

    /// Opens a channel and subscribes to a queue. `None` if the broker does not answer.
    fn subscribe(
        &self,
        queue: &str,
        terms: Terms<'_>,
    ) -> impl Future<Output = Result<Option<Self::Line>, ::lapin::Error>> + Send;

    /// Completes with a sign of life from the broker. `open` is kept for the next one.
    fn sign(
        &self,
        open: &mut Option<::lapin::Channel>,
    ) -> impl Future<Output = Result<(), ::lapin::Error>> + Send;

    /// Says goodbye, and waits for the answer no longer than this.
    fn close(&self, within: Duration) -> impl Future<Output = ()> + Send;

    /// For what only a real broker has: streams, and counts of queues.
    fn lapin(&self) -> Option<&::lapin::Connection>;

    /// As [`Wire::task`].
    fn task<F: Future + Send>(
        &self,
        task: F,
    ) -> impl Future<Output = F::Output> + Send + use<Self, F> {
        task
    }
}

/// A subscribed channel. Dropping it cancels nothing: the caller closes it first.
pub trait Line: Send + 'static {
    /// The next message. `None` when the broker ended the subscription.
    fn next(&mut self) -> impl Future<Output = Option<Result<Delivery, ::lapin::Error>>> + Send;

    /// Acks what comes by it.
    fn acker(&self) -> Acker;

    /// Closes the channel.
    fn close(
        &self,
        why: &'static str,
    ) -> impl Future<Output = Result<(), ::lapin::Error>> + Send + use<Self>;

    /// As [`Tie::lapin`].
    fn lapin(&self) -> Option<&::lapin::Channel>;

    /// The wall clock, for records that people read.
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A connection over which pods tell each other hints. Nothing is confirmed.
pub trait Hints: Send + Sync + 'static {
    /// Tells all others.
    fn send(&self, body: Vec<u8>) -> impl Future<Output = Result<(), Error>> + Send;

    /// What another pod told. `None` at the end.
    fn next(&mut self) -> impl Future<Output = Option<Result<Vec<u8>, Error>>> + Send;

    /// Says goodbye.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Publishes so that nothing is lost. See [`super::Publisher`].
pub trait Publish: std::fmt::Debug + Send + Sync + 'static {
    /// The right to publish one message.
    type Lane<'a>: Send;

    /// Waits for a lane. May be given up at any time.
    fn lane(&self) -> impl Future<Output = Option<Self::Lane<'_>>> + Send;

    /// Publishes once and waits for the broker to take responsibility.
    fn publish(
        &self,
        lane: Self::Lane<'_>,
        message: &Outgoing,
        still: impl Fn() -> bool + Send,
        withdrawn: impl Future<Output = ()> + Send,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// As [`Wire::task`].
    fn task<F: Future + Send>(
        &self,
        task: F,
    ) -> impl Future<Output = F::Output> + Send + use<Self, F> {
        task
    }
}

/// Terms of a subscription.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Most deliveries that are unsettled at once.
    pub prefetch: u16,
    /// Consumer tag.
    pub tag: &'a str,
    /// How long the broker may take to answer: the library waits without end for an answer that the
    /// loss of the connection overtook.
    pub answer_max: Duration,
    /// How old an unsettled delivery may become before the channel is given back: the broker takes it
    /// away, and treats us as dead, at twice this.
    pub age_max: Duration,
}

/// Acks what came by one channel.
#[derive(Debug)]
pub enum Acker {
    /// A channel of the library. By it directly: the library's own handle to a delivery has each ack carried
    /// over by a task.
    Lapin(::lapin::Channel),
    /// None of the library's.
    Simulated(Arc<dyn Acks>),
}

/// A channel that is none of the library's.
pub trait Acks: std::fmt::Debug + Send + Sync {
    /// Whether the channel is there, as far as is known.
    fn is_open(&self) -> bool;

    /// Acks this tag, or with `multiple` all up to it. False if the channel is gone.
    fn ack(&self, tag: u64, multiple: bool) -> bool;
}

impl Acker {
    /// Whether the channel is there, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Lapin(channel) => channel.status().connected(),
            Self::Simulated(channel) => channel.is_open(),
        }
    }

    /// Puts the ack into the line of what is to be sent. False if the channel is gone, as far as is known.
    pub(super) fn ack(&self, Ack { tag, multiple }: Ack) -> bool {
        let options = BasicAckOptions { multiple };
        match self {
            // The library puts it into the line at the first look at its future.
            Self::Lapin(channel) => match channel.basic_ack(tag, options).now_or_never() {
                None | Some(Ok(())) => true,
                Some(Err(_closed)) => false,
            },
            Self::Simulated(channel) => channel.ack(tag, multiple),
        }
    }
}
