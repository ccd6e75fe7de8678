//! One request, one reply. What the reply means is decided elsewhere.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH,
    RETRY_AFTER,
};
use secrecy::ExposeSecret;

use super::retry_after::retry_after;
use super::url::Orders;
use crate::config;
use crate::dispatch::Trail;
use crate::order::{ETag, OrderKey};
use crate::protocol::{Answer, Fault, Reply};

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

/// Talks to the service. Clones share one connection pool.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    orders: Orders,
    get_timeout: Duration,
    patch_timeout: Duration,
    body_bytes_max: usize,
}

impl Client {
    /// Sets up the pool. Connects with the first request.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::Setup`].
    pub fn new(target: &config::Target, entity_set: &str, instance: &str) -> Result<Self, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ODATA_VERSION, HeaderValue::from_static("4.0"));
        headers.insert(ODATA_MAX_VERSION, HeaderValue::from_static("4.0"));
        if let Some(token) = &target.bearer_token {
            let bearer = format!("Bearer {}", token.expose_secret());
            let mut bearer = HeaderValue::from_str(&bearer).map_err(|_invalid| Error::Token)?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(format!("orderwright/{} ({instance})", env!("CARGO_PKG_VERSION")))
            // A redirect leads to a login page, never to the order.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(target.connect_timeout)
            .pool_idle_timeout(target.pool_idle_timeout)
            .pool_max_idle_per_host(target.pool_idle_max)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_while_idle(true)
            .build()
            .map_err(Error::Setup)?;
        Ok(Self {
            http,
            orders: Orders::new(&target.url, entity_set, target.cross_company),
            get_timeout: target.get_timeout,
            patch_timeout: target.patch_timeout,
            body_bytes_max: target.body_bytes_max,
        })
    }

    /// GETs one order.
    pub async fn get(&self, key: &OrderKey, trail: Trail) -> Reply {
        let request = self.http.get(self.orders.url(key)).timeout(self.get_timeout);
        self.perform(request, trail).await
    }

    /// GETs one order, whichever: whether the service answers at all.
    pub async fn probe(&self, trail: Trail) -> Reply {
        let request = self.http.get(self.orders.any()).timeout(self.get_timeout);
        self.perform(request, trail).await
    }

    /// PATCHes one order under `If-Match`.
    pub async fn patch(&self, key: &OrderKey, etag: &ETag, body: &str, trail: Trail) -> Reply {
        let request = self
            .http
            .patch(self.orders.url(key))
            .timeout(self.patch_timeout)
            .header(IF_MATCH, etag.as_str())
            .header(PREFER, HeaderValue::from_static("return=minimal"))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body.to_owned());
        self.perform(request, trail).await
    }

    async fn perform(&self, request: reqwest::RequestBuilder, trail: Trail) -> Reply {
        let mut buffer = uuid::Uuid::encode_buffer();
        let attempt = &*trail.attempt.hyphenated().encode_lower(&mut buffer);
        let request = request.header(REQUEST_ID, attempt);
        let walk = &*trail.walk.hyphenated().encode_lower(&mut buffer);
        let response =
            request.header(SESSION_ID, walk).send().await.map_err(|error| fault(&error))?;
        let mut answer = head(&response);
        answer.body = self.body(response).await?;
        Ok(answer)
    }

    /// Reads the body up to its limit: a broken proxy may send without end.
    async fn body(&self, mut response: reqwest::Response) -> Result<Bytes, Fault> {
        let bytes_max = u64::try_from(self.body_bytes_max).unwrap_or(u64::MAX);
        if response.content_length().is_some_and(|length| length > bytes_max) {
            return Err(Fault::TooLarge);
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| fault(&error))? {
            if body.len() + chunk.len() > self.body_bytes_max {
                return Err(Fault::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

fn head(response: &reqwest::Response) -> Answer {
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let is_json = text(CONTENT_TYPE.as_str()).is_some_and(|kind| {
        let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        essence == "application/json" || essence.ends_with("+json")
    });
    Answer {
        status: response.status().as_u16(),
        etag: text(ETAG.as_str()).and_then(ETag::new),
        retry_after: text(RETRY_AFTER.as_str())
            .and_then(|value| retry_after(value, text(DATE.as_str()), Timestamp::now())),
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
