//! The wire between a worker and what it talks to, which can fall silent or be reset.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Result;

/// Bytes that are carried at once.
const CHUNK: usize = 16 * 1024;

/// What the wire does.
#[derive(Debug, Default, Clone, Copy)]
struct State {
    /// Nothing gets through, in either direction, and nobody is told.
    cut: bool,
    /// Connections that are older than the latest reset are gone.
    resets: u64,
}

/// A port that leads to another one, or to any of several. Dropping it cuts all connections.
#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    state: watch::Sender<State>,
    _tasks: JoinSet<()>,
}

impl Link {
    /// Opens a port that leads to `upstream`.
    pub(crate) async fn open(upstream: SocketAddr) -> Result<Self> {
        Self::open_to_any(vec![upstream]).await
    }

    /// Opens a port that leads each connection to the next of these that accepts it, as a service of
    /// Kubernetes does: one that is frozen accepts as well, and says nothing.
    pub(crate) async fn open_to_any(upstreams: Vec<SocketAddr>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.map_err(|error| format!("no port for a link: {error}"))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let state = watch::Sender::new(State::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, upstreams, state.clone()));
        Ok(Self { address, state, _tasks: tasks })
    }

    /// Where the worker connects to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets everything wait: bytes, goodbyes and new connections. As on a real network, what was
    /// sent meanwhile arrives after [`Link::heal`].
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.cut = true);
    }

    /// Ends a cut.
    pub(crate) fn heal(&self) {
        self.state.send_modify(|state| state.cut = false);
    }

    /// Resets all connections that there are.
    pub(crate) fn reset(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }
}

async fn accept(
    listener: TcpListener,
    mut upstreams: Vec<SocketAddr>,
    state: watch::Sender<State>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                connections.spawn(connection(client, upstreams.clone(), state.subscribe()));
                upstreams.rotate_left(1);
            },
        }
    }
}

/// Carries one connection until it ends or is reset.
async fn connection(
    mut client: TcpStream,
    upstreams: Vec<SocketAddr>,
    mut state: watch::Receiver<State>,
) {
    let resets = state.borrow().resets;
    uncut(&mut state).await;
    // Tries one after the other.
    let Ok(mut server) = TcpStream::connect(upstreams.as_slice()).await else {
        return drop(client.set_zero_linger());
    };
    for stream in [&client, &server] {
        drop(stream.set_nodelay(true));
    }
    let broken = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let there = carry(from_client, to_server, state.clone());
        let back = carry(from_server, to_client, state.clone());
        let both = async { tokio::try_join!(there, back).is_err() };
        tokio::select! {
            broken = both => broken,
            _ = state.wait_for(|state| state.resets != resets) => true,
        }
    };
    if broken {
        drop(client.set_zero_linger());
        drop(server.set_zero_linger());
    }
}

/// Carries bytes in one direction, and their end.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut cuts = state.clone();
    loop {
        uncut(&mut state).await;
        let read = tokio::select! { biased;
            _ = cuts.wait_for(|state| state.cut) => continue,
            read = from.read(&mut buffer) => read,
        };
        // What was read in the moment of the cut has not arrived yet, whether bytes or a reset.
        uncut(&mut state).await;
        match read? {
            0 => return to.shutdown().await,
            count => to.write_all(buffer.get(..count).unwrap_or_default()).await?,
        }
    }
}

/// Waits while the wire is cut. If nobody is left to heal it, this task is about to end.
async fn uncut(state: &mut watch::Receiver<State>) {
    drop(state.wait_for(|state| !state.cut).await);
}
