//! A `$batch` of GETs or PATCHes of different orders: what is written, and what its answer says of each
//! of them (OData 4.01 Protocol, section 11.7). Pure.
//!
//! No change set: what comes of one order must not hang on another. Every part has its own `If-Match`,
//! and its answer is classified like that of a single request. What the answer does not say, or says in
//! contradiction to itself, nobody knows: a wrong order's success would be a lost update.

use bytes::Bytes;
use jiff::Timestamp;

use super::multipart::{self, Part};
use super::retry_after::retry_after;
use crate::dispatch::Trail;
use crate::order::ETag;
use crate::protocol::{Answer, Fault, Reply};

/// One GET or PATCH.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) url: String,
    /// What is written, and under which tag. A GET without.
    pub(super) change: Option<(ETag, String)>,
    pub(super) trail: Trail,
    /// The trace that it belongs to, as headers: whoever writes it may be at work for many.
    pub(super) trace: Vec<(String, String)>,
}

/// What headers take in a part, about.
const HEADERS_BYTES: usize = 512;

impl Ask {
    /// Bytes that it takes in a batch, about.
    pub(super) fn bytes(&self) -> usize {
        let change =
            self.change.as_ref().map_or(0, |(etag, body)| etag.as_str().len() + body.len());
        HEADERS_BYTES + self.url.len() + change
    }

    fn head(&self, prefer_minimal: bool) -> String {
        let (Trail { walk, attempt }, url) = (self.trail, &self.url);
        let mut ids = format!(
            "Accept: application/json\r\nOData-Version: 4.0\r\nOData-MaxVersion: 4.0\r\n\
             x-ms-client-request-id: {attempt}\r\nx-ms-client-session-id: {walk}\r\n"
        );
        for (name, value) in &self.trace {
            ids.extend([name, ": ", value, "\r\n"]);
        }
        match &self.change {
            None => format!("GET {url} HTTP/1.1\r\n{ids}"),
            Some((etag, body)) => {
                let prefer = if prefer_minimal { "Prefer: return=minimal\r\n" } else { "" };
                let len = body.len();
                format!(
                    "PATCH {url} HTTP/1.1\r\n{ids}If-Match: {etag}\r\nContent-Type: \
                     application/json\r\nContent-Length: {len}\r\n{prefer}"
                )
            }
        }
    }
}

/// The body of a batch. Its parts are numbered from 1.
pub(super) fn write<'a>(
    asks: impl Iterator<Item = &'a Ask>,
    boundary: &str,
    prefer_minimal: bool,
) -> String {
    let mut text = String::new();
    for (index, ask) in asks.enumerate() {
        let body = ask.change.as_ref().map_or("", |(_, body)| body);
        multipart::write(&mut text, boundary, index + 1, &ask.head(prefer_minimal), body);
    }
    multipart::finish(&mut text, boundary);
    text
}

/// What came of a batch.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The answer to each part; `None` where there is none, or none that can be trusted.
    Parts(Vec<Option<Answer>>),
    /// The service does not do batches.
    Refused(u16),
    /// It refuses this one as a whole, and nothing in it was carried out: too large, or one of its
    /// parts is so wrong that it does not look at the others.
    TooMuch(u16),
    /// It says of the batch what it would say of any request.
    Alike(Reply),
}

impl Outcome {
    /// Whether it is about the batch, and not about what single requests would be told as well: the
    /// gateway gives up, the service takes no more, or we are signed out.
    pub(super) fn is_doubtful(&self) -> bool {
        match self {
            Self::Parts(_) | Self::Refused(_) | Self::TooMuch(_) => false,
            Self::Alike(Ok(answer)) => match answer.status {
                401 | 429 => false,
                503 => answer.retry_after.is_none(),
                0..=400 | 402..=428 | 430..=502 | 504.. => true,
            },
            Self::Alike(Err(fault)) => match fault {
                Fault::Timeout | Fault::Broken | Fault::TooLarge => true,
                Fault::Unreachable | Fault::Untrusted | Fault::SignIn(_) | Fault::Csrf => false,
            },
        }
    }
}

/// Reads the answer to a batch of so many parts. `boundary` is that of its content type, if it is
/// multipart; `part_bytes_max` the largest body that a part may have.
pub(super) fn read(
    answer: Answer,
    boundary: Option<&str>,
    asked: usize,
    part_bytes_max: usize,
    now: Timestamp,
) -> Outcome {
    match answer.status {
        200 => {}
        404..=406 | 410 | 415 | 426 | 501 | 505 => return Outcome::Refused(answer.status),
        429 if is_about_length(&answer.body) => return Outcome::TooMuch(429),
        // Success, but not of a batch: carried out or not.
        201..=299 => return Outcome::Alike(Err(Fault::Broken)),
        0..=199 | 300..=399 | 401 | 403 | 407 | 408 | 425 | 429 | 500 | 502..=504 | 506.. => {
            return Outcome::Alike(Ok(answer));
        }
        // Nothing was changed (section 9.2), and it may be one order's doing: each is asked for itself.
        400 | 402 | 409 | 411..=414 | 416..=424 | 427 | 428 | 430..=499 => {
            return Outcome::TooMuch(answer.status);
        }
    }
    let Some(boundary) = boundary else {
        let is_page = answer.body.trim_ascii_start().starts_with(b"<");
        let page = Answer { is_json: false, etag: None, ..answer };
        return Outcome::Alike(if is_page { Ok(page) } else { Err(Fault::Broken) });
    };
    let Ok(parts) = multipart::read(&answer.body, boundary, asked) else {
        return Outcome::Alike(Err(Fault::Broken));
    };
    let mut found: Vec<Option<Answer>> = (0..asked).map(|_| None).collect();
    for (part, at) in parts.iter().zip(places(&parts, asked)) {
        if let Some(place) = at.and_then(|at| found.get_mut(at)) {
            *place = part_answer(part, &answer, part_bytes_max, now);
        }
    }
    Outcome::Parts(found)
}

/// A limit of the batch's length comes as 429 as well: waiting does not make it shorter.
fn is_about_length(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body.get(..4_096).unwrap_or(body)).to_ascii_lowercase();
    text.contains("batch") && (text.contains("too_many") || text.contains("too many"))
}

/// Which part of the request each part of the answer belongs to: by its id where all have one, by its
/// place where none is missing and no id says otherwise. `None` for all, if neither.
fn places(parts: &[Part<'_>], asked: usize) -> Vec<Option<usize>> {
    let id = |part: &Part<'_>| {
        let id = part.content_id?.parse::<usize>().ok()?;
        (1..=asked).contains(&id).then(|| id - 1)
    };
    let ids: Vec<_> = parts.iter().map(id).collect();
    let is_at_place =
        |(at, part): (usize, &Part<'_>)| part.content_id.is_none() || id(part) == Some(at);
    if parts.len() == asked && parts.iter().enumerate().all(is_at_place) {
        return (0..asked).map(Some).collect();
    }
    let mut seen = vec![false; asked];
    let mut is_new = |id: &Option<usize>| {
        let place = id.and_then(|id| seen.get_mut(id));
        place.is_some_and(|seen| !std::mem::replace(seen, true))
    };
    if ids.iter().all(&mut is_new) { ids } else { vec![None; parts.len()] }
}

/// An answer as a single request would have got it. `None` if it is none: of a change set, too large,
/// or 424, which says that it was not carried out because of another one.
fn part_answer(
    part: &Part<'_>,
    whole: &Answer,
    bytes_max: usize,
    now: Timestamp,
) -> Option<Answer> {
    let status = part.status.filter(|status| *status != 424)?;
    if part.body.len() > bytes_max {
        return None;
    }
    let text = |name: &str| part.header(name);
    let waits = text("retry-after").and_then(|value| retry_after(value, text("date"), now));
    let own_id = text("ms-dyn-aid").map(|id| id.chars().take(128).collect());
    Some(Answer {
        status,
        etag: text("etag").and_then(ETag::new),
        retry_after: waits,
        repeat_rejected: text("repeatability-result")
            .is_some_and(|result| result.eq_ignore_ascii_case("rejected")),
        is_json: text("content-type").is_some_and(is_json),
        service_request_id: own_id.or_else(|| whole.service_request_id.clone()),
        body: Bytes::copy_from_slice(part.body),
    })
}

/// Whether a content type is JSON.
pub(super) fn is_json(kind: &str) -> bool {
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

#[cfg(test)]
mod tests;
