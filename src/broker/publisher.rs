//! Publishes so that nothing is lost: persistent, mandatory, confirmed.

mod open;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Connection, PublisherConfirm};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::connection::close;
use super::{Error, Link, connect};
use open::{Open, confirming_channel};

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

/// Publishes many messages in order, with a bounded number of confirms outstanding.
pub struct Bulk {
    connection: Connection,
    channel: Channel,
    confirm_timeout: Duration,
    outstanding: std::collections::VecDeque<PublisherConfirm>,
    outstanding_max: usize,
    unknown: usize,
    sent: Sent,
    /// Where the first went that no queue took: exchange and routing key.
    unrouted: Option<(String, String)>,
}

impl std::fmt::Debug for Bulk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bulk").field("sent", &self.sent).finish_non_exhaustive()
    }
}

/// What became of the messages.
#[derive(Debug, Default, Clone)]
pub struct Sent {
    /// The broker took responsibility, and a queue has it.
    pub confirmed: u64,
    /// The broker refused responsibility.
    pub nacked: u64,
    /// Message ids of those that no queue took. The broker acks these as well, and the library may
    /// hand a return to the confirm of a neighbour: only the id tells which it was.
    pub returned: BTreeSet<String>,
}

impl Bulk {
    /// Opens a connection and a channel.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn open(
        link: &Link,
        confirm_timeout: Duration,
        outstanding_max: usize,
    ) -> Result<Self, Error> {
        let connection = connect(link).await?;
        let seconds = confirm_timeout.as_secs();
        let channel = timeout(confirm_timeout, confirming_channel(&connection))
            .await
            .map_err(|_elapsed| Error::Unconfirmed { seconds })??;
        let outstanding = std::collections::VecDeque::with_capacity(outstanding_max);
        let (unknown, sent) = (0, Sent::default());
        Ok(Self {
            connection,
            channel,
            confirm_timeout,
            outstanding,
            outstanding_max,
            unknown,
            sent,
            unrouted: None,
        })
    }

    /// Sends one message, after waiting for a confirm where too many are outstanding. Its message id
    /// must be unique.
    ///
    /// # Errors
    /// [`Error::Ended`] and [`Error::Unconfirmed`] end the bulk: what is outstanding is unknown.
    pub async fn send(&mut self, message: &Outgoing) -> Result<(), Error> {
        if self.outstanding.len() >= self.outstanding_max {
            self.settle_oldest().await?;
        }
        self.outstanding.push_back(send(&self.channel, message).await?);
        Ok(())
    }

    async fn settle_oldest(&mut self) -> Result<(), Error> {
        let Some(confirm) = self.outstanding.pop_front() else { return Ok(()) };
        let seconds = self.confirm_timeout.as_secs();
        // Unknown until it is known to be otherwise.
        self.unknown += 1;
        let confirm = timeout(self.confirm_timeout, confirm)
            .await
            .map_err(|_elapsed| Error::Unconfirmed { seconds })??;
        self.unknown -= 1;
        let returned = match confirm {
            Confirmation::Ack(returned) => {
                self.sent.confirmed += 1;
                returned
            }
            Confirmation::Nack(returned) => {
                self.sent.nacked += 1;
                returned
            }
            Confirmation::NotRequested => None,
        };
        if let Some(returned) = returned {
            let place = || (returned.exchange.to_string(), returned.routing_key.to_string());
            self.unrouted.get_or_insert_with(place);
            let id = returned.properties.message_id().as_ref().map(ToString::to_string);
            self.sent.returned.insert(id.unwrap_or_default());
            self.sent.confirmed = self.sent.confirmed.saturating_sub(1);
        }
        Ok(())
    }

    /// What is known by now.
    pub fn sent(&self) -> &Sent {
        &self.sent
    }

    /// Confirms that are still awaited.
    pub fn outstanding(&self) -> usize {
        self.outstanding.len() + self.unknown
    }

    /// Waits for all confirms.
    ///
    /// # Errors
    /// As [`Self::send`]; [`Self::sent`] tells what is known then.
    pub async fn settle(&mut self) -> Result<(), Error> {
        while !self.outstanding.is_empty() {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    /// Sends all of them in order, and waits until a queue has each of them.
    ///
    /// # Errors
    /// As [`Self::send`], [`Error::Nacked`], and [`Error::Returned`]. Some may be there all the same.
    pub async fn deliver<'a>(
        &mut self,
        messages: impl IntoIterator<Item = &'a Outgoing>,
    ) -> Result<(), Error> {
        for message in messages {
            self.send(message).await?;
        }
        self.settle().await?;
        if let Some((exchange, routing_key)) = self.unrouted.take() {
            return Err(Error::Returned { exchange, routing_key });
        }
        if self.sent.nacked > 0 { Err(Error::Nacked) } else { Ok(()) }
    }

    /// Closes the connection.
    pub async fn close(self) {
        close(&self.connection, self.confirm_timeout).await;
    }
}
