//! What every session reads on in: the streams that tell of the generations and of parked orders.

use lapin::Connection;
use tokio::time::Instant;

use super::Consumer;
use crate::broker::Error;
use crate::broker::declare::is_missing;
use crate::broker::history::History;
use crate::broker::parking::Parking;

impl Consumer {
    /// Reads on in the stream of the generations. A stream that cannot be read stops nobody: what is known
    /// goes on, and it is opened again.
    pub(super) async fn follow(&self, connection: &Connection) {
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            if let Err(error) = self.follow_once(connection).await {
                tracing::debug!(%error, "the stream of the generations cannot be read for the moment");
            }
            if begun.elapsed() > self.settings.reconnect_wait_max {
                failures = 0;
            }
            self.pause(failures).await;
            failures = failures.saturating_add(1);
        }
    }

    /// Reads which orders are parked, over and over. While that is not known, nothing is begun.
    pub(super) async fn follow_parking(&self, parking: &Parking, connection: &Connection) {
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            if let Err(error) = parking.follow(connection).await {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(
                    %error,
                    source,
                    "which orders are parked cannot be read; nothing is begun until it can"
                );
                if matches!(&error, Error::Ended(error) if is_missing(error)) {
                    self.restore(connection).await;
                }
            }
            if begun.elapsed() > self.settings.reconnect_wait_max {
                failures = 0;
            }
            self.pause(failures).await;
            failures = failures.saturating_add(1);
        }
    }

    async fn follow_once(&self, connection: &Connection) -> Result<(), Error> {
        let mut history = History::open(connection, &self.topology).await?;
        loop {
            let changed = history.next().await?;
            if let Some(now) = history.generations().filter(|_| changed) {
                self.learn(now.clone());
            }
        }
    }
}
