//! Turns outcomes into HTTP: headers, bodies, and bodies that break off.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    LOCATION, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE,
};
use tokio::time::{Instant, Sleep, sleep};
use uuid::Uuid;

use super::admin::Answer;
use super::connection::{LastAnswer, Link};
use super::gzip::gzip;
use super::reply::{self, Delivery, Outcome, Reply};
use super::tokens;

/// In how many drops a slow body comes.
const DROPS: u32 = 20;

const ODATA_VERSION: HeaderName = HeaderName::from_static("odata-version");
const AID: HeaderName = HeaderName::from_static("ms-dyn-aid");
/// Pins a client that keeps cookies to one web server; ours must not. The name is assumed.
const AFFINITY: HeaderValue =
    HeaderValue::from_static("ARRAffinity=5f1c6a0e9b7d4a53;Path=/;HttpOnly;Secure");
const JSON: HeaderValue = HeaderValue::from_static("application/json; odata.metadata=minimal");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// The connection is to be cut. An error, because that is how hyper is told.
#[derive(Debug, thiserror::Error)]
#[error("cut by a fault")]
pub(super) struct Cut;

/// An answer on its way.
pub(super) type Response = hyper::Response<ReplyBody>;

/// A body that may break off in the middle.
#[derive(Debug)]
pub(super) struct ReplyBody {
    bytes: Bytes,
    stage: Stage,
    /// Set if the connection is to end after this answer.
    last: Option<LastAnswer>,
}

/// What a body does next.
#[derive(Debug)]
enum Stage {
    /// Send everything.
    Whole,
    /// Send it drop by drop.
    Drip { sleep: Pin<Box<Sleep>>, pause: Duration, left: u32 },
    /// Send half of it.
    Half,
    /// Let what was sent reach the socket.
    Flush,
    /// Break off.
    Break,
    /// Nothing.
    Done,
}

/// An outcome as HTTP.
pub(super) fn respond(outcome: Outcome, link: &Link) -> Result<Response, Cut> {
    let reply = match outcome {
        Outcome::Cut => return Err(Cut),
        Outcome::CutInBody(reply) => return Ok(data_response(reply, Stage::Half)),
        Outcome::Reply(reply) => reply,
    };
    match reply.delivery {
        Delivery::Plain => Ok(data_response(reply, Stage::Whole)),
        Delivery::Gzip => Ok(packed(reply)),
        Delivery::SlowDrip(time) => {
            let sleep = Box::pin(sleep(Duration::ZERO));
            let pause = time / (DROPS - 1);
            Ok(data_response(reply, Stage::Drip { sleep, pause, left: DROPS }))
        }
        Delivery::CloseIdle(after) => {
            // Of two such answers on one connection the first decides.
            link.closing.after.get_or_init(|| after);
            let mut response = data_response(reply, Stage::Whole);
            response.body_mut().last = Some(LastAnswer(Arc::clone(&link.closing)));
            Ok(response)
        }
    }
}

/// An empty body stays empty.
fn packed(reply: Reply) -> Response {
    let mut response = data_response(reply, Stage::Whole);
    let body = response.body_mut();
    if !body.bytes.is_empty() {
        body.bytes = gzip(&body.bytes).into();
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// An answer of the token endpoint.
pub(super) fn token_response(answer: tokens::Answer) -> Response {
    let mut response = plain(answer.status, answer.body.into(), Stage::Whole);
    let headers = response.headers_mut();
    let media = if answer.is_json { "application/json; charset=utf-8" } else { "text/html" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-cache"));
    insert(headers, RETRY_AFTER, answer.retry_after.as_deref());
    response
}

/// A request body over the limit.
pub(super) fn too_large() -> Response {
    data_response(Reply::empty(413), Stage::Whole)
}

/// Neither `/data/` nor `/sim/`.
pub(super) fn no_route() -> Response {
    let body = br#"{"Message":"No HTTP resource was found that matches the request URI."}"#;
    let body = reply::Body::Json(Bytes::from_static(body));
    data_response(Reply { body, ..Reply::empty(404) }, Stage::Whole)
}

/// An answer of `/sim/`.
pub(super) fn admin_response((status, bytes): Answer) -> Response {
    let mut response = plain(status, bytes, Stage::Whole);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn data_response(reply: Reply, stage: Stage) -> Response {
    let (media, bytes) = match reply.body {
        reply::Body::Empty => (None, Bytes::new()),
        reply::Body::Json(json) => (Some(JSON), json),
        reply::Body::Html(page) => (Some(HTML), Bytes::from_static(page.as_bytes())),
        reply::Body::Multipart { boundary, bytes } => {
            let media = format!("multipart/mixed; boundary={boundary}");
            (HeaderValue::try_from(media).ok(), bytes)
        }
    };
    let mut response = plain(reply.status, bytes, stage);
    let headers = response.headers_mut();
    headers.reserve(8);
    headers.insert(ODATA_VERSION, HeaderValue::from_static("4.0"));
    headers.insert(SET_COOKIE, AFFINITY);
    let mut aid = Uuid::encode_buffer();
    insert(headers, AID, Some(reply.aid.hyphenated().encode_lower(&mut aid)));
    insert(headers, ETAG, reply.etag.as_deref());
    insert(headers, RETRY_AFTER, reply.retry_after.as_deref());
    if let Some(media) = media {
        headers.insert(CONTENT_TYPE, media);
    }
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.append(name, value);
        }
    }
    let told = match reply.status {
        300..=399 => Some((LOCATION, "/login")),
        401 => Some((WWW_AUTHENTICATE, "Bearer")),
        405 => Some((ALLOW, "GET, PATCH")),
        _ => None,
    };
    if let Some((name, value)) = told {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Leaves a header away that no HTTP message may hold: only a script can ask for one.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: Option<&str>) {
    if let Some(value) = value.and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert(name, value);
    }
}

fn plain(status: u16, bytes: Bytes, stage: Stage) -> Response {
    let mut response = hyper::Response::new(ReplyBody { bytes, stage, last: None });
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        match &mut this.stage {
            Stage::Drip { sleep, pause, left } => {
                ready!(sleep.as_mut().poll(context));
                let size = this.bytes.len().div_ceil(usize::try_from(*left).unwrap_or(1));
                let drop = this.bytes.split_to(size);
                sleep.as_mut().reset(Instant::now() + *pause);
                *left -= 1;
                if *left == 0 {
                    this.stage = Stage::Done;
                }
                Poll::Ready(Some(Ok(Frame::data(drop))))
            }
            Stage::Whole => {
                self.stage = Stage::Done;
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.bytes)))))
            }
            Stage::Half => {
                self.stage = Stage::Flush;
                let half = self.bytes.slice(..self.bytes.len() / 2);
                Poll::Ready(Some(Ok(Frame::data(half))))
            }
            Stage::Flush => {
                self.stage = Stage::Break;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Stage::Break => {
                self.stage = Stage::Done;
                Poll::Ready(Some(Err(Cut)))
            }
            Stage::Done => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.stage {
            Stage::Whole | Stage::Drip { .. } => self.bytes.is_empty(),
            Stage::Half | Stage::Flush | Stage::Break => false,
            Stage::Done => true,
        }
    }

    /// The whole length also of a body that will break off: so the client knows that some is
    /// missing.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}
