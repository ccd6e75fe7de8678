//! The settings of what error texts mean.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::list;

/// Parts of the service's error texts that decide what an answer means. Case does not count. Each at
/// least 4 characters; in the environment: separated by commas.
///
/// Finance & Operations answers in the language of the user that we are: translate these, or have that
/// user speak English. Looked for in the innermost message, the exception's type and the error code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Answers {
    /// In a 400 or 500: somebody else changed the order meanwhile. Fetched and judged again.
    #[serde(deserialize_with = "list::text")]
    #[schemars(length(max = 32))]
    pub update_conflict: Vec<String>,
    /// In a 400 or 500: the database gave up. Tried again.
    #[serde(deserialize_with = "list::text")]
    #[schemars(length(max = 32))]
    pub deadlock: Vec<String>,
    /// In a 400 or 500: a rule of the business logic. A 400 is dead-lettered at once, a 500 after two
    /// retries.
    #[serde(deserialize_with = "list::text")]
    #[schemars(length(max = 32))]
    pub business_rule: Vec<String>,
    /// In a 404: not the order is missing, but what is asked for orders. About all updates, so it is
    /// treated as an outage.
    #[serde(deserialize_with = "list::text")]
    #[schemars(length(max = 32))]
    pub wrong_address: Vec<String>,
}

impl Default for Answers {
    fn default() -> Self {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            update_conflict: list(&[
                "update conflict occurred",
                "UpdateConflict",
                "Request_EntityChanged",
            ]),
            deadlock: list(&["deadlock", "timeout expired"]),
            business_rule: list(&["AxODataWriteException"]),
            wrong_address: list(&[
                "Resource not found for the segment",
                "No HTTP resource was found",
            ]),
        }
    }
}

impl Answers {
    /// Every part, with its key.
    pub(super) fn lists(&self) -> [(&'static str, &[String]); 4] {
        [
            ("answers.update_conflict", &self.update_conflict),
            ("answers.deadlock", &self.deadlock),
            ("answers.business_rule", &self.business_rule),
            ("answers.wrong_address", &self.wrong_address),
        ]
    }
}
