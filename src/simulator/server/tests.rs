//! Talks to the stand-in over real sockets.

use std::io::ErrorKind;
use std::net::SocketAddr;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::DropGuard;

use super::*;
use crate::simulator::Profile;

mod batches;
mod faults;
mod outages;
mod profiles;
mod scenarios;
mod tokens;

const ORDER: &str =
    "/data/SalesOrderHeadersV2(dataAreaId='USMF',SalesOrderNumber='SO-000001')?cross-company=true";

/// A server that ends with the test.
struct Sim {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    client: Client,
    serving: JoinSet<Result<(), Error>>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

async fn sim(settings: Settings) -> Sim {
    sim_with(settings, None).await
}

/// One with a second port for `/sim/`.
async fn sim_with_admin(settings: Settings) -> Sim {
    let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    sim_with(settings, Some(admin)).await
}

async fn sim_with(settings: Settings, admin: Option<TcpListener>) -> Sim {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let admin_address = admin.as_ref().map(|admin| admin.local_addr().unwrap());
    let stop = CancellationToken::new();
    let mut serving = JoinSet::new();
    let orders = settings.orders.max(1);
    serving.spawn(serve(listener, admin, Settings { orders, ..settings }, stop.clone()));
    let stop_on_drop = stop.clone().drop_guard();
    let client = Client::builder().no_proxy().build().unwrap();
    Sim { address, admin: admin_address, client, serving, stop, _stop_on_drop: stop_on_drop }
}

impl Sim {
    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    async fn get_json(&self, path: &str) -> Json {
        read(self.get(path).await).await
    }

    /// Changes the faults by the port that is there in any case.
    async fn set(&self, faults: Json) {
        let address = self.admin.unwrap_or(self.address);
        let request = self.client.put(format!("http://{address}/sim/faults"));
        let reply = request.body(faults.to_string()).send().await.unwrap();
        assert_eq!(reply.status(), 200, "{}", reply.text().await.unwrap());
    }

    async fn script(&self, next: Json) {
        let request = self.request(Method::PUT, "/sim/faults");
        let reply = request.body(json!({ "next": next }).to_string()).send().await.unwrap();
        assert_eq!(reply.status(), 200, "{}", reply.text().await.unwrap());
    }

    fn patch(&self, path: &str, body: &Json) -> reqwest::RequestBuilder {
        self.request(Method::PATCH, path).header("If-Match", "*").body(body.to_string())
    }

    /// Sends a PATCH of the order over a connection of its own and returns that connection.
    async fn patch_raw(&self, body: &Json) -> TcpStream {
        let body = body.to_string();
        let head = format!("PATCH {ORDER} HTTP/1.1\r\nHost: sim\r\nContent-Length: {}", body.len());
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
        stream
    }
}

/// A header; empty if there is none.
fn header<'a>(reply: &'a reqwest::Response, name: &str) -> &'a str {
    reply.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn read(reply: reqwest::Response) -> Json {
    serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap()
}

#[tokio::test]
async fn get_and_patch_carry_the_headers_of_finance_and_operations() {
    let sim = sim(Settings::default()).await;
    let reply = sim.get(ORDER).await;
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["odata-version"], "4.0");
    assert_eq!(reply.headers()["content-type"], "application/json; odata.metadata=minimal");
    assert!(reply.headers()["set-cookie"].to_str().unwrap().starts_with("ARRAffinity="));
    assert!(reply.headers().contains_key("ms-dyn-aid"));
    let etag = reply.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(read(reply).await["@odata.etag"], json!(etag));

    let patch = |etag: &str| {
        let body = json!({"UpdateSequence": 1}).to_string();
        sim.request(Method::PATCH, ORDER).header("If-Match", etag).body(body)
    };
    let written = patch(&etag).send().await.unwrap();
    assert_eq!(written.status(), 204);
    assert!(!written.headers().contains_key("etag"));
    assert_eq!(patch(&etag).send().await.unwrap().status(), 412);
}

#[tokio::test]
async fn property_that_was_renamed_is_refused_by_its_old_name_until_it_is_renamed_back() {
    let sim = sim(Settings::default()).await;
    let rename = async |from: &str, to: &str| {
        let body = json!({ from: to }).to_string();
        let put = sim.request(Method::PUT, "/sim/properties").body(body);
        put.send().await.unwrap().status()
    };
    let write = async || {
        let body = json!({"DeliveryModeCode": "Truck", "UpdateSequence": 1});
        sim.patch(ORDER, &body).send().await.unwrap().status()
    };
    assert_eq!(rename("DeliveryModeCode", "SalesStatus").await, 400, "taken");
    assert_eq!(rename("DeliveryModeCode", "DeliveryMode").await, 200);
    assert_eq!(write().await, 400);
    assert_eq!(sim.get_json(ORDER).await["DeliveryMode"], "");
    assert_eq!(rename("DeliveryMode", "DeliveryModeCode").await, 200);
    assert_eq!(write().await, 204);
    assert_eq!(sim.get_json(ORDER).await["DeliveryModeCode"], "Truck");
}

#[tokio::test]
async fn order_with_a_weird_key_can_be_created_read_and_written() {
    let sim = sim(Settings::default()).await;
    let body =
        json!({"dataAreaId": "O'N", "SalesOrderNumber": "Ä/1 %?#", "SalesStatus": "Invoiced"});
    let create = || sim.request(Method::POST, "/sim/orders").body(body.to_string()).send();
    let created = create().await.unwrap();
    assert_eq!(created.status(), 201);
    assert_eq!(read(created).await["order"], "O'N/Ä%2F1 %25?#");
    assert_eq!(create().await.unwrap().status(), StatusCode::CONFLICT);

    let path = "/data/SalesOrderHeadersV2(dataAreaId='O%27%27N',\
                SalesOrderNumber='%C3%84%2F1%20%25%3F%23')?cross-company=true";
    assert_eq!(sim.get_json(path).await["SalesStatus"], "Invoiced");
    let written = sim.patch(path, &json!({"UpdateSequence": 3})).send().await.unwrap();
    assert_eq!(written.status(), 204);
    let shown = sim.get_json("/sim/ledger/orders/O'N/%C3%84%2F1%20%25%3F%23").await;
    assert_eq!(shown["properties"]["UpdateSequence"], 3);
    assert_eq!(shown["changes"][0]["order"], "O'N/Ä%2F1 %25?#");
}

#[tokio::test]
async fn ledger_has_exactly_its_fields() {
    let sim = sim(Settings::default()).await;
    sim.get(ORDER).await;
    sim.patch(ORDER, &json!({"UpdateSequence": 1})).send().await.unwrap();
    let text = sim.get("/sim/ledger").await.text().await.unwrap();
    let expected = [
        r#"{"requests":2,"gets":1,"patches":1,"applied":1"#,
        r#","applied_distinct":1,"conflicts":0,"rejected":0"#,
        r#","faults":{"unavailable":0,"cut":0,"lost_reply":0,"other":0}"#,
        r#","actor_changes":0,"overlaps":0,"out_of_order":0"#,
        r#","applied_twice":0,"orders":1,"in_flight_max":1,"throttled":0}"#,
    ];
    assert_eq!(text, expected.concat());
    let changes = sim.get_json("/sim/ledger/changes?after=0&limit=1").await;
    assert_eq!(changes["changes"][0]["changed"], json!({"UpdateSequence": 1}));
    assert_eq!(sim.get("/sim/ledger/changes?limit=x").await.status(), 400);
    let reset = sim.request(Method::DELETE, "/sim/ledger").send().await.unwrap();
    assert_eq!(read(reset).await["applied"], 0);
    assert_eq!(sim.get_json("/sim/ledger/orders?bad=true").await["orders"], json!([]));
}

#[tokio::test]
async fn wait_for_the_ledger_ends_with_the_update_that_completes_it() {
    let sim = sim(Settings::default()).await;
    let path = "/sim/ledger?applied_distinct_min=2&wait_ms=60000";
    let (seen, ()) = tokio::join!(sim.get_json(path), async {
        for sequence in [1, 1, 2] {
            let body = json!({ "UpdateSequence": sequence });
            sim.patch(ORDER, &body).send().await.unwrap();
        }
    });
    assert_eq!(seen["applied_distinct"], 2);
    let late = sim.get_json("/sim/ledger?applied_distinct_min=3&wait_ms=1").await;
    assert_eq!(late["applied_distinct"], 2);
}

#[tokio::test]
async fn cut_resets_the_connection_before_or_after_the_deed() {
    let sim = sim(Settings::default()).await;
    sim.script(json!([{"on": "patch", "do": "cut"}, {"on": "patch", "do": "lost_reply"}])).await;
    for applied in [0, 1] {
        let mut stream = sim.patch_raw(&json!({"UpdateSequence": 1})).await;
        let error = stream.read(&mut [0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(sim.get_json("/sim/ledger").await["applied"], applied);
    }
}

#[tokio::test]
async fn cut_body_sends_the_head_and_half_of_the_body() {
    let sim = sim(Settings::default()).await;
    sim.script(json!([{"on": "get", "do": "cut_body"}])).await;
    let reply = sim.get(ORDER).await;
    assert_eq!(reply.status(), 200);
    assert!(reply.content_length().unwrap() > 100);
    assert!(reply.bytes().await.is_err());
}

#[tokio::test]
async fn patch_whose_client_has_left_is_applied_all_the_same() {
    let sim = sim(Settings::default()).await;
    sim.script(json!([{"on": "patch", "do": "stall", "for": "50ms"}])).await;
    drop(sim.patch_raw(&json!({"UpdateSequence": 1})).await);
    let seen = sim.get_json("/sim/ledger?applied_distinct_min=1&wait_ms=60000").await;
    assert_eq!(seen["applied"], 1);
}

#[tokio::test]
async fn requests_run_at_the_same_time_but_not_more_than_connections_allow() {
    // Long enough that a slow machine still starts all four in time; nothing waits for the rest.
    for (connections_max, in_flight_max, latency) in [(8, 4, "500ms"), (1, 1, "1ms")] {
        let get_latency = latency.parse().unwrap();
        let sim = sim(Settings { get_latency, connections_max, ..Settings::default() }).await;
        let get = || sim.request(Method::GET, ORDER).header("Connection", "close").send();
        let replies = tokio::join!(get(), get(), get(), get());
        for reply in [replies.0, replies.1, replies.2, replies.3] {
            assert_eq!(reply.unwrap().status(), 200);
        }
        assert_eq!(sim.get_json("/sim/ledger").await["in_flight_max"], in_flight_max);
    }
}

#[tokio::test]
async fn body_over_the_limit_is_413_and_unknown_paths_are_404() {
    let sim = sim(Settings { body_bytes_max: 100, ..Settings::default() }).await;
    let body = json!({"CustomersOrderReference": "x".repeat(100)});
    assert_eq!(sim.patch(ORDER, &body).send().await.unwrap().status(), 413);
    for path in ["/", "/data", "/sim/", "/sim/nonsense", "/sim/ledger/orders/A/1"] {
        assert_eq!(sim.get(path).await.status(), 404, "{path}");
    }
    let posted = sim.request(Method::POST, ORDER).send().await.unwrap();
    assert_eq!(
        (posted.status().as_u16(), &posted.headers()["allow"]),
        (405, &"GET, PATCH".parse().unwrap())
    );
}

#[tokio::test]
async fn stop_ends_the_server_at_once_whatever_is_under_way() {
    let mut sim = sim(Settings::default()).await;
    sim.script(json!([{"on": "patch", "do": "stall", "for": "10min"}])).await;
    let mut stream = sim.patch_raw(&json!({})).await;
    // Answered on another connection, so the PATCH before it may or may not have arrived: both end.
    sim.get("/sim/ledger").await;
    sim.stop.cancel();
    assert!(sim.serving.join_next().await.unwrap().unwrap().is_ok());
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest).await);
    assert!(rest.is_empty());
}
