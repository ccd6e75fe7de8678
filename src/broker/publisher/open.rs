//! The connection of a publisher, and its channels.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection, ConnectionStatus};
use tokio::time::timeout;

use super::super::{Error, Link, connect};

/// The connection, made when it is needed.
#[derive(Debug, Default)]
pub(super) struct Open {
    pub(super) connection: tokio::sync::Mutex<Option<Connection>>,
    /// Of that connection: it can be asked while somebody waits on the connection itself.
    pub(super) status: Mutex<Option<ConnectionStatus>>,
}

impl Open {
    /// A channel with confirms.
    pub(super) async fn channel(&self, link: &Link, longest: Duration) -> Result<Channel, Error> {
        let mut connection = self.connection.lock().await;
        if !connection.as_ref().is_some_and(|open| open.status().connected()) {
            let fresh = connect(link).await?;
            let status = Some(fresh.status().clone());
            *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
            *connection = Some(fresh);
        }
        // Kept whatever becomes of the channel: under an alarm a connection cannot even be closed.
        let seconds = longest.as_secs();
        match connection.as_ref() {
            Some(open) => timeout(longest, confirming_channel(open))
                .await
                .map_err(|_elapsed| Error::Unconfirmed { seconds })?,
            None => Err(Error::Unconfirmed { seconds }),
        }
    }
}

pub(super) async fn confirming_channel(connection: &Connection) -> Result<Channel, Error> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}
