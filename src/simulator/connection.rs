//! One TCP connection, and the ways in which it ends before its time.

use std::error::Error as _;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use super::door::shut;
use super::response::Cut;
use super::server::{Shared, handle};

/// How HTTP/2 begins where the client knows that it is spoken (RFC 9113, 3.4). No method of HTTP/1.1 is called so.
const HTTP2: &[u8; 3] = b"PRI";
/// Most requests of one connection at a time, as many as servers let in as a rule.
const STREAMS_MAX: u32 = 100;

/// Which port a connection came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entrance {
    /// That of the service. `/sim/` is served there too.
    Data,
    /// One for `/sim/` alone, that no fault touches.
    Admin,
}

/// What the requests of one connection share.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) entrance: Entrance,
    /// The client's address, the writer of last resort.
    pub(super) peer: Arc<str>,
    /// Whether the last request was for `/sim/`: such a connection outlives a closed port, or the
    /// answer to the request that closes it would be lost.
    pub(super) is_admin: AtomicBool,
    pub(super) closing: Arc<Closing>,
}

/// An end of the connection that a fault has ordered.
#[derive(Debug, Default)]
pub(super) struct Closing {
    /// How long after the answer.
    pub(super) after: OnceLock<Duration>,
    answered: Notify,
}

/// Dropped with the body of the last answer, which thereby has been handed to the socket.
#[derive(Debug)]
pub(super) struct LastAnswer(pub(super) Arc<Closing>);

impl Drop for LastAnswer {
    fn drop(&mut self) {
        self.0.answered.notify_one();
    }
}

impl Closing {
    /// Returns when a fault wants the connection to end.
    async fn due(&self) {
        self.answered.notified().await;
        sleep(self.after.get().copied().unwrap_or_default()).await;
    }
}

/// Where the requests of an HTTP/2 connection run. They outlive it for as long as it takes to find its end.
#[derive(Clone)]
struct Tasks(TaskTracker);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// Serves one connection. A fault that cuts it resets it, so that the client cannot mistake the end
/// for a polite one.
pub(super) async fn connection(
    stream: TcpStream,
    peer: String,
    entrance: Entrance,
    shared: Arc<Shared>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let link = Link {
        entrance,
        peer: peer.as_str().into(),
        is_admin: AtomicBool::new(entrance == Entrance::Admin),
        closing: Arc::default(),
    };
    let is_http2 = tokio::select! {
        biased;
        begins = begins(&stream, HTTP2) => begins,
        () = cut_off(&shared, &link) => return reset(&stream, &peer),
    };
    if is_http2 {
        multiplexed(stream, link, shared).await;
    } else {
        one_by_one(stream, link, shared).await;
    }
}

/// Whether the first packet begins with this. One that is shorter is taken for HTTP/1.1, which refuses it.
async fn begins(stream: &TcpStream, with: &[u8; 3]) -> bool {
    let mut first = [0; 3];
    stream.peek(&mut first).await.is_ok() && first == *with
}

/// HTTP/1.1: one request after the other.
async fn one_by_one(stream: TcpStream, link: Link, shared: Arc<Shared>) {
    let peer = &link.peer;
    let service = service_fn(|request| Box::pin(handle(&shared, &link, request)));
    let mut served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        biased;
        ended = poll_fn(|context| served.poll_without_shutdown(context)) => ended,
        // A polite end that is not announced: the client may just be sending its next request.
        () = link.closing.due() => return,
        () = cut_off(&shared, &link) => {
            reset(&served.into_parts().io.into_inner(), peer);
            return;
        }
    };
    let Err(error) = ended else { return };
    if error.source().is_some_and(<dyn std::error::Error>::is::<Cut>) {
        reset(&served.into_parts().io.into_inner(), peer);
    } else {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// HTTP/2 from the first byte, without TLS (RFC 9113, 3.3). A fault that cuts a connection resets the stream of
/// its request; the others go on. A closed port ends them all, without a reset: a client sees what is unanswered.
async fn multiplexed(stream: TcpStream, link: Link, shared: Arc<Shared>) {
    let link = Arc::new(link);
    let service = service_fn(|request| {
        let (shared, link) = (shared.clone(), link.clone());
        Box::pin(async move { handle(&shared, &link, request).await })
    });
    let mut builder = http2::Builder::new(Tasks(shared.requests.clone()));
    builder.max_concurrent_streams(STREAMS_MAX);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        biased;
        ended = served => if let Err(error) = ended {
            tracing::debug!(peer = %link.peer, %error, "connection ended");
        },
        () = link.closing.due() => {}
        () = cut_off(&shared, &link) => {}
    }
}

/// Returns when the port is closed, unless the connection is for `/sim/`.
async fn cut_off(shared: &Shared, link: &Link) {
    let mut door = shared.door.subscribe();
    loop {
        shut(&mut door).await;
        if !link.is_admin.load(Ordering::Relaxed) {
            return;
        }
        if door.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn reset(stream: &TcpStream, peer: &str) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%peer, %error, "cannot reset the connection; closing it");
    }
}
