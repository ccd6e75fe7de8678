//! The wire of a simulated pod: connections that are entries of the stage.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, LongString};
use orderwright::broker::Error;
use orderwright::broker::wire::{Acker, Acks, Hints, Line, Terms, Tie, Wire};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::broker::{Id, Stored};
use crate::gate::{self, Gate};
use crate::stage::{Message, Shared, Way};

/// Whose wire it is.
#[derive(Debug, Clone)]
pub(crate) struct Phone {
    pub(crate) shared: Shared,
    pub(crate) pod: usize,
    pub(crate) gate: Gate,
}

fn reset() -> lapin::Error {
    std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()
}

impl Phone {
    async fn dial(&self) -> Result<u64, Error> {
        let settings = self.shared.lock().plan.settings();
        let (wait, answers) = {
            let mut stage = self.shared.lock();
            let cut =
                [Way::ToBroker, Way::FromBroker].iter().any(|way| stage.is_cut(self.pod, *way));
            (stage.on_the_way() * 3, (!cut, stage.is_up))
        };
        match answers {
            (false, _) => {
                sleep(settings.broker.connect_timeout).await;
                Err(Error::Silent { address: "broker".into(), seconds: 10 })
            }
            (true, false) => {
                sleep(wait).await;
                Err(Error::Ended(reset()))
            }
            (true, true) => {
                sleep(wait).await;
                Ok(self.shared.lock().connect(self.pod))
            }
        }
    }
}

impl Wire for Phone {
    type Tie = Call;
    type Hints = Talk;

    async fn connect(&self) -> Result<Call, Error> {
        Ok(Call { phone: self.clone(), tcp: self.dial().await? })
    }

    async fn hints(&self, _exchange: &str) -> Result<Talk, Error> {
        let tcp = self.dial().await?;
        let (sender, heard) = mpsc::unbounded_channel();
        self.shared.lock().hear_hints(tcp, sender);
        Ok(Talk { call: Call { phone: self.clone(), tcp }, heard })
    }

    fn task<F: Future + Send>(&self, task: F) -> impl Future<Output = F::Output> + Send + use<F> {
        self.gate.task(task)
    }
}

/// A connection.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    phone: Phone,
    tcp: u64,
}

impl Call {
    pub(crate) fn is_up(&self) -> bool {
        self.phone.shared.lock().tcps.get(&self.tcp).is_some_and(|it| it.by_pod)
    }

    /// Asks something that the broker answers. An answer that is lost with the connection never comes.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut crate::stage::Stage) -> T + Send + 'static,
    ) -> Result<T, lapin::Error> {
        let (answer, answered) = oneshot::channel();
        let tcp = self.tcp;
        if !self.is_up() {
            return Err(reset());
        }
        self.phone.shared.lock().up(tcp, move |stage| {
            let said = what(stage);
            stage.down(tcp, move |_| drop(answer.send(said)));
        });
        match answered.await {
            Ok(said) => Ok(said),
            // As the library does.
            Err(_lost) => std::future::pending().await,
        }
    }
}

impl Tie for Call {
    type Line = Subscription;

    fn is_connected(&self) -> bool {
        self.is_up()
    }

    async fn subscribe(
        &self,
        queue: &str,
        terms: Terms<'_>,
    ) -> Result<Option<Subscription>, lapin::Error> {
        let (sender, arrivals) = mpsc::unbounded_channel();
        let id = {
            let mut stage = self.phone.shared.lock();
            let id: Id = (self.tcp, stage.number());
            stage.open(id, sender);
            id
        };
        let (queue, prefetch) = (queue.to_owned(), usize::from(terms.prefetch));
        let asked = self.ask(move |stage| {
            let is_there = stage.broker.subscribe(&queue, id, prefetch);
            stage.hand_out(&queue);
            is_there
        });
        match timeout(terms.answer_max, asked).await {
            Ok(Ok(true)) => Ok(Some(Subscription { call: self.clone(), id, arrivals })),
            Ok(Ok(false)) => Err(reset()),
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => {
                self.phone.shared.lock().up(self.tcp, move |stage| stage.leaves(id));
                Ok(None)
            }
        }
    }

    async fn sign(&self, _open: &mut Option<lapin::Channel>) -> Result<(), lapin::Error> {
        self.ask(|_| ()).await
    }

    async fn close(&self, _within: Duration) {
        self.phone.shared.lock().hang_up(self.tcp);
    }

    fn lapin(&self) -> Option<&lapin::Connection> {
        None
    }

    fn task<F: Future + Send>(&self, task: F) -> impl Future<Output = F::Output> + Send + use<F> {
        self.phone.gate.task(task)
    }
}

/// A subscribed channel.
#[derive(Debug)]
pub(crate) struct Subscription {
    call: Call,
    id: Id,
    arrivals: mpsc::UnboundedReceiver<Result<Delivery, lapin::Error>>,
}

impl Line for Subscription {
    async fn next(&mut self) -> Option<Result<Delivery, lapin::Error>> {
        self.arrivals.recv().await
    }

    fn acker(&self) -> Acker {
        let shared = self.call.phone.shared.clone();
        Acker::Simulated(Arc::new(Channel { shared, id: self.id }))
    }

    fn close(
        &self,
        _why: &'static str,
    ) -> impl Future<Output = Result<(), lapin::Error>> + Send + use<> {
        let (call, id) = (self.call.clone(), self.id);
        async move {
            // What a killed process drops says nothing any more.
            if call.phone.gate.state() == gate::State::Dead {
                return Ok(());
            }
            {
                let mut stage = call.phone.shared.lock();
                if !stage.is_open(id) {
                    return Err(reset());
                }
                stage.shut(id);
            }
            call.ask(move |stage| stage.closes(id)).await
        }
    }

    fn lapin(&self) -> Option<&lapin::Channel> {
        None
    }

    fn now(&self) -> Timestamp {
        self.call.phone.shared.lock().wall_of(self.call.phone.pod)
    }
}

/// The acks of one channel.
#[derive(Debug)]
struct Channel {
    shared: Shared,
    id: Id,
}

impl Acks for Channel {
    fn is_open(&self) -> bool {
        self.shared.lock().is_open(self.id)
    }

    fn ack(&self, tag: u64, multiple: bool) -> bool {
        let (mut stage, id) = (self.shared.lock(), self.id);
        if !stage.is_open(id) {
            return false;
        }
        stage.ack(id, tag, multiple);
        true
    }
}

/// A connection for hints.
#[derive(Debug)]
pub(crate) struct Talk {
    call: Call,
    heard: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Hints for Talk {
    async fn send(&self, body: Vec<u8>) -> Result<(), Error> {
        if !self.call.is_up() {
            return Err(Error::Ended(reset()));
        }
        self.call.phone.shared.lock().up(self.call.tcp, move |stage| stage.hint(&body));
        Ok(())
    }

    async fn next(&mut self) -> Option<Result<Vec<u8>, Error>> {
        self.heard.recv().await.map(Ok)
    }

    async fn close(self) {
        self.call.phone.shared.lock().hang_up(self.call.tcp);
    }
}

/// A message as a pod gets it. The broker says how often it came back, once it did.
pub(crate) fn delivery(tag: u64, stored: Stored<Message>) -> Delivery {
    let Stored { body: message, count, redelivered } = stored;
    let (exchange, key) = (message.exchange.into(), message.routing_key.into());
    let mut delivery = Delivery::mock(tag, exchange, key, redelivered, message.body.to_vec());
    delivery.properties = if count == 0 {
        message.properties
    } else {
        let mut headers = message.properties.headers().clone().unwrap_or_default();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(count));
        message.properties.with_headers(headers)
    };
    delivery
}

/// The reason that a dead letter says.
pub(crate) fn reason(letter: &Message) -> &str {
    let headers: Option<&FieldTable> = letter.properties.headers().as_ref();
    let reason = headers.and_then(|headers| headers.inner().get("orderwright-reason"));
    match reason {
        Some(AMQPValue::LongString(text)) => text_of(text),
        Some(_) | None => "",
    }
}

fn text_of(text: &LongString) -> &str {
    std::str::from_utf8(text.as_bytes()).unwrap_or_default()
}

/// The properties of a published update.
pub(crate) fn properties(update: usize) -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_message_id(update.to_string().into())
}
