use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn whole(status: u16, body: &str) -> Answer {
    Answer {
        status,
        etag: None,
        retry_after: None,
        repeat_rejected: false,
        is_json: true,
        service_request_id: Some("outer".to_owned()),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

/// An answer of these parts: an id, if any, and what the answer says.
fn framed(parts: &[(&str, &str)]) -> String {
    let part = |(id, content): &(&str, &str)| {
        let id = if id.is_empty() { String::new() } else { format!("Content-ID: {id}\r\n") };
        format!("--r\r\nContent-Type: application/http\r\n{id}\r\nHTTP/1.1 {content}\r\n")
    };
    format!("{}--r--\r\n", parts.iter().map(part).collect::<String>())
}

fn outcome(parts: &[(&str, &str)], asked: usize) -> Outcome {
    read(whole(200, &framed(parts)), Some("r"), asked, 1_000, NOW)
}

fn statuses(parts: &[(&str, &str)], asked: usize) -> Vec<Option<u16>> {
    match outcome(parts, asked) {
        Outcome::Parts(found) => {
            found.into_iter().map(|answer| answer.map(|answer| answer.status)).collect()
        }
        other @ (Outcome::Refused(_) | Outcome::TooMuch(_) | Outcome::Alike(_)) => {
            panic!("{other:?}")
        }
    }
}

const OK: &str = "204 No Content\r\n\r\n";
const STALE: &str = "412 Precondition Failed\r\n\r\n";

#[test]
fn every_part_of_a_batch_has_its_own_tag_and_its_own_ids() {
    let trail = Trail { walk: uuid::Uuid::from_u128(1), attempt: uuid::Uuid::from_u128(2) };
    let get = Ask { url: "http://t/data/O(1)".to_owned(), change: None, trail, trace: Vec::new() };
    let change = Some((ETag::new("W/\"x\"").unwrap(), "{\"a\":1}".to_owned()));
    let trace = vec![("traceparent".to_owned(), "00-a-b-01".to_owned())];
    let patch = Ask { url: "http://t/data/O(2)".to_owned(), change, trail, trace };
    let text = write([&get, &patch].into_iter(), "b", true);
    let ids = "x-ms-client-request-id: 00000000-0000-0000-0000-000000000002\r\n\
               x-ms-client-session-id: 00000000-0000-0000-0000-000000000001\r\n";
    assert_eq!(text.matches(ids).count(), 2, "{text}");
    for wanted in [
        "Content-ID: 1\r\n\r\nGET http://t/data/O(1) HTTP/1.1\r\n",
        "Content-ID: 2\r\n\r\nPATCH http://t/data/O(2) HTTP/1.1\r\n",
        "traceparent: 00-a-b-01\r\nIf-Match: W/\"x\"\r\n",
        "Content-Length: 7\r\nPrefer: return=minimal\r\n\r\n{\"a\":1}\r\n--b--\r\n",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    assert_eq!(text.matches("If-Match").count(), 1);
    assert!(text.len() <= get.bytes() + patch.bytes() + 100, "{}", text.len());
}

#[test]
fn part_is_read_like_the_answer_to_a_single_request() {
    let found = outcome(
        &[
            (
                "1",
                "200 OK\r\nETag: W/\"1\"\r\nContent-Type: application/json; x=y\r\nms-dyn-aid: inner\r\n\r\n{\"a\":1}\r\n",
            ),
            ("2", "429 x\r\nRetry-After: 7\r\n\r\n"),
            (
                "3",
                "503 x\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nRetry-After: Thu, 01 Jan 1970 00:00:30 GMT\r\n\r\n",
            ),
            ("4", "412 x\r\nRepeatability-Result: rejected\r\n\r\n"),
        ],
        4,
    );
    let Outcome::Parts(found) = found else { panic!("{found:?}") };
    let found: Vec<_> = found.into_iter().map(Option::unwrap).collect();
    assert_eq!(found[0].etag, ETag::new("W/\"1\""));
    assert!(found[0].is_json && !found[1].is_json);
    assert_eq!(&found[0].body[..], b"{\"a\":1}");
    assert_eq!(found[0].service_request_id.as_deref(), Some("inner"));
    assert_eq!(found[1].service_request_id.as_deref(), Some("outer"));
    let waits = [&found[1], &found[2]].map(|answer| answer.retry_after.unwrap().as_secs());
    assert_eq!(waits, [7, 30]);
    assert!(found[3].repeat_rejected);
}

#[test]
fn answers_are_told_apart_by_id_or_else_by_place_and_never_by_guess() {
    let both = vec![Some(204), Some(412)];
    assert_eq!(statuses(&[("", OK), ("", STALE)], 2), both, "by place");
    assert_eq!(statuses(&[("1", OK), ("", STALE)], 2), both, "no id says otherwise");
    assert_eq!(statuses(&[("2", STALE), ("1", OK)], 2), both, "by id");
    assert_eq!(statuses(&[("2", STALE)], 2), [None, Some(412)], "the first one is missing");
    let none = vec![None, None];
    assert_eq!(statuses(&[("", OK)], 2), none, "one is missing, and none says which");
    assert_eq!(statuses(&[("1", OK), ("1", STALE)], 2), none, "two say that they are the first");
    assert_eq!(statuses(&[("x", OK), ("2", STALE)], 2), none, "an id of somebody else's");
    assert_eq!(statuses(&[("3", OK), ("2", STALE)], 2), none, "an id that was not sent");
    assert_eq!(statuses(&[("0", OK), ("2", STALE)], 2), none, "an id that was not sent");
    assert_eq!(statuses(&[], 2), none);
}

#[test]
fn part_that_was_not_carried_out_or_is_too_large_has_no_answer() {
    let dependency = "424 Failed Dependency\r\n\r\n";
    assert_eq!(statuses(&[("1", dependency), ("2", OK)], 2), [None, Some(204)]);
    let large = format!("200 OK\r\n\r\n{}", "x".repeat(1_001));
    assert_eq!(statuses(&[("1", &large), ("2", OK)], 2), [None, Some(204)]);
}

#[test]
fn answer_to_the_whole_is_about_batches_about_this_one_or_about_everything() {
    let name = |outcome: &Outcome| match outcome {
        Outcome::Parts(_) => "parts",
        Outcome::Refused(_) => "refused",
        Outcome::TooMuch(_) => "too much",
        Outcome::Alike(Ok(_)) => "alike",
        Outcome::Alike(Err(_)) => "unknown",
    };
    // What comes of it, and whether its requests go by themselves when they come again.
    for (statuses, body, wanted, is_doubtful) in [
        (&[404, 405, 406, 410, 415, 426, 501, 505][..], "", "refused", false),
        (&[400, 402, 409, 411, 412, 413, 414, 422, 424, 428, 431, 451], "", "too much", false),
        (&[429], "{\"code\":\"BATCH_TOO_MANY_REQ\"}", "too much", false),
        (&[401, 429], "", "alike", false),
        (&[302, 403, 407, 408, 425, 500, 502, 503, 504, 507], "", "alike", true),
        (&[200], "<html>sign in</html>", "alike", true),
        (&[200], "{\"responses\":[]}", "unknown", true),
        (&[200, 201, 202, 204], "", "unknown", true),
    ] {
        for status in statuses {
            let found = read(whole(*status, body), None, 2, 1_000, NOW);
            assert_eq!((name(&found), found.is_doubtful()), (wanted, is_doubtful), "{status}");
        }
    }
    let told = Answer { retry_after: Some(std::time::Duration::ZERO), ..whole(503, "") };
    assert!(!read(told, None, 2, 1_000, NOW).is_doubtful(), "as for any request");
    let Outcome::Alike(Ok(page)) = read(whole(200, " <html>"), None, 2, 1_000, NOW) else {
        panic!()
    };
    assert!(!page.is_json, "a page is never taken for an order");
    let cut = framed(&[("1", OK), ("2", OK)]);
    let cut = read(whole(200, &cut[..cut.len() - 8]), Some("r"), 2, 1_000, NOW);
    assert_eq!(name(&cut), "unknown", "half an answer is none");
    for (fault, is_doubtful) in [
        (Fault::Timeout, true),
        (Fault::Broken, true),
        (Fault::TooLarge, true),
        (Fault::Unreachable, false),
        (Fault::Untrusted, false),
    ] {
        assert_eq!(Outcome::Alike(Err(fault)).is_doubtful(), is_doubtful, "{fault:?}");
    }
}
