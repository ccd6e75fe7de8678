//! A message that is looked at, and how many there are.

use lapin::message::Delivery;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel};

use super::super::{Error, answered, declare};

/// A message that is looked at. The broker holds it for us until the browser is closed.
#[derive(Debug)]
pub struct Held {
    /// Its place in the queue, from 1.
    pub position: u64,
    /// Exchange that it was published to.
    pub exchange: ShortString,
    /// Routing key that it was published with.
    pub routing_key: ShortString,
    /// Properties and headers.
    pub properties: BasicProperties,
    /// Payload.
    pub body: Vec<u8>,
    /// How often it was delivered and returned before.
    pub returns: u64,
    /// The right to take it out of the queue.
    pub receipt: Ticket,
}

/// The right to take one message out of the queue that is browsed. Dropping it leaves the message.
#[derive(Debug)]
pub struct Ticket {
    pub(super) acker: lapin::Acker,
}

impl Held {
    pub(super) fn new(position: u64, delivery: Delivery) -> Self {
        let returns = returns(&delivery.properties).max(u64::from(delivery.redelivered));
        Self {
            position,
            exchange: delivery.exchange,
            routing_key: delivery.routing_key,
            properties: delivery.properties,
            body: delivery.data,
            returns,
            receipt: Ticket { acker: delivery.acker },
        }
    }
}

/// As a quorum queue says it. RabbitMQ 4.3 counts in a header of its own those that do not count for its limit.
fn returns(properties: &BasicProperties) -> u64 {
    let headers = properties.headers().as_ref().map(FieldTable::inner);
    let number = |name: &str| {
        let value: &AMQPValue = headers.and_then(|headers| headers.get(name))?;
        let signed = value.as_long_long_int().or_else(|| value.as_long_int().map(i64::from));
        let signed = signed.or_else(|| value.as_long_uint().map(i64::from));
        signed.and_then(|number| u64::try_from(number).ok())
    };
    number("x-delivery-count").max(number("x-acquired-count")).unwrap_or(0)
}

/// Messages that are ready, and consumers.
pub(super) async fn count(channel: &Channel, queue: &str) -> Result<(u64, u32), Error> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asking = channel.queue_declare(queue.into(), options, FieldTable::default());
    match answered(asking).await {
        Ok(found) => Ok((u64::from(found.message_count()), found.consumer_count())),
        Err(Error::Ended(error)) if declare::is_missing(&error) => {
            Err(Error::NoQueue { queue: queue.to_owned() })
        }
        Err(error) => Err(error),
    }
}
