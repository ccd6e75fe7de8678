//! What an answer means: success or one of five kinds of trouble, with a code that says why.
//!
//! The table is in `docs/PROTOCOL.md`, and a test reads it from there. Sources: OData 4.01 Protocol,
//! sections 8.2.4 and 9; RFC 9110, section 15; answers of Dynamics 365 seen by others.

use std::time::Duration;

use bytes::Bytes;

use super::complaint::{Meaning, Texts};
use super::plan::Fetched;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// The order, with its ETag.
    Get,
    /// The write, under `If-Match`.
    Patch,
}

/// An answer that arrived whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The `ETag` header.
    pub etag: Option<crate::order::ETag>,
    /// `Retry-After`, as the time that is left.
    pub retry_after: Option<Duration>,
    /// Whether it says `Repeatability-Result: rejected`: the service does not want this request a
    /// second time.
    pub repeat_rejected: bool,
    /// Whether the content type is JSON.
    pub is_json: bool,
    /// The service's own name for the request (`ms-dyn-aid`), to be quoted to its support.
    pub service_request_id: Option<String>,
    /// The body, bounded by the edge.
    pub body: Bytes,
}

/// Why no whole answer arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No connection: the request was never sent.
    Unreachable,
    /// The service's certificate is not to be trusted: the request was never sent.
    Untrusted,
    /// The deadline passed.
    Timeout,
    /// The connection broke, or the answer was no HTTP.
    Broken,
    /// The answer is larger than the edge reads.
    TooLarge,
    /// There is no token to send it with: the request was never sent, or was answered 401 before.
    SignIn(SignIn),
    /// The service takes no write without a CSRF token, and takes none of those it gave us.
    Csrf,
}

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignIn {
    /// Refused: only a change of the settings, or at the token endpoint, helps.
    Config,
    /// The token endpoint cannot answer now.
    Unavailable,
}

/// What came back.
pub type Reply = Result<Answer, Fault>;

/// The class of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Success: the order is in the body, or the write is done.
    Done,
    /// Anything else.
    Not(Trouble),
}

/// The classes of a reply that is no success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Somebody else was quicker. Nothing was written: fetch and judge again.
    Conflict(Code),
    /// Trouble that may pass. The outcome may be unknown: wait, then look before writing.
    Failure(Code),
    /// Too much is asked of the target. Says nothing of the order: it spends no attempt, and
    /// everything for the target waits.
    Throttled {
        /// What kind of throttling.
        code: Code,
        /// How long the service asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// By its nature about everything that is sent there, and not about this order.
    Systemic(Code),
    /// The same request would be refused again.
    Refused(Code),
    /// A failure while the target is taken for down. No reply means this by itself: it takes several
    /// of them to know. Says nothing of the order, and spends no attempt.
    Outage(Code),
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal;)+) => {
        /// Why an attempt ended as it did. The texts are part of the interface: they stand in dead
        /// letters, metrics and alerts, and are never reworded.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[doc = $doc])+ $name,)+ }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The stable name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }
        }
    };
}

codes! {
    /// 412: the ETag is stale.
    EtagConflict = "etag_conflict";
    /// 409.
    Conflict = "conflict";
    /// An error text that tells of an update conflict, whatever the status.
    UpdateConflict = "update_conflict";
    /// 412 because the service has seen the request before, or too late.
    RepeatWindow = "repeat_window";
    /// More conflicts in a row than are allowed.
    ConflictExhausted = "conflict_exhausted";
    /// The order does not exist, or not for us.
    NotFound = "not_found";
    /// The GET brought no ETag, so no write can be guarded.
    NoEtag = "no_etag";
    /// 428 although an ETag was sent.
    EtagRequired = "etag_required";
    /// The message's `expect` does not hold.
    ExpectationFailed = "expectation_failed";
    /// The order holds the sequence of a newer update.
    Superseded = "superseded";
    /// The property that should hold the order's sequence holds no whole number.
    SequenceUnreadable = "sequence_unreadable";
    /// A property would change in a way that the configuration does not allow.
    TransitionRefused = "transition_refused";
    /// The service refuses the request as it is.
    Rejected = "rejected";
    /// A rule of the business logic says no.
    BusinessRule = "business_rule";
    /// Body or URL is larger than the service takes.
    TooLarge = "too_large";
    /// The service cannot do this at all.
    NotSupported = "not_supported";
    /// 401, with a token that was renewed for this request, where it can be.
    Auth = "auth";
    /// The token endpoint refuses us as we are configured.
    AuthConfig = "auth_config";
    /// The token endpoint gives no token now.
    AuthUnavailable = "auth_unavailable";
    /// The service asks for a CSRF token and takes none that it gave.
    Csrf = "csrf";
    /// 403.
    Forbidden = "forbidden";
    /// 3xx or 407: something stands between us and the service.
    Redirected = "redirected";
    /// Success, but the body is not OData: a login or maintenance page.
    NotOData = "not_odata";
    /// 424: something else failed that this request depends on.
    Dependency = "dependency";
    /// 408 or 425, or our own deadline.
    Timeout = "timeout";
    /// 429.
    Throttled = "throttled";
    /// 503 with a time to come back.
    Unavailable = "unavailable";
    /// 502, 503 or 504.
    Gateway = "gateway";
    /// Any other 5xx.
    ServerError = "server_error";
    /// An error text that tells of a database deadlock.
    Deadlock = "deadlock";
    /// No connection could be made.
    Unreachable = "unreachable";
    /// The service's certificate is not to be trusted.
    Certificate = "certificate";
    /// 404 that tells of the address that all requests have, not of one order.
    WrongAddress = "wrong_address";
    /// The reply was lost or makes no sense: the write may have happened.
    UnknownOutcome = "unknown_outcome";
    /// Its holders were lost again and again: it may be what kills them.
    CrashLoop = "crash_loop";
    /// A bug in orderwright itself.
    Bug = "bug";
}

/// Classifies a reply.
#[must_use]
pub fn verdict(request: Request, reply: &Reply, texts: &Texts) -> Verdict {
    match reply {
        Err(Fault::Unreachable) => failure(Code::Unreachable),
        Err(Fault::Untrusted) => systemic(Code::Certificate),
        Err(Fault::Timeout) => failure(Code::Timeout),
        Err(Fault::Broken | Fault::TooLarge) => failure(Code::UnknownOutcome),
        Err(Fault::SignIn(why)) => signed_out(*why),
        Err(Fault::Csrf) => failure(Code::Csrf),
        Ok(answer) => by_status(request, answer, texts),
    }
}

/// Concerns every message alike, and none in particular.
const fn signed_out(why: SignIn) -> Verdict {
    systemic(match why {
        SignIn::Config => Code::AuthConfig,
        SignIn::Unavailable => Code::AuthUnavailable,
    })
}

fn by_status(request: Request, answer: &Answer, texts: &Texts) -> Verdict {
    match answer.status {
        200 | 204 => success(request, answer),
        300..=399 | 407 => systemic(Code::Redirected),
        400 | 500 => by_text(answer, texts),
        401 => systemic(Code::Auth),
        // Of the user's rights, or of this one order: only other orders can tell.
        403 => failure(Code::Forbidden),
        // A page of a gateway that does not find the service behind it.
        404 if is_page(&answer.body) => failure(Code::NotOData),
        404 if texts.is_wrong_address(&answer.body) => systemic(Code::WrongAddress),
        // After a PATCH only a GET can tell whether the order is gone (it may be the company).
        404 if request == Request::Patch => conflict(Code::NotFound),
        404 => refused(Code::NotFound),
        408 | 425 => failure(Code::Timeout),
        // Whatever it was that failed before it: asked again, alone, it is answered for itself.
        424 => failure(Code::Dependency),
        409 => conflict(Code::Conflict),
        412 if answer.repeat_rejected => conflict(Code::RepeatWindow),
        412 => conflict(Code::EtagConflict),
        413 | 414 | 431 => refused(Code::TooLarge),
        428 => refused(Code::EtagRequired),
        429 => throttled(Code::Throttled, answer),
        // About us (402) or about the way there (421), passing (423), or known to no standard, so
        // said by something between us and the service: none of it is about the order for sure.
        402 | 418..=421 | 423 | 427 | 430 | 432..=450 | 452..=499 => failure(Code::Rejected),
        405 | 406 | 410 | 411 | 415..=417 | 422 | 426 | 451 => refused(Code::Rejected),
        501 | 505 => refused(Code::NotSupported),
        503 if answer.retry_after.is_some() => throttled(Code::Unavailable, answer),
        502..=504 => failure(Code::Gateway),
        506..=599 => failure(Code::ServerError),
        0..=199 | 201..=299 | 600.. => failure(Code::UnknownOutcome),
    }
}

/// 200 and 204. A login page comes as 200 too, so the body must be what was asked for.
fn success(request: Request, answer: &Answer) -> Verdict {
    match request {
        Request::Get if answer.is_json => Verdict::Done,
        Request::Patch if answer.body.is_empty() => Verdict::Done,
        // Anything may answer for a service that is away. In doubt a GET looks: better than to ack
        // what nobody wrote.
        Request::Patch if answer.is_json && Fetched::read(&answer.body).is_some() => Verdict::Done,
        Request::Patch if answer.is_json => failure(Code::UnknownOutcome),
        Request::Get if answer.body.is_empty() => failure(Code::UnknownOutcome),
        Request::Get | Request::Patch => systemic(Code::NotOData),
    }
}

/// 400 and 500: Finance & Operations reports a conflict, a deadlock and a broken business rule with
/// either, and only the text tells them apart.
fn by_text(answer: &Answer, texts: &Texts) -> Verdict {
    match (texts.meaning(&answer.body), answer.status) {
        (Meaning::UpdateConflict, _) => conflict(Code::UpdateConflict),
        (Meaning::Deadlock, _) => failure(Code::Deadlock),
        (Meaning::BusinessRule, 400) => refused(Code::BusinessRule),
        (Meaning::Other, 400) => refused(Code::Rejected),
        (Meaning::BusinessRule, _) => failure(Code::BusinessRule),
        (Meaning::Other, _) => failure(Code::ServerError),
    }
}

/// Whether a body is HTML, whatever its content type says.
fn is_page(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<")
}

const fn failure(code: Code) -> Verdict {
    Verdict::Not(Trouble::Failure(code))
}

const fn throttled(code: Code, answer: &Answer) -> Verdict {
    Verdict::Not(Trouble::Throttled { code, retry_after: answer.retry_after })
}

const fn systemic(code: Code) -> Verdict {
    Verdict::Not(Trouble::Systemic(code))
}

const fn conflict(code: Code) -> Verdict {
    Verdict::Not(Trouble::Conflict(code))
}

const fn refused(code: Code) -> Verdict {
    Verdict::Not(Trouble::Refused(code))
}

impl Trouble {
    /// Why.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Conflict(code)
            | Self::Failure(code)
            | Self::Throttled { code, .. }
            | Self::Systemic(code)
            | Self::Refused(code)
            | Self::Outage(code) => code,
        }
    }

    /// Whether a PATCH that ended so may have been carried out, or may still be at work.
    #[must_use]
    pub const fn leaves_doubt(self) -> bool {
        match self {
            Self::Conflict(_) | Self::Refused(_) => false,
            // A 4xx means that nothing was changed (OData 4.01 Protocol, section 9.2), and what was
            // never sent changes nothing.
            Self::Failure(code)
            | Self::Throttled { code, .. }
            | Self::Systemic(code)
            | Self::Outage(code) => !matches!(
                code,
                Code::Auth
                    | Code::Forbidden
                    | Code::Dependency
                    | Code::Throttled
                    | Code::Unreachable
                    | Code::Certificate
                    | Code::WrongAddress
            ),
        }
    }
}
