//! The port, which a fault can close and open again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

use super::connection::{Entrance, connection};
use super::server::Shared;
use super::switch::Door;

/// Wait after a failed accept or bind. The loop would otherwise spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Takes connections until the stop, at most so many at a time. While the door is shut nobody
/// listens, so that clients are refused by the kernel, as when a real server is gone.
pub(super) async fn listen(
    listener: TcpListener,
    entrance: Entrance,
    connections_max: usize,
    shared: Arc<Shared>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    let mut door = shared.door.subscribe();
    loop {
        if entrance == Entrance::Data && door.borrow_and_update().is_shut() {
            listener = None;
            shared.listening.send_replace(false);
        }
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            changed = door.changed() => if changed.is_err() { break },
            opened = reopened(address, &shared), if listener.is_none() => {
                listener = Some(opened);
                shared.listening.send_replace(true);
            }
            accepted = accept(listener.as_ref()), if connections.len() < connections_max => {
                if let Some((stream, peer)) = accepted {
                    let shared = Arc::clone(&shared);
                    connections.spawn(connection(stream, peer.to_string(), entrance, shared));
                }
            }
        }
    }
    connections.shutdown().await;
    Ok(())
}

/// Never completes without a listener.
async fn accept(listener: Option<&TcpListener>) -> Option<(TcpStream, SocketAddr)> {
    let Some(listener) = listener else { return std::future::pending().await };
    match listener.accept().await {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            sleep(PAUSE).await;
            None
        }
    }
}

/// Listens on the same port once the door is open again.
async fn reopened(address: SocketAddr, shared: &Shared) -> TcpListener {
    let mut door = shared.door.subscribe();
    loop {
        let now = *door.borrow_and_update();
        match now {
            Door::Open => match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(error) => {
                    tracing::warn!(%address, %error, "cannot listen again");
                    sleep(PAUSE).await;
                }
            },
            Door::Shut(until) => {
                tokio::select! {
                    () = passed(until) => shared.look_at_door(),
                    _ = door.changed() => {}
                }
            }
        }
    }
}

async fn passed(until: Option<Timestamp>) {
    match until {
        Some(until) => {
            let left = until.duration_since(Timestamp::now());
            sleep(Duration::try_from(left).unwrap_or_default()).await;
        }
        None => std::future::pending().await,
    }
}

/// Returns when the door is shut.
pub(super) async fn shut(door: &mut watch::Receiver<Door>) {
    if door.wait_for(|door| door.is_shut()).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The last net under a connection.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task panicked");
    }
}
