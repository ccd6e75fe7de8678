//! Asks for the release of an order that stands still, and sees what comes of it.

use std::future::pending;

use crate::broker::{Error, Outgoing, Parking, Publisher, Topology};
use crate::parking::Release;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The order goes on, or went on and stands still anew.
    Released,
    /// It has got another letter meanwhile.
    StillParked,
}

/// Publishes the release as an update of the order is published, and waits until the broker has it.
///
/// # Errors
/// As [`Publisher::publish`]. It may be there all the same; twice does no harm.
pub async fn ask(
    publisher: &Publisher,
    topology: &Topology,
    release: &Release,
) -> Result<(), Error> {
    let Some(lane) = publisher.lane().await else { return Err(Error::Withdrawn) };
    let message = Outgoing {
        exchange: topology.updates(),
        routing_key: (*release.order).into(),
        properties: release.properties(),
        body: Vec::new(),
    };
    publisher.publish(lane, &message, || true, pending()).await
}

/// Waits until the order goes on, or has got another letter. Not bounded: nobody may be at work.
pub async fn answered(parking: &Parking, release: &Release) -> Answer {
    let mut news = parking.news();
    loop {
        news.mark_unchanged();
        match parking.parked(&release.order) {
            None => return Answer::Released,
            Some(parked) if parked.head != release.head => return Answer::Released,
            Some(parked) if parked.letters != release.letters => return Answer::StillParked,
            Some(_) => {}
        }
        if news.changed().await.is_err() {
            return pending().await;
        }
    }
}
