//! The TCP edge: how many connections, how long, how much.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::actions::{self, Actions, Peer};
use super::{Admin, routes};

/// Connections at once: a few probes, a few scrapers, a few people.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take for the head of its request.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// How long a connection lives at most: one request and its answer. So nobody keeps a place.
const CONNECTION_MAX: Duration = Duration::from_secs(15);
/// Largest head of a request, in bytes. The least that the HTTP library allows.
const HEAD_BYTES_MAX: usize = 8192;
/// Pause after a connection could not be taken, such as for want of file handles.
const ACCEPT_WAIT: Duration = Duration::from_millis(100);

/// A listener that serves until it is dropped.
#[derive(Debug)]
pub struct Serving {
    /// Where it listens.
    pub address: SocketAddr,
    tasks: JoinSet<()>,
}

/// Listens there and serves.
///
/// # Errors
/// The address is taken, or not ours.
pub async fn serve(address: SocketAddr, admin: Arc<Admin>) -> io::Result<Serving> {
    let watching = admin.clone();
    let mut serving = open(address, routes::router(admin)).await?;
    serving.tasks.spawn(async move { watching.watch().await });
    Ok(serving)
}

/// Listens there and does what is asked with the token.
///
/// # Errors
/// As [`serve`].
pub async fn obey(address: SocketAddr, actions: Actions) -> io::Result<Serving> {
    open(address, actions::router(actions)).await
}

async fn open(address: SocketAddr, router: axum::Router) -> io::Result<Serving> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let mut tasks = JoinSet::new();
    tasks.spawn(accept(listener, router));
    Ok(Serving { address, tasks })
}

async fn accept(listener: TcpListener, router: axum::Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! { biased;
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, peer)) => {
                    let router = router.clone().layer(Extension(Peer(peer)));
                    connections.spawn(connection(stream, router));
                }
                Err(error) => {
                    tracing::debug!(%error, "the admin listener could not take a connection");
                    sleep(ACCEPT_WAIT).await;
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, router: axum::Router) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A client that went away, or took too long, is its own matter.
    let _ended = timeout(CONNECTION_MAX, serving).await;
}
