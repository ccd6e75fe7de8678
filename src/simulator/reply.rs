//! What the stand-in answers, as values; the server turns them into bytes.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

use super::csrf;
use super::dialect::{Dialect, Problem};
use super::key;
use super::profile::Manners;
use super::throttle::{Limit, Refused};

/// `innererror.type` when X++ code refuses a write.
pub const WRITE_EXCEPTION: &str =
    "Microsoft.Dynamics.Platform.Integration.Services.OData.AxODataWriteException";
/// `innererror.type` when the request does not fit the model. Assumed: no dump shows it.
pub const ODATA_EXCEPTION: &str = "Microsoft.OData.ODataException";

const UNAVAILABLE_PAGE: &str =
    "<html><head><title>503</title></head><body><h1>Service Unavailable</h1></body></html>";
const LOGIN_PAGE: &str =
    "<html><head><title>Sign in</title></head><body>Sign in to your account</body></html>";
/// The text by which vendors know a conflict that Finance & Operations found while writing.
pub(super) const UPDATE_CONFLICT_TEXT: &str = "Write failed for table row of type 'SalesOrderHeaderV2Entity'. \
    Infolog: Error: Cannot edit a record in Sales orders (SalesTable). An update conflict occurred \
    due to another user process deleting the record or changing one or more fields in the record.";

/// 50 MB, made once and shared by all answers.
static HUGE: LazyLock<Bytes> = LazyLock::new(|| {
    let mut text = b"{\"value\":\"".to_vec();
    text.resize(50_000_000 - 2, b'x');
    text.extend_from_slice(b"\"}");
    text.into()
});

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is answered.
    Reply(Reply),
    /// The connection is cut without an answer.
    Cut,
    /// The head and half of the body go out, then the connection is cut.
    CutInBody(Reply),
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The `ETag` header.
    pub etag: Option<String>,
    /// The `Retry-After` header. A text, because absurd values have to be tested too.
    pub retry_after: Option<String>,
    /// The body, with its media type.
    pub body: Body,
    /// The `ms-dyn-aid` header: the server's own id of the request, for support.
    pub aid: Uuid,
    /// How the answer gets to the client.
    pub delivery: Delivery,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

/// How an answer gets to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As it is.
    Plain,
    /// Compressed.
    Gzip,
    /// The body drop by drop, the last one after this time.
    SlowDrip(Duration),
    /// As it is, and the connection is closed this long after it.
    CloseIdle(Duration),
}

/// A body and what it claims to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    Empty,
    /// OData JSON.
    Json(Bytes),
    /// A page for people.
    Html(&'static str),
    /// The answers to a batch.
    Multipart {
        /// What stands between them.
        boundary: String,
        /// All of them.
        bytes: Bytes,
    },
}

/// Why a request is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The entity tag is stale.
    Conflict(Spelling),
    /// No such order, or it cannot be seen. The answer has no body.
    Missing,
    /// No valid token. The answer has no body.
    Unauthorized,
    /// No valid CSRF token.
    Csrf,
    /// Nobody may write without If-Match.
    TagRequired {
        /// How that is said.
        status: u16,
    },
    /// More requests in one batch than there may be.
    TooLong {
        /// How that is said.
        status: u16,
        /// Requests that there may be.
        max: usize,
    },
    /// Refused with a text.
    Rejected {
        /// HTTP status.
        status: u16,
        /// `innererror.type`.
        kind: &'static str,
        /// `innererror.message`.
        message: String,
    },
}

/// The ways in which a conflict is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// 412, as OData demands.
    PreconditionFailed,
    /// 409, as some gateways answer.
    Conflict,
    /// 400 with the update-conflict text, as X++ code answers when it finds the conflict itself.
    Text,
}

impl Reply {
    /// An answer without body and headers.
    pub const fn empty(status: u16) -> Self {
        Self {
            status,
            etag: None,
            retry_after: None,
            body: Body::Empty,
            aid: Uuid::nil(),
            delivery: Delivery::Plain,
            headers: Vec::new(),
        }
    }

    /// An answer that does not come from the application: the login page, status 200.
    pub fn login_page() -> Self {
        Self { body: Body::Html(LOGIN_PAGE), ..Self::empty(200) }
    }

    /// A 200 whose JSON ends too early.
    pub fn bad_json() -> Self {
        Self { body: Body::Json(Bytes::from_static(b"{\"@odata.etag\":\"W/")), ..Self::empty(200) }
    }

    /// A 200 that claims to be JSON and is none.
    pub fn invalid_json() -> Self {
        Self { body: Body::Json(Bytes::from_static(b"{'value': undefined,}")), ..Self::empty(200) }
    }

    /// A 200 with more JSON than any order has.
    pub fn huge_json() -> Self {
        Self { body: Body::Json(HUGE.clone()), ..Self::empty(200) }
    }

    /// The answer to what is too much.
    pub(super) fn throttled(manners: &Manners, refused: Refused) -> Self {
        let retry_after = refused.retry_after.map(|seconds| seconds.to_string());
        let dialect = manners.dialect;
        let text = dialect.too_much_text(refused.limit, retry_after.as_deref());
        let body = dialect.body(Problem::TooMuch(refused.limit), "", &text);
        Self { retry_after, body, ..Self::empty(429) }
    }

    /// The answer of a scripted fault. A gateway answers 5xx with a page, unless a text is given.
    pub(super) fn fault(
        manners: &Manners,
        status: u16,
        message: Option<&str>,
        retry_after: Option<String>,
    ) -> Self {
        let dialect = manners.dialect;
        let problem = Problem::of(status);
        let body = match message {
            Some(message) => dialect.body(problem, WRITE_EXCEPTION, message),
            None if status >= 500 => Body::Html(UNAVAILABLE_PAGE),
            None if status == 429 => {
                let text = dialect.too_much_text(Limit::Load, retry_after.as_deref());
                dialect.body(problem, "", &text)
            }
            None if (300..400).contains(&status) || status == 401 => Body::Empty,
            None => dialect.body(problem, WRITE_EXCEPTION, "Write failed."),
        };
        Self { retry_after, body, ..Self::empty(status) }
    }
}

impl Refusal {
    /// A request that does not fit the model of the entity.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::Rejected { status: 400, kind: ODATA_EXCEPTION, message: message.into() }
    }

    /// A write that X++ refuses, worded as its Infolog words it.
    pub fn write_failed(warnings: &str) -> Self {
        let message = format!(
            "Write failed for table row of type 'SalesOrderHeaderV2Entity'. Infolog: {warnings}"
        );
        Self::Rejected { status: 400, kind: WRITE_EXCEPTION, message }
    }

    /// A body that is no JSON object.
    pub fn bad_json(error: &str) -> Self {
        Self::bad_request(format!("The request body is not a valid JSON object: {error}"))
    }

    /// A URL that names no order.
    pub fn bad_key(error: &key::Error) -> Self {
        let status = match error {
            key::Error::UnknownSegment { .. } => 404,
            key::Error::WholeSet | key::Error::Syntax | key::Error::Property { .. } => 400,
        };
        Self::Rejected { status, kind: "", message: error.to_string() }
    }

    /// Only GET and PATCH of one order are served.
    pub fn method_not_allowed() -> Self {
        let message = "The requested resource does not support this http method.".to_owned();
        Self::Rejected { status: 405, kind: "", message }
    }

    /// Whether the tag was stale.
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    /// The answer that says so.
    pub(super) fn into_reply(self, manners: &Manners) -> Reply {
        let dialect = manners.dialect;
        let stale = dialect.stale_text();
        let (status, body) = match self {
            Self::Missing if dialect == Dialect::FinOps => (404, Body::Empty),
            Self::Missing => (404, dialect.body(Problem::Missing, "", "The order does not exist.")),
            Self::Unauthorized => (401, Body::Empty),
            Self::Csrf => {
                let body = dialect.body(Problem::Csrf, "", "CSRF token validation failed");
                let headers = vec![(csrf::HEADER, "Required".to_owned())];
                return Reply { body, headers, ..Reply::empty(403) };
            }
            Self::TagRequired { status } => {
                let text = "The request must have an If-Match header.";
                (status, dialect.body(Problem::TagRequired, "", text))
            }
            Self::TooLong { status, max } => {
                let text = format!("The batch has more than {max} requests.");
                (status, dialect.body(Problem::TooLong, ODATA_EXCEPTION, &text))
            }
            Self::Conflict(Spelling::PreconditionFailed) => {
                (manners.stale, dialect.body(Problem::Stale, ODATA_EXCEPTION, stale))
            }
            Self::Conflict(Spelling::Conflict) => {
                (409, dialect.body(Problem::Stale, ODATA_EXCEPTION, stale))
            }
            Self::Conflict(Spelling::Text) => {
                (400, dialect.body(Problem::Stale, WRITE_EXCEPTION, UPDATE_CONFLICT_TEXT))
            }
            Self::Rejected { status, kind, message } => {
                let is_rule = kind == WRITE_EXCEPTION;
                let problem = if is_rule { Problem::Business } else { Problem::of(status) };
                (status, dialect.body(problem, kind, &message))
            }
        };
        Reply { body, ..Reply::empty(status) }
    }
}

/// Writes a value as JSON.
#[expect(
    clippy::expect_used,
    reason = "every type written here has string keys and no failing part"
)]
pub(super) fn to_json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("a value with string keys is JSON").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::Profile;

    const FO: &Manners = Profile::Fo.manners();

    fn message(reply: &Reply) -> (String, String) {
        let Body::Json(bytes) = &reply.body else { panic!("{reply:?} has no JSON body") };
        let body: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        assert_eq!(body["error"]["code"], "");
        let inner = &body["error"]["innererror"];
        (inner["type"].as_str().unwrap().to_owned(), inner["message"].as_str().unwrap().to_owned())
    }

    #[test]
    fn conflict_has_three_spellings() {
        let reply = |spelling| Refusal::Conflict(spelling).into_reply(FO);
        assert_eq!(reply(Spelling::PreconditionFailed).status, 412);
        assert_eq!(reply(Spelling::Conflict).status, 409);
        let text = reply(Spelling::Text);
        assert_eq!(text.status, 400);
        let (kind, message) = message(&text);
        assert_eq!(kind, WRITE_EXCEPTION);
        assert!(message.contains("An update conflict occurred due to another user process"));
    }

    #[test]
    fn gateway_faults_are_pages_and_business_faults_are_odata() {
        assert!(matches!(Reply::fault(FO, 503, None, None).body, Body::Html(_)));
        assert_eq!(message(&Reply::fault(FO, 500, Some("deadlock"), None)).1, "deadlock");
        assert!(
            message(&Reply::fault(FO, 429, None, None)).1.contains("high resource utilization")
        );
        assert_eq!(Reply::fault(FO, 302, None, None).body, Body::Empty);
    }
}
