//! The framing of a `$batch` (RFC 2046, section 5.1; OData 4.01 Protocol, section 11.7.7): writes
//! requests between boundaries, and reads answers from between them. Pure, and bounded: whatever a
//! broken server sends is refused and never believed in part.

use std::fmt::Write as _;

/// Most headers of one part, and of the answer in it. More than any service sends.
const HEADERS_MAX: usize = 64;
/// Most bytes of them together.
const HEADERS_BYTES_MAX: usize = 16 * 1024;

/// The answer in one part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// `Content-ID`, if the part has one.
    pub(super) content_id: Option<&'a str>,
    /// The answer's status. `None` for a part that holds no single answer: that of a change set.
    pub(super) status: Option<u16>,
    /// The answer's headers; a value that is no text is left out.
    pub(super) headers: Vec<(&'a str, &'a str)>,
    /// The answer's body, without white space at its end.
    pub(super) body: &'a [u8],
}

impl Part<'_> {
    /// The first header of this name, whatever its case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

/// The body is not what a `$batch` is answered with, or not all of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The boundary of a media type, if it is `multipart/mixed`.
pub(super) fn boundary(media: &str) -> Option<&str> {
    let (kind, parameters) = media.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/mixed") {
        return None;
    }
    let mut each = parameters.split(';').filter_map(|it| it.trim().split_once('='));
    let found = each.find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"));
    let value = found?.1.trim().trim_matches('"');
    (1..=70).contains(&value.len()).then_some(value)
}

/// Adds one request: `head` is its request line and headers, each ended by a line break.
pub(super) fn write(text: &mut String, boundary: &str, id: usize, head: &str, body: &str) {
    // Writing to a String cannot fail.
    let _infallible = write!(
        text,
        "--{boundary}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\
         Content-ID: {id}\r\n\r\n{head}\r\n{body}\r\n"
    );
}

/// Ends the body.
pub(super) fn finish(text: &mut String, boundary: &str) {
    let _infallible = write!(text, "--{boundary}--\r\n");
}

/// The parts of an answer, in their order.
///
/// # Errors
/// No closing boundary, more parts than `parts_max`, or a part that is no HTTP answer: then nothing
/// is believed, since what one answer lacks may have been taken for the next one.
pub(super) fn read<'a>(
    body: &'a [u8],
    boundary: &str,
    parts_max: usize,
) -> Result<Vec<Part<'a>>, Malformed> {
    let mut found = Vec::new();
    let mut begun: Option<usize> = None;
    let mut at = 0;
    while at < body.len() {
        let rest = body.get(at..).ok_or(Malformed)?;
        let len = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        let line = rest.get(..len).ok_or(Malformed)?.trim_ascii_end();
        let mark = line.strip_prefix(b"--").and_then(|it| it.strip_prefix(boundary.as_bytes()));
        if let Some(end @ (b"" | b"--")) = mark {
            if let Some(from) = begun {
                if found.len() == parts_max {
                    return Err(Malformed);
                }
                found.push(part(body.get(from..at).ok_or(Malformed)?)?);
            }
            if end == b"--" {
                return Ok(found);
            }
            begun = Some(at + len);
        }
        at += len;
    }
    Err(Malformed)
}

fn part(bytes: &[u8]) -> Result<Part<'_>, Malformed> {
    let (outer, inside) = split(bytes);
    let mut slots = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let outer = match httparse::parse_headers(outer, &mut slots) {
        Ok(httparse::Status::Complete((_, headers))) => texts(headers),
        Ok(httparse::Status::Partial) | Err(_) => return Err(Malformed),
    };
    let kind = find(&outer, "content-type").unwrap_or_default();
    let content_id = find(&outer, "content-id");
    if boundary(kind).is_some() {
        return Ok(Part { content_id, status: None, headers: Vec::new(), body: b"" });
    }
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/http") {
        return Err(Malformed);
    }
    let (head, body) = split(inside);
    let mut slots = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut slots);
    match answer.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) | Err(_) => return Err(Malformed),
    }
    let (status, headers) = (answer.code, texts(answer.headers));
    // Some write the id beside the answer's own headers.
    let content_id = content_id.or_else(|| find(&headers, "content-id"));
    Ok(Part { content_id, status, headers, body: body.trim_ascii_end() })
}

/// What stands before the first empty line, which is included, and what stands behind it.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    while at < bytes.len().min(HEADERS_BYTES_MAX) {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { break };
        at += end + 1;
        if rest.get(..end).unwrap_or_default().trim_ascii_end().is_empty() {
            return bytes.split_at(at);
        }
    }
    (b"", b"")
}

fn texts<'a>(headers: &[httparse::Header<'a>]) -> Vec<(&'a str, &'a str)> {
    let text = |header: &httparse::Header<'a>| {
        std::str::from_utf8(header.value).ok().map(|value| (header.name, value.trim()))
    };
    headers.iter().filter_map(text).collect()
}

fn find<'a>(headers: &[(&'a str, &'a str)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANSWER: &str = "--r\r\nContent-Type: application/http\r\nContent-ID: 1\r\n\r\n\
        HTTP/1.1 200 OK\r\nETag: W/\"1\"\r\nContent-Type: application/json\r\n\r\n{\"a\":1}\r\n\
        --r\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n\r\n--r--\r\n";

    #[test]
    fn boundary_is_that_of_multipart_mixed_with_or_without_quotes() {
        for (media, found) in [
            ("multipart/mixed; boundary=b_1", Some("b_1")),
            ("Multipart/Mixed;charset=x; Boundary=\"b 1\"", Some("b 1")),
            ("application/json; boundary=b", None),
            ("multipart/mixed", None),
            ("multipart/mixed; boundary=\"\"", None),
        ] {
            assert_eq!(boundary(media), found, "{media}");
        }
        assert_eq!(boundary(&format!("multipart/mixed;boundary={}", "x".repeat(71))), None);
    }

    #[test]
    fn requests_stand_between_boundaries_each_with_its_id() {
        let mut text = String::new();
        write(&mut text, "b", 1, "GET /1 HTTP/1.1\r\nAccept: x\r\n", "");
        write(&mut text, "b", 2, "PATCH /2 HTTP/1.1\r\n", "{}");
        finish(&mut text, "b");
        let head = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n";
        let wanted = format!(
            "--b\r\n{head}Content-ID: 1\r\n\r\nGET /1 HTTP/1.1\r\nAccept: x\r\n\r\n\r\n\
             --b\r\n{head}Content-ID: 2\r\n\r\nPATCH /2 HTTP/1.1\r\n\r\n{{}}\r\n--b--\r\n"
        );
        assert_eq!(text, wanted);
    }

    #[test]
    fn answers_are_read_with_their_ids_headers_and_bodies() {
        let found = read(ANSWER.as_bytes(), "r", 2).unwrap();
        let [first, second] = &found[..] else { panic!("{found:?}") };
        assert_eq!(
            (first.content_id, first.status, first.body),
            (Some("1"), Some(200), &b"{\"a\":1}"[..])
        );
        assert_eq!((first.header("etag"), first.header("x")), (Some("W/\"1\""), None));
        assert_eq!((second.content_id, second.status, second.body), (None, Some(204), &b""[..]));
        // With bare line feeds, with text around, and with the id among the answer's own headers.
        let bare = format!("preamble\n{}rest", ANSWER.replace("\r\n", "\n"));
        assert_eq!(read(bare.as_bytes(), "r", 2), Ok(found));
        let inside = "--r\r\ncontent-type:application/http\r\n\r\nHTTP/1.1 412 x\r\nContent-ID: 7\r\n\r\n--r--";
        assert_eq!(read(inside.as_bytes(), "r", 1).unwrap()[0].content_id, Some("7"));
    }

    #[test]
    fn answer_to_a_change_set_is_a_part_without_a_status() {
        let text = "--r\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\nContent-Type: \
                    application/http\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n\r\n--c--\r\n--r--";
        let found = read(text.as_bytes(), "r", 9).unwrap();
        assert_eq!(found.iter().map(|part| part.status).collect::<Vec<_>>(), [None]);
    }

    #[test]
    fn what_is_no_batch_is_refused_whole() {
        let long = format!(
            "--r\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 200 OK\r\nX: {}\r\n\r\n--r--",
            "x".repeat(HEADERS_BYTES_MAX)
        );
        for (text, why) in [
            ("", "nothing"),
            ("{\"error\":{}}", "no boundary"),
            ("--r\r\n\r\n--r--", "a part without headers"),
            ("--r\r\nContent-Type: text/html\r\n\r\n<html>\r\n--r--", "a page"),
            ("--r\r\nContent-Type: application/http\r\n\r\n--r--", "no answer"),
            (
                "--r\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 200 OK\r\n--r--",
                "no empty line",
            ),
            (
                "--r\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 2x0 OK\r\n\r\n--r--",
                "no status",
            ),
            ("--r\r\nno header\r\n\r\nHTTP/1.1 200 OK\r\n\r\n--r--", "a bad header"),
            (long.as_str(), "headers without end"),
        ] {
            assert_eq!(read(text.as_bytes(), "r", 9), Err(Malformed), "{why}");
        }
        assert_eq!(read(ANSWER.as_bytes(), "other", 9), Err(Malformed), "another boundary");
        assert_eq!(read(ANSWER.as_bytes(), "r", 1), Err(Malformed), "more answers than requests");
        assert_eq!(read(b"--r--", "r", 9), Ok(Vec::new()));
    }

    /// A part that lacks its end must not pass for a whole one, nor for the next one.
    #[test]
    fn answer_that_breaks_off_anywhere_is_refused_whole() {
        let whole = ANSWER.trim_end().as_bytes();
        for len in 0..whole.len() {
            assert_eq!(read(&whole[..len], "r", 9), Err(Malformed), "after {len} bytes");
        }
        assert!(read(whole, "r", 9).is_ok());
    }

    proptest! {
        #[test]
        fn mangled_answers_never_panic_and_bring_no_more_parts_than_asked(
            at in 0..ANSWER.len(),
            cut in 0usize..40,
            junk in proptest::collection::vec(any::<u8>(), 0..40),
            most in 0usize..4,
        ) {
            let mut bytes = ANSWER.as_bytes().to_vec();
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, junk);
            if let Ok(found) = read(&bytes, "r", most) {
                prop_assert!(found.len() <= most);
            }
        }

        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut framed = b"--r\r\n".to_vec();
            framed.extend(bytes);
            framed.extend(b"\r\n--r--");
            if let Ok(found) = read(&framed, "r", 9) {
                prop_assert!(found.len() <= 9);
            }
        }
    }
}
