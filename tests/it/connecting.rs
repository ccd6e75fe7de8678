//! Peers that accept a connection and then do not speak AMQP.
//!
//! The library makes a connection in a thread of its own, and that thread waits without end for such
//! a peer. A daemon that tries again and again must not gather them.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::daemon::{Daemon, PATIENCE};

/// Enough attempts that a thread for each would be seen.
const ATTEMPTS: usize = 20;

/// One at work, and some that are about to end.
const THREADS_MAX: usize = 3;

/// Accepts, says this and no more, and keeps every connection open.
struct Peer {
    address: String,
    accepted: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Peer {
    async fn that_says(words: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (count, accepted) = watch::channel(0);
        let count = Arc::new(count);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                // The client may be gone again.
                let _said = stream.write_all(words).await;
                open.push(stream);
                count.send_replace(open.len());
            }
        });
        Self { address, accepted, _tasks: tasks }
    }

    async fn accepts(&mut self, count: usize) {
        let reached = self.accepted.wait_for(|accepted| *accepted >= count);
        drop(timeout(PATIENCE, reached).await.expect("attempts").unwrap());
    }
}

/// The library's threads that connect or hold a connection.
fn threads(daemon: &Daemon) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "lapin-io-loop").count()
}

async fn gathers_no_threads(scheme: &str, words: &'static [u8]) {
    let mut peer = Peer::that_says(words).await;
    let url = format!("{scheme}://guest:guest@{}/%2f", peer.address);
    let settings = [
        ("BROKER__URL", url.as_str()),
        ("BROKER__START_TIMEOUT", "5m"),
        ("BROKER__CONNECT_TIMEOUT", "100ms"),
        ("BROKER__RECONNECT_WAIT_MIN", "10ms"),
        ("BROKER__RECONNECT_WAIT_MAX", "10ms"),
    ];
    let settings = settings.map(|(name, value)| (format!("ORDERWRIGHT__{name}"), value.to_owned()));
    let daemon = Daemon::spawn(&settings);
    peer.accepts(ATTEMPTS).await;
    let threads = threads(&daemon);
    assert!(threads <= THREADS_MAX, "{threads} threads after {ATTEMPTS} attempts");
    daemon.logs("did not answer").await;
    let ended = daemon.stop().await;
    assert!(
        ended.status.success(),
        "nothing was consumed, so there is nothing to drain: {ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_that_says_nothing_costs_no_thread_for_each_attempt() {
    gathers_no_threads("amqp", b"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_that_begins_a_frame_and_stops_costs_no_thread_for_each_attempt() {
    gathers_no_threads("amqp", &[1]).await;
}

#[cfg(feature = "amqps")]
#[tokio::test(flavor = "multi_thread")]
async fn peer_that_never_answers_a_client_hello_costs_no_thread_for_each_attempt() {
    gathers_no_threads("amqps", b"").await;
}
