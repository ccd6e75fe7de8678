//! Looks from time to time whether the broker's objects are still as they should be.
//!
//! A start asks once, and a daemon runs for weeks: a binding that somebody takes away, or a policy that
//! drops what waits, would show nowhere else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Error, inspection};
use crate::broker::doctor::{Diagnosis, Severity};
use crate::broker::{self, Consumer, Link, Publisher, Topology};
use crate::config::Settings;
use crate::protocol::backoff::jittered;
use crate::telemetry::field;

/// When it is looked again after something was amiss: a broker that restarts misses much for a moment.
const AGAIN: Duration = Duration::from_secs(10);

/// Most findings that are kept. A thousand shards with the same trouble are one.
const FAULTS_MAX: usize = 20;

/// How long a connection may take to close.
const CLOSE_MAX: Duration = Duration::from_secs(3);

/// What was found, and what it takes to look.
#[derive(Debug)]
pub(super) struct Rounds {
    link: Link,
    publisher: Arc<Publisher>,
    topology: Topology,
    settings: Settings,
    /// What a start would be refused for now.
    faults: Mutex<Vec<Diagnosis>>,
}

impl Rounds {
    pub(super) fn new(
        link: Link,
        publisher: Arc<Publisher>,
        topology: &Topology,
        settings: &Settings,
    ) -> Self {
        let (topology, settings) = (topology.clone(), settings.clone());
        Self { link, publisher, topology, settings, faults: Mutex::default() }
    }

    /// What is not as it should be, as far as is known: a sentence each.
    pub(super) fn faults(&self) -> Vec<String> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.iter().map(ToString::to_string).collect()
    }

    /// Looks for as long as it is polled, at the latest when the broker was away.
    pub(super) async fn run(&self, consumer: &Consumer) {
        let mut suspects = Vec::new();
        loop {
            let interval = self.settings.topology.check_interval;
            let wait = if suspects.is_empty() { interval } else { interval.min(AGAIN) };
            // Pods that start together do not ask together.
            let wait = sleep(jittered(wait, 0.2, fastrand::f64()));
            tokio::select! {
                () = wait => {}
                () = consumer.reconnected() => {}
            }
            match self.look(&suspects).await {
                Ok((found, confirmed)) => {
                    self.tell(confirmed);
                    suspects = found;
                }
                // What was known stays so: that there is no connection is told elsewhere.
                Err(error) => tracing::debug!(%error, "the broker's objects cannot be looked at"),
            }
        }
    }

    /// What is amiss now, and what of that was so before. Where it is ours to declare what is missing, that
    /// is done between the two.
    async fn look(
        &self,
        suspects: &[Diagnosis],
    ) -> Result<(Vec<Diagnosis>, Vec<Diagnosis>), Error> {
        let connection = broker::connect(&self.link).await?;
        let looked = async {
            let found = self.ask(&connection, false).await?;
            let confirmed = both(suspects, &found);
            if confirmed.is_empty() || !self.settings.topology.declare {
                return Ok((found, confirmed));
            }
            for fault in &confirmed {
                tracing::warn!(
                    { field::OBJECT } = fault.subject(),
                    { field::STATE } = fault.state,
                    "not as it should be, {}; declaring the broker's objects again",
                    fault.what
                );
            }
            let left = self.ask(&connection, true).await?;
            Ok((left.clone(), left))
        };
        let looked = looked.await;
        drop(timeout(CLOSE_MAX, connection.close(200, "done".into())).await);
        looked
    }

    async fn ask(
        &self,
        connection: &lapin::Connection,
        declare: bool,
    ) -> Result<Vec<Diagnosis>, Error> {
        let how = (&self.settings, declare);
        let (found, _) = inspection::look(connection, &self.publisher, &self.topology, how).await?;
        let faults = found.all().filter(|it| it.severity == Severity::Refuse);
        Ok(faults.take(FAULTS_MAX).cloned().collect())
    }

    /// Says what is new.
    fn tell(&self, now: Vec<Diagnosis>) {
        let mut known = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        for fault in now.iter().filter(|fault| !known.contains(fault)) {
            tracing::error!(
                { field::OBJECT } = fault.subject(),
                { field::STATE } = fault.state,
                { field::FIX } = fault.fix,
                "not as it should be: {}",
                fault.what
            );
        }
        if now.is_empty() && !known.is_empty() {
            tracing::info!("the broker's objects are as they should be again");
        }
        *known = now;
    }
}

/// What was found twice: once may be a broker that is just coming up.
fn both(before: &[Diagnosis], now: &[Diagnosis]) -> Vec<Diagnosis> {
    now.iter().filter(|fault| before.contains(fault)).cloned().collect()
}
