//! Brings objects back that went away under us: the broker came back without them, or somebody
//! deleted a queue.

use std::time::Duration;

use lapin::Connection;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Generation, Generations, Publisher, Topology, declare, generations};
use crate::config;

/// Declares the objects again, where the settings say that declaring them is ours.
#[derive(Debug)]
pub(super) struct Restorer {
    topology: Topology,
    is_ours: bool,
    within: Duration,
    /// One at a time: who finds that somebody is at it has nothing to add.
    turn: Semaphore,
}

impl Restorer {
    pub(super) fn new(topology: &Topology, settings: &config::Settings) -> Self {
        Self {
            topology: topology.clone(),
            is_ours: settings.topology.declare,
            within: settings.broker.start_timeout,
            turn: Semaphore::new(1),
        }
    }

    /// Whatever is wrong is told and gone round: the shards that are there go on.
    /// The stream of the generations, should it be gone, begins anew with the one that is known.
    pub(super) async fn restore(
        &self,
        connection: &Connection,
        publisher: &Publisher,
        known: Generation,
    ) -> Option<Generations> {
        let _turn = self.turn.try_acquire().ok()?;
        let topology = self.topology.of(known);
        if !self.is_ours {
            let reading = generations(connection, publisher, &topology);
            return timeout(self.within, reading).await.ok()?.ok();
        }
        match timeout(self.within, declare(connection, publisher, &topology)).await {
            Ok(Ok((report, generations))) => {
                for (what, name, finding) in report.faults() {
                    tracing::error!(object = what, name, state = ?finding, "not as it should be");
                }
                tracing::info!("declared the broker's objects again");
                return generations;
            }
            Ok(Err(error)) => tracing::warn!(%error, "cannot declare the broker's objects"),
            Err(_elapsed) => tracing::warn!("the broker did not answer for all its objects"),
        }
        None
    }
}
