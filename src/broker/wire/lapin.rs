//! The wire that lapin speaks over.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, Consumer};
use tokio::time::timeout;

use super::{Acker, Hints, Line, Publish, Terms, Tie, Wire};
use crate::broker::publisher::Lane;
use crate::broker::{Error, Link, Outgoing, Publisher, close, connect};

/// Hints that wait in a pod's queue on the broker; the oldest go first.
const INCOMING_MAX: i32 = 10_000;

/// Longest that one hint may take to be written, and a goodbye to be answered.
const SEND_MAX: Duration = Duration::from_secs(2);

impl Wire for Link {
    type Tie = Connection;
    type Hints = Talk;

    async fn connect(&self) -> Result<Connection, Error> {
        connect(self).await
    }

    async fn hints(&self, exchange: &str) -> Result<Talk, Error> {
        let connection = connect(self).await?;
        match timeout(SEND_MAX, Talk::listen(&connection, exchange)).await {
            Ok(Ok((channel, consumer))) => {
                let exchange = exchange.to_owned();
                Ok(Talk { connection, channel, consumer, exchange })
            }
            Ok(Err(error)) => {
                close(&connection, SEND_MAX).await;
                Err(error)
            }
            Err(_elapsed) => {
                close(&connection, SEND_MAX).await;
                Err(Error::Unconfirmed { seconds: SEND_MAX.as_secs() })
            }
        }
    }
}

impl Tie for Connection {
    type Line = Subscription;

    fn is_connected(&self) -> bool {
        self.status().connected()
    }

    async fn subscribe(
        &self,
        queue: &str,
        terms: Terms<'_>,
    ) -> Result<Option<Subscription>, lapin::Error> {
        let opening = timeout(terms.answer_max, self.create_channel());
        let Ok(channel) = opening.await else { return Ok(None) };
        let channel = channel?;
        let subscribing = timeout(terms.answer_max, consume(&channel, queue, terms));
        let Ok(consumer) = subscribing.await else {
            // The broker may have subscribed us all the same, and its answer be on the way: such a
            // consumer would hold the shard and hand on nothing. The library closes no channel whose
            // subscription is unanswered.
            drop(timeout(terms.answer_max, channel.close(200, "no answer".into())).await);
            return Ok(None);
        };
        Ok(Some(Subscription { channel, consumer: consumer? }))
    }

    async fn sign(&self, open: &mut Option<Channel>) -> Result<(), lapin::Error> {
        let channel = match open.take() {
            Some(channel) => channel,
            None => self.create_channel().await?,
        };
        // Changes nothing, and is answered.
        channel.basic_qos(1, BasicQosOptions::default()).await?;
        *open = Some(channel);
        Ok(())
    }

    async fn close(&self, within: Duration) {
        close(self, within).await;
    }

    fn lapin(&self) -> Option<&Connection> {
        Some(self)
    }
}

async fn consume(
    channel: &Channel,
    queue: &str,
    terms: Terms<'_>,
) -> Result<Consumer, lapin::Error> {
    // Per consumer, not global: brokers close the connection over the latter on quorum queues.
    channel.basic_qos(terms.prefetch, BasicQosOptions::default()).await?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    channel.basic_consume(queue.into(), terms.tag.into(), options, none).await
}

/// A channel with its consumer, which the library cancels when it is dropped before the channel is closed.
#[derive(Debug)]
pub struct Subscription {
    channel: Channel,
    consumer: Consumer,
}

impl Line for Subscription {
    async fn next(&mut self) -> Option<Result<Delivery, lapin::Error>> {
        self.consumer.next().await
    }

    fn acker(&self) -> Acker {
        Acker::Lapin(self.channel.clone())
    }

    fn close(
        &self,
        why: &'static str,
    ) -> impl Future<Output = Result<(), lapin::Error>> + Send + use<> {
        let channel = self.channel.clone();
        async move { channel.close(200, why.into()).await }
    }

    fn lapin(&self) -> Option<&Channel> {
        Some(&self.channel)
    }
}

/// A connection for hints.
#[derive(Debug)]
pub struct Talk {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    exchange: String,
}

impl Talk {
    async fn listen(connection: &Connection, exchange: &str) -> Result<(Channel, Consumer), Error> {
        let channel = connection.create_channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(INCOMING_MAX));
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), options, arguments).await?;
        let (name, exchange) = (queue.name().clone(), exchange.into());
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(name.clone(), exchange, "".into(), options, none).await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer =
            channel.basic_consume(name, "".into(), options, FieldTable::default()).await?;
        Ok((channel, consumer))
    }
}

impl Hints for Talk {
    async fn send(&self, body: Vec<u8>) -> Result<(), Error> {
        let (exchange, options) = (self.exchange.as_str().into(), BasicPublishOptions::default());
        let properties = BasicProperties::default().with_content_type("application/json".into());
        let sending = self.channel.basic_publish(exchange, "".into(), options, &body, properties);
        // Under an alarm the broker reads nothing from connections that publish.
        match timeout(SEND_MAX, sending).await {
            Ok(sent) => {
                // No confirm is asked for, so there is none to wait for.
                let _unconfirmed = sent?;
                Ok(())
            }
            Err(_elapsed) => Err(Error::Unconfirmed { seconds: SEND_MAX.as_secs() }),
        }
    }

    async fn next(&mut self) -> Option<Result<Vec<u8>, Error>> {
        Some(self.consumer.next().await?.map(|delivery| delivery.data).map_err(Error::from))
    }

    async fn close(self) {
        close(&self.connection, SEND_MAX).await;
    }
}

impl Publish for Publisher {
    type Lane<'a> = Lane<'a>;

    async fn lane(&self) -> Option<Lane<'_>> {
        Self::lane(self).await
    }

    async fn publish(
        &self,
        lane: Self::Lane<'_>,
        message: &Outgoing,
        still: impl Fn() -> bool + Send,
        withdrawn: impl Future<Output = ()> + Send,
    ) -> Result<(), Error> {
        Self::publish(self, lane, message, still, withdrawn).await
    }
}
