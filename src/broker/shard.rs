//! One shard: one channel, whose life is the lease.
//!
//! The way out is always the same: nothing more is handed on, what runs is finished and acked, the
//! channel is closed. Never `basic.cancel`: after a cancel the broker starts the next consumer while
//! this one still works, and hands the unfinished messages out last. The library cancels by itself
//! when a `Consumer` is dropped while its channel is open, so the consumer outlives the channel here.

use std::sync::Arc;

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio_util::sync::CancellationToken;

use super::delivery::Lease;
use super::session::Intake;
use super::{Delivery, Receipt};

/// Why a lease ended.
#[derive(Debug)]
pub(super) enum End {
    /// The drain is done.
    Drained,
    /// We gave the channel up.
    GivenUp,
    /// The broker took it.
    Broken(Option<lapin::Error>),
}

/// When to stop: first handing on, then the channel.
#[derive(Debug, Clone)]
pub(super) struct Stops {
    /// Hand on nothing more.
    pub(super) stop: CancellationToken,
    /// Everything that ran is settled: close.
    pub(super) drained: CancellationToken,
}

/// A subscribed channel.
pub(super) struct Shard {
    channel: Channel,
    consumer: lapin::Consumer,
    lease: Arc<Lease>,
}

impl Shard {
    /// Opens a channel and subscribes.
    pub(super) async fn subscribe(
        connection: &Connection,
        lease: Lease,
        prefetch: u16,
        tag: &str,
    ) -> Result<Self, lapin::Error> {
        let channel = connection.create_channel().await?;
        // Per consumer, not global: brokers close the connection over the latter on quorum queues.
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let (queue, options) = (lease.queue.as_ref().into(), BasicConsumeOptions::default());
        let consumer =
            channel.basic_consume(queue, tag.into(), options, FieldTable::default()).await?;
        Ok(Self { channel, consumer, lease: Arc::new(lease) })
    }

    /// Hands deliveries to the intake until the lease ends.
    pub(super) async fn hold(mut self, intake: &dyn Intake, stops: &Stops) -> End {
        let end = loop {
            tokio::select! { biased; // Stop wins over new work.
                () = stops.stop.cancelled() => break self.drain(stops).await,
                () = self.lease.give_up.cancelled() => break End::GivenUp,
                () = self.lease.lost.cancelled() => break End::Broken(None),
                next = self.consumer.next() => match next {
                    Some(Ok(delivery)) => intake.deliver(self.received(delivery)),
                    Some(Err(error)) => break End::Broken(Some(error)),
                    // The queue was deleted, or its leader moved: no error comes with it.
                    None => break End::Broken(None),
                },
            }
        };
        self.lease.lost.cancel();
        if let Err(error) = self.channel.close(200, "done".into()).await {
            tracing::debug!(%error, queue = %self.lease.queue, "the channel was closed already");
        }
        drop(self.consumer);
        end
    }

    /// Waits for what runs to be settled. What the broker still sends is not looked at: it goes back,
    /// in order, when the channel closes.
    async fn drain(&mut self, stops: &Stops) -> End {
        loop {
            tokio::select! { biased;
                () = stops.drained.cancelled() => return End::Drained,
                next = self.consumer.next() => match next {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return End::Broken(Some(error)),
                    None => return End::Broken(None),
                },
            }
        }
    }

    fn received(&self, delivery: lapin::message::Delivery) -> Delivery {
        Delivery {
            receipt: Receipt { lease: self.lease.clone(), acker: delivery.acker },
            properties: delivery.properties,
            exchange: delivery.exchange,
            routing_key: delivery.routing_key,
            body: delivery.data,
            redelivered: delivery.redelivered,
            received_at: jiff::Timestamp::now(),
        }
    }
}
