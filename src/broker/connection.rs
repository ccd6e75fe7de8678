//! One AMQP connection, and the attempt to make it, which can be given up without a trace.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::TLSConfig;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties, ErrorKind};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::config;

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

/// What RabbitMQ proposes as well (`frame_max`, 3.10 to 4.3). Said at once, the library makes its buffers
/// once, and touches them as they are used; else it fills them with zeros to make them larger.
const FRAME_MAX: u32 = 131_072;

impl Link {
    /// Reads the settings. `name` is shown by the broker's management page.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn new(settings: &config::Broker, name: &str) -> Result<Self, Error> {
        let mut uri: AMQPUri = settings.url.expose().parse().map_err(Error::Url)?;
        let heartbeat = u16::try_from(settings.heartbeat.as_secs()).unwrap_or(u16::MAX);
        uri.query.heartbeat = Some(heartbeat);
        uri.query.frame_max.get_or_insert(FRAME_MAX);
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
    let closing = async {
        // Channels that were dropped are closed by the library in passing, and it cannot close the
        // connection while that is still to come. One more channel comes behind them.
        if let Ok(last) = connection.create_channel().await {
            last.close(200, "done".into()).await?;
        }
        connection.close(200, "done".into()).await
    };
    match timeout(within, closing).await {
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

/// One attempt to connect.
///
/// The library makes a connection in a thread of its own, which waits without end for a server that
/// accepts and says nothing, also when nobody waits for the thread any more. So an attempt that is
/// given up takes its socket away: the thread sees the end of the stream, and ends.
#[derive(Debug, Default)]
struct Attempt {
    given_up: CancellationToken,
    /// The socket that the library speaks over, once more.
    socket: Mutex<Option<TcpStream>>,
}

impl Attempt {
    /// Keeps a second handle on the socket, which does not change what the library does with its own.
    fn keep(&self, socket: &impl AsFd) -> io::Result<()> {
        let again = TcpStream::from(socket.as_fd().try_clone_to_owned()?);
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = Some(again);
        Ok(())
    }

    fn take(&self) -> Option<TcpStream> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Gives the attempt up when it is dropped before the connection is there, for whatever reason.
struct GiveUp(Arc<Attempt>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.given_up.cancel();
        if let Some(socket) = self.0.take() {
            // It fails where the server has closed it already, which does as well.
            let _closed = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Connects, within `broker.connect_timeout` from the name lookup to the opened virtual host.
///
/// # Errors
/// [`Error::Unreachable`], [`Error::Silent`], [`Error::Refused`].
pub async fn connect(link: &Link) -> Result<Connection, Error> {
    let properties =
        ConnectionProperties::default().with_connection_name(link.name.as_str().into());
    let give_up = GiveUp(Arc::default());
    let attempt = give_up.0.clone();
    let runtime = lapin::runtime::default_runtime()?;
    let connecting = Connection::connector(
        link.uri.clone(),
        runtime,
        // Performed in the library's thread. The library's own does the same and cannot be given up.
        async move |uri: AMQPUri, runtime| {
            let opening = async {
                let host = uri.authority.host.as_str();
                let addresses = runtime.to_socket_addrs((host.to_owned(), uri.authority.port));
                let stream = AsyncTcpStream::connect(&runtime, addresses).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    attempt.keep(plain.get_ref())?;
                }
                match uri.scheme {
                    AMQPScheme::AMQP => Ok(stream),
                    AMQPScheme::AMQPS => stream.into_tls(host, TLSConfig::default()).await,
                }
            };
            tokio::select! { biased;
                () = attempt.given_up.cancelled() => Err(io::ErrorKind::TimedOut.into()),
                opened = opening => opened,
            }
            .map_err(lapin::Error::from)
        },
        properties,
    );
    let connection = timeout(link.connect_timeout, connecting)
        .await
        .map_err(|_elapsed| link.silent())?
        .map_err(|error| link.classify(error))?;
    // A handle that stays would keep the socket open after its end.
    drop(give_up.0.take());
    Ok(connection)
}
