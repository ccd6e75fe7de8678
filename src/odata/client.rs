//! One request, one reply. What the reply means is decided elsewhere.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH,
    RETRY_AFTER,
};
use reqwest::{ClientBuilder, Method, Request, Response};
use tokio::time::{Instant, timeout_at};

use super::csrf::{self, Session};
use super::kept::Kept;
use super::retry_after;
use super::token::{Token, Tokens};
use super::url::Orders;
use crate::config::{Settings, Target};
use crate::dispatch::Trail;
use crate::order::{ETag, OrderKey};
use crate::protocol::{Answer, Fault, Reply};
use crate::telemetry::trace;

/// Names one attempt in the service's logs.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");
/// Names one walk: all attempts at one message.
const SESSION_ID: HeaderName = HeaderName::from_static("x-ms-client-session-id");
/// How Finance & Operations names a request in its own logs.
const SERVICE_REQUEST_ID: &str = "ms-dyn-aid";
/// Whether the service has taken a request that it may have seen before (OASIS Repeatable Requests 1.0).
const REPEATABILITY_RESULT: &str = "repeatability-result";
const ODATA_VERSION: HeaderName = HeaderName::from_static("odata-version");
const ODATA_MAX_VERSION: HeaderName = HeaderName::from_static("odata-maxversion");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bearer token holds a byte that no header may hold.
    #[error("target.bearer_token holds a character that no HTTP header may hold")]
    Token,
    /// The TLS or pool set-up failed.
    #[error("the HTTP client cannot be set up")]
    Setup(#[source] reqwest::Error),
}

/// Talks to the service. Clones share one connection pool and one token.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) http: reqwest::Client,
    pub(super) orders: Orders,
    pub(super) tokens: Arc<Tokens>,
    /// Where the service wants a CSRF token.
    session: Option<Arc<Kept<Session>>>,
    get_timeout: Duration,
    patch_timeout: Duration,
    prefer_minimal: bool,
    body_bytes_max: usize,
}

/// An answer, and what of its headers matters to the edge alone.
struct Heard {
    answer: Answer,
    /// It asks for a CSRF token.
    wants_csrf: bool,
    /// It brought one.
    session: Option<Session>,
}

impl Client {
    /// Sets up the pool. Connects, and signs in, with the first request.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::Setup`].
    pub fn new(settings: &Settings, instance: &str) -> Result<Self, Error> {
        let (target, order) = (&settings.target, &settings.order);
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ODATA_VERSION, HeaderValue::from_static("4.0"));
        headers.insert(ODATA_MAX_VERSION, HeaderValue::from_static("4.0"));
        let http = builder(target, instance)
            .default_headers(headers)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_while_idle(true)
            .build()
            .map_err(Error::Setup)?;
        let orders = Orders::new(&target.url, &order.entity_set, target.cross_company);
        Ok(Self {
            http,
            orders: orders.with_guids(&order.key_guid),
            tokens: Arc::new(Tokens::new(target, instance)?),
            session: target.csrf.then(Arc::default),
            get_timeout: target.get_timeout,
            patch_timeout: target.patch_timeout,
            prefer_minimal: target.prefer_minimal,
            body_bytes_max: target.body_bytes_max,
        })
    }

    /// How long the token may still be used, where tokens are renewed and there is one.
    pub fn token_left(&self) -> Option<Duration> {
        self.tokens.left()
    }

    /// GETs one order.
    pub async fn get(&self, key: &OrderKey, trail: Trail) -> Reply {
        self.fetch(&self.orders.url(key), trail).await
    }

    /// GETs what this URL names.
    pub(super) async fn fetch(&self, url: &str, trail: Trail) -> Reply {
        let request = traced(self.http.get(url), trail)?;
        self.perform(&request, Instant::now() + self.get_timeout).await
    }

    /// GETs one order, whichever: whether the service answers at all.
    pub async fn probe(&self, trail: Trail) -> Reply {
        self.fetch(&self.orders.first(), trail).await
    }

    /// PATCHes one order under `If-Match`.
    pub async fn patch(&self, key: &OrderKey, etag: &ETag, body: &str, trail: Trail) -> Reply {
        let mut request = self
            .http
            .patch(self.orders.url(key))
            .header(IF_MATCH, etag.as_str())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body.to_owned());
        if self.prefer_minimal {
            request = request.header(PREFER, HeaderValue::from_static("return=minimal"));
        }
        self.perform(&traced(request, trail)?, Instant::now() + self.patch_timeout).await
    }

    /// Sends a request. One that was refused for its token, or for its CSRF token, wrote nothing: it
    /// is sent once more with a fresh one, all within the time of one request.
    async fn perform(&self, request: &Request, deadline: Instant) -> Reply {
        let (mut token_is_fresh, mut session_is_fresh) = (false, false);
        loop {
            let token = self.tokens.get(deadline).await.map_err(Fault::SignIn)?;
            let token = token.as_ref();
            let (heard, session) = match self.session(request, token, deadline).await? {
                Ok(session) => {
                    let send = |headers: &mut HeaderMap| {
                        if let Some(session) = &session {
                            session.send(headers);
                        }
                    };
                    (self.send(request, token, send, deadline).await?, session)
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
                return Ok(heard.answer);
            }
        }
    }

    /// What a write needs beside the token; fetched where it is not there yet. `Err` with the answer
    /// to that GET, if it was no success: the write has not been sent, and this is why.
    async fn session(
        &self,
        request: &Request,
        token: Option<&Arc<Token>>,
        deadline: Instant,
    ) -> Result<Result<Option<Arc<Session>>, Heard>, Fault> {
        let Some(kept) = self.session.as_ref().filter(|_| request.method() == Method::PATCH) else {
            return Ok(Ok(None));
        };
        if let Some(session) = kept.now() {
            return Ok(Ok(Some(session)));
        }
        let _turn = timeout_at(deadline, kept.turn()).await.map_err(|_elapsed| Fault::Timeout)?;
        if let Some(session) = kept.now() {
            return Ok(Ok(Some(session)));
        }
        let mut get = Request::new(Method::GET, request.url().clone());
        for name in [REQUEST_ID, SESSION_ID] {
            if let Some(value) = request.headers().get(&name) {
                get.headers_mut().insert(name, value.clone());
            }
        }
        let heard = self.send(&get, token, Session::ask, deadline).await?;
        match heard {
            Heard { session: Some(session), answer: Answer { status: 200, .. }, .. } => {
                Ok(Ok(Some(kept.keep(session))))
            }
            Heard { answer: Answer { status: 200, .. }, .. } => Err(Fault::Csrf),
            heard => Ok(Err(heard)),
        }
    }

    async fn send(
        &self,
        request: &Request,
        token: Option<&Arc<Token>>,
        more: impl FnOnce(&mut HeaderMap),
        deadline: Instant,
    ) -> Result<Heard, Fault> {
        // Every body of ours is bytes, which can be sent again.
        let mut request = request.try_clone().ok_or(Fault::Broken)?;
        *request.timeout_mut() = Some(deadline.saturating_duration_since(Instant::now()));
        let headers = request.headers_mut();
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, token.header.clone());
        }
        more(headers);
        let response = self.http.execute(request).await.map_err(|error| fault(&error))?;
        let mut answer = head(&response);
        let headers = response.headers();
        let (wants_csrf, session) = match &self.session {
            Some(_) => (answer.status == 403 && csrf::is_refused(headers), Session::read(headers)),
            None => (false, None),
        };
        answer.body = body(response, self.body_bytes_max).await?;
        Ok(Heard { answer, wants_csrf, session })
    }
}

/// What all our HTTP clients have in common.
pub(super) fn builder(target: &Target, instance: &str) -> ClientBuilder {
    reqwest::Client::builder()
        .user_agent(format!("orderwright/{} ({instance})", env!("CARGO_PKG_VERSION")))
        // A redirect leads to a login page, never to the order.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(target.connect_timeout)
        .pool_idle_timeout(target.pool_idle_timeout)
        .pool_max_idle_per_host(target.pool_idle_max)
}

/// Says in the request which attempt of which walk it belongs to.
fn traced(request: reqwest::RequestBuilder, trail: Trail) -> Result<Request, Fault> {
    let mut buffer = uuid::Uuid::encode_buffer();
    let request =
        request.header(REQUEST_ID, &*trail.attempt.hyphenated().encode_lower(&mut buffer));
    let request = request.header(SESSION_ID, &*trail.walk.hyphenated().encode_lower(&mut buffer));
    let mut headers = HeaderMap::new();
    trace::inject(|name, value| {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
            headers.insert(name, value);
        }
    });
    let request = request.headers(headers);
    // The address is checked with the settings, and the key in it is percent-encoded.
    request.build().map_err(|_invalid| Fault::Broken)
}

/// Reads a body up to its limit: a broken proxy may send without end.
pub(super) async fn body(mut response: Response, bytes_max: usize) -> Result<Bytes, Fault> {
    let most = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    if response.content_length().is_some_and(|length| length > most) {
        return Err(Fault::TooLarge);
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| fault(&error))? {
        if body.len() + chunk.len() > bytes_max {
            return Err(Fault::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// `Retry-After`, as seconds or as a date.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let text = |name| response.headers().get(name)?.to_str().ok();
    retry_after::retry_after(text(RETRY_AFTER)?, text(DATE), Timestamp::now())
}

/// Why no answer came, without the address: the innermost cause says most.
pub(super) fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.chars().take(512).collect()
}

fn head(response: &Response) -> Answer {
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let is_json = text(CONTENT_TYPE.as_str()).is_some_and(|kind| {
        let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        essence == "application/json" || essence.ends_with("+json")
    });
    Answer {
        status: response.status().as_u16(),
        etag: text(ETAG.as_str()).and_then(ETag::new),
        retry_after: retry_after(response),
        repeat_rejected: text(REPEATABILITY_RESULT)
            .is_some_and(|result| result.trim().eq_ignore_ascii_case("rejected")),
        is_json,
        service_request_id: text(SERVICE_REQUEST_ID).map(|id| id.chars().take(128).collect()),
        body: Bytes::new(),
    }
}

/// A timeout while connecting is no timeout of the request: nothing was sent.
fn fault(error: &reqwest::Error) -> Fault {
    if error.is_connect() {
        if is_about_trust(error) { Fault::Untrusted } else { Fault::Unreachable }
    } else if error.is_timeout() {
        Fault::Timeout
    } else {
        Fault::Broken
    }
}

/// The TLS library is not ours to name, but it says it in these words.
fn is_about_trust(error: &reqwest::Error) -> bool {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |error| error.source())
        .any(|error| error.to_string().contains("invalid peer certificate"))
}
