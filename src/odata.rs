//! The HTTP edge: one GET, one PATCH, the URL of an order, and the token.
//!
//! Retries nothing, except for a request that was refused for its token and is sent once more with another,
//! and for one of a batch that was refused as a whole, which is then sent by itself.

mod batch;
mod client;
mod csrf;
mod dealing;
mod file;
mod gatherer;
mod grant;
mod kept;
mod lanes;
mod multipart;
mod narrow;
mod probe;
mod retry_after;
mod sending;
mod source;
#[cfg(test)]
mod tests;
mod token;
pub mod url;

/// What `crate::fuzzing` reaches in here.
pub(crate) mod fuzzed {
    use std::time::Duration;

    use bytes::Bytes;
    use jiff::Timestamp;

    use super::batch::{self, Outcome};
    use crate::protocol::Answer;

    /// As [`super::retry_after::retry_after`].
    pub(crate) fn retry_after(value: &str, date: Option<&str>, now: Timestamp) -> Option<Duration> {
        super::retry_after::retry_after(value, date, now)
    }

    /// How many answers a body brings that was asked for so many. `None` where it is no batch.
    pub(crate) fn batch(boundary: Option<&str>, body: &[u8], asked: usize) -> Option<usize> {
        let answer = Answer {
            status: 200,
            etag: None,
            retry_after: None,
            repeat_rejected: false,
            is_json: false,
            service_request_id: None,
            body: Bytes::copy_from_slice(body),
        };
        match batch::read(answer, boundary, asked, 4096, Timestamp::UNIX_EPOCH) {
            Outcome::Parts(parts) => Some(parts.len()),
            Outcome::Refused(_) | Outcome::TooMuch(_) | Outcome::Alike(_) => None,
        }
    }
}

/// What `crate::measuring` reaches in here.
pub(crate) mod measured {
    use super::Client;
    use super::batch::Ask;
    use crate::dispatch::Trail;
    use crate::order::{ETag, OrderUpdate};

    /// How many headers the GET and the PATCH of an update have, ready to be sent but for the token.
    pub(crate) fn headers(
        client: &Client,
        update: &OrderUpdate,
        etag: &ETag,
        trail: Trail,
    ) -> Option<usize> {
        let headers = |change| {
            let ask = Ask::new(client.orders.url(&update.key), change, trail);
            Some(client.single(&ask).ok()?.headers().len())
        };
        let body = update.changes.as_json().to_owned();
        Some(headers(None)? + headers(Some((etag.clone(), body)))?)
    }
}

pub use client::{Client, Error};
pub use grant::Refusal;
pub use probe::{Probe, State, Step};
