//! The flags that say which dead letters are meant.

use jiff::{SignedDuration, Timestamp};

use crate::dead_letter::{Pointer, Selection, Statuses};

/// Which dead letters.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Which dead letters (given twice: either; different ones: all)")]
pub(super) struct Filters {
    /// Fingerprint, or its beginning (see `groups`).
    #[arg(long, value_name = "TEXT")]
    fingerprint: Vec<String>,
    /// Reason code, such as not_found or broker_expired.
    #[arg(long, value_name = "CODE")]
    reason: Vec<String>,
    /// Canonical order key.
    #[arg(long, value_name = "KEY")]
    order: Vec<String>,
    /// Id of a letter, or its beginning.
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
    /// HTTP status of the last answer: 412, 5xx, or none.
    #[arg(long, value_name = "STATUS")]
    status: Vec<Statuses>,
    /// Died then or later: RFC 3339, or so long ago (90m, 2h, 3d).
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Died before then.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// Died at least so long ago.
    #[arg(long, value_name = "DURATION", value_parser = age)]
    older_than: Option<SignedDuration>,
    /// Was replayed at least so often.
    #[arg(long, value_name = "COUNT")]
    min_replays: Option<u32>,
    /// A header of the message has this value.
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// The body has this value at a JSON pointer: /changes/SalesStatus=Delivered. Without a value: has
    /// anything there.
    #[arg(long, value_name = "/PATH=VALUE")]
    pointer: Vec<Pointer>,
}

impl Filters {
    pub(super) fn selection(&self) -> Selection {
        let Self { fingerprint, reason, order, id, status, header, pointer, .. } = self.clone();
        Selection {
            fingerprints: fingerprint,
            reasons: reason,
            orders: order,
            ids: id,
            statuses: status,
            since: self.since,
            until: self.until,
            older_than: self.older_than,
            replays_min: self.min_replays,
            headers: header,
            pointers: pointer,
        }
    }
}

pub(super) fn age(text: &str) -> Result<SignedDuration, String> {
    let age = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    SignedDuration::try_from(age).map_err(|error| error.to_string())
}

pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago =
        age(text).map_err(|_no_age| "neither a time (RFC 3339) nor an age (2h)".to_owned())?;
    Timestamp::now().checked_sub(ago).map_err(|error| error.to_string())
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
