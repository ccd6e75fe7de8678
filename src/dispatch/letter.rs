//! What a dead letter says.

use std::sync::Arc;

use jiff::Timestamp;

use super::Attempt;
use crate::protocol::Code;

/// The reason code of an update that was not begun because its order stands still.
pub const PARKED_BEHIND: &str = "parked_behind";

/// Why a message is dead-lettered, and what was tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    /// The stable reason code.
    pub code: &'static str,
    /// One sentence for people.
    pub detail: String,
    /// The canonical order key, where the message could be decoded.
    pub order: Option<Arc<str>>,
    /// Every attempt, oldest first.
    pub attempts: Vec<Attempt>,
    /// The fields that it would change as the last GET showed them: a JSON object.
    pub seen: Option<String>,
    /// When this process first held the message.
    pub first_seen: Timestamp,
    /// The dead letter that its order stands behind.
    pub parked_behind: Option<uuid::Uuid>,
}

impl Letter {
    /// For a message that no request was made for.
    #[must_use]
    pub fn untried(
        code: &'static str,
        detail: String,
        order: Option<Arc<str>>,
        first_seen: Timestamp,
    ) -> Self {
        let (attempts, seen, parked_behind) = (Vec::new(), None, None);
        Self { code, detail, order, attempts, seen, first_seen, parked_behind }
    }

    /// For an update whose order stands still.
    pub(super) fn behind(head: uuid::Uuid, order: Arc<str>, first_seen: Timestamp) -> Self {
        let detail = format!("an earlier update of the order was dead-lettered: {head}");
        let letter = Self::untried(PARKED_BEHIND, detail, Some(order), first_seen);
        Self { parked_behind: Some(head), ..letter }
    }

    /// For an update that was tried.
    pub(super) fn of(
        code: Code,
        order: Arc<str>,
        (attempts, seen): (Vec<Attempt>, Option<String>),
        first_seen: Timestamp,
    ) -> Self {
        let detail = detail(code, &attempts);
        let letter = Self::untried(code.as_str(), detail, Some(order), first_seen);
        Self { attempts, seen, ..letter }
    }
}

/// What the service said last, or what is known without its words.
fn detail(code: Code, attempts: &[Attempt]) -> String {
    if code == Code::Bug {
        return "handling it panicked; the log has more".to_owned();
    }
    if let Some(said) = attempts.iter().rev().find(|attempt| !attempt.message.is_empty()) {
        return said.message.clone();
    }
    match attempts.last() {
        None => format!("{}: no request was made", code.as_str()),
        Some(last) => {
            let status = last.patch_status.or(last.get_status);
            let status = status.map_or("no answer".to_owned(), |status| format!("HTTP {status}"));
            format!("{} after {} attempt(s), the last one: {status}", code.as_str(), attempts.len())
        }
    }
}
