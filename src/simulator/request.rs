//! Reads what a request asks for out of its head and body. Pure, and done before the state is
//! locked, because parsing is most of the work.

use std::sync::Arc;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, IF_MATCH, USER_AGENT};
use hyper::{HeaderMap, Method, Uri};
use serde_json::{Map, Value as Json};

use super::batch::{Batch, Whole};
use super::catalogue::At;
use super::csrf;
use super::faults::On;
use super::key::{self, Key};
use super::multipart::boundary;

/// Names the walk of one worker over one message: the identity of a writer.
const SESSION_ID: &str = "x-ms-client-session-id";
/// Names one request, in the client's words.
const REQUEST_ID: &str = "x-ms-client-request-id";
const PREFER: &str = "prefer";
/// The path of a batch.
pub(super) const BATCH: &str = "$batch";
/// Longest writer or request id that is kept.
const ID_CHARS_MAX: usize = 200;

/// What is asked for.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Read the order.
    Get,
    /// Change it: the properties, or why the body is no JSON object.
    Patch(Result<Map<String, Json>, String>),
    /// Several of these in one, or why the body is no batch.
    Batch(Result<Batch, &'static str>),
    /// Anything else, which is not served.
    Other,
}

/// A request under `/data/`.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is asked for.
    pub operation: Operation,
    /// Of which order.
    pub target: Result<Key, key::Error>,
    /// Whether orders of other companies than the user's own may be seen.
    pub cross_company: bool,
    /// `$top`: the most orders that a list is to show.
    pub top: Option<usize>,
    /// `$select`: the only properties that are wanted.
    pub select: Option<Vec<String>>,
    /// The `If-Match` header.
    pub if_match: Option<String>,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// Who writes: the session id, else the user agent, else the peer's address.
    pub writer: Arc<str>,
    /// The client's own id of the request.
    pub client_request_id: Option<Arc<str>>,
    /// What the answer to a write should show, if the client says so.
    pub prefer: Option<Prefer>,
    /// What SAP's gateway looks at.
    pub session: Option<Box<Session>>,
}

/// What the answer to a write should show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefer {
    /// Nothing.
    Minimal,
    /// The order.
    Representation,
}

/// A session with a gateway that wants CSRF tokens.
#[derive(Debug, Clone)]
pub struct Session {
    token: Option<String>,
    cookies: Option<String>,
}

impl Session {
    fn read(headers: &HeaderMap) -> Option<Box<Self>> {
        let text = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
        let (token, cookies) = (text(csrf::HEADER), text(COOKIE.as_str()));
        (token.is_some() || cookies.is_some()).then(|| Box::new(Self { token, cookies }))
    }

    /// The CSRF token, or the wish for one.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The cookies.
    pub fn cookies(&self) -> Option<&str> {
        self.cookies.as_deref()
    }
}

impl Request {
    /// Reads a request. `segment` is the raw path after `/data/`.
    pub fn read(
        method: &Method,
        segment: &str,
        uri: &Uri,
        headers: &HeaderMap,
        peer: &Arc<str>,
        body: &[u8],
    ) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let id = |name: &str| {
            let kept: String = text(name)?.chars().take(ID_CHARS_MAX).collect();
            (!kept.is_empty()).then(|| Arc::<str>::from(kept))
        };
        let writer =
            id(SESSION_ID).or_else(|| id(USER_AGENT.as_str())).unwrap_or_else(|| Arc::clone(peer));
        let session = Session::read(headers);
        let prefers = |wanted: &str| text(PREFER).is_some_and(|them| them.contains(wanted));
        let operation = match method.as_str() {
            "GET" => Operation::Get,
            "PATCH" => {
                Operation::Patch(serde_json::from_slice(body).map_err(|error| error.to_string()))
            }
            "POST" if segment == BATCH => {
                let media = text(CONTENT_TYPE.as_str()).unwrap_or_default();
                let whole = Whole {
                    authorization: text(AUTHORIZATION.as_str()),
                    session: session.as_deref(),
                    writer: &writer,
                    goes_on: prefers("continue-on-error"),
                };
                Operation::Batch(Batch::read(body, boundary(media), &whole))
            }
            _ => Operation::Other,
        };
        let (mut cross_company, mut select, mut top) = (false, None, None);
        for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or("").as_bytes()) {
            match &*name {
                "cross-company" => cross_company = value.eq_ignore_ascii_case("true"),
                "$select" => {
                    select = Some(value.split(',').map(|name| name.trim().to_owned()).collect());
                }
                "$top" => top = value.parse().ok(),
                _ => {}
            }
        }
        Self {
            operation,
            target: Key::parse(segment),
            cross_company,
            top,
            select,
            if_match: text(IF_MATCH.as_str()).map(str::to_owned),
            authorization: text(AUTHORIZATION.as_str()).map(str::to_owned),
            writer,
            client_request_id: id(REQUEST_ID),
            prefer: if prefers("return=representation") {
                Some(Prefer::Representation)
            } else if prefers("return=minimal") {
                Some(Prefer::Minimal)
            } else {
                None
            },
            session,
        }
    }

    /// Where a fault finds it.
    pub fn at(&self) -> Option<At> {
        match self.operation {
            Operation::Get => Some(At::Get),
            Operation::Patch(_) => Some(At::Patch),
            Operation::Batch(_) => Some(At::Batch),
            Operation::Other => None,
        }
    }

    /// What it does to an order.
    pub fn on(&self) -> Option<On> {
        match self.operation {
            Operation::Get => Some(On::Get),
            Operation::Patch(_) => Some(On::Patch),
            Operation::Batch(_) | Operation::Other => None,
        }
    }

    /// The requests inside, if it is a `$batch`.
    pub fn parts(&self) -> impl Iterator<Item = &Self> {
        let batch = match &self.operation {
            Operation::Batch(batch) => batch.as_ref().ok(),
            Operation::Get | Operation::Patch(_) | Operation::Other => None,
        };
        batch.into_iter().flat_map(Batch::requests)
    }

    /// The CSRF token.
    pub fn csrf(&self) -> Option<&str> {
        self.session.as_deref().and_then(Session::token)
    }

    /// The cookies.
    pub fn cookies(&self) -> Option<&str> {
        self.session.as_deref().and_then(Session::cookies)
    }
}
