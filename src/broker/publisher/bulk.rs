//! Many messages in order, over one channel.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use lapin::{Channel, Confirmation, Connection, PublisherConfirm};
use tokio::time::timeout;

use super::super::{Error, Link, close, connect};
use super::open::confirming_channel;
use super::{Outgoing, send};

/// Publishes many messages in order, with a bounded number of confirms outstanding.
pub struct Bulk {
    connection: Connection,
    channel: Channel,
    confirm_timeout: Duration,
    outstanding: VecDeque<PublisherConfirm>,
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
        let outstanding = VecDeque::with_capacity(outstanding_max);
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
