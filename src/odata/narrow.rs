//! GETs that ask for what an update is judged by, and whether their answers do.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::Settings;
use crate::order::OrderUpdate;
use crate::protocol::{Answer, Fetched, fields};

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
            200..=299 if is_tagless(answer) => {
                if self.is_on.swap(false, Ordering::Relaxed) {
                    tracing::warn!(
                        "a GET with $select came without an ETag: without it from now on"
                    );
                }
                true
            }
            0..=399 | 401..=500 | 502.. => false,
        }
    }
}

/// Of an order alone: what breaks off, and a page of something on the way, say nothing about the service.
fn is_tagless(answer: &Answer) -> bool {
    answer.etag.is_none() && Fetched::read(&answer.body).is_some_and(|order| order.etag().is_none())
}
