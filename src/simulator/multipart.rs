//! The framing of a `$batch`: parts between boundaries, each with headers and content.

use std::fmt::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};
use hyper::{HeaderMap, StatusCode};

use super::reply::{Body, Reply};

/// Most headers of one part.
const HEADERS_MAX: usize = 64;

/// One part, as it stands in a body.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    pub(super) headers: HeaderMap,
    pub(super) content: &'a [u8],
}

impl Piece<'_> {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The boundary inside, if the part has parts itself.
    pub(super) fn boundary(&self) -> Option<&str> {
        boundary(self.header("content-type")?)
    }
}

/// The boundary of a media type, if it is `multipart/mixed`.
pub(super) fn boundary(media: &str) -> Option<&str> {
    let (kind, parameters) = media.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/mixed") {
        return None;
    }
    let mut each = parameters.split(';').filter_map(|it| it.trim().split_once('='));
    let found = each.find_map(|(name, value)| {
        name.eq_ignore_ascii_case("boundary").then(|| value.trim_matches('"'))
    });
    found.filter(|boundary| (1..=70).contains(&boundary.len()))
}

/// The parts of a body. What stands before the first boundary and after the last is left out.
pub(super) fn pieces<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Piece<'a>>, &'static str> {
    let mark = format!("--{boundary}");
    let mut found = Vec::new();
    let mut begun = None;
    let mut at = 0;
    while at < body.len() {
        let rest = body.get(at..).unwrap_or_default();
        let len = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        let line = rest.get(..len).unwrap_or_default().trim_ascii_end();
        let is_end = line.strip_prefix(mark.as_bytes()) == Some(b"--");
        if is_end || line == mark.as_bytes() {
            if let Some(from) = begun {
                found.push(piece(body.get(from..at).unwrap_or_default())?);
            }
            if is_end {
                return Ok(found);
            }
            begun = Some(at + len);
        }
        at += len;
    }
    Err("The closing boundary of the batch is missing.")
}

/// The line break before a boundary belongs to the boundary.
fn piece(bytes: &[u8]) -> Result<Piece<'_>, &'static str> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    // A part without a body may end with its headers, and lack the empty line.
    let (headers, len) = headers(bytes)?;
    Ok(Piece { headers, content: bytes.get(len..).unwrap_or_default() })
}

/// Headers up to the empty line, and how long they are.
pub(super) fn headers(bytes: &[u8]) -> Result<(HeaderMap, usize), &'static str> {
    const BAD: &str = "The headers of a part cannot be read.";
    let mut slots = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let padded;
    let (len, found) = match httparse::parse_headers(bytes, &mut slots) {
        Ok(httparse::Status::Complete(read)) => read,
        Ok(httparse::Status::Partial) => {
            padded = [bytes, b"\r\n\r\n"].concat();
            slots = [httparse::EMPTY_HEADER; HEADERS_MAX];
            match httparse::parse_headers(&padded, &mut slots) {
                Ok(httparse::Status::Complete((_, found))) => (bytes.len(), found),
                Ok(httparse::Status::Partial) | Err(_) => return Err(BAD),
            }
        }
        Err(_) => return Err(BAD),
    };
    let mut headers = HeaderMap::with_capacity(found.len());
    for header in found {
        let name = hyper::header::HeaderName::from_bytes(header.name.as_bytes());
        let value = hyper::header::HeaderValue::from_bytes(header.value);
        headers.append(name.map_err(|_| BAD)?, value.map_err(|_| BAD)?);
    }
    Ok((headers, len))
}

/// Writes parts between boundaries.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) boundary: String,
    bytes: BytesMut,
}

impl Writer {
    pub(super) fn new(boundary: String) -> Self {
        Self { boundary, bytes: BytesMut::new() }
    }

    /// One answer.
    pub(super) fn reply(&mut self, content_id: Option<&str>, reply: &Reply) {
        let mut head = format!(
            "--{}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n",
            self.boundary
        );
        if let Some(id) = content_id {
            add(&mut head, "Content-ID", id);
        }
        let reason = StatusCode::from_u16(reply.status).ok().and_then(|it| it.canonical_reason());
        let line = format!("\r\nHTTP/1.1 {} {}\r\n", reply.status, reason.unwrap_or("Unknown"));
        head.push_str(&line);
        add(&mut head, "OData-Version", "4.0");
        for (name, value) in [("ETag", &reply.etag), ("Retry-After", &reply.retry_after)] {
            if let Some(value) = value {
                add(&mut head, name, value);
            }
        }
        let body: &[u8] = match &reply.body {
            // No batch stands in a batch.
            Body::Empty | Body::Multipart { .. } => b"",
            Body::Json(bytes) => {
                add(&mut head, "Content-Type", "application/json; odata.metadata=minimal");
                bytes
            }
            Body::Html(page) => {
                add(&mut head, "Content-Type", "text/html; charset=utf-8");
                page.as_bytes()
            }
        };
        self.bytes.put_slice(head.as_bytes());
        self.bytes.put_slice(b"\r\n");
        self.bytes.put_slice(body);
        self.bytes.put_slice(b"\r\n");
    }

    /// The answers to a change set.
    pub(super) fn nested(&mut self, inner: Self) {
        let head = format!(
            "--{}\r\nContent-Type: multipart/mixed; boundary={}\r\n\r\n",
            self.boundary, inner.boundary
        );
        self.bytes.put_slice(head.as_bytes());
        self.bytes.put_slice(&inner.finish());
        self.bytes.put_slice(b"\r\n");
    }

    pub(super) fn finish(mut self) -> Bytes {
        self.bytes.put_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        self.bytes.freeze()
    }
}

fn add(head: &mut String, name: &str, value: &str) {
    let written = write!(head, "{name}: {value}\r\n");
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundary_is_that_of_multipart_mixed_with_or_without_quotes() {
        assert_eq!(boundary("multipart/mixed; boundary=batch_1"), Some("batch_1"));
        assert_eq!(boundary("Multipart/Mixed;charset=x; Boundary=\"b 1\""), Some("b 1"));
        for bad in ["application/json", "multipart/form-data; boundary=x", "multipart/mixed"] {
            assert_eq!(boundary(bad), None, "{bad}");
        }
        assert_eq!(boundary(&format!("multipart/mixed;boundary={}", "x".repeat(71))), None);
    }

    #[test]
    fn parts_are_found_with_their_headers_and_without_the_line_breaks_around_them() {
        let body =
            b"preamble\r\n--b\r\nContent-ID: 1\r\n\r\none\r\ntwo\r\n--b\nX: y\n\n--b--\r\nrest";
        let found = pieces(body, "b").unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].header("content-id"), found[0].content),
            (Some("1"), &b"one\r\ntwo"[..])
        );
        assert_eq!((found[1].header("x"), found[1].content), (Some("y"), &b""[..]));
        assert!(pieces(b"--b\r\n\r\nx\r\n", "b").is_err());
        assert!(pieces(b"--b\r\nno header\r\n\r\n--b--", "b").is_err());
        assert!(pieces(b"--b--", "b").unwrap().is_empty());
    }
}
