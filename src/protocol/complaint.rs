//! What an error body says, and the texts by which it is told apart.

use serde::Deserialize;

/// What an OData error body says (OData JSON Format 4.01, section 21.1).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Complaint {
    /// The innermost message: the outer one of Finance & Operations is always the same.
    pub message: String,
    /// `innererror.type`.
    pub kind: String,
    /// `error.code`; always empty in Finance & Operations.
    pub code: String,
}

impl Complaint {
    /// Longest message that is kept, in characters. Stack traces are not kept at all.
    const CHARACTERS_MAX: usize = 2048;

    /// Reads a body; one that is no OData error gives empty texts, as it may hold anything.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Body {
            error: Outer,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Outer {
            code: String,
            message: String,
            innererror: Inner,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Inner {
            message: String,
            r#type: String,
        }
        let Outer { code, message, innererror } =
            serde_json::from_slice::<Body>(body).unwrap_or_default().error;
        let message = if innererror.message.is_empty() { message } else { innererror.message };
        let cut = |text: String| text.chars().take(Self::CHARACTERS_MAX).collect();
        Self { message: cut(message), kind: cut(innererror.r#type), code: cut(code) }
    }
}

/// What an error text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    UpdateConflict,
    Deadlock,
    BusinessRule,
    Other,
}

/// Parts of error texts, in lower case. A service answers in the language of its user, so they are
/// settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    update_conflict: Vec<String>,
    deadlock: Vec<String>,
    business_rule: Vec<String>,
    wrong_address: Vec<String>,
}

impl Texts {
    /// Case does not count. An empty part would be in every text.
    #[must_use]
    pub fn new(
        update_conflict: &[String],
        deadlock: &[String],
        business_rule: &[String],
        wrong_address: &[String],
    ) -> Self {
        let lower = |parts: &[String]| parts.iter().map(|part| part.to_lowercase()).collect();
        Self {
            update_conflict: lower(update_conflict),
            deadlock: lower(deadlock),
            business_rule: lower(business_rule),
            wrong_address: lower(wrong_address),
        }
    }

    /// The first list that has a part of it decides.
    pub(super) fn meaning(&self, body: &[u8]) -> Meaning {
        let said = said(body);
        let any = |parts: &[String]| parts.iter().any(|part| said.contains(part));
        if any(&self.update_conflict) {
            Meaning::UpdateConflict
        } else if any(&self.deadlock) {
            Meaning::Deadlock
        } else if any(&self.business_rule) {
            Meaning::BusinessRule
        } else {
            Meaning::Other
        }
    }

    /// Whether a 404 is about the address that all requests have, and not about one order.
    pub(super) fn is_wrong_address(&self, body: &[u8]) -> bool {
        let said = said(body);
        self.wrong_address.iter().any(|part| said.contains(part))
    }
}

fn said(body: &[u8]) -> String {
    let Complaint { message, kind, code } = Complaint::read(body);
    format!("{message}\n{kind}\n{code}").to_lowercase()
}
