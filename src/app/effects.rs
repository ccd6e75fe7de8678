//! What the dispatch's steps do to the world: the edges behind one trait.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::message::{Message, Name};
use super::notice::Asked;
use super::parker::{GivenBack, Parker};
use super::service::Target;
use super::watched::Watched;
use super::written::Written;
use crate::broker::wire::Publish;
use crate::broker::{Notice, Notices, Outgoing, Parking, Publisher, Topology, origin};
use crate::config::Settings;
use crate::dead_letter::{self, FINGERPRINT, Given, Original, header};
use crate::dispatch::{Effects, Gate, Held, Leave, Letter, Outcome, Trail};
use crate::odata::Client;
use crate::order::{ETag, OrderKey, OrderUpdate};
use crate::parking::Release;
use crate::protocol::Reply;
use crate::protocol::backoff::{Retry, jittered};
use crate::telemetry::metrics::{Method, Metrics};
use crate::telemetry::{field, trace};

#[derive(Debug)]
pub(super) struct Edges<T = Client, P = Publisher> {
    target: T,
    publisher: Arc<P>,
    notices: Arc<Notices>,
    /// Exchange for dead letters.
    exchange: String,
    limits: dead_letter::Limits,
    retry: Retry,
    stop: CancellationToken,
    metrics: Arc<Metrics>,
    /// Host and port of the service.
    server: (String, u16),
    /// Where dead letters park their orders.
    parker: Option<Parker>,
    written: Arc<Written>,
    deaths: Deaths,
}

/// The clock by which messages die here. It never goes back, also where the machine's is put right: letters of one
/// order are put in order by it.
#[derive(Debug, Default)]
struct Deaths(Mutex<Timestamp>);

impl Deaths {
    fn next(&self, now: Timestamp) -> Timestamp {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let later = last.checked_add(SignedDuration::from_nanos(1)).unwrap_or(*last);
        *last = now.max(later);
        *last
    }
}

impl<T: Target, P: Publish> Edges<T, P> {
    pub(super) fn new(
        target: T,
        (publisher, notices): (Arc<P>, Arc<Notices>),
        topology: &Topology,
        settings: &Settings,
        instance: &str,
        (stop, metrics): (&CancellationToken, Arc<Metrics>),
    ) -> Self {
        // One second up to half a minute: long enough for a broker's leader election or for an
        // operator's quick repair, short beside the consumer timeout, as is the default of all together.
        let retry = Retry {
            retries_max: settings.dead_letter.publish_retries_max,
            wait_min: Duration::from_secs(1),
            wait_max: Duration::from_secs(30),
        };
        let url = &settings.target.url;
        let port = url.port_or_known_default().unwrap_or_default();
        Self {
            target,
            publisher,
            notices,
            exchange: topology.dead_letters(),
            limits: dead_letter::Limits::new(&settings.dead_letter, instance),
            retry,
            stop: stop.clone(),
            metrics,
            server: (url.host_str().unwrap_or_default().to_owned(), port),
            parker: None,
            written: Arc::default(),
            deaths: Deaths::default(),
        }
    }

    /// The dead letters that it wrote.
    pub(super) fn written(&self) -> Arc<Written> {
        self.written.clone()
    }

    /// Dead letters park their orders here.
    pub(super) fn parking(mut self, parking: Option<Arc<Parking>>) -> Self {
        let parker = |parking| Parker::new(parking, self.retry, self.stop.clone());
        self.parker = parking.map(parker);
        self
    }

    /// Performs a request under a span of its own, and writes down how long it took since it was written.
    ///
    /// The request comes boxed: it is large, and would be moved from hand to hand.
    async fn watched(
        &self,
        method: Method,
        request: Pin<Box<impl Future<Output = Option<Reply>>>>,
        leave: &Leave,
    ) -> Option<Reply> {
        let server = (self.server.0.as_str(), self.server.1);
        Watched::new(&self.metrics, method, server, leave).perform(request).await
    }

    fn notify(&self, notices: Vec<Notice>) {
        for notice in notices {
            self.notices.send(notice);
        }
    }

    /// Publishes until confirmed. False when it is time to give up: a drain, a lost channel, or no
    /// retry left.
    async fn publish(&self, message: &Message, letter: &Outgoing) -> bool {
        for spent in 0.. {
            // A message that comes again anyway needs no letter, and a drain no queue for a lane.
            let lane = tokio::select! { biased;
                () = message.ending() => None,
                lane = self.publisher.lane() => lane,
            };
            let Some(lane) = lane else { return false };
            let (live, ending) = (|| message.is_live(), message.ending());
            let sending = self.publisher.publish(lane, letter, live, ending);
            let Err(error) = sending.await else { return true };
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, source, "a dead letter could not be published");
            let Some(wait) = self.retry.wait(spent) else { return false };
            tokio::select! { biased;
                () = self.stop.cancelled() => return false,
                () = message.ending() => return false,
                () = tokio::time::sleep(jittered(wait, 0.2, self.dice())) => {}
            }
        }
        false
    }

    /// Lets an order that stands still go on, then acks.
    async fn let_go(&self, held: Message) -> bool {
        let asked = Release::asked(&held.delivery.properties);
        match (&self.parker, asked) {
            (Some(parker), Some(Ok(release))) => {
                if !parker.release(&held, release).await {
                    held.delivery.receipt.give_up_channel();
                    return false;
                }
            }
            (None, Some(Ok(release))) => tracing::warn!(
                { field::ORDER } = %release.order,
                "nothing to release: dead_letter.on_dead_letter parks no orders"
            ),
            // The intake has read it before.
            (_, Some(Err(_)) | None) => {}
        }
        held.delivery.receipt.ack().is_ok()
    }

    /// Publishes the dead letter, awaits its confirm, then acks.
    async fn bury(&self, mut held: Message, letter: Letter) -> bool {
        // An earlier update of the order that came again would find it standing still, and become a letter itself.
        held.delivery.receipt.send_acks();
        // Before the letter: one that comes again later is not written again and again.
        let parks = match &self.parker {
            None => None,
            Some(parker) => match parker.place(&held, &letter).await {
                Ok(order) => order.map(|order| (parker, order)),
                Err(GivenBack) => return false,
            },
        };
        let (exchange, routing_key) = origin(&held.delivery);
        let now = self.deaths.next(self.now());
        let id = dead_letter::letter_id(now, fastrand::u128(..));
        let original = Original {
            properties: &held.delivery.properties,
            exchange: &exchange,
            routing_key: &routing_key,
            queue: held.delivery.receipt.queue(),
        };
        let trace = trace::parent();
        let death = Given { id, at: now, trace: trace.as_deref() };
        let outgoing = Outgoing {
            exchange: self.exchange.clone(),
            routing_key: routing_key.as_str().into(),
            properties: dead_letter::record(original, &letter, &self.limits, death),
            body: std::mem::take(&mut held.delivery.body),
        };
        let mut confirmed = self.publish(&held, &outgoing).await;
        if let Some((parker, order)) = parks {
            // Confirmed and read back before the ack: whoever gets the shard next finds it.
            confirmed = confirmed && parker.died(&held, order, id).await;
        }
        let order = letter.order.as_deref();
        if !confirmed {
            // Neither settled nor skipped: later updates of the order must not overtake it. The
            // broker hands out the whole shard again, in order.
            held.delivery.receipt.give_up_channel();
            return false;
        }
        tracing::warn!(
            { field::ORDER } = order,
            { field::REASON } = letter.code,
            { field::MESSAGE_ID } = held.message_id(),
            { field::QUEUE } = &**held.queue(),
            { field::TRACE_ID } = trace::trace_id(),
            attempts = letter.attempts.len(),
            "dead-lettered"
        );
        let took = held.took(self.now());
        let asked = Asked::by(&held.delivery.properties);
        let is_acked = held.delivery.receipt.ack().is_ok();
        if is_acked {
            self.metrics.settled("dead_lettered", took);
            let kind = header(&outgoing.properties, FINGERPRINT).unwrap_or_default();
            self.written.note(kind, &letter, self.now());
            if let Some(asked) = asked {
                self.notify(asked.dead_lettered(&letter, &outgoing.properties, self.now()));
            }
        }
        is_acked
    }
}

impl<T: Target, P: Publish> Effects for Edges<T, P> {
    type Held = Message;

    async fn gate(&self, held: &Message, order: &str) -> Gate {
        match &self.parker {
            Some(parker) => Box::pin(parker.gate(held, order)).await,
            None => Gate::Open,
        }
    }

    async fn release(&self, held: Message) -> bool {
        let name = Name::of(&held, None);
        let done = self.let_go(held).await;
        if done {
            trace::settled("release", None);
        } else {
            name.lost("release");
        }
        done
    }

    async fn get(&self, update: &OrderUpdate, trail: Trail, leave: &Arc<Leave>) -> Option<Reply> {
        self.watched(Method::Get, Box::pin(self.target.get(update, trail, leave)), leave).await
    }

    async fn patch(
        &self,
        key: &OrderKey,
        etag: &ETag,
        body: &str,
        trail: Trail,
        leave: &Arc<Leave>,
    ) -> Option<Reply> {
        let patch = self.target.patch(key, etag, body, trail, leave);
        self.watched(Method::Patch, Box::pin(patch), leave).await
    }

    async fn probe(&self, order: Option<&OrderKey>, trail: Trail) -> Reply {
        self.target.probe(order, trail).await
    }

    async fn ack(&self, held: Message, outcome: Outcome) -> bool {
        let took = held.took(self.now());
        let asked = Asked::by(&held.delivery.properties);
        let (message, name) =
            (Name::of(&held, Some(outcome.order.clone())), outcome.settlement.as_str());
        let is_acked = held.delivery.receipt.ack().is_ok();
        // An ack that was lost brings the message again, and that time tells.
        if is_acked {
            self.metrics.settled(name, took);
            trace::settled(name, None);
            if let Some(asked) = asked {
                self.notify(asked.settled(&outcome, self.now()));
            }
        } else {
            message.lost(name);
        }
        is_acked
    }

    async fn dead_letter(&self, held: Message, letter: Letter) -> bool {
        let (name, code) = (Name::of(&held, letter.order.clone()), letter.code);
        let done = self.bury(held, letter).await;
        if done {
            trace::settled("dead_lettered", Some(code));
        } else {
            name.lost("dead_lettered");
        }
        done
    }

    fn now(&self) -> Timestamp {
        self.target.now()
    }

    fn dice(&self) -> f64 {
        fastrand::f64()
    }

    fn uuid(&self) -> uuid::Uuid {
        // Names requests in logs. Guards nothing, so no secure randomness is spent on it.
        uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid()
    }

    fn task<F: Future + Send>(
        &self,
        task: F,
    ) -> impl Future<Output = F::Output> + Send + use<T, P, F> {
        self.publisher.task(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_of_deaths_never_stands_still_nor_goes_back() {
        let (deaths, at) = (Deaths::default(), |second| Timestamp::from_second(second).unwrap());
        let all = [at(100), at(100), at(40), at(101)].map(|now| deaths.next(now));
        assert!(all.is_sorted_by(|one, other| one < other), "{all:?}");
        assert_eq!((all[0], all[3]), (at(100), at(101)));
    }
}
