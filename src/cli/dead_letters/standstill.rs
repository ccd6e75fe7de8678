//! The orders that stand still, read along while a command is at work.

use std::future::pending;
use std::sync::Arc;

use super::super::complain;
use super::desk::Desk;
use crate::broker::{Error, Parking, Publisher, answered};

/// Does the work with all known that was written to the stream of the parked orders before. Without parking,
/// there is no stream.
pub(super) async fn knowing<T>(
    desk: &Desk,
    publisher: &Arc<Publisher>,
    work: impl AsyncFnOnce(Option<&Parking>) -> Result<T, Error>,
) -> Result<T, Error> {
    if !desk.settings.dead_letter.parks() {
        return Box::pin(work(None)).await;
    }
    let parking = Parking::new(publisher.clone(), &desk.topology, usize::MAX).keeping_letters();
    let mut reading = Box::pin(parking.follow(&desk.connection));
    tokio::select! { biased;
        ended = &mut reading => return Err(gone(ended, desk)),
        known = known(&parking) => known?,
    }
    let reading = async {
        if let Err(error) = reading.await {
            // What is known may be old from here on. Whatever rests on it is judged anew at its place.
            complain(&format!("which orders are parked can be read no more: {error}"));
        }
        pending().await
    };
    tokio::select! { biased;
        never = reading => never,
        done = Box::pin(work(Some(&parking))) => done,
    }
}

/// Waits until all is read that is there: for as long as it goes on.
async fn known(parking: &Parking) -> Result<(), Error> {
    let mut news = parking.news();
    loop {
        let record = async {
            // The sender lives as long as the parking.
            let _alive = news.changed().await;
            Ok::<_, Error>(())
        };
        tokio::select! { biased;
            _reading = parking.ready() => return Ok(()),
            moved = answered(record) => moved?,
        }
    }
}

/// A stream that ends at once is not there.
fn gone(ended: Result<(), Error>, desk: &Desk) -> Error {
    let queue = desk.topology.parking();
    ended.err().unwrap_or(Error::NoQueue { queue })
}
