//! The client against the simulator, over real sockets. Time is moved by hand where it matters.

mod batches;
mod csrf;
mod leave;
mod probe;
mod select;
mod sign_in;

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use secrecy::SecretString;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::config::{AuthEndpoint, AuthKind, Settings};
use crate::dispatch::{Leave, Trail};
use crate::order::{Changes, ETag, KeyValue, Literal, OrderKey, OrderUpdate};
use crate::protocol::{Answer, Fault, Reply, SignIn};
use crate::simulator::{self, Profile, tokens};

/// A simulator that ends with the test, and the settings of a client for it.
struct Service {
    url: String,
    settings: Settings,
    _serving: JoinSet<Result<(), simulator::Error>>,
    _stop_on_drop: DropGuard,
}

impl Service {
    async fn new(settings: simulator::Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let mut serving = JoinSet::new();
        let settings = simulator::Settings { orders: 3, ..settings };
        serving.spawn(simulator::serve(listener, None, settings, stop.clone()));
        let mut settings = Settings::default();
        settings.target.url = format!("{url}/data").parse().unwrap();
        Self { url, settings, _serving: serving, _stop_on_drop: stop.drop_guard() }
    }

    /// One that lets nobody in without a token for it.
    async fn guarded() -> Self {
        let tokens = tokens::Settings {
            client_secret: Some("hush".to_owned()),
            client_assertion: Some("first".to_owned()),
            ..tokens::Settings::default()
        };
        let mut service =
            Self::new(simulator::Settings { tokens: Some(tokens), ..Default::default() }).await;
        let auth = &mut service.settings.target.auth;
        auth.kind = AuthKind::ClientSecret;
        auth.tenant = "tenant".to_owned();
        auth.client_id = "client".to_owned();
        auth.client_secret = Some(SecretString::from("hush"));
        auth.authority = service.url.parse().unwrap();
        service
    }

    fn client(&self) -> Client {
        Client::new(&self.settings, "test").unwrap()
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.request(method, format!("{}/sim/{path}", self.url));
        let answer = request.body(body.to_string()).send().await.unwrap();
        let text = answer.error_for_status().unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    async fn fault(&self, name: &str, switch: Value) {
        self.ask(Method::PUT, "faults", json!({ name: switch })).await;
    }

    /// How often a token was asked for.
    async fn asked(&self) -> u64 {
        self.ask(Method::GET, "tokens", json!({})).await["asked"].as_u64().unwrap()
    }

    async fn patches(&self) -> u64 {
        self.ask(Method::GET, "ledger", json!({})).await["patches"].as_u64().unwrap()
    }
}

/// A service that answers what it is told to by the first line of a request, until it is dropped.
async fn tiny(
    answer: impl Fn(&str) -> (&'static str, &'static str) + Send + 'static,
) -> (Settings, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = Settings::default();
    let root = format!("http://{}/data", listener.local_addr().unwrap());
    settings.target.url = root.parse().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut first = String::new();
            let mut line = String::new();
            while stream.read_line(&mut line).await.unwrap_or(0) > 2 {
                if first.is_empty() {
                    first.clone_from(&line);
                }
                line.clear();
            }
            let (status, body) = answer(&first);
            let length = match status {
                "204 No Content" => String::new(),
                _ => format!("content-length: {}\r\n", body.len()),
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\
                 {length}\r\n{body}"
            );
            // A client that has left is no matter.
            let _gone = stream.write_all(answer.as_bytes()).await;
        }
    });
    (settings, serving)
}

/// One that answers everything alike.
async fn answering(status: &'static str, body: &'static str) -> (Settings, JoinSet<()>) {
    tiny(move |_| (status, body)).await
}

fn key(number: &str) -> OrderKey {
    let value = |property: &str, value: &str| KeyValue {
        property: property.into(),
        literal: Literal::Text(value.to_owned()),
    };
    OrderKey::new(vec![value("dataAreaId", "USMF"), value("SalesOrderNumber", number)], |_| false)
}

const TRAIL: Trail = Trail { walk: uuid::Uuid::nil(), attempt: uuid::Uuid::nil() };

/// A change of the delivery date, and of nothing else.
fn update(key: &OrderKey) -> OrderUpdate {
    let changes = RawValue::from_string(r#"{"DeliveryDate":"2025-02-01"}"#.to_owned()).unwrap();
    let (key, changes) = (key.clone(), Changes::new(changes));
    OrderUpdate { key, changes, sequence: None, expect: None, occurred_at: None, replay: None }
}

/// Lets time pass for the client, and for nothing that is on the wire.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

async fn get(client: &Client) -> Reply {
    client.get(&update(&key("SO-000001")), TRAIL, &Arc::new(Leave::granted())).await.unwrap()
}

fn status(reply: &Reply) -> u16 {
    reply.as_ref().map_or(0, |answer| answer.status)
}

async fn patch(client: &Client, etag: &ETag, day: u8) -> Reply {
    let body = json!({"DeliveryDate": format!("2025-02-{day:02}")}).to_string();
    let leave = Arc::new(Leave::granted());
    client.patch(&key("SO-000001"), etag, &body, TRAIL, &leave).await.unwrap()
}

async fn etag(client: &Client) -> ETag {
    get(client).await.unwrap().etag.unwrap()
}

#[tokio::test]
async fn every_profile_reads_and_writes_its_product() {
    use crate::config::Sources;
    for (profile, product, csrf) in [
        ("fo", Profile::Fo, false),
        ("dataverse", Profile::Dataverse, false),
        ("bc", Profile::Bc, false),
        ("sap", Profile::Strict, true),
    ] {
        let simulator = simulator::Settings { profile: product, ..Default::default() };
        let service = Service::new(simulator).await;
        // The simulator has one entity set, whatever it imitates.
        let environment = [
            ("TARGET__PROFILE", profile),
            ("TARGET__URL", &format!("{}/data", service.url)),
            ("ORDER__ENTITY_SET", "SalesOrderHeadersV2"),
            ("ORDER__KEY", "dataAreaId,SalesOrderNumber"),
            ("ORDER__KEY_FOLD_CASE", "dataAreaId"),
        ];
        let pair = |(name, value): (&str, &str)| (format!("ORDERWRIGHT__{name}"), value.to_owned());
        let environment = environment.map(pair).into();
        let loaded = Settings::load(&Sources { file: None, environment }).unwrap();
        assert_eq!(loaded.settings.target.csrf, csrf);
        let client = Client::new(&loaded.settings, "test").unwrap();
        let tag = etag(&client).await;
        let written: Answer = patch(&client, &tag, 5).await.unwrap();
        assert!([200, 204].contains(&written.status), "{profile}: {written:?}");
        let stale = patch(&client, &tag, 6).await.unwrap();
        assert!([409, 412].contains(&stale.status), "{profile}: {stale:?}");
    }
}
