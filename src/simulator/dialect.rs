//! How the products word their errors.

use serde_json::json;

use super::reply::{Body, to_json};
use super::throttle::Limit;

/// Whose errors they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// An empty code, and all that matters in `innererror`.
    FinOps,
    /// Numbers in hex.
    Dataverse,
    /// Words whose beginning tells the kind.
    BusinessCentral,
    /// Words. Assumed: SAP's own numbers differ from service to service.
    Gateway,
}

/// What is wrong, as far as a code tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem {
    Stale,
    Missing,
    TagRequired,
    Csrf,
    Request,
    Business,
    TooLong,
    TooMuch(Limit),
    Server,
}

impl Problem {
    /// What a status alone tells.
    pub(super) const fn of(status: u16) -> Self {
        match status {
            409 | 412 => Self::Stale,
            404 => Self::Missing,
            428 => Self::TagRequired,
            429 => Self::TooMuch(Limit::Load),
            500..=599 => Self::Server,
            _ => Self::Request,
        }
    }
}

impl Dialect {
    /// The text for a stale tag.
    pub(super) const fn stale_text(self) -> &'static str {
        match self {
            Self::FinOps | Self::Gateway => {
                "The If-Match header does not match the current version of the record."
            }
            Self::Dataverse => {
                "The version of the existing record doesn't match the RowVersion property provided."
            }
            Self::BusinessCentral => "Another user has already changed the record.",
        }
    }

    /// The text for what is too much.
    pub(super) fn too_much_text(self, limit: Limit, retry_after: Option<&str>) -> String {
        if self == Self::Dataverse {
            return match limit {
                Limit::Requests(max) => format!(
                    "Number of requests exceeded the limit of {max} over time window of 300 seconds."
                ),
                Limit::Execution(max) => format!(
                    "Combined execution time of incoming requests exceeded limit of {max} \
                     milliseconds over time window of 300 seconds. Decrease number of concurrent \
                     requests or reduce the duration of requests and try again later."
                ),
                Limit::Concurrent(max) => {
                    format!("Number of concurrent requests exceeded the limit of {max}.")
                }
                Limit::Load => "Too many requests.".to_owned(),
            };
        }
        let seconds = retry_after.unwrap_or("a few");
        format!(
            "This request could not be processed at this time due to system experiencing high \
             resource utilization. Please retry the request after {seconds} seconds"
        )
    }

    const fn code(self, problem: Problem) -> &'static str {
        match self {
            Self::FinOps => "",
            Self::Dataverse => match problem {
                Problem::Stale => "0x80060882",
                Problem::Missing => "0x80040217",
                Problem::TooMuch(Limit::Execution(_)) => "0x80072321",
                Problem::TooMuch(Limit::Concurrent(_)) => "0x80072326",
                Problem::TooMuch(Limit::Requests(_) | Limit::Load) => "0x80072322",
                Problem::Business => "0x80040265",
                Problem::TagRequired | Problem::Csrf | Problem::Request | Problem::TooLong => {
                    "0x80048d19"
                }
                Problem::Server => "0x80040224",
            },
            Self::BusinessCentral => match problem {
                Problem::Stale => "Request_EntityChanged",
                Problem::Missing => "BadRequest_ResourceNotFound",
                Problem::TagRequired => "BadRequest_InvalidToken",
                Problem::TooMuch(_) => "Application_TooManyRequests",
                Problem::Business => "Application_DialogException",
                Problem::Csrf | Problem::Request | Problem::TooLong => "BadRequest",
                Problem::Server => "Internal_ServerError",
            },
            Self::Gateway => match problem {
                Problem::Stale => "PRECONDITION_FAILED",
                Problem::Missing => "NOT_FOUND",
                Problem::TagRequired => "PRECONDITION_REQUIRED",
                Problem::TooMuch(_) => "TOO_MANY_REQUESTS",
                Problem::TooLong => "BATCH_TOO_MANY_REQ",
                Problem::Business => "BUSINESS_RULE",
                Problem::Csrf => "CSRF_TOKEN_REQUIRED",
                Problem::Request => "BAD_REQUEST",
                Problem::Server => "INTERNAL_SERVER_ERROR",
            },
        }
    }

    /// The body of an error. `kind` is the type of the exception, which Finance & Operations alone
    /// tells.
    pub(super) fn body(self, problem: Problem, kind: &str, message: &str) -> Body {
        if self == Self::FinOps {
            return fin_ops(kind, message);
        }
        let code = self.code(problem);
        Body::Json(to_json(&json!({"error": {"code": code, "message": message}})))
    }
}

/// The error shape of Finance & Operations: an empty code, and all that matters inside. The stack
/// trace is there because a client must not carry it into logs and dead letters.
fn fin_ops(kind: &str, message: &str) -> Body {
    Body::Json(to_json(&json!({"error": {
        "code": "",
        "message": "An error has occurred.",
        "innererror": {
            "message": message,
            "type": kind,
            "stacktrace": "   at Microsoft.Dynamics.Platform.Integration.Services.OData.Update()",
        }
    }})))
}
