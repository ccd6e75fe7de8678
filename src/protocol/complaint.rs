//! What an error body says, and the texts by which it is told apart.

use serde::Deserialize;
use serde::de::IgnoredAny;

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

    /// Reads a body; one that is no OData error, nor one of the web server below, gives empty texts,
    /// as it may hold anything.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        let Self { message, kind, code } = Self::whole(body);
        let cut = |text: String| -> String {
            // It comes to terminals and logs.
            let plain = |it: char| if it.is_control() { ' ' } else { it };
            text.chars().map(plain).take(Self::CHARACTERS_MAX).collect()
        };
        Self { message: cut(message), kind: cut(kind), code: cut(code) }
    }

    /// The same with every text as long as it is: what tells it apart may stand at its end.
    fn whole(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Body {
            error: Option<If<Outer>>,
            message: Option<Said>,
            /// How the web server below writes it.
            #[serde(rename = "Message")]
            server: Option<Said>,
        }
        #[derive(Deserialize)]
        struct Outer {
            code: Option<Said>,
            message: Option<Said>,
            innererror: Option<If<Inner>>,
        }
        #[derive(Deserialize)]
        struct Inner {
            message: Option<Said>,
            r#type: Option<Said>,
        }
        let Ok(Body { error, message: own, server }) = serde_json::from_slice(body) else {
            return Self::default();
        };
        let outer = error.and_then(If::fits);
        let (code, outer, inner) = outer.map_or((None, None, None), |it| {
            (it.code, it.message, it.innererror.and_then(If::fits))
        });
        let (inner, kind) = inner.map_or((None, None), |it| (it.message, it.r#type));
        let texts = [inner, outer, own, server].into_iter().flatten().map(Said::text);
        let message = texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
        let text = |said: Option<Said>| said.map(Said::text).unwrap_or_default();
        Self { message, kind: text(kind), code: text(code) }
    }
}

/// What is as it should be, or is passed over: one member that is not must not cost the others.
#[derive(Deserialize)]
#[serde(untagged)]
enum If<T> {
    Fits(T),
    Not(IgnoredAny),
}

impl<T> If<T> {
    fn fits(self) -> Option<T> {
        match self {
            Self::Fits(it) => Some(it),
            Self::Not(IgnoredAny) => None,
        }
    }
}

/// A text, plain or with the language that it is in, as older services write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Plain(String),
    InALanguage { value: String },
    Number(serde_json::Number),
    Else(IgnoredAny),
}

impl Said {
    fn text(self) -> String {
        match self {
            Self::Plain(text) | Self::InALanguage { value: text } => text,
            Self::Number(number) => number.to_string(),
            Self::Else(IgnoredAny) => String::new(),
        }
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
    let Complaint { message, kind, code } = Complaint::whole(body);
    format!("{message}\n{kind}\n{code}").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> String {
        Complaint::read(body.as_bytes()).message
    }

    #[test]
    fn one_member_that_is_not_as_expected_costs_no_other() {
        for body in [
            r#"{"error":{"code":null,"message":"m","innererror":null}}"#,
            r#"{"error":{"code":5,"message":{"lang":"en","value":"m"},"innererror":"none"}}"#,
            r#"{"error":{"message":["?"],"innererror":{"message":"m","type":7}}}"#,
            r#"{"error":"denied","message":"m"}"#,
            r#"{"statusCode":401,"message":"m"}"#,
            r#"{"Message":"m"}"#,
        ] {
            assert_eq!(message(body), "m", "{body}");
        }
        for body in ["", "<html>", "[]", r#"{"error":7}"#] {
            assert_eq!(Complaint::read(body.as_bytes()), Complaint::default(), "{body}");
        }
    }

    #[test]
    fn text_that_tells_them_apart_may_stand_at_the_end_of_a_long_message() {
        let long = format!("{} An Update Conflict occurred.", "Infolog: Warning: x. ".repeat(200));
        let body = format!(r#"{{"error":{{"message":"{long}"}}}}"#);
        let conflict = Texts::new(&["update conflict".to_owned()], &[], &[], &[]);
        assert_eq!(conflict.meaning(body.as_bytes()), Meaning::UpdateConflict);
        assert_eq!(message(&body).chars().count(), 2048, "and little of it is kept");
    }

    #[test]
    fn what_a_service_says_cannot_command_a_terminal() {
        assert_eq!(message(r#"{"error":{"message":"a\u001b[2Jb\nc"}}"#), "a [2Jb c");
    }
}
