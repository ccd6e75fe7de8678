//! The service as a whole: closed, shut for maintenance, too busy, out of tokens; and one order that
//! nothing can be done with.

use super::*;

const OTHER: &str =
    "/data/SalesOrderHeadersV2(dataAreaId='USMF',SalesOrderNumber='SO-000002')?cross-company=true";

async fn refused(address: SocketAddr) -> bool {
    match TcpStream::connect(address).await {
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    }
}

#[tokio::test]
async fn f18_refuse_connections_closes_the_port_cuts_who_is_there_and_opens_it_again() {
    let sim = sim_with_admin(Settings::default()).await;
    let admin = format!("http://{}", sim.admin.unwrap());
    let mut there = TcpStream::connect(sim.address).await.unwrap();
    there.write_all(b"GET /data/x HTTP/1.1\r\nHost: sim\r\n\r\n").await.unwrap();
    assert!(there.read(&mut [0; 4096]).await.unwrap() > 0);

    sim.set(json!({"f18_refuse_connections": 1})).await;
    assert!(refused(sim.address).await);
    let mut none = [0; 64];
    let cut = timeout(Duration::from_secs(30), there.read(&mut none)).await.unwrap().unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
    // The other port is there, and serves /sim/ alone.
    let health = sim.client.get(format!("{admin}/sim/health")).send().await.unwrap();
    assert_eq!(health.status(), 200);
    let data = sim.client.get(format!("{admin}{ORDER}")).send().await.unwrap();
    assert_eq!(data.status(), 404);

    sim.client.delete(format!("{admin}/sim/faults")).send().await.unwrap();
    assert_eq!(sim.get(ORDER).await.status(), 200);
}

#[tokio::test]
async fn f18_refuse_connections_ends_connections_of_http2_too() {
    let sim = sim_with_admin(Settings::default()).await;
    let client = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let order = format!("http://{}{ORDER}", sim.address);
    let answer = client.get(&order).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    sim.set(json!({"f18_refuse_connections": 1})).await;
    let gone = async { while client.get(&order).send().await.is_ok() {} };
    timeout(Duration::from_secs(30), gone).await.unwrap();
    let admin = sim.admin.unwrap();
    sim.client.delete(format!("http://{admin}/sim/faults")).send().await.unwrap();
    assert_eq!(client.get(&order).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn f18_refuse_connections_ends_by_itself_and_spares_the_connection_that_ordered_it() {
    let sim = sim(Settings::default()).await;
    let bad = sim.request(Method::PUT, "/sim/faults").body(r#"{"f18_refuse_connections":1}"#);
    assert_eq!(bad.send().await.unwrap().status(), 400);
    sim.set(json!({"f18_refuse_connections": {"lasts": "500ms"}})).await;
    assert!(refused(sim.address).await);
    // Over the kept connection. The answer comes when the port is as it should be.
    let seen = sim.get_json("/sim/faults").await;
    assert_eq!(seen["f18_refuse_connections"][0]["lasts"], "500ms");
    let open = async { while refused(sim.address).await {} };
    timeout(Duration::from_secs(30), open).await.unwrap();
    assert_eq!(sim.get(ORDER).await.status(), 200);
}

#[tokio::test]
async fn outage_is_scripted_as_503s_then_refusals_then_401s_then_403s_and_nothing_is_applied() {
    let sim = sim_with_admin(Settings::default()).await;
    let status = async || sim.patch(ORDER, &json!({})).send().await.unwrap().status().as_u16();
    sim.set(json!({"f18_maintenance": 1})).await;
    assert_eq!((status().await, sim.get(ORDER).await.status().as_u16()), (503, 503));
    sim.set(json!({"f18_maintenance": 0, "f18_refuse_connections": 1})).await;
    assert!(sim.patch(ORDER, &json!({})).send().await.unwrap_err().is_connect());
    sim.set(json!({"f18_refuse_connections": 0, "f8_unauthorized": 1})).await;
    let told = sim.get(ORDER).await;
    assert_eq!((told.status().as_u16(), header(&told, "www-authenticate")), (401, "Bearer"));
    assert_eq!(status().await, 401);
    sim.set(json!({"f8_unauthorized": 0, "f8_forbidden": 1})).await;
    assert_eq!(status().await, 403);
    sim.set(json!({"f8_forbidden": 0})).await;
    assert_eq!(sim.get_json("/sim/ledger").await["applied"], 0);
    assert_eq!(status().await, 204);
}

#[tokio::test]
async fn poisoned_order_answers_500_and_its_neighbour_is_well() {
    let sim = sim(Settings { orders: 2, ..Settings::default() }).await;
    sim.set(json!({"f13_business_error": {"order": "USMF/SO-000001"}})).await;
    for _ in 0..3 {
        let refused = sim.patch(ORDER, &json!({"UpdateSequence": 1})).send().await.unwrap();
        assert_eq!(refused.status(), 500);
        let body = read(refused).await;
        let text = body["error"]["innererror"]["message"].as_str().unwrap();
        assert!(text.contains("validateWrite failed"), "{text}");
        let well = sim.patch(OTHER, &json!({"UpdateSequence": 1})).send().await.unwrap();
        assert_eq!(well.status(), 204);
    }
    let seen = sim.get_json("/sim/faults").await;
    assert_eq!(seen["struck"]["f13_business_error"], 3);
    assert_eq!(sim.get_json("/sim/ledger").await["applied"], 3);
}

#[tokio::test]
async fn more_than_the_rate_allows_is_429_and_counted() {
    let sim = sim(Settings::default()).await;
    sim.set(json!({"throttle": {"per_second": 0.01, "burst": 3}})).await;
    let mut let_in = 0;
    for _ in 0..5 {
        let reply = sim.patch(ORDER, &json!({})).send().await.unwrap();
        let_in += u32::from(reply.status() == 204);
        if reply.status() == 429 {
            let seconds: u64 = reply.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((90..=100).contains(&seconds), "{seconds}");
            let body = read(reply).await;
            let text = body["error"]["innererror"]["message"].as_str().unwrap();
            assert!(text.ends_with(&format!("retry the request after {seconds} seconds")));
        }
    }
    assert_eq!(let_in, 3);
    let ledger = sim.get_json("/sim/ledger").await;
    assert_eq!((&ledger["throttled"], &ledger["applied"]), (&json!(2), &json!(3)));
    sim.set(json!({"throttle": {"per_second": 0.01, "without_retry_after": 1}})).await;
    assert_eq!(sim.get(ORDER).await.status(), 200);
    let silent = sim.get(ORDER).await;
    assert_eq!(silent.status(), 429);
    assert!(!silent.headers().contains_key("retry-after"));
    let bad = sim.request(Method::PUT, "/sim/faults").body(r#"{"throttle":{"per_second":0}}"#);
    assert_eq!(bad.send().await.unwrap().status(), 400);
}
