//! What the products do differently, seen by a client.

use super::*;

async fn profile(profile: Profile) -> Sim {
    sim(Settings { profile, csrf: Some(false), ..Settings::default() }).await
}

/// What a PATCH is answered: status, whether there is a tag, whether there is a body, and the code.
async fn patched(
    sim: &Sim,
    path: &str,
    headers: &[(&str, &str)],
    body: &Json,
) -> (u16, bool, Json) {
    let mut request = sim.request(Method::PATCH, path).body(body.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let reply = request.send().await.unwrap();
    let (status, has_tag) = (reply.status().as_u16(), reply.headers().contains_key("etag"));
    let bytes = reply.bytes().await.unwrap();
    (status, has_tag, serde_json::from_slice(&bytes).unwrap_or_default())
}

#[tokio::test]
async fn each_profile_treats_tags_as_its_product_does() {
    let stale = ("If-Match", "W/\"stale\"");
    let good = json!({"UpdateSequence": 1});
    let bad = json!({"Nonsense": 1});
    // Without tag, stale, stale and bad, right; then whether the answer has the tag and the order.
    for (name, without, conflict, both, right, has_tag, has_body) in [
        ("fo", 204, 412, 412, 204, false, false),
        ("strict", 428, 412, 400, 204, true, false),
        ("dataverse", 204, 412, 412, 204, false, false),
        ("bc", 400, 409, 409, 200, true, true),
    ] {
        let sim = profile(name.parse().unwrap()).await;
        assert_eq!(patched(&sim, ORDER, &[], &good).await.0, without, "{name}");
        assert_eq!(patched(&sim, ORDER, &[stale], &good).await.0, conflict, "{name}");
        assert_eq!(patched(&sim, ORDER, &[stale], &bad).await.0, both, "{name}");
        let (status, tag, body) = patched(&sim, ORDER, &[("If-Match", "*")], &good).await;
        assert_eq!((status, tag, body.is_object()), (right, has_tag, has_body), "{name}");
    }
}

#[tokio::test]
async fn set_shows_its_first_orders_with_their_tags_and_to_whom_it_may() {
    let sim = sim(Settings { orders: 3, ..Settings::default() }).await;
    let set = "/data/SalesOrderHeadersV2";
    let page = sim.get_json(&format!("{set}?cross-company=true&$top=2")).await;
    let numbers: Vec<_> =
        page["value"].as_array().unwrap().iter().map(|it| &it["SalesOrderNumber"]).collect();
    assert_eq!(numbers, ["SO-000001", "SO-000002"]);
    let order = sim.get_json(ORDER).await;
    assert_eq!(page["value"][0]["@odata.etag"], order["@odata.etag"]);
    let own = sim.get_json(set).await;
    assert_eq!(own["value"], json!([]), "of another company than the caller's own");
    sim.set(json!({"f15_no_etag": 1})).await;
    let bare = sim.get_json(&format!("{set}?cross-company=true")).await;
    assert_eq!(bare["value"].as_array().unwrap().len(), 3);
    assert!(bare["value"][0].get("@odata.etag").is_none(), "{bare}");
    let written = sim.request(Method::PATCH, set).body("{}").send().await.unwrap();
    assert_eq!(written.status(), 405);
    assert_eq!(sim.get("/data/Renamed?$top=1").await.status(), 404);
}

#[tokio::test]
async fn each_profile_words_its_errors_as_its_product_does() {
    for (name, code, text) in [
        ("fo", "", ""),
        ("strict", "PRECONDITION_FAILED", "does not match"),
        ("dataverse", "0x80060882", "doesn't match the RowVersion property provided."),
        ("bc", "Request_EntityChanged", "Another user has already changed the record."),
    ] {
        let sim = profile(name.parse().unwrap()).await;
        let stale = [("If-Match", "W/\"stale\"")];
        let (_, _, body) = patched(&sim, ORDER, &stale, &json!({})).await;
        assert_eq!(body["error"]["code"], code);
        assert_eq!(body["error"]["innererror"].is_object(), name == "fo");
        assert!(body["error"]["message"].as_str().unwrap().contains(text), "{body}");
    }
    let bc = profile(Profile::Bc).await;
    let (_, _, body) = patched(&bc, ORDER, &[], &json!({})).await;
    assert_eq!(body["error"]["code"], "BadRequest_InvalidToken");
    bc.set(json!({"conflict_as_text": 1})).await;
    let (status, _, body) = patched(&bc, ORDER, &[("If-Match", "\"x\"")], &json!({})).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("Request_EntityChanged")));
}

#[tokio::test]
async fn only_finance_and_operations_hides_other_companies() {
    let path = ORDER.split('?').next().unwrap();
    for (name, status) in [("fo", 404), ("strict", 200), ("dataverse", 200), ("bc", 200)] {
        let sim = profile(name.parse().unwrap()).await;
        assert_eq!(sim.get(path).await.status(), status, "{name}");
    }
}

#[tokio::test]
async fn preference_for_the_order_is_heard_but_not_by_business_central() {
    let right = |prefer| [("If-Match", "*"), ("Prefer", prefer)];
    for (name, minimal, representation) in
        [("fo", 204, 200), ("strict", 204, 200), ("dataverse", 204, 200), ("bc", 200, 200)]
    {
        let sim = profile(name.parse().unwrap()).await;
        let status = async |prefer| patched(&sim, ORDER, &right(prefer), &json!({})).await.0;
        assert_eq!(status("return=minimal").await, minimal, "{name}");
        assert_eq!(status("return=representation").await, representation, "{name}");
    }
}

#[tokio::test]
async fn dataverse_creates_what_is_missing_unless_a_tag_forbids_it() {
    let sim = profile(Profile::Dataverse).await;
    let path = ORDER.replace("000001", "000777");
    let body = json!({"UpdateSequence": 4});
    assert_eq!(patched(&sim, &path, &[("If-Match", "*")], &body).await.0, 404);
    assert_eq!(patched(&sim, &path, &[], &json!({"Nonsense": 1})).await.0, 400);
    assert_eq!(sim.get(&path).await.status(), 404);
    assert_eq!(patched(&sim, &path, &[], &body).await.0, 204);
    assert_eq!(sim.get_json(&path).await["UpdateSequence"], 4);
    let ledger = sim.get_json("/sim/ledger").await;
    assert_eq!((&ledger["applied"], &ledger["orders"]), (&json!(1), &json!(2)));
}

#[tokio::test]
async fn dataverse_limits_each_have_their_number() {
    let settings = Settings {
        profile: Profile::Dataverse,
        get_latency: "1m".parse().unwrap(),
        ..Settings::default()
    };
    let sim = sim(settings).await;
    // Each takes a minute of the twenty; the 53rd at the same time would be too many.
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(sim.address).await.unwrap();
        let request = format!("GET {ORDER} HTTP/1.1\r\nHost: sim\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    let twenty = async { while sim.get_json("/sim/ledger").await["gets"] != 20 {} };
    timeout(Duration::from_secs(30), twenty).await.unwrap();
    let told = sim.get(ORDER).await;
    assert_eq!(told.status(), 429);
    let seconds: u64 = header(&told, "retry-after").parse().unwrap();
    assert!((1..=180).contains(&seconds));
    assert_eq!(read(told).await["error"]["code"], "0x80072321");
    for (limit, code) in [("requests", "0x80072322"), ("concurrent", "0x80072326")] {
        sim.set(json!({"throttle": {limit: 1}})).await;
        let first = sim.request(Method::PATCH, ORDER).body("{}").send().await.unwrap();
        let second = sim.request(Method::PATCH, ORDER).body("{}").send().await.unwrap();
        let last = if limit == "requests" { second } else { first };
        assert_eq!(read(last).await["error"]["code"], code, "{limit}");
    }
}

#[tokio::test]
async fn strict_writes_need_the_csrf_token_and_the_cookie_of_its_session() {
    let sim = sim(Settings { profile: Profile::Strict, ..Settings::default() }).await;
    let write = async |token: &str, cookie: &str| {
        let request = sim.request(Method::PATCH, ORDER).header("If-Match", "*").body("{}");
        let request = request.header("X-CSRF-Token", token).header("Cookie", cookie);
        let reply = request.send().await.unwrap();
        (reply.status().as_u16(), header(&reply, "x-csrf-token").to_owned())
    };
    let refused = (403, "Required".to_owned());
    let bare = sim.patch(ORDER, &json!({})).send().await.unwrap();
    assert_eq!((bare.status().as_u16(), header(&bare, "x-csrf-token")), (403, "Required"));
    let fetch = sim.request(Method::GET, ORDER).header("X-CSRF-Token", "Fetch");
    let fetched = fetch.send().await.unwrap();
    let token = header(&fetched, "x-csrf-token").to_owned();
    let cookies = fetched.headers().get_all("set-cookie").iter();
    let session = cookies.filter_map(|it| it.to_str().unwrap().split(';').next());
    let session = session.into_iter().find(|it| it.starts_with("SAP_SESSIONID=")).unwrap();
    assert_eq!(write(&token, session).await, (204, String::new()));
    assert_eq!(write("wrong", session).await, refused);
    assert_eq!(write(&token, "a=b").await, refused);
    sim.request(Method::DELETE, "/sim/sessions").send().await.unwrap();
    assert_eq!(write(&token, session).await, refused);
    assert_eq!(sim.get_json("/sim/ledger").await["applied"], 1);
}
