//! Drives the world without socket and clock: what the application answers.

use hyper::{HeaderMap, Method};
use serde_json::{Value as Json, json};

mod faults_and_ledger;

use super::*;
use crate::simulator::ledger::Totals;
use crate::simulator::reply::Body;

const ORDER: &str = "SalesOrderHeadersV2(dataAreaId='USMF',SalesOrderNumber='SO-000001')";

/// A world with two orders, and shorthands for what happens to it.
struct Bench {
    world: World,
}

fn bench(settings: Settings) -> Bench {
    Bench { world: World::new(Settings { orders: 2, ..settings }).unwrap() }
}

fn plain() -> Bench {
    bench(Settings::default())
}

fn scripted(next: &Json) -> Bench {
    let mut bench = plain();
    bench.script(next);
    bench
}

fn request(
    method: &Method,
    target: &str,
    headers: &[(&'static str, &str)],
    body: &Json,
) -> Request {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, value.parse().unwrap());
    }
    let uri = format!("/data/{target}").parse().unwrap();
    let segment = target.split('?').next().unwrap();
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
    Request::read(method, segment, &uri, &map, &"peer".into(), &body)
}

fn get_of(writer: &str) -> Request {
    let target = format!("{ORDER}?cross-company=true");
    request(&Method::GET, &target, &[("x-ms-client-session-id", writer)], &Json::Null)
}

fn patch_of(writer: &str, etag: &str, body: &Json) -> Request {
    let target = format!("{ORDER}?cross-company=true");
    let headers = [("x-ms-client-session-id", writer), ("if-match", etag)];
    request(&Method::PATCH, &target, &headers, body)
}

fn at() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

impl Bench {
    fn script(&mut self, next: &Json) {
        let update = serde_json::from_value(json!({ "next": next })).unwrap();
        self.world.set_faults(update, at()).unwrap();
    }

    fn send(&mut self, request: Request) -> Outcome {
        let arrived = self.world.arrive(request, at());
        let judged = self.world.judge(arrived, at());
        self.world.leave(judged)
    }

    fn reply(&mut self, request: Request) -> Reply {
        match self.send(request) {
            Outcome::Reply(reply) => reply,
            cut @ (Outcome::Cut | Outcome::CutInBody(_)) => panic!("{cut:?}"),
        }
    }

    fn etag(&mut self) -> String {
        self.reply(get_of("reader")).etag.unwrap()
    }

    fn read(&mut self) -> Json {
        json_of(&self.reply(get_of("reader")))
    }

    /// GET and PATCH by a new writer; the status of the PATCH.
    fn walk(&mut self, writer: &str, body: &Json) -> u16 {
        let etag = self.reply(get_of(writer)).etag.unwrap();
        self.reply(patch_of(writer, &etag, body)).status
    }

    fn totals(&self) -> &Totals {
        self.world.totals()
    }
}

fn json_of(reply: &Reply) -> Json {
    let Body::Json(bytes) = &reply.body else { panic!("{reply:?} has no JSON body") };
    serde_json::from_slice(bytes).unwrap()
}

fn inner_of(reply: &Reply) -> String {
    json_of(reply)["error"]["innererror"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn get_shows_the_order_with_the_same_tag_in_header_and_body() {
    let mut bench = plain();
    let reply = bench.reply(get_of("a"));
    assert_eq!(reply.status, 200);
    assert!(!reply.aid.is_nil());
    let expected = json!({
        "@odata.context": "$metadata#SalesOrderHeadersV2/$entity",
        "@odata.etag": reply.etag.as_ref().unwrap(),
        "dataAreaId": "USMF",
        "SalesOrderNumber": "SO-000001",
        "SalesStatus": "Backorder",
        "DeliveryModeCode": "",
        "UpdateSequence": 0,
        "DeliveryDate": "1900-01-01T12:00:00Z",
        "RequestedShippingDate": "1900-01-01T12:00:00Z",
        "ConfirmedShippingDate": "1900-01-01T12:00:00Z",
        "CustomersOrderReference": "",
        "TotalDiscountPercentage": 0,
        "OverrideSalesTax": "No",
    });
    assert_eq!(json_of(&reply), expected);
}

#[test]
fn select_narrows_the_answer_and_knows_the_properties() {
    let mut bench = plain();
    let mut select = |names: &str| {
        let target = format!("{ORDER}?cross-company=true&$select={names}");
        bench.reply(request(&Method::GET, &target, &[], &Json::Null))
    };
    let body = json_of(&select("SalesStatus,dataAreaId"));
    assert_eq!(body.as_object().unwrap().len(), 4, "{body}");
    assert_eq!(select("Nonsense").status, 400);
}

#[test]
fn order_of_another_company_is_seen_only_across_companies() {
    let mut bench = plain();
    assert_eq!(bench.reply(request(&Method::GET, ORDER, &[], &Json::Null)).status, 404);
    let body = json!({"SalesStatus": "Delivered"});
    assert_eq!(bench.reply(request(&Method::PATCH, ORDER, &[], &body)).status, 404);
    assert_eq!(bench.totals().rejected, 2);
    let settings = Settings { default_company: "USMF".to_owned(), ..Settings::default() };
    let mut at_home = self::bench(settings);
    assert_eq!(at_home.reply(request(&Method::GET, ORDER, &[], &Json::Null)).status, 200);
}

#[test]
fn keys_are_case_sensitive_and_missing_orders_are_404() {
    let mut bench = plain();
    let mut get = |target: &str| bench.reply(request(&Method::GET, target, &[], &Json::Null));
    for company in ["usmf", "USMX"] {
        let target = ORDER.replace("USMF", company);
        let missing = get(&format!("{target}?cross-company=true"));
        assert_eq!((missing.status, missing.body), (404, Body::Empty));
    }
    let unknown = get("CustomersV3(dataAreaId='USMF')");
    assert_eq!(unknown.status, 404);
    assert_eq!(inner_of(&unknown), "Resource not found for the segment 'CustomersV3'.");
    assert_eq!(get("SalesOrderHeadersV2('x')").status, 400);
}

#[test]
fn only_the_configured_token_is_let_in() {
    let mut bench = bench(Settings { bearer_token: Some("t".to_owned()), ..Settings::default() });
    let target = format!("{ORDER}?cross-company=true");
    for (header, status) in [("Bearer t", 200), ("Bearer x", 401), ("t", 401)] {
        let headers = [("authorization", header)];
        let reply = bench.reply(request(&Method::GET, &target, &headers, &Json::Null));
        assert_eq!(reply.status, status, "{header}");
    }
    assert_eq!(bench.reply(get_of("a")).body, Body::Empty);
}

#[test]
fn patch_writes_checked_values_and_moves_the_tag() {
    let mut bench = plain();
    let etag = bench.etag();
    let body = json!({
        "@odata.type": "#whatever",
        "SalesStatus": "Delivered",
        "DeliveryDate": "2025-02-08",
        "RequestedShippingDate": "2025-02-09T00:30:00+02:00",
        "ConfirmedShippingDate": null,
        "CustomersOrderReference": "Ü".repeat(60),
        "TotalDiscountPercentage": 2.5,
        "OverrideSalesTax": "Yes",
        "UpdateSequence": 7,
    });
    let reply = bench.reply(patch_of("a", &etag, &body));
    assert_eq!((reply.status, &reply.etag, &reply.body), (204, &None, &Body::Empty));
    let order = bench.read();
    assert_ne!(order["@odata.etag"], json!(etag));
    assert_eq!(order["DeliveryDate"], "2025-02-08T12:00:00Z");
    assert_eq!(order["RequestedShippingDate"], "2025-02-08T12:00:00Z");
    assert_eq!(order["TotalDiscountPercentage"], json!(2.5));
    assert_eq!(order["UpdateSequence"], 7);
    assert_eq!(bench.totals().applied, 1);
}

#[test]
fn stale_tag_is_412_and_changes_nothing() {
    let mut bench = plain();
    let etag = bench.etag();
    assert_eq!(bench.reply(patch_of("a", &etag, &json!({"UpdateSequence": 1}))).status, 204);
    let stale = bench.reply(patch_of("a", &etag, &json!({"UpdateSequence": 2})));
    assert_eq!(stale.status, 412);
    assert!(inner_of(&stale).contains("If-Match"));
    assert_eq!(bench.read()["UpdateSequence"], 1);
    assert_eq!((bench.totals().conflicts, bench.totals().rejected), (1, 0));
}

#[test]
fn star_and_no_tag_write_without_check() {
    let mut bench = plain();
    let target = format!("{ORDER}?cross-company=true");
    let body = json!({"UpdateSequence": 1});
    assert_eq!(bench.reply(request(&Method::PATCH, &target, &[], &body)).status, 204);
    assert_eq!(bench.reply(patch_of("a", "*", &body)).status, 204);
}

#[test]
fn missing_order_does_not_match_a_tag() {
    let mut bench = plain();
    let target = format!("{}?cross-company=true", ORDER.replace("000001", "9"));
    let mut status = |headers: &[(&'static str, &str)]| {
        bench.reply(request(&Method::PATCH, &target, headers, &json!({}))).status
    };
    assert_eq!(status(&[("if-match", "W/\"x\"")]), 412);
    assert_eq!(status(&[("if-match", "*")]), 404);
    assert_eq!(status(&[]), 404);
}

#[test]
fn bodies_that_do_not_fit_the_entity_are_400_and_change_nothing() {
    let mut bench = plain();
    let before = bench.read();
    for (body, says) in [
        (json!({"Nonsense": 1}), "does not exist on type"),
        (json!({"salesstatus": "Delivered"}), "does not exist on type"),
        (json!({"SalesStatus": "Open"}), "Cannot convert the literal"),
        (json!({"SalesStatus": null}), "Cannot convert the literal"),
        (json!({"DeliveryDate": "2025-02-30"}), "Edm.DateTimeOffset"),
        (json!({"DeliveryDate": "2025-02-08T12:00:00"}), "Edm.DateTimeOffset"),
        (json!({"CustomersOrderReference": "x".repeat(61)}), "Edm.String"),
        (json!({"DeliveryModeCode": 5}), "Edm.String"),
        (json!({"TotalDiscountPercentage": "2.5"}), "Edm.Decimal"),
        (json!({"UpdateSequence": 1.5}), "Edm.Int64"),
        (json!({"dataAreaId": "USMF"}), "part of the key"),
        (json!(["SalesStatus"]), "not a valid JSON object"),
        (Json::Null, "not a valid JSON object"),
    ] {
        let reply = bench.reply(patch_of("a", "*", &body));
        assert_eq!(reply.status, 400, "{body}");
        assert!(inner_of(&reply).contains(says), "{body}: {}", inner_of(&reply));
    }
    assert_eq!(bench.read(), before);
    assert_eq!(bench.totals().rejected, 13);
}

#[test]
fn status_moves_in_one_direction_only() {
    let mut bench = plain();
    let mut to = |status: &str| bench.reply(patch_of("a", "*", &json!({ "SalesStatus": status })));
    assert_eq!(to("Invoiced").status, 400);
    for status in ["Backorder", "Delivered", "Delivered", "Invoiced"] {
        assert_eq!(to(status).status, 204, "{status}");
    }
    let refused = to("Backorder");
    assert_eq!(refused.status, 400);
    let message = inner_of(&refused);
    assert!(message.starts_with("Write failed for table row of type 'SalesOrderHeaderV2Entity'."));
    assert!(message.ends_with("validateWrite failed on data source 'SalesTable (SalesTable)'."));
}
