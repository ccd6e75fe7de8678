//! What the probes say, and what the listener bears.

use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// Shows what the test says.
pub(super) struct Fake(pub(super) Mutex<Report>);

impl View for Fake {
    fn report(&self) -> Report {
        self.0.lock().unwrap().clone()
    }

    fn sample(&self) -> Sample {
        Sample::default()
    }

    fn explain(&self, order: &str) -> Result<Explanation, String> {
        if !order.contains('/') {
            return Err("--key has 1 value(s)".to_owned());
        }
        let order = order.to_owned();
        let (at_work, parked, says) = (None, None, vec!["nothing".to_owned()]);
        Ok(Explanation { order, shard: 3, generation: 1, queue: None, at_work, parked, says })
    }
}

fn report() -> Report {
    let broker = Broker {
        connected: true,
        paused: false,
        alarm: false,
        generation: 1,
        pods: 1,
        reconnects: 0,
        stood_still: 0,
        oldest_seconds: None,
    };
    let target = Target {
        state: "works",
        reason: None,
        down_seconds: None,
        shut_seconds: 0.0,
        in_flight: 0,
        waiting: 0,
        limit: 52.0,
        rate: None,
        token_seconds: None,
    };
    let shard = Shard {
        queue: "q".to_owned(),
        number: Some(0),
        owned: true,
        subscribed: true,
        served: false,
        is_missing: false,
        unsettled: 0,
        oldest_seconds: None,
        stood_still: 0,
    };
    Report {
        broker,
        topology: Vec::new(),
        shards: vec![shard],
        target,
        parking: None,
        orders: Vec::new(),
        orders_busy: 0,
        updates_waiting: 0,
        stuck: Vec::new(),
        dead_letters: Vec::new(),
        counts: Value::Null,
    }
}

pub(super) fn admin() -> Arc<Admin> {
    let identity =
        Identity { instance: "pod-1".to_owned(), version: "0", configuration: Value::Null };
    let metrics = Metrics::new("pod-1", ("localhost", 80), None).unwrap();
    Arc::new(Admin::new(identity, Arc::new(metrics)))
}

/// A daemon that consumes.
pub(super) fn consuming() -> (Arc<Admin>, Arc<Fake>) {
    let (admin, fake) = (admin(), Arc::new(Fake(Mutex::new(report()))));
    admin.show(fake.clone());
    admin.enter(Phase::Consuming);
    (admin, fake)
}

#[tokio::test(start_paused = true)]
async fn readiness_is_a_connection_and_its_subscriptions_and_the_service_only_degrades_it() {
    let (admin, fake) = consuming();
    assert_eq!(admin.ready(), Health::new(Vec::new(), Vec::new()));

    fake.0.lock().unwrap().target.state = "down";
    fake.0.lock().unwrap().target.reason = Some("gateway");
    let ready = admin.ready();
    assert!(ready.ok, "{ready:?}");
    assert_eq!(ready.degraded, ["the service is down: gateway"]);

    fake.0.lock().unwrap().broker.connected = false;
    assert_eq!(admin.ready().because, ["there is no connection to the broker"]);
    *fake.0.lock().unwrap() = report();
    fake.0.lock().unwrap().shards[0].is_missing = true;
    assert_eq!(admin.ready().because, ["q is not subscribed to"]);
    *fake.0.lock().unwrap() = report();
    fake.0.lock().unwrap().topology.push("queue x: missing".to_owned());
    assert_eq!(admin.ready().because, ["queue x: missing"]);
    *fake.0.lock().unwrap() = report();
    admin.enter(Phase::Draining);
    assert_eq!(admin.ready().because, ["it drains"]);
    admin.enter(Phase::Consuming);
    assert_eq!(admin.ready().because, ["it drains"], "a drain is never left again");
}

#[tokio::test(start_paused = true)]
async fn orders_that_stand_still_degrade_a_pod_and_it_says_when_no_more_may() {
    let (admin, fake) = consuming();
    let mut parking = Parking { orders: 0, orders_max: 2, oldest_seconds: None };
    let full = "2 orders stand still behind a dead letter; no more can be parked, and the next one waits \
                in its shard";
    for (orders, degraded) in
        [(0, vec![]), (1, vec!["1 order stands still behind a dead letter"]), (2, vec![full])]
    {
        parking.orders = orders;
        fake.0.lock().unwrap().parking = Some(parking.clone());
        let ready = admin.ready();
        assert_eq!(
            (ready.ok, ready.degraded),
            (true, degraded.into_iter().map(String::from).collect())
        );
    }
}

#[tokio::test(start_paused = true)]
async fn liveness_is_a_runtime_that_turns_over_and_nothing_stuck() {
    let (admin, _) = consuming();
    let beats = admin.beats();
    tokio::pin!(beats);
    tokio::select! { biased;
        () = &mut beats => {}
        () = tokio::time::sleep(Duration::from_mins(10)) => {}
    }
    assert!(admin.live().ok, "{:?}", admin.live());
    // Nobody lets it beat.
    tokio::time::advance(Duration::from_secs(12)).await;
    assert!(!admin.live().ok && admin.live().because[0].contains("stood still"));

    let (admin, fake) = consuming();
    assert!(admin.live().ok, "{:?}", admin.live());
    let (state, state_seconds, max_seconds) = ("get", 61.0, 60.0);
    let stuck = Stuck { order: "USMF/SO-1".to_owned(), state, state_seconds, max_seconds };
    fake.0.lock().unwrap().stuck.push(stuck);
    assert_eq!(
        admin.live().because,
        ["order USMF/SO-1 has been at get for 61 s, and 60 s is the most"]
    );
}

#[tokio::test(start_paused = true)]
async fn start_is_over_when_the_broker_is_as_it_should_be() {
    let admin = admin();
    assert!(admin.live().ok && !admin.started().ok && !admin.ready().ok);
    admin.show(Arc::new(Fake(Mutex::new(report()))));
    assert!(admin.started().ok && admin.ready().ok);
}

/// Sends these bytes and reads until the listener closes the connection.
pub(super) async fn ask(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The listener may hang up before it has read all.
    let _written = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _read = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn listener_answers_what_it_knows_and_nothing_is_kept_by_a_cache() {
    let (admin, _) = consuming();
    let serving = serve("127.0.0.1:0".parse().unwrap(), admin).await.unwrap();
    let ask = async |path: &str| {
        ask(serving.address, format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await
    };
    let ready = ask("/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("cache-control: no-store"));
    assert!(ready.ends_with(r#"{"ok":true,"because":[],"degraded":[]}"#), "{ready}");
    let status = ask("/status").await;
    assert!(status.contains(r#""phase":"consuming""#) && status.contains(r#""instance":"pod-1""#));
    assert!(ask("/metrics").await.contains("content-type: text/plain; version=0.0.4"));
    let page = ask("/").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("content-type: text/html"), "{page}");
    assert!(page.contains("content-security-policy: default-src 'none'; script-src 'self'; "));
    assert!(ask("/page.css").await.contains("content-type: text/css"));
    assert!(ask("/page.js").await.contains("content-type: text/javascript"));
    assert!(ask("/secrets").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test(start_paused = true)]
async fn slow_and_large_requests_are_cut_off_and_keep_nobody_out() {
    let (admin, _) = consuming();
    let serving = serve("127.0.0.1:0".parse().unwrap(), admin).await.unwrap();
    // The clock is the test's: a wait of the listener passes at once.
    let begun = Instant::now();
    let mut slow = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(serving.address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost:").await.unwrap();
        slow.push(stream);
    }
    let answer = ask(serving.address, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(begun.elapsed() >= Duration::from_secs(4), "it had to wait for a place");
    let large = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(100_000));
    let answer = ask(serving.address, large.as_bytes()).await;
    assert!(!answer.contains("200 OK"), "{answer}");
}
