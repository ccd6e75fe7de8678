//! GETs that ask for what an update is judged by, and whether their answers do.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::Settings;
use crate::order::OrderUpdate;
use crate::protocol::{Answer, fields};

/// What a GET asks for.
#[derive(Debug, Clone)]
pub(super) struct Narrow {
    is_on: Arc<AtomicBool>,
    /// The property of the order that holds a sequence.
    sequence_property: Option<Arc<str>>,
}

impl Narrow {
    pub(super) fn new(settings: &Settings) -> Self {
        let sequence = settings.guard.sequence_property.as_str();
        Self {
            is_on: Arc::new(AtomicBool::new(settings.target.select)),
            sequence_property: (!sequence.is_empty()).then(|| sequence.into()),
        }
    }

    /// The names for `$select`; `None` where the whole order is to be fetched.
    pub(super) fn names<'a>(&'a self, update: &'a OrderUpdate) -> Option<Vec<Cow<'a, str>>> {
        let is_on = self.is_on.load(Ordering::Relaxed);
        is_on.then(|| fields(update, self.sequence_property.as_deref())).flatten()
    }

    /// Whether the whole order may get another answer: this one says that the request is wrong, or it has no ETag, which
    /// some services take from properties that were not asked for. Those are asked for whole orders from then on.
    pub(super) fn falls_short(&self, answer: &Answer) -> bool {
        match answer.status {
            400 | 501 => {
                tracing::info!("a GET with $select was refused: without it this time");
                true
            }
            // A page of something on the way says nothing about the service.
            200..=299 if answer.is_json && !has_etag(answer) => {
                if self.is_on.swap(false, Ordering::Relaxed) {
                    tracing::warn!(
                        "a GET with $select came without an ETag: without it from now on"
                    );
                }
                true
            }
            _ => false,
        }
    }
}

fn has_etag(answer: &Answer) -> bool {
    let tags: [&[u8]; 2] = [b"\"@odata.etag\"", b"\"@etag\""];
    let has = |tag: &[u8]| answer.body.windows(tag.len()).any(|piece| piece == tag);
    answer.etag.is_some() || tags.into_iter().any(has)
}
