//! Every fault as its client sees it: bytes on a socket. Those of the port and of the token endpoint
//! have files of their own.

use super::*;

/// What came over a connection until it ended.
struct Seen {
    head: String,
    body: Vec<u8>,
    /// Whether it was reset, not closed.
    is_reset: bool,
}

impl Seen {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(known, value)| known.eq_ignore_ascii_case(name).then_some(value))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

async fn seen(mut stream: TcpStream) -> Seen {
    let mut bytes = Vec::new();
    let ended = timeout(Duration::from_secs(30), stream.read_to_end(&mut bytes)).await;
    let is_reset = match ended.expect("the connection to end") {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            true
        }
    };
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    Seen { head, body: bytes.get(end + 4..).unwrap_or_default().to_vec(), is_reset }
}

impl Sim {
    /// Sends one request over a connection of its own.
    async fn raw(&self, method: &str, body: &str) -> Seen {
        let tag = if method == "PATCH" { "If-Match: *\r\n" } else { "" };
        let head = format!("{method} {ORDER} HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n{tag}");
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        seen(stream).await
    }

    async fn applied(&self) -> u64 {
        self.get_json("/sim/ledger").await["applied"].as_u64().unwrap()
    }
}

/// A GET and a PATCH of the order that a fault strikes, and how many writes that made.
async fn struck(name: &str, switch: Json) -> (Seen, Seen, u64) {
    let sim = sim(Settings::default()).await;
    sim.set(json!({ name: switch })).await;
    let got = sim.raw("GET", "").await;
    let patched = sim.raw("PATCH", r#"{"UpdateSequence":1}"#).await;
    let applied = sim.applied().await;
    // The ledger has each write once, and as many as it says.
    let changes = sim.get_json("/sim/ledger/changes").await;
    assert_eq!(changes["changes"].as_array().unwrap().len() as u64, applied, "{name}");
    (got, patched, applied)
}

#[tokio::test]
async fn f1_lost_reply_f2_cut_and_f3_cut_body_reset_before_or_after_the_deed() {
    let (got, patched, applied) = struck("f1_lost_reply", json!(1)).await;
    assert_eq!((got.status(), patched.is_reset, applied), (200, true, 1));
    assert!(patched.head.is_empty());
    let (got, patched, applied) = struck("f2_cut", json!(1)).await;
    assert_eq!((got.is_reset, patched.is_reset, applied), (true, true, 0));
    let (got, _, applied) = struck("f3_cut_body", json!(1)).await;
    let promised: usize = got.header("content-length").unwrap().parse().unwrap();
    assert!(got.is_reset && !got.body.is_empty() && got.body.len() < promised);
    assert_eq!((got.status(), applied), (200, 1));
}

#[tokio::test]
async fn f4_stall_then_apply_outlasts_its_client() {
    let sim = sim(Settings::default()).await;
    sim.set(json!({"f4_stall_then_apply": {"next": 1, "for": "200ms"}})).await;
    let mut stream = sim.patch_raw(&json!({"UpdateSequence": 1})).await;
    let mut none = [0; 8];
    assert!(timeout(Duration::from_millis(20), stream.read(&mut none)).await.is_err());
    drop(stream);
    let seen = sim.get_json("/sim/ledger?applied_distinct_min=1&wait_ms=60000").await;
    assert_eq!(seen["applied"], 1);
}

#[tokio::test]
async fn f5_gateway_page_is_html_and_applied_or_not() {
    for (applied, writes) in [(true, 1), (false, 0)] {
        let (got, patched, found) = struck("f5_gateway_page", json!({"applied": applied})).await;
        for seen in [&got, &patched] {
            assert!([502, 503, 504].contains(&seen.status()), "{}", seen.head);
            assert_eq!(seen.header("content-type"), Some("text/html; charset=utf-8"));
        }
        assert_eq!(found, writes);
    }
}

#[tokio::test]
async fn f6_retry_after_date_and_f7_retry_after_that_is_none_or_absurd() {
    let (_, patched, applied) = struck("f6_retry_after_date", json!(1)).await;
    assert_eq!((patched.status(), applied), (503, 0));
    let date = patched.header("retry-after").unwrap();
    let format = "%a, %d %b %Y %H:%M:%S GMT";
    let at = jiff::fmt::strtime::parse(format, date).unwrap().to_datetime().unwrap();
    let ahead = at.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp() - Timestamp::now();
    let seconds = ahead.get_seconds();
    assert!((20..=30).contains(&seconds), "{date} is {seconds} s ahead");

    let (got, patched, applied) = struck("f7_no_retry_after", json!(1)).await;
    assert_eq!((got.status(), patched.status(), applied), (429, 429, 0));
    assert_eq!(patched.header("retry-after"), None);
    let (_, patched, _) = struck("f7_absurd_retry_after", json!(1)).await;
    let drawn = patched.header("retry-after").unwrap();
    assert!(["0", "-1", "86400", "soon"].contains(&drawn), "{drawn}");
    let switch = json!({"retry_after": "-1"});
    let (_, patched, _) = struck("f7_absurd_retry_after", switch).await;
    assert_eq!((patched.status(), patched.header("retry-after")), (429, Some("-1")));
}

#[tokio::test]
async fn f9_redirect_and_f10_login_page_lead_to_a_login() {
    let (got, patched, applied) = struck("f9_redirect", json!(1)).await;
    assert_eq!((got.status(), patched.status(), applied), (302, 302, 0));
    assert_eq!(patched.header("location"), Some("/login"));
    let (got, patched, applied) = struck("f10_login_page", json!(1)).await;
    assert_eq!((got.status(), patched.status(), applied), (200, 200, 0));
    assert_eq!(patched.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(patched.text().contains("Sign in"));
}

#[tokio::test]
async fn f11_conflict_storm_makes_every_tag_stale_but_of_its_order_alone() {
    let sim = sim(Settings { orders: 2, ..Settings::default() }).await;
    sim.set(json!({"f11_conflict_storm": {"order": "USMF/SO-000001"}})).await;
    let walk = async |path: &str| {
        let tag = header(&sim.get(path).await, "etag").to_owned();
        let patch = sim.request(Method::PATCH, path).header("If-Match", tag);
        patch.body(r#"{"UpdateSequence":1}"#).send().await.unwrap().status().as_u16()
    };
    for _ in 0..3 {
        assert_eq!(walk(ORDER).await, 412);
    }
    assert_eq!(walk(&ORDER.replace("000001", "000002")).await, 204);
    let ledger = sim.get_json("/sim/ledger").await;
    let counted = ["conflicts", "actor_changes", "applied"].map(|name| ledger[name].as_u64());
    assert_eq!(counted, [Some(3), Some(3), Some(1)]);
    sim.set(json!({"f11_conflict_storm": 0})).await;
    assert_eq!(walk(ORDER).await, 204);
}

#[tokio::test]
async fn f12_conflicts_in_other_words_and_f13_business_error_apply_nothing() {
    for (name, status, text) in [
        ("f12_conflict_as_409", 409, "changed by another request"),
        ("f12_update_conflict", 400, "An update conflict occurred due to another user process"),
        ("f12_deadlock", 500, "Deadlock"),
        ("f13_business_error", 500, "validateWrite failed"),
    ] {
        let (_, patched, applied) = struck(name, json!(1)).await;
        assert_eq!((patched.status(), applied), (status, 0), "{name}");
        let inner = &patched.json()["error"]["innererror"];
        assert!(inner["message"].as_str().unwrap().contains(text), "{inner}");
        assert!(inner["type"].as_str().unwrap().ends_with("AxODataWriteException"));
    }
    let (_, patched, _) = struck("f12_update_conflict", json!({"status": 500})).await;
    assert_eq!(patched.status(), 500);
}

#[tokio::test]
async fn f14_ignored_write_looks_like_one() {
    let (_, patched, applied) = struck("f14_ignored_write", json!(1)).await;
    assert_eq!((patched.status(), applied), (204, 0));
}

#[tokio::test]
async fn f15_tag_is_missing_in_the_header_in_the_body_or_in_both() {
    for (name, in_header, in_body) in [
        ("f15_no_etag_header", false, true),
        ("f15_no_etag_in_body", true, false),
        ("f15_no_etag", false, false),
    ] {
        let (got, _, _) = struck(name, json!(1)).await;
        let has = (got.header("etag").is_some(), got.json()["@odata.etag"].is_string());
        assert_eq!((got.status(), has), (200, (in_header, in_body)), "{name}");
    }
}

#[tokio::test]
async fn f16_json_is_truncated_invalid_or_huge() {
    for name in ["f16_truncated_json", "f16_invalid_json"] {
        let (got, _, applied) = struck(name, json!(1)).await;
        assert_eq!((got.status(), applied), (200, 0), "{name}");
        assert!(!got.body.is_empty());
        assert_eq!(got.header("content-length"), Some(&*got.body.len().to_string()));
        assert!(serde_json::from_slice::<Json>(&got.body).is_err());
    }
    let sim = sim(Settings::default()).await;
    sim.set(json!({"f16_huge_json": {"next": 1}})).await;
    let got = sim.raw("GET", "").await;
    assert_eq!((got.status(), got.body.len()), (200, 50_000_000));
    assert!(got.json().is_object());
}

#[tokio::test]
async fn f17_gzip_packs_what_nobody_asked_to_be_packed() {
    let (got, patched, applied) = struck("f17_gzip", json!(1)).await;
    assert_eq!((got.header("content-encoding"), &got.body[..3]), (Some("gzip"), &[31, 139, 8][..]));
    // Stored, so the document stands in it: after 10 bytes of head and 5 of the block.
    let packed = &got.body[15..got.body.len() - 8];
    assert!(serde_json::from_slice::<Json>(packed).unwrap()["@odata.etag"].is_string());
    assert_eq!((patched.status(), patched.header("content-encoding"), applied), (204, None, 1));
}

#[tokio::test]
async fn f18_maintenance_is_503_for_everything() {
    let (got, patched, applied) = struck("f18_maintenance", json!({"lasts": "15m"})).await;
    assert_eq!((got.status(), patched.status(), applied), (503, 503, 0));
    assert_eq!(patched.header("content-type"), Some("text/html; charset=utf-8"));
}

#[tokio::test]
async fn f19_close_idle_ends_the_connection_after_an_answer_that_does_not_say_so() {
    let sim = sim(Settings::default()).await;
    sim.set(json!({"f19_close_idle": {"next": 1}})).await;
    let mut stream = TcpStream::connect(sim.address).await.unwrap();
    let request = format!("GET {ORDER} HTTP/1.1\r\nHost: sim\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let got = seen(stream).await;
    assert_eq!((got.status(), got.is_reset, got.header("connection")), (200, false, None));
    let promised: usize = got.header("content-length").unwrap().parse().unwrap();
    assert_eq!(got.body.len(), promised);
    assert!(got.json()["@odata.etag"].is_string());
}

#[tokio::test]
async fn f20_slow_drip_takes_its_time_and_is_whole() {
    let asked = Instant::now();
    let (got, _, _) = struck("f20_slow_drip", json!({"for": "300ms"})).await;
    assert!(asked.elapsed() >= Duration::from_millis(300));
    assert!(got.json()["@odata.etag"].is_string());
}

#[tokio::test]
async fn f23_body_for_no_content_shows_the_order_that_was_written() {
    let (_, patched, applied) = struck("f23_body_for_no_content", json!(1)).await;
    assert_eq!((patched.status(), applied), (200, 1));
    assert_eq!(patched.json()["UpdateSequence"], 1);
}

#[tokio::test]
async fn f24_deleted_between_makes_the_tag_of_the_get_stale_and_the_order_missing() {
    let sim = sim(Settings::default()).await;
    let tag = header(&sim.get(ORDER).await, "etag").to_owned();
    sim.set(json!({"f24_deleted_between": {"next": 1}})).await;
    let patch = sim.request(Method::PATCH, ORDER).header("If-Match", tag).body("{}");
    assert_eq!(patch.send().await.unwrap().status(), 412);
    assert_eq!(sim.get(ORDER).await.status(), 404);
    assert_eq!(sim.applied().await, 0);
}

#[tokio::test]
async fn next_n_and_a_rate_strike_as_they_say_and_are_counted() {
    let sim = sim(Settings::default()).await;
    sim.set(json!({"f5_gateway_page": {"next": 2, "on": "patch", "status": 504}})).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(sim.raw("GET", "").await.status());
        statuses.push(sim.raw("PATCH", "{}").await.status());
    }
    assert_eq!(statuses, [200, 504, 200, 504, 200, 204]);
    let seen = sim.get_json("/sim/faults").await;
    assert_eq!(seen["struck"], json!({"f5_gateway_page": 2}));
    assert!(seen.get("f5_gateway_page").is_none());
    sim.set(json!({"f9_redirect": 0.5})).await;
    assert_eq!(sim.get_json("/sim/faults").await["f9_redirect"], json!([{"rate": 0.5}]));
    let cleared = sim.request(Method::DELETE, "/sim/faults").send().await.unwrap();
    assert!(read(cleared).await.get("f9_redirect").is_none());
    for bad in [json!({"f99_x": 1}), json!({"f1_lost_reply": {"on": "get"}})] {
        let put = sim.request(Method::PUT, "/sim/faults").body(bad.to_string());
        assert_eq!(put.send().await.unwrap().status(), 400, "{bad}");
    }
}
