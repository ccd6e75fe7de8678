//! One AMQP connection, and the look at the server that comes before it.

use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Error;
use crate::config;

/// The header that opens AMQP 0-9-1 (section 4.2.2 of its specification).
const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";

/// Where the broker is and how to talk to it.
#[derive(Clone)]
pub struct Link {
    uri: AMQPUri,
    connect_timeout: Duration,
    name: String,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URI holds the password.
        f.debug_struct("Link").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl Link {
    /// Reads the settings. `name` is shown by the broker's management page.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn new(settings: &config::Broker, name: &str) -> Result<Self, Error> {
        let mut uri: AMQPUri = settings.url.expose().parse().map_err(Error::Url)?;
        let heartbeat = u16::try_from(settings.heartbeat.as_secs()).unwrap_or(u16::MAX);
        uri.query.heartbeat = Some(heartbeat);
        Ok(Self { uri, connect_timeout: settings.connect_timeout, name: name.to_owned() })
    }

    /// The same place under another connection name.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self.clone() }
    }

    /// The virtual host.
    pub fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    fn address(&self) -> String {
        format!("{}:{}", self.uri.authority.host, self.uri.authority.port)
    }

    fn silent(&self) -> Error {
        Error::Silent { address: self.address(), seconds: self.connect_timeout.as_secs() }
    }

    fn unreachable(&self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::Unreachable { address: self.address(), source: Box::new(source) }
    }

    /// Asks for the first byte of a handshake. The library waits for it without end, and each
    /// attempt that is given up from outside costs it a thread for ever; so look first.
    async fn probe(&self) -> Result<(), Error> {
        let address = (self.uri.authority.host.as_str(), self.uri.authority.port);
        let mut stream =
            TcpStream::connect(address).await.map_err(|error| self.unreachable(error))?;
        // With TLS the first word is not AMQP's: there, that somebody listens must do.
        if self.uri.scheme == AMQPScheme::AMQPS {
            return Ok(());
        }
        let look = async {
            stream.write_all(PROTOCOL_HEADER).await?;
            stream.read_u8().await
        };
        look.await.map(|_| ()).map_err(|error| self.unreachable(error))
    }

    fn classify(&self, error: lapin::Error) -> Error {
        match said(&error) {
            // Access refused, not allowed: user, password or virtual host.
            Some((403 | 530, text)) => Error::Refused {
                address: self.address(),
                user: self.uri.authority.userinfo.username.clone(),
                vhost: self.uri.vhost.clone(),
                text,
            },
            Some(_) | None => self.unreachable(error),
        }
    }
}

/// Says goodbye, and waits for the answer no longer than this: the library would wait without end for
/// one that the loss of the connection overtook.
pub async fn close(connection: &Connection, within: Duration) {
    match timeout(within, connection.close(200, "done".into())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the connection was closed already"),
        Err(_elapsed) => tracing::debug!("the broker did not say goodbye"),
    }
}

/// The reply code and text with which the broker ended a channel or connection.
pub(super) fn said(error: &lapin::Error) -> Option<(u16, String)> {
    if let ErrorKind::ProtocolError(amqp) = error.kind() {
        return Some((amqp.get_id(), amqp.get_message().to_string()));
    }
    None
}

/// Connects, within `broker.connect_timeout` for the look and again for the handshake.
///
/// # Errors
/// [`Error::Unreachable`], [`Error::Silent`], [`Error::Refused`].
pub async fn connect(link: &Link) -> Result<Connection, Error> {
    timeout(link.connect_timeout, link.probe()).await.map_err(|_elapsed| link.silent())??;
    let properties =
        ConnectionProperties::default().with_connection_name(link.name.as_str().into());
    let connecting = Connection::connect_uri(link.uri.clone(), properties);
    match timeout(link.connect_timeout, connecting).await {
        Ok(connected) => connected.map_err(|error| link.classify(error)),
        Err(_elapsed) => Err(link.silent()),
    }
}
