//! What an answer means: success or one of five kinds of trouble, with a code that says why.
//!
//! The table is in `docs/PROTOCOL.md`, and a test reads it from there. Sources: OData 4.01 Protocol,
//! sections 8.2.4 and 9; RFC 9110, section 15; answers of Dynamics 365 seen by others.

use std::time::Duration;

use bytes::Bytes;

use super::Code;
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
    /// By its nature hardly about this order: a second answer of the kind, to another order or, where
    /// [`Code::is_alike_for_all`], to any, is enough to know.
    Systemic(Code),
    /// The same request would be refused again. Told of a GET, it is believed when orders can be found.
    Refused(Code),
    /// A failure while the target is taken for down. No reply means this by itself: it takes several
    /// of them to know. Says nothing of the order, and spends no attempt.
    Outage(Code),
}

/// Classifies a reply.
#[must_use]
pub fn verdict(request: Request, reply: &Reply, texts: &Texts) -> Verdict {
    let verdict = match reply {
        Err(Fault::Unreachable) => failure(Code::Unreachable),
        Err(Fault::Untrusted) => systemic(Code::Certificate),
        Err(Fault::Timeout) => failure(Code::Timeout),
        Err(Fault::Broken | Fault::TooLarge) => failure(Code::UnknownOutcome),
        Err(Fault::SignIn(why)) => signed_out(*why),
        Err(Fault::Csrf) => failure(Code::Csrf),
        Ok(answer) => by_status(request, answer, texts),
    };
    match (request, verdict) {
        // It changes nothing, and asks for no tag: whoever says so does not speak of the order.
        (Request::Get, Verdict::Not(Trouble::Conflict(code))) => failure(code),
        (Request::Get | Request::Patch, verdict) => verdict,
    }
}

/// Concerns every message alike, and none in particular.
const fn signed_out(why: SignIn) -> Verdict {
    systemic(match why {
        SignIn::Config => Code::AuthConfig,
        SignIn::Unavailable => Code::AuthUnavailable,
    })
}

/// *Refused* is only what may differ from order to order: that it is there, and what we want of it. What
/// says how we ask, or comes as a page, may meet every order alike: other orders tell.
fn by_status(request: Request, answer: &Answer, texts: &Texts) -> Verdict {
    match answer.status {
        200 | 204 => success(request, answer),
        300..=399 | 407 => systemic(Code::Redirected),
        401 => systemic(Code::Auth),
        // Of the user's rights, or of this one order: only other orders can tell.
        403 => failure(Code::Forbidden),
        408 | 425 => failure(Code::Timeout),
        429 => throttled(Code::Throttled, answer),
        // The words of a gateway, a firewall, or the web server below, and none of the service's own.
        400..=499 if is_page(&answer.body) => failure(Code::NotOData),
        400 | 500 => by_text(answer, texts),
        404 if texts.is_wrong_address(&answer.body) => systemic(Code::WrongAddress),
        // The GET before it has found the order, so something is wrong, and only the next one can tell
        // what: the order is gone, or writes do not get there.
        404 if request == Request::Patch => failure(Code::NotFound),
        404 => refused(Code::NotFound),
        // Whatever it was that failed before it: asked again, alone, it is answered for itself.
        424 => failure(Code::Dependency),
        409 => conflict(Code::Conflict),
        412 if answer.repeat_rejected => conflict(Code::RepeatWindow),
        412 => conflict(Code::EtagConflict),
        413 | 414 => refused(Code::TooLarge),
        410 | 422 | 451 => refused(Code::Rejected),
        // The method, the headers, the version: the same for all orders. Something between may have
        // taken the If-Match away.
        428 => failure(Code::EtagRequired),
        431 => failure(Code::TooLarge),
        501 | 505 => failure(Code::NotSupported),
        // The same; or about us (402) or about the way there (421), passing (423), or known to no
        // standard, so said by something between us and the service.
        402 | 405 | 406 | 411 | 415..=421 | 423 | 426 | 427 | 430 | 432..=450 | 452..=499 => {
            failure(Code::Rejected)
        }
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

/// Whether a body is a page, whatever its content type says. An error that the service tells in XML is
/// none, although it begins like one.
fn is_page(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii_start();
    let root = match body.strip_prefix(b"<?xml") {
        Some(prolog) => {
            let end = prolog.iter().position(|byte| *byte == b'>').map_or(0, |at| at + 1);
            prolog.get(end..).unwrap_or_default().trim_ascii_start()
        }
        None => body,
    };
    let errors = [&b"<error"[..], b"<m:error", b"<odata:error"];
    body.starts_with(b"<") && !errors.iter().any(|error| root.starts_with(error))
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

    /// Whether it says nothing of what was to be written: somebody else was quicker, or it is the target's.
    #[must_use]
    pub const fn is_nobodys(self) -> bool {
        match self {
            Self::Conflict(_) | Self::Throttled { .. } | Self::Systemic(_) | Self::Outage(_) => {
                true
            }
            Self::Failure(_) | Self::Refused(_) => false,
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
                    | Code::AuthConfig
                    | Code::AuthUnavailable
                    | Code::Csrf
                    | Code::Forbidden
                    | Code::NotFound
                    | Code::Dependency
                    | Code::Throttled
                    | Code::Unreachable
                    | Code::Certificate
                    | Code::WrongAddress
            ),
        }
    }
}
