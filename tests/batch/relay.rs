//! A long way: what is sent over it arrives later, and as much at a time as is sent.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::Result;

/// Pieces on the way at the same time.
const PIECES_MAX: usize = 1_024;

/// Takes connections until it is dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
    _taking: JoinSet<()>,
}

impl Relay {
    /// To this address; each way takes this long.
    pub(crate) async fn open(to: SocketAddr, delay: Duration) -> Result<Self> {
        let listening = TcpListener::bind("127.0.0.1:0").await;
        let listener = listening.map_err(|error| format!("no port: {error}"))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let mut taking = JoinSet::new();
        taking.spawn(take(listener, to, delay));
        Ok(Self { address, _taking: taking })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn take(listener: TcpListener, to: SocketAddr, delay: Duration) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            Some(_ended) = links.join_next() => {}
            taken = listener.accept() => match taken {
                Ok((from, _)) => {
                    links.spawn(link(from, to, delay));
                }
                Err(_closed) => return,
            },
        }
    }
}

/// Ends when either side does.
async fn link(from: TcpStream, to: SocketAddr, delay: Duration) {
    let Ok(to) = TcpStream::connect(to).await else { return };
    let is_set = from.set_nodelay(true).and(to.set_nodelay(true));
    debug_assert!(is_set.is_ok(), "{is_set:?}");
    let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
    tokio::select! {
        _ended = pump(from_read, to_write, delay) => {}
        _ended = pump(to_read, from_write, delay) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) -> io::Result<()> {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Bytes)>(PIECES_MAX);
    let reading = async {
        let mut buffer = BytesMut::with_capacity(64 * 1024);
        while from.read_buf(&mut buffer).await? > 0 {
            let piece = (Instant::now() + delay, buffer.split().freeze());
            if sender.send(piece).await.is_err() {
                break;
            }
        }
        io::Result::Ok(())
    };
    let writing = async {
        while let Some((at, piece)) = pieces.recv().await {
            sleep_until(at).await;
            to.write_all(&piece).await?;
        }
        io::Result::Ok(())
    };
    tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    }
}
