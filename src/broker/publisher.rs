//! Publishes so that nothing is lost: persistent, mandatory, confirmed.

mod bulk;
mod open;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::connection::close;
use super::{Error, Link};
pub use bulk::{Bulk, Sent};
use open::Open;

/// Messages published at once. Each has a channel to itself while it waits for its confirm: the
/// library hands a returned message to any confirm of its channel, so one alone is never mistaken.
const LANES_MAX: usize = 32;

/// How often a publication looks whether the broker has raised an alarm, or ended one.
const ALARM_LOOK: Duration = Duration::from_millis(250);

/// AMQP delivery mode "persistent".
const PERSISTENT: u8 = 2;

/// A message to be published.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Exchange.
    pub exchange: String,
    /// Routing key.
    pub routing_key: ShortString,
    /// Properties; the delivery mode is set here.
    pub properties: BasicProperties,
    /// Payload.
    pub body: Vec<u8>,
}

/// The right to publish one message.
#[derive(Debug)]
pub struct Lane<'a> {
    _permit: SemaphorePermit<'a>,
}

/// Publishes one message at a time on each of a few channels, over a connection of its own.
#[derive(Debug)]
pub struct Publisher {
    link: Link,
    confirm_timeout: Duration,
    lanes: Semaphore,
    idle: Mutex<Vec<Channel>>,
    open: Arc<Open>,
    alarmed: AtomicBool,
}

impl Publisher {
    /// Connects with the first message.
    pub fn new(link: Link, confirm_timeout: Duration) -> Self {
        Self {
            link,
            confirm_timeout,
            lanes: Semaphore::new(LANES_MAX),
            idle: Mutex::default(),
            open: Arc::default(),
            alarmed: AtomicBool::new(false),
        }
    }

    /// Waits for a lane. May be given up at any time.
    pub async fn lane(&self) -> Option<Lane<'_>> {
        self.lanes.acquire().await.ok().map(|permit| Lane { _permit: permit })
    }

    /// Publishes once and waits for the broker to take responsibility. `still` is asked just before.
    ///
    /// Under an alarm the broker reads nothing from connections that publish. Then this waits until
    /// it does again, or until `withdrawn`: what was sent is on its way, and another try would be a
    /// second copy.
    ///
    /// # Errors
    /// Any; after [`Error::Unconfirmed`] and [`Error::Alarm`] the message may be there all the same.
    pub async fn publish(
        &self,
        _lane: Lane<'_>,
        message: &Outgoing,
        still: impl Fn() -> bool,
        withdrawn: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        tokio::pin!(withdrawn);
        if self.is_blocked() {
            tokio::select! { biased;
                () = &mut withdrawn => return Err(Error::Alarm),
                () = self.unblocked() => {}
            }
        }
        // Not under the timeout: to connect has one of its own.
        let channel = self.channel().await?;
        // To connect may have taken long, and a message that is somebody else's by now must not go out.
        if !still() {
            return Err(Error::Withdrawn);
        }
        // A channel that failed or timed out is dropped, not used again: its confirms are unknown.
        let confirm = self.confirmed(&channel, message, withdrawn).await?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
        match confirm {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(returned)) => Err(returned_error(&returned)),
            Confirmation::Nack(_) | Confirmation::NotRequested => Err(Error::Nacked),
        }
    }

    async fn confirmed(
        &self,
        channel: &Channel,
        message: &Outgoing,
        mut withdrawn: impl Future<Output = ()> + Unpin,
    ) -> Result<Confirmation, Error> {
        let publishing = async { Ok::<_, Error>(send(channel, message).await?.await?) };
        tokio::pin!(publishing);
        let mut deadline = Instant::now() + self.confirm_timeout;
        loop {
            let look = deadline.min(Instant::now() + ALARM_LOOK);
            tokio::select! { biased;
                confirm = &mut publishing => return confirm,
                () = &mut withdrawn, if self.is_blocked() => return Err(Error::Alarm),
                () = sleep_until(look) => {}
            }
            if self.is_blocked() {
                deadline = Instant::now() + self.confirm_timeout;
            } else if look == deadline {
                return Err(Error::Unconfirmed { seconds: self.confirm_timeout.as_secs() });
            }
        }
    }

    /// Completes when the broker takes messages, as far as we know: it tells those who have published
    /// under the alarm.
    pub(super) async fn unblocked(&self) {
        while self.is_blocked() {
            sleep(ALARM_LOOK).await;
        }
    }

    /// Whether the broker has told that it takes no messages, and has not taken that back.
    pub fn is_blocked(&self) -> bool {
        let status = self.open.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let blocked = status.is_some_and(|status| status.connected() && status.blocked());
        if self.alarmed.swap(blocked, Ordering::Relaxed) != blocked {
            if blocked {
                tracing::warn!("the broker has raised an alarm and takes no messages; waiting");
            } else {
                tracing::info!("the broker's alarm is over");
            }
        }
        blocked
    }

    async fn channel(&self) -> Result<Channel, Error> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some(channel) if channel.status().connected() => return Ok(channel),
                Some(_) => {}
                None => break,
            }
        }
        // By a task of its own: who waits here may not be polled for a while, and would hold the connection
        // against others that it waits for itself.
        let (open, link, longest) = (self.open.clone(), self.link.clone(), self.confirm_timeout);
        let mut opening = JoinSet::new();
        opening.spawn(async move { open.channel(&link, longest).await });
        match opening.join_next().await {
            Some(Ok(opened)) => opened,
            // The runtime ends.
            Some(Err(_)) | None => Err(Error::Withdrawn),
        }
    }

    /// Closes the connection. What is unconfirmed stays unconfirmed.
    pub async fn close(&self) {
        let connection = self.open.connection.lock().await.take();
        if let Some(connection) = connection {
            close(&connection, self.confirm_timeout).await;
        }
    }
}

async fn send(channel: &Channel, message: &Outgoing) -> Result<PublisherConfirm, Error> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = message.properties.clone().with_delivery_mode(PERSISTENT);
    let (exchange, key) = (message.exchange.as_str().into(), message.routing_key.clone());
    Ok(channel.basic_publish(exchange, key, options, &message.body, properties).await?)
}

fn returned_error(returned: &BasicReturnMessage) -> Error {
    Error::Returned {
        exchange: returned.exchange.to_string(),
        routing_key: returned.routing_key.to_string(),
    }
}
