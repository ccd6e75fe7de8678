//! One request, one reply. What the reply means is decided elsewhere.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::header::{
    ACCEPT, CONTENT_TYPE, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::{ClientBuilder, Response, Url};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::batch::{self, Ask};
use super::csrf::Session;
use super::gatherer::{self, Gatherer};
use super::kept::Kept;
use super::narrow::Narrow;
use super::retry_after;
use super::token::Tokens;
use super::url::Orders;
use crate::config::{BatchMode, HttpVersion, Settings, Target};
use crate::dispatch::{Leave, Trail};
use crate::order::{ETag, OrderKey, OrderUpdate};
use crate::protocol::{Answer, Fault, Reply};

/// How Finance & Operations names a request in its own logs.
const SERVICE_REQUEST_ID: HeaderName = HeaderName::from_static("ms-dyn-aid");
/// Whether the service has taken a request that it may have seen before (OASIS Repeatable Requests 1.0).
const REPEATABILITY_RESULT: HeaderName = HeaderName::from_static("repeatability-result");
const ODATA_VERSION: HeaderName = HeaderName::from_static("odata-version");
const ODATA_MAX_VERSION: HeaderName = HeaderName::from_static("odata-maxversion");

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
    /// What every request has in its head, so that it need not be put together each time.
    pub(super) headers: HeaderMap,
    /// Scheme and host of the service, with an empty path.
    pub(super) origin: Url,
    pub(super) orders: Orders,
    pub(super) tokens: Arc<Tokens>,
    /// Where the service wants a CSRF token.
    pub(super) session: Option<Arc<Kept<Session>>>,
    pub(super) get_timeout: Duration,
    pub(super) patch_timeout: Duration,
    pub(super) prefer_minimal: bool,
    pub(super) body_bytes_max: usize,
    /// What a GET asks for.
    narrow: Narrow,
    /// Where requests are gathered into batches.
    gatherer: Option<Gatherer>,
}

impl Client {
    /// Sets up the pool. Connects, and signs in, with the first request.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::Setup`].
    pub fn new(settings: &Settings, instance: &str) -> Result<Self, Error> {
        let (target, order) = (&settings.target, &settings.order);
        // With room for those that a request adds.
        let mut headers = HeaderMap::with_capacity(16);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ODATA_VERSION, HeaderValue::from_static("4.0"));
        headers.insert(ODATA_MAX_VERSION, HeaderValue::from_static("4.0"));
        let http = match target.http_version {
            HttpVersion::Auto => builder(target, instance),
            HttpVersion::Http1 => builder(target, instance).http1_only(),
            HttpVersion::Http2 => builder(target, instance).http2_prior_knowledge(),
        };
        let http = http
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_while_idle(true)
            .build()
            .map_err(Error::Setup)?;
        let mut origin = target.url.clone();
        origin.set_path("");
        origin.set_query(None);
        let orders = Orders::new(&target.url, &order.entity_set, target.cross_company);
        Ok(Self {
            http,
            headers,
            origin,
            orders: orders.with_guids(&order.key_guid),
            tokens: Arc::new(Tokens::new(target, instance)?),
            session: target.csrf.then(Arc::default),
            get_timeout: target.get_timeout,
            patch_timeout: target.patch_timeout,
            prefer_minimal: target.prefer_minimal,
            body_bytes_max: target.body_bytes_max,
            narrow: Narrow::new(settings),
            gatherer: None,
        })
    }

    /// Gathers requests of different orders into batches from now on, where the settings want that; so many
    /// `pods` share the quota. Must be called within the runtime: a task of its own does it, and ends with the last clone.
    #[must_use]
    pub fn gathering(mut self, settings: &Settings, pods: watch::Receiver<usize>) -> Self {
        if settings.target.batch.mode == BatchMode::On {
            let limits = gatherer::Limits::new(settings);
            self.gatherer = Some(Gatherer::spawn(self.clone(), limits, pods));
        }
        self
    }

    /// How long the token may still be used, where tokens are renewed and there is one.
    pub fn token_left(&self) -> Option<Duration> {
        self.tokens.left()
    }

    /// GETs the order of an update, and of it what the update is judged by. Leave is taken at the moment in
    /// which the request is written, which may be long after the call; `None` where it was refused, and
    /// nothing was carried out.
    ///
    /// Where the service shows the order not like that, the whole of it is asked for in the time that is left
    /// of the first request: a name that it does not know is to be refused by its PATCH, in its own words.
    pub async fn get(
        &self,
        update: &OrderUpdate,
        trail: Trail,
        leave: &Arc<Leave>,
    ) -> Option<Reply> {
        let whole = || Ask::new(self.orders.url(&update.key), None, trail);
        let Some(names) = self.narrow.names(update) else {
            return self.perform(whole(), leave).await;
        };
        let narrow = Ask::new(self.orders.narrow(&update.key, &names), None, trail);
        let reply = self.perform(narrow, leave).await?;
        if !reply.as_ref().is_ok_and(|answer| self.narrow.falls_short(answer)) {
            return Some(reply);
        }
        let deadline = leave.written().unwrap_or_else(Instant::now) + self.get_timeout;
        // It has read nothing, and waits once more.
        leave.put_back();
        let whole = timeout_at(deadline, Box::pin(self.perform(whole(), leave))).await;
        whole.unwrap_or(Some(Err(Fault::Timeout)))
    }

    /// GETs a list of one order, whichever, or this order: whether the service works at all.
    pub async fn probe(&self, order: Option<&OrderKey>, trail: Trail) -> Reply {
        let url = order.map_or_else(|| self.orders.first(), |order| self.orders.url(order));
        let reply = self.alone(&Ask::new(url, None, trail), &Leave::granted()).await;
        reply.unwrap_or(Err(Fault::Broken))
    }

    /// PATCHes one order under `If-Match`, likewise.
    pub async fn patch(
        &self,
        key: &OrderKey,
        etag: &ETag,
        body: &str,
        trail: Trail,
        leave: &Arc<Leave>,
    ) -> Option<Reply> {
        let change = Some((etag.clone(), body.to_owned()));
        self.perform(Ask::new(self.orders.url(key), change, trail), leave).await
    }

    async fn perform(&self, ask: Ask, leave: &Arc<Leave>) -> Option<Reply> {
        match &self.gatherer {
            Some(gatherer) => gatherer.ask(ask, leave.clone()).await,
            None => self.alone(&ask, leave).await,
        }
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

/// Reads a body up to its limit: a broken proxy may send without end.
pub(super) async fn body(mut response: Response, bytes_max: usize) -> Result<Bytes, Fault> {
    let most = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    match response.content_length() {
        Some(length) if length > most => return Err(Fault::TooLarge),
        Some(0) => return Ok(Bytes::new()),
        Some(_) | None => {}
    }
    let Some(first) = response.chunk().await.map_err(unanswered)? else { return Ok(Bytes::new()) };
    let Some(mut next) = response.chunk().await.map_err(unanswered)? else {
        // Most are one piece, which needs no copy.
        return if first.len() > bytes_max { Err(Fault::TooLarge) } else { Ok(first) };
    };
    let mut body = BytesMut::from(first);
    loop {
        if body.len() + next.len() > bytes_max {
            return Err(Fault::TooLarge);
        }
        body.put(next);
        match response.chunk().await.map_err(unanswered)? {
            Some(more) => next = more,
            None => return Ok(body.freeze()),
        }
    }
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

pub(super) fn head(response: &Response) -> Answer {
    let text = |name| response.headers().get::<HeaderName>(name)?.to_str().ok();
    Answer {
        status: response.status().as_u16(),
        etag: text(ETAG).and_then(ETag::new),
        retry_after: retry_after(response),
        repeat_rejected: text(REPEATABILITY_RESULT)
            .is_some_and(|result| result.trim().eq_ignore_ascii_case("rejected")),
        is_json: text(CONTENT_TYPE).is_some_and(batch::is_json),
        // What is read as text here is ASCII.
        service_request_id: text(SERVICE_REQUEST_ID)
            .map(|id| id.get(..128).unwrap_or(id).to_owned()),
        body: Bytes::new(),
    }
}

/// Only here is it known what exactly went wrong: the attempt's log has a code for it.
pub(super) fn unanswered(error: reqwest::Error) -> Fault {
    let fault = fault(&error);
    tracing::debug!(error = causes(error), "no answer from the target");
    fault
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
