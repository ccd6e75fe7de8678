//! What a collector gets: a receiver that we did not write prints what it understood.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::daemon::{PATIENCE, orderwright};
use crate::stage::{Stage, message, update};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/local/otlp.sh");

pub(crate) const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PUBLISHER: &str = "b7ad6b7169203331";

/// A running receiver. Killed when dropped.
pub(crate) struct Receiver {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) endpoint: String,
}

/// A span, as the receiver prints it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    trace: String,
    parent: String,
    pub(crate) id: String,
    pub(crate) name: String,
    kind: String,
    attributes: Vec<(String, String)>,
    /// Trace and span of each.
    links: Vec<(String, String)>,
}

impl Seen {
    fn attribute(&self, name: &str) -> &str {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let agent = Command::new("bash").arg(SCRIPT).output().await.unwrap();
        let why = String::from_utf8_lossy(&agent.stderr).into_owned();
        assert!(agent.status.success(), "no OTLP receiver can be had: {why}");
        let agent = String::from_utf8(agent.stdout).unwrap();
        let (http, grpc) = (free_port().await, free_port().await);
        let mut child = Command::new(agent.trim())
            .args(["start", "--exporter", "blackhole", "--debug-log-verbosity", "detailed"])
            .args(["--debug-log", "traces", "--debug-log", "metrics"])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut receiver =
            Self { _child: child, lines, endpoint: format!("http://127.0.0.1:{http}") };
        receiver.until("Starting Rotel").await;
        receiver
    }

    /// What it prints, up to a line that holds this.
    async fn until(&mut self, part: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let reading = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                let is_it = line.contains(part);
                seen.push(line);
                if is_it {
                    return;
                }
            }
            panic!("the receiver ended without saying {part:?}");
        };
        timeout(PATIENCE, reading).await.unwrap();
        seen
    }

    /// All that it has been sent so far. It prints in the order in which it is sent, so a span of our own
    /// is the end.
    pub(crate) async fn all(&mut self) -> Vec<String> {
        let span = json!({
            "traceId": "ffffffffffffffffffffffffffffffff", "spanId": "ffffffffffffffff", "name": "end",
            "kind": 1, "startTimeUnixNano": "1", "endTimeUnixNano": "2",
            "attributes": [{"key": "end.of.test", "value": {"stringValue": "yes"}}],
        });
        let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]});
        let request = reqwest::Client::new().post(format!("{}/v1/traces", self.endpoint));
        let request = request.header("content-type", "application/json").body(body.to_string());
        assert!(request.send().await.unwrap().status().is_success());
        self.until("end.of.test").await
    }
}

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

pub(crate) fn spans(lines: &[String]) -> Vec<Seen> {
    let mut spans = Vec::<Seen>::new();
    for line in lines {
        if line.starts_with("Span #") {
            spans.push(Seen::default());
        }
        let Some(span) = spans.last_mut() else { continue };
        if line.contains("SpanLink #") {
            span.links.push(<(String, String)>::default());
        }
        if let Some((name, value)) = line.trim().trim_start_matches("-> ").split_once(':') {
            let (name, value) = (name.trim(), value.trim().to_owned());
            match (name, span.links.last_mut()) {
                ("Trace ID", Some((trace, _))) => *trace = value,
                ("ID", Some((_, id))) => *id = value,
                ("Trace ID", None) => span.trace = value,
                ("Parent ID", _) => span.parent = value,
                ("ID", None) => span.id = value,
                ("Name", _) if span.name.is_empty() => span.name = value,
                ("Kind", _) => span.kind = value,
                _ => span.attributes.push((name.to_owned(), value)),
            }
        }
    }
    spans
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
    let mut receiver = Receiver::start().await;
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
    let mut receiver = Receiver::start().await;
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
