//! Sends one request, with the token and whatever else the service wants of it.

use std::sync::Arc;

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MATCH,
};
use reqwest::{Method, Request, Url};
use tokio::time::{Instant, timeout_at};

use super::batch::Ask;
use super::client::{Client, body, head, unanswered};
use super::csrf::{self, Session};
use super::multipart;
use super::token::Token;
use crate::dispatch::{Leave, Trail};
use crate::order::ETag;
use crate::protocol::{Answer, Fault, Reply};
use crate::telemetry::trace;

/// Names one attempt in the service's logs.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");
/// Names one walk: all attempts at one message.
const SESSION_ID: HeaderName = HeaderName::from_static("x-ms-client-session-id");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// An answer, and what of its headers matters to the edge alone.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) answer: Answer,
    /// The boundary of an answer to a batch.
    pub(super) boundary: Option<String>,
    /// It is that of the GET that was to bring a CSRF token: the request itself has not been sent.
    pub(super) is_look: bool,
    /// It asks for a CSRF token.
    wants_csrf: bool,
    /// It brought one.
    session: Option<Session>,
}

/// What is sent. It may have to be written twice: once more after a token was refused.
pub(super) struct Sending<W> {
    /// Writes it; `None` if it is not to be written, or nothing is left of it.
    pub(super) write: W,
    /// For a write: the order whose GET brings a CSRF token.
    pub(super) look: Option<Request>,
    /// Largest answer that is read.
    pub(super) bytes_max: usize,
    pub(super) deadline: Instant,
}

impl Ask {
    /// Belongs to the trace in which it is made.
    pub(super) fn new(url: String, change: Option<(ETag, String)>, trail: Trail) -> Self {
        let mut trace = Vec::new();
        trace::inject(|name, value| {
            // Also written into bodies of batches, where nobody else looks.
            if HeaderName::from_bytes(name.as_bytes()).is_ok()
                && HeaderValue::from_str(&value).is_ok()
            {
                trace.push((name.to_owned(), value));
            }
        });
        Self { url, change, trail, trace }
    }
}

impl Client {
    /// Sends one request by itself. `None` if leave to write it was refused.
    pub(super) async fn alone(&self, ask: &Ask, leave: &Leave) -> Option<Reply> {
        match self.sent_alone(ask, leave).await {
            Ok(heard) => heard.map(|heard| Ok(heard.answer)),
            Err(fault) => Some(Err(fault)),
        }
    }

    async fn sent_alone(&self, ask: &Ask, leave: &Leave) -> Result<Option<Heard>, Fault> {
        let mut first = Some(self.single(ask)?);
        let timeout = if ask.change.is_some() { self.patch_timeout } else { self.get_timeout };
        let look =
            (self.session.is_some() && ask.change.is_some()).then(|| self.look(ask)).transpose()?;
        let sending = Sending {
            write: || {
                if !leave.take() {
                    return Ok(None);
                }
                first.take().map_or_else(|| self.single(ask), Ok).map(Some)
            },
            look,
            bytes_max: self.body_bytes_max,
            deadline: Instant::now() + timeout,
        };
        self.send_with_tokens(sending).await
    }

    pub(super) fn single(&self, ask: &Ask) -> Result<Request, Fault> {
        let Some((etag, body)) = &ask.change else { return self.look(ask) };
        let mut request = self.request(Method::PATCH, &ask.url, ask.trail, &ask.trace)?;
        let headers = request.headers_mut();
        // An ETag holds what a header may hold.
        let etag = HeaderValue::from_str(etag.as_str()).map_err(|_invalid| Fault::Broken)?;
        headers.insert(IF_MATCH, etag);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.prefer_minimal {
            headers.insert(PREFER, HeaderValue::from_static("return=minimal"));
        }
        *request.body_mut() = Some(body.clone().into());
        Ok(request)
    }

    /// A GET of what is asked for, or of what is to be written.
    pub(super) fn look(&self, ask: &Ask) -> Result<Request, Fault> {
        self.request(Method::GET, &ask.url, ask.trail, &ask.trace)
    }

    fn request(
        &self,
        method: Method,
        url: &str,
        trail: Trail,
        trace: &[(String, String)],
    ) -> Result<Request, Fault> {
        let mut request = Request::new(method, self.address(url)?);
        request.headers_mut().clone_from(&self.headers);
        traced(&mut request, trail, trace);
        Ok(request)
    }

    /// An address of the service. Scheme and host are known, so only what is behind them is parsed.
    fn address(&self, url: &str) -> Result<Url, Fault> {
        let mut address = self.origin.clone();
        let behind = url.strip_prefix(self.origin.as_str().trim_end_matches('/'));
        // All of them are built from the address of the service.
        let behind = behind.ok_or(Fault::Broken)?;
        let (path, query) = behind.split_once('?').unzip();
        address.set_path(path.unwrap_or(behind));
        address.set_query(query);
        Ok(address)
    }

    /// A batch. `trail` names it, not what is in it.
    pub(super) fn batch(
        &self,
        body: String,
        boundary: &str,
        trail: Trail,
    ) -> Result<Request, Fault> {
        let mut request = self.request(Method::POST, &self.orders.batch(), trail, &[])?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("multipart/mixed"));
        let kind = format!("multipart/mixed; boundary={boundary}");
        let kind = HeaderValue::from_str(&kind).map_err(|_invalid| Fault::Broken)?;
        headers.insert(CONTENT_TYPE, kind);
        // Else the service stops at the first part that it refuses.
        headers.insert(PREFER, HeaderValue::from_static("odata.continue-on-error"));
        *request.body_mut() = Some(body.into());
        Ok(request)
    }

    /// Sends a request. One that was refused for its token, or for its CSRF token, wrote nothing: it
    /// is sent once more with a fresh one, all within the time of one request. `None` if it was not
    /// to be written, the second time included.
    pub(super) async fn send_with_tokens(
        &self,
        mut sending: Sending<impl FnMut() -> Result<Option<Request>, Fault> + Send>,
    ) -> Result<Option<Heard>, Fault> {
        let Sending { bytes_max, deadline, .. } = sending;
        let look = sending.look.take();
        let (mut token_is_fresh, mut session_is_fresh) = (false, false);
        loop {
            let token = self.tokens.get(deadline).await.map_err(Fault::SignIn)?;
            let token = token.as_ref();
            let (heard, session) = match self.session(look.as_ref(), token, deadline).await? {
                Ok(session) => {
                    let send = |headers: &mut HeaderMap| {
                        if let Some(session) = &session {
                            session.send(headers);
                        }
                    };
                    let Some(request) = (sending.write)()? else { return Ok(None) };
                    (self.send(request, token, send, bytes_max, deadline).await?, session)
                }
                Err(heard) => (heard, None),
            };
            if heard.answer.status == 401 && !token_is_fresh && self.tokens.give_up(token) {
                token_is_fresh = true;
            } else if let (true, Some(kept), Some(session)) =
                (heard.wants_csrf, &self.session, session)
            {
                kept.give_up(&session);
                if session_is_fresh {
                    return Err(Fault::Csrf);
                }
                session_is_fresh = true;
            } else {
                return Ok(Some(heard));
            }
        }
    }

    /// What a write needs beside the token; fetched where it is not there yet. `Err` with the answer
    /// to that GET, if it was no success: the write has not been sent, and this is why.
    async fn session(
        &self,
        look: Option<&Request>,
        token: Option<&Arc<Token>>,
        deadline: Instant,
    ) -> Result<Result<Option<Arc<Session>>, Heard>, Fault> {
        let (Some(kept), Some(look)) = (&self.session, look) else {
            return Ok(Ok(None));
        };
        if let Some(session) = kept.now() {
            return Ok(Ok(Some(session)));
        }
        let _turn = timeout_at(deadline, kept.turn()).await.map_err(|_elapsed| Fault::Timeout)?;
        if let Some(session) = kept.now() {
            return Ok(Ok(Some(session)));
        }
        let get = look.try_clone().ok_or(Fault::Broken)?;
        let heard = self.send(get, token, Session::ask, self.body_bytes_max, deadline).await?;
        match (heard.answer.status, heard.session) {
            (200, Some(session)) => Ok(Ok(Some(kept.keep(session)))),
            // Told as the answer to the write, any success would say that it was written.
            (200..=299, _) => Err(Fault::Csrf),
            (_, session) => Ok(Err(Heard { session, is_look: true, ..heard })),
        }
    }

    async fn send(
        &self,
        mut request: Request,
        token: Option<&Arc<Token>>,
        more: impl FnOnce(&mut HeaderMap),
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<Heard, Fault> {
        *request.timeout_mut() = Some(deadline.saturating_duration_since(Instant::now()));
        let headers = request.headers_mut();
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, token.header.clone());
        }
        more(headers);
        let response = self.http.execute(request).await.map_err(unanswered)?;
        let mut answer = head(&response);
        let headers = response.headers();
        let (wants_csrf, session) = match &self.session {
            Some(_) => (answer.status == 403 && csrf::is_refused(headers), Session::read(headers)),
            None => (false, None),
        };
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let boundary = kind.and_then(multipart::boundary).map(str::to_owned);
        answer.body = body(response, bytes_max).await?;
        Ok(Heard { answer, boundary, is_look: false, wants_csrf, session })
    }
}

/// Says in the request which attempt of which walk it belongs to, and to which trace.
fn traced(request: &mut Request, trail: Trail, trace: &[(String, String)]) {
    let headers = request.headers_mut();
    let mut buffer = uuid::Uuid::encode_buffer();
    for (name, id) in [(REQUEST_ID, trail.attempt), (SESSION_ID, trail.walk)] {
        let id = id.hyphenated().encode_lower(&mut buffer);
        if let Ok(id) = HeaderValue::from_str(id) {
            headers.insert(name, id);
        }
    }
    for (name, value) in trace {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
}
