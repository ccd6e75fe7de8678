//! An OTLP receiver that we did not write, and what it prints.

use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::daemon::PATIENCE;
use crate::skip::tool;

/// A running receiver. Killed when dropped.
pub(crate) struct Receiver {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) endpoint: String,
}

/// A span, as the receiver prints it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) trace: String,
    pub(crate) parent: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    attributes: Vec<(String, String)>,
    /// Trace and span of each.
    pub(crate) links: Vec<(String, String)>,
}

impl Seen {
    pub(crate) fn attribute(&self, name: &str) -> &str {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

impl Receiver {
    /// `None` where there is none to be had.
    pub(crate) async fn start() -> Option<Self> {
        let agent = tool("otlp.sh").await?;
        let (http, grpc) = (free_port().await, free_port().await);
        let mut child = Command::new(agent)
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
        Some(receiver)
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
