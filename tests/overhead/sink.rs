//! A collector that takes everything and keeps nothing, so that it costs next to nothing beside the
//! daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::Result;

/// Most that one export may be.
const BODY_MAX: u64 = 64 << 20;

/// A listener for OTLP over HTTP.
#[derive(Debug)]
pub(crate) struct Sink {
    address: std::net::SocketAddr,
    taken: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Sink {
    /// Listens on a port of its own.
    pub(crate) async fn open() -> Result<Self> {
        let failed = |error: std::io::Error| format!("no collector: {error}");
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (taken, mut tasks) = (Arc::<AtomicU64>::default(), JoinSet::new());
        let counting = taken.clone();
        tasks.spawn(async move {
            let mut links = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let counting = counting.clone();
                links.spawn(async move {
                    // Whoever leaves in the middle has no more to say.
                    let _left = take(stream, &counting).await;
                });
            }
        });
        Ok(Self { address, taken, _tasks: tasks })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bytes that were taken since this was asked last.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.swap(0, Ordering::Relaxed)
    }
}

async fn take(stream: TcpStream, taken: &AtomicU64) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if (&mut stream).take(8192).read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0).min(BODY_MAX);
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = (&mut stream).take(length);
        taken.fetch_add(
            tokio::io::copy(&mut body, &mut tokio::io::sink()).await?,
            Ordering::Relaxed,
        );
        // An empty answer of OTLP: all was taken.
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await?;
    }
}
