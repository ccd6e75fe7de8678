//! What a collector gets: a receiver that we did not write prints what it understood.

pub(crate) mod receiver;

use std::sync::{Arc, Mutex};

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::admin::shows;
use crate::daemon::orderwright;
use crate::stage::{Stage, message, update};
use crate::wire::wired;
use receiver::{Receiver, Seen, spans};

pub(crate) const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PUBLISHER: &str = "b7ad6b7169203331";

/// What goes on to the service, written down on the way.
pub(crate) struct Relay {
    pub(crate) url: String,
    pub(crate) sent: Arc<Mutex<Vec<u8>>>,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn before(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = url.strip_prefix("http://").unwrap().to_owned();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sent, mut tasks) = (Arc::<Mutex<Vec<u8>>>::default(), JoinSet::new());
        let writing = sent.clone();
        tasks.spawn(async move {
            let mut links = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&upstream).await.unwrap();
                links.spawn(link(client, server, writing.clone()));
            }
        });
        Self { url, sent, _tasks: tasks }
    }
}

async fn link(client: TcpStream, server: TcpStream, sent: Arc<Mutex<Vec<u8>>>) {
    let ((mut from, mut to_client), (mut answers, mut to)) =
        (client.into_split(), server.into_split());
    let there = async {
        let mut bytes = vec![0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            sent.lock().unwrap().extend_from_slice(&bytes[..count]);
            to.write_all(&bytes[..count]).await.unwrap();
        }
    };
    tokio::select! {
        () = there => {}
        _ended = tokio::io::copy(&mut answers, &mut to_client) => {}
    }
}

pub(crate) fn traced(flags: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    let parent = format!("00-{TRACE}-{PUBLISHER}-{flags}");
    headers.insert("traceparent".into(), AMQPValue::LongString(parent.into()));
    BasicProperties::default().with_content_type("application/json".into()).with_headers(headers)
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_goes_on_from_the_message_by_the_processing_to_each_request_and_to_the_service() {
    let stage = Stage::new("traces", &["--orders", "3"]).await;
    let Some(mut receiver) = Receiver::start().await else { return };
    let relay = Relay::before(stage.simulator_url()).await;
    let target = format!("{}/data", relay.url);
    let settings = [
        ("TARGET__URL", target.as_str()),
        ("OTLP__ENDPOINT", &receiver.endpoint),
        // Only what its publisher has sampled.
        ("OTLP__SAMPLE_RATIO", "0"),
        ("OTLP__METRICS_INTERVAL", "10m"),
    ];
    let daemon = stage.daemon(&settings).await;
    let mut letters = stage.letters().await;
    let raw = stage.channel().await;
    raw.publish(traced("01"), update(1, 1).as_bytes()).await;
    raw.publish(traced("00"), update(2, 1).as_bytes()).await;
    stage.publish(&[update(3, 1)]).await;
    stage.applied(3).await;
    let none = message("SO-999999", &json!({"DeliveryDate": "2025-01-01"}));
    raw.publish(traced("01"), none.as_bytes()).await;
    assert_eq!(letters.next().await.reason(), "not_found");
    let ended = daemon.stop().await;
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.log.contains(&format!("\"trace_id\":\"{TRACE}\"")), "{}", ended.log);

    let lines = receiver.all().await;
    let mut spans = spans(&lines);
    assert_eq!(spans.pop().unwrap().name, "end");
    let of = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let consumed: Vec<_> = spans.iter().filter(|span| span.name.starts_with("consume ")).collect();
    assert_eq!((consumed.len(), of("GET").len(), of("PATCH").len(), spans.len()), (2, 2, 1, 5));
    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:#?}");
    let outcomes: Vec<_> =
        consumed.iter().map(|span| span.attribute("orderwright.outcome")).collect();
    assert_eq!(outcomes, ["Str(applied)", "Str(dead_lettered)"]);
    for span in &consumed {
        assert_eq!((span.parent.as_str(), span.kind.as_str()), (PUBLISHER, "SPAN_KIND_CONSUMER"));
        assert_eq!(span.attribute("messaging.system"), "Str(rabbitmq)");
    }
    assert_eq!(consumed[1].attribute("error.type"), "Str(not_found)");
    // And the service was told: each request names its own span as parent of whatever it does.
    let sent = String::from_utf8_lossy(&relay.sent.lock().unwrap()).into_owned();
    for (index, request) in of("GET").into_iter().chain(of("PATCH")).enumerate() {
        let parent = if index == 1 { consumed[1] } else { consumed[0] };
        assert_eq!(
            (request.parent.as_str(), request.kind.as_str()),
            (parent.id.as_str(), "SPAN_KIND_CLIENT")
        );
        let told = format!("traceparent: 00-{TRACE}-{}-01", request.id);
        assert!(sent.contains(&told), "{told} in:\n{sent}");
    }
    assert_eq!(of("GET")[1].attribute("http.response.status_code"), "Int(404)");
    assert_eq!(
        sent.matches("traceparent: ").count(),
        3 + 2 + 2 + 1,
        "what is not recorded is told as well, and the look at the service"
    );
    assert!(lines.iter().any(|line| line.contains("orderwright.updates.settled")), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_links_to_the_handling_that_the_message_died_in_first() {
    let stage = Stage::new("links", &["--orders", "1"]).await;
    let refused = json!({"on": "patch", "do": "status", "status": 400});
    stage.simulator.faults(&json!({"next": [refused]})).await.unwrap();
    let Some(mut receiver) = Receiver::start().await else { return };
    let settings = [
        ("OTLP__ENDPOINT", receiver.endpoint.as_str()),
        ("OTLP__SAMPLE_RATIO", "1"),
        ("OTLP__METRICS_INTERVAL", "10m"),
    ];
    let daemon = stage.daemon(&settings).await;
    // Of a publisher without traces: each handling has a trace of its own.
    stage.publish(&[update(1, 1)]).await;
    daemon.logs("\"dead-lettered\"").await;
    let mut replay = orderwright(&stage.settings(&[]).await);
    let replay =
        replay.args(["dlq", "replay", "--run", "--output", "json"]).output().await.unwrap();
    assert!(replay.status.success(), "{replay:?}");
    stage.applied(1).await;
    assert!(daemon.stop().await.status.success());

    let lines = receiver.all().await;
    let spans = spans(&lines);
    let mut handled = spans.iter().filter(|span| span.name.starts_with("consume "));
    let (died, again) = (handled.next().unwrap(), handled.next().unwrap());
    assert_eq!(died.attribute("orderwright.outcome"), "Str(dead_lettered)", "{died:?}");
    assert_eq!(again.attribute("orderwright.outcome"), "Str(applied)", "{again:?}");
    assert_ne!(died.trace, again.trace);
    let first = (died.trace.clone(), died.id.clone());
    assert_eq!(again.links, [first], "{}", lines.join("\n"));
    assert!(died.links.is_empty(), "{died:?}");
}

fn with(headers: &[(&str, &str)]) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        let name = format!("orderwright-{name}");
        table.insert(name.as_str().into(), AMQPValue::LongString((*value).into()));
    }
    BasicProperties::default().with_headers(table)
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_is_given_up_with_its_channel_has_a_span_that_says_so() {
    let stage = Stage::new("aborted-span", &["--orders", "1", "--patch-latency", "2s"]).await;
    let Some(mut receiver) = Receiver::start().await else { return };
    let settings = [
        ("OTLP__ENDPOINT", receiver.endpoint.as_str()),
        ("OTLP__SAMPLE_RATIO", "1"),
        ("DISPATCH__SETTLE_WINDOW", "4s"),
    ];
    let (proxy, daemon) = wired(&stage, &settings).await;
    let root = daemon.admin().await;
    stage.channel().await.publish(traced("01"), update(1, 1).as_bytes()).await;
    shows(&root, |status| status["orders"][0]["state"] == "patch").await;
    proxy.cut();
    shows(&root, |status| status["counts"]["already_applied"] == 1).await;
    assert!(daemon.stop().await.status.success());

    let lines = receiver.all().await;
    let spans = spans(&lines);
    let of = |name: &str| spans.iter().find(|span| span.name.starts_with(name)).unwrap();
    assert_eq!(of("PATCH").attribute("error.type"), "Str(aborted)", "{spans:#?}");
    assert_eq!(of("consume ").attribute("orderwright.outcome"), "Str(given_back)", "{spans:#?}");
    let handled = spans.iter().filter(|span| span.name.starts_with("consume "));
    assert!(handled.clone().all(|span| span.trace == TRACE), "{spans:#?}");
    assert_eq!(handled.count(), 2, "{spans:#?}");
}

/// Asks for the release of an order, or so it says.
fn release(headers: &[(&str, &str)]) -> BasicProperties {
    with(headers).with_type("orderwright.release".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_no_order_has_a_span_and_its_replay_a_link_to_it() {
    let stage = Stage::new("refused-spans", &["--orders", "1"]).await;
    let Some(mut receiver) = Receiver::start().await else { return };
    let settings = [
        ("OTLP__ENDPOINT", receiver.endpoint.as_str()),
        ("OTLP__SAMPLE_RATIO", "1"),
        ("OTLP__METRICS_INTERVAL", "10m"),
    ];
    let daemon = stage.daemon(&settings).await;
    let raw = stage.channel().await;
    raw.publish(BasicProperties::default(), b"not JSON").await;
    let letter = stage.letters().await.next().await;
    assert_eq!(letter.reason(), "json_malformed");
    let died_in = letter.header("first-traceparent");
    raw.publish(with(&[("first-traceparent", &died_in)]), b"not JSON").await;
    raw.publish(release(&[]), b"").await;
    let head = uuid::Uuid::nil().to_string();
    let asked = [("order", "USMF/SO-000001"), ("release-head", &head), ("release-letters", "1")];
    raw.publish(release(&asked), b"").await;
    daemon.logs_times("\"dead-lettered\"", 3).await;
    daemon.logs("nothing to release").await;
    assert!(daemon.stop().await.status.success());

    let lines = receiver.all().await;
    let spans = spans(&lines);
    let handled: Vec<_> = spans.iter().filter(|span| span.name.starts_with("consume ")).collect();
    let of = |wanted: &str| -> Vec<&Seen> {
        let is_it = |span: &&&Seen| span.attribute("error.type") == format!("Str({wanted})");
        handled.iter().filter(is_it).copied().collect()
    };
    let [died, again] = of("json_malformed")[..] else { panic!("{handled:#?}") };
    let own = |span: &Seen| format!("00-{}-{}-01", span.trace, span.id);
    assert_eq!(own(died), died_in, "{died:?}");
    assert_eq!(died.attribute("orderwright.outcome"), "Str(dead_lettered)");
    assert_eq!(died.attribute("orderwright.order"), "", "nobody knows it");
    assert_eq!(again.links, [(died.trace.clone(), died.id.clone())], "{}", lines.join("\n"));
    assert_eq!(of("release_invalid").len(), 1, "{handled:#?}");
    let released: Vec<_> = handled
        .iter()
        .filter(|span| span.attribute("orderwright.outcome") == "Str(release)")
        .map(|span| span.attribute("orderwright.order"))
        .collect();
    assert_eq!(released, ["Str(USMF/SO-000001)"], "{handled:#?}");
    assert_eq!(handled.len(), 4, "{handled:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn collector_that_does_not_answer_costs_seconds_at_the_end_and_nothing_before() {
    let stage = Stage::new("mute-collector", &["--orders", "2"]).await;
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", mute.local_addr().unwrap());
    let settings = [("OTLP__ENDPOINT", endpoint.as_str()), ("OTLP__SAMPLE_RATIO", "1")];
    let daemon = stage.daemon(&settings).await;
    stage.publish(&[update(1, 1), update(2, 1)]).await;
    stage.applied(2).await;
    let begun = Instant::now();
    let ended = daemon.stop().await;
    assert!(ended.status.success(), "{ended:?}");
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    assert_eq!(ended.count("applied"), 2);
}
