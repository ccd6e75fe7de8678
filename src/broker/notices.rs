//! Tells publishers what became of their updates, where they ask for it. Best effort: no update waits
//! for a notice, and one that cannot go out at once is dropped and counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Connection};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use super::connection::close;
use super::{Error, Link, connect};

/// How long one notice may take to be written to the socket.
const WRITE_MAX: Duration = Duration::from_secs(1);

/// After a failure nothing is tried for this long: what is to go out meanwhile is lost.
const REST: Duration = Duration::from_secs(1);

/// How long the goodbye may take.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// One notice.
#[derive(Debug)]
pub struct Notice {
    /// The queue that it goes to, by the default exchange.
    pub to: ShortString,
    /// What its receiver knows the update by.
    pub correlation_id: Option<ShortString>,
    /// A JSON object.
    pub body: Vec<u8>,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    lost: AtomicU64,
}

/// Takes notices and never waits.
#[derive(Debug)]
pub struct Notices {
    waiting: Mutex<Option<mpsc::Sender<Notice>>>,
    /// Whoever writes them. Ends when nobody can hand one over any more.
    writer: TaskTracker,
    counts: Arc<Counts>,
    /// What the names of our own queues begin with, and those of the queues for answers among them.
    own: [String; 2],
}

impl Notices {
    /// `waiting_max` notices wait at most; with 0 none is sent. Connects with the first one.
    pub fn new(link: Link, waiting_max: usize, prefix: &str) -> Self {
        let counts = Arc::new(Counts::default());
        let (mut waiting, writer) = (None, TaskTracker::new());
        if waiting_max > 0 {
            let (sender, receiver) = mpsc::channel(waiting_max);
            waiting = Some(sender);
            writer.spawn(Writer::new(link).run(receiver, counts.clone()));
        }
        let own = [format!("{prefix}."), format!("{prefix}.replies.")];
        Self { waiting: Mutex::new(waiting), writer, counts, own }
    }

    /// Hands a notice over, or drops it.
    ///
    /// None goes to a queue of ours: whoever publishes an update could otherwise have us write what he
    /// may not write himself.
    pub fn send(&self, notice: Notice) {
        let [own, replies] = &self.own;
        let to = notice.to.as_str();
        let is_ours = to.starts_with(own.as_str()) && !to.starts_with(replies.as_str());
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(waiting) = waiting.as_ref() else { return };
        if is_ours || waiting.try_send(notice).is_err() {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notices that were written to the broker.
    pub fn sent(&self) -> u64 {
        self.counts.sent.load(Ordering::Relaxed)
    }

    /// Notices that were dropped.
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }

    /// Writes what waits and says goodbye. The caller bounds it; what is left then is dropped.
    pub async fn close(&self) {
        drop(self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.writer.close();
        self.writer.wait().await;
    }
}

/// Writes them to the broker, over a connection of its own: one under an alarm holds up nothing else.
struct Writer {
    link: Link,
    open: Option<(Connection, Channel)>,
    rest_until: Option<Instant>,
}

impl Writer {
    fn new(link: Link) -> Self {
        Self { link, open: None, rest_until: None }
    }

    async fn run(mut self, mut waiting: mpsc::Receiver<Notice>, counts: Arc<Counts>) {
        while let Some(notice) = waiting.recv().await {
            if self.rest_until.is_some_and(|until| Instant::now() < until) {
                counts.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            match self.write(notice).await {
                Ok(()) => counts.sent.fetch_add(1, Ordering::Relaxed),
                Err(error) => {
                    tracing::debug!(%error, "a notice was dropped");
                    self.rest_until = Some(Instant::now() + REST);
                    counts.lost.fetch_add(1, Ordering::Relaxed)
                }
            };
        }
        if let Some((connection, _)) = &self.open {
            close(connection, CLOSE_MAX).await;
        }
    }

    async fn write(&mut self, notice: Notice) -> Result<(), Error> {
        let late = |_elapsed| Error::Unconfirmed { seconds: WRITE_MAX.as_secs() };
        match &self.open {
            Some((connection, channel)) if connection.status().connected() => {
                // The broker closes it where we may not write to the default exchange.
                if !channel.status().connected() {
                    let fresh = timeout(WRITE_MAX, connection.create_channel()).await;
                    let fresh = fresh.map_err(late)??;
                    self.open = self.open.take().map(|(connection, _)| (connection, fresh));
                    return Err(Error::Withdrawn);
                }
            }
            Some(_) | None => {
                let connection = connect(&self.link).await?;
                let channel = timeout(WRITE_MAX, connection.create_channel()).await;
                let channel = channel.map_err(late)??;
                self.open = Some((connection, channel));
            }
        }
        let Some((connection, channel)) = &self.open else { return Err(Error::Withdrawn) };
        // It would wait in the library, without bound.
        if connection.status().blocked() {
            return Err(Error::Alarm);
        }
        let mut properties =
            BasicProperties::default().with_content_type("application/json".into());
        if let Some(id) = notice.correlation_id {
            properties = properties.with_correlation_id(id);
        }
        let options = BasicPublishOptions::default();
        let sending =
            channel.basic_publish("".into(), notice.to, options, &notice.body, properties);
        // No confirm was asked for, so there is none to wait for.
        timeout(WRITE_MAX, sending).await.map_err(late)?.map(drop)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[tokio::test]
    async fn notices_that_cannot_go_out_are_dropped_and_counted_and_nobody_waits() {
        // Nobody listens there.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("amqp://{}/%2f", taken.local_addr().unwrap());
        drop(taken);
        let settings = config::Broker { url: url.parse().unwrap(), ..config::Broker::default() };
        let notices = Notices::new(Link::new(&settings, "test").unwrap(), 2, "p");
        let notice = |to: &str| Notice { to: to.into(), correlation_id: None, body: Vec::new() };
        // The writer does not run before the first wait, so two of them find room.
        for to in ["a", "b", "c", "d", "p.shard.g1.000", "p.updates"] {
            notices.send(notice(to));
        }
        assert_eq!(notices.lost(), 4, "two had no room, and two must not go there");
        notices.close().await;
        assert_eq!((notices.sent(), notices.lost()), (0, 6));
        notices.send(notice("late"));
        assert_eq!(notices.lost(), 6, "nobody is there any more");
    }
}
