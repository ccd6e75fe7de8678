//! Markers: messages of our own in a shard queue. When a marker can be settled, everything that stood
//! before it in its queue is settled. So the end of a generation is seen without counting messages,
//! which AMQP cannot do for those that are delivered and not settled.

use std::future::pending;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use tokio::time::sleep;

use super::generation::{ROUNDS, Record};
use super::history::append;
use super::{Delivery, Error, Generation, Outgoing, Publisher, Topology};
use crate::telemetry::field;

const ROUND: &str = "orderwright-marker-round";

/// Publishes a marker to a shard's queue, and waits until the broker has it.
///
/// # Errors
/// As [`Publisher::publish`]. It may be there all the same; a second one does no harm.
pub(super) async fn send(
    publisher: &Publisher,
    topology: &Topology,
    shard: u16,
    round: u8,
) -> Result<(), Error> {
    let Some(lane) = publisher.lane().await else { return Err(Error::Withdrawn) };
    let mut headers = FieldTable::default();
    headers.insert(ROUND.into(), AMQPValue::LongUInt(u32::from(round)));
    let message = Outgoing {
        exchange: topology.forward(),
        routing_key: topology.marker_key(shard, round).as_str().into(),
        // The lowest: quorum queues of 4.3 hand out higher ones first, and it must come last.
        properties: BasicProperties::default().with_priority(0).with_headers(headers),
        body: Vec::new(),
    };
    publisher.publish(lane, &message, || true, pending()).await
}

/// Whether what stands behind a marker of this round in its queue has strayed there.
pub(super) const fn ends_generation(round: u8) -> bool {
    round >= ROUNDS
}

/// A marker that was delivered.
#[derive(Debug)]
pub(super) struct Marker {
    delivery: Delivery,
    of: Generation,
    shard: u16,
    round: u8,
}

impl Marker {
    /// Its round, from 1.
    pub(super) fn round(&self) -> u8 {
        self.round
    }

    /// Tells a marker from an update. One can only come over the exchange that publishers do not use.
    #[expect(clippy::result_large_err, reason = "the delivery itself is handed back")]
    pub(super) fn of(delivery: Delivery, topology: &Topology) -> Result<Self, Delivery> {
        let headers = delivery.properties.headers().as_ref();
        let round = match headers.and_then(|headers| headers.inner().get(ROUND)) {
            Some(AMQPValue::LongUInt(round)) => u8::try_from(*round).ok(),
            Some(_) | None => None,
        };
        let (Some(round), Some((of, shard))) = (round, delivery.source.shard()) else {
            return Err(delivery);
        };
        if delivery.exchange.as_str() != topology.forward() {
            return Err(delivery);
        }
        Ok(Self { delivery, of, shard, round })
    }

    /// Waits until all that was delivered before it is settled, says so to everybody, and settles it. Ends
    /// with its channel: the next owner of the shard gets it again, behind what was not settled.
    pub(super) async fn settle(
        self,
        channel: &Channel,
        publisher: &Publisher,
        topology: &Topology,
        window: Duration,
    ) {
        let Self { delivery, of, shard, round } = self;
        let settling = async {
            delivery.receipt.is_first().await;
            // Acks are sure once the broker has answered something that was asked behind them on their channel.
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let queue = topology.of(of).shard_queue(shard);
            channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await?;
            if delivery.receipt.is_doubtful() {
                // A request of unknown outcome may still be at work in the service.
                sleep(window).await;
            }
            let generation = of.number;
            append(publisher, topology, &Record::Drained { generation, shard, round }).await
        };
        let said = tokio::select! { biased;
            () = delivery.receipt.ending() => return,
            said = settling => said,
        };
        let queue: &str = delivery.receipt.queue();
        if let Err(error) = said {
            tracing::warn!({ field::QUEUE } = queue, %error, "cannot say that a shard is drained");
            return delivery.receipt.give_up_channel();
        }
        tracing::info!({ field::QUEUE } = queue, round, "drained");
        if delivery.receipt.ack().is_err() {
            tracing::debug!("the ack of a marker was lost; it comes again");
        }
    }
}
