//! The client against the simulator, over real sockets. Time is moved by hand where it matters.

mod batches;
mod probe;

use std::time::Duration;

use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::config::{AuthEndpoint, AuthKind, Settings};
use crate::dispatch::Trail;
use crate::order::{ETag, KeyValue, Literal, OrderKey};
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

fn key(number: &str) -> OrderKey {
    let value = |property: &str, value: &str| KeyValue {
        property: property.into(),
        literal: Literal::Text(value.to_owned()),
    };
    OrderKey::new(vec![value("dataAreaId", "USMF"), value("SalesOrderNumber", number)], |_| false)
}

const TRAIL: Trail = Trail { walk: uuid::Uuid::nil(), attempt: uuid::Uuid::nil() };

async fn get(client: &Client) -> Reply {
    client.get(&key("SO-000001"), TRAIL).await
}

fn status(reply: &Reply) -> u16 {
    reply.as_ref().map_or(0, |answer| answer.status)
}

/// Twenty GETs at once.
async fn twenty(client: &Client) -> Vec<Reply> {
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let client = client.clone();
        tasks.spawn(async move { get(&client).await });
    }
    tasks.join_all().await
}

/// Lets time pass for the client, and for nothing that is on the wire.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

async fn patch(client: &Client, etag: &ETag, day: u8) -> Reply {
    let body = json!({"DeliveryDate": format!("2025-02-{day:02}")}).to_string();
    client.patch(&key("SO-000001"), etag, &body, TRAIL, || true).await
}

async fn etag(client: &Client) -> ETag {
    get(client).await.unwrap().etag.unwrap()
}

#[tokio::test]
async fn one_token_serves_all_requests_and_is_renewed_once_before_its_end() {
    let service = Service::guarded().await;
    let client = service.client();
    assert!(twenty(&client).await.iter().all(|reply| status(reply) == 200));
    assert_eq!(service.asked().await, 1);
    // 3599 s of life, renewed from 299 s to 240 s before its end.
    pass(Duration::from_secs(3_250)).await;
    assert_eq!(status(&get(&client).await), 200);
    assert_eq!(service.asked().await, 1);
    pass(Duration::from_mins(2)).await;
    assert!(twenty(&client).await.iter().all(|reply| status(reply) == 200));
    assert_eq!(service.asked().await, 2);
}

#[tokio::test]
async fn token_that_is_refused_is_replaced_once_for_all_who_used_it_and_the_request_sent_again() {
    let service = Service::guarded().await;
    let client = service.client();
    let tag = etag(&client).await;
    service.ask(Method::DELETE, "tokens", json!({})).await;
    assert_eq!(status(&patch(&client, &tag, 3).await), 204, "with the same ETag");
    assert_eq!(service.asked().await, 2);
    service.ask(Method::DELETE, "tokens", json!({})).await;
    assert!(twenty(&client).await.iter().all(|reply| status(reply) == 200));
    assert_eq!(service.asked().await, 3);
}

#[tokio::test]
async fn second_401_in_a_row_is_told() {
    let service = Service::guarded().await;
    let client = service.client();
    service.fault("f8_unauthorized", json!(1)).await;
    assert_eq!(status(&get(&client).await), 401);
    assert_eq!(service.asked().await, 2);
}

#[tokio::test]
async fn fixed_token_is_sent_as_it_is_and_a_401_is_told_at_once() {
    let token = Some("fixed".to_owned());
    let simulator = simulator::Settings { bearer_token: token, ..Default::default() };
    let mut service = Service::new(simulator).await;
    assert_eq!(status(&get(&service.client()).await), 401);
    service.settings.target.bearer_token = Some(SecretString::from("fixed"));
    assert_eq!(status(&get(&service.client()).await), 200);
}

#[tokio::test]
async fn refusal_of_the_token_endpoint_is_told_to_all_and_asked_for_again_after_a_while() {
    let mut service = Service::guarded().await;
    service.settings.target.auth.client_secret = Some(SecretString::from("wrong"));
    let client = service.client();
    let refused = |reply: &Reply| matches!(reply, Err(Fault::SignIn(SignIn::Config)));
    assert!(twenty(&client).await.iter().all(refused));
    assert_eq!(service.asked().await, 1);
    // Mended at the endpoint.
    service.ask(Method::PUT, "tokens", json!({"client_secret": "wrong"})).await;
    assert!(refused(&get(&client).await));
    pass(Duration::from_secs(11)).await;
    assert_eq!(status(&get(&client).await), 200);
}

#[tokio::test]
async fn trouble_of_the_token_endpoint_is_told_apart_and_its_retry_after_is_kept_to() {
    let service = Service::guarded().await;
    let client = service.client();
    let troubled = |reply: &Reply| matches!(reply, Err(Fault::SignIn(SignIn::Unavailable)));
    for (fault, switch) in [
        ("f22_token_error", json!({"next": 1})),
        ("f22_token_throttled", json!({"next": 1, "retry_after": "7"})),
    ] {
        service.fault(fault, switch).await;
        let asked = service.asked().await;
        assert!(troubled(&get(&client).await), "{fault}");
        assert!(troubled(&get(&client).await), "{fault}");
        assert_eq!(service.asked().await, asked + 1, "{fault}");
        pass(Duration::from_secs(2)).await;
        if fault == "f22_token_throttled" {
            assert!(troubled(&get(&client).await), "before Retry-After is over");
            pass(Duration::from_secs(6)).await;
        }
        assert_eq!(status(&get(&client).await), 200, "{fault}");
        service.ask(Method::DELETE, "tokens", json!({})).await;
        // So that the next one must ask: the old token is dead, and given up with its 401.
        service.fault("f22_token_error", json!({"next": 1})).await;
        assert!(troubled(&get(&client).await), "{fault}");
        pass(Duration::from_secs(2)).await;
    }
}

#[tokio::test]
async fn slow_token_endpoint_is_given_up_in_time() {
    let mut service = Service::guarded().await;
    service.settings.target.auth.timeout = Duration::from_millis(200);
    service.fault("f22_token_slow", json!({"next": 1, "for": "1m"})).await;
    let client = service.client();
    let late = get(&client).await;
    assert!(matches!(late, Err(Fault::SignIn(SignIn::Unavailable))), "{late:?}");
}

#[tokio::test]
async fn old_token_is_used_while_no_new_one_can_be_had() {
    let service = Service::guarded().await;
    let client = service.client();
    assert_eq!(status(&get(&client).await), 200);
    service.fault("f22_token_error", json!(1)).await;
    pass(Duration::from_secs(3_400)).await;
    assert!(twenty(&client).await.iter().all(|reply| status(reply) == 200));
    assert_eq!(service.asked().await, 2, "one asked in vain, the others were told");
    pass(Duration::from_mins(5)).await;
    let ended = get(&client).await;
    assert!(matches!(ended, Err(Fault::SignIn(SignIn::Unavailable))), "{ended:?}");
}

#[tokio::test]
async fn life_that_is_text_or_untold_is_understood_with_either_endpoint() {
    let mut service = Service::guarded().await;
    for (endpoint, fault, due) in [
        (AuthEndpoint::V2, "f22_expires_in_text", 3_400),
        (AuthEndpoint::V2, "f22_expires_in_missing", 400),
        (AuthEndpoint::V1, "f22_expires_in_text", 3_400),
    ] {
        service.settings.target.auth.endpoint = endpoint;
        service.fault(fault, json!(1)).await;
        let (client, asked) = (service.client(), service.asked().await);
        assert_eq!(status(&get(&client).await), 200);
        pass(Duration::from_secs(due / 2 - 60)).await;
        assert_eq!(status(&get(&client).await), 200);
        assert_eq!(service.asked().await, asked + 1, "{endpoint:?} {fault}");
        pass(Duration::from_secs(due / 2 + 60)).await;
        assert_eq!(status(&get(&client).await), 200);
        assert_eq!(service.asked().await, asked + 2, "{endpoint:?} {fault}");
        service.ask(Method::DELETE, "faults", json!({})).await;
    }
}

#[tokio::test]
async fn federated_token_is_read_anew_for_every_token() {
    let mut service = Service::guarded().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let auth = &mut service.settings.target.auth;
    auth.kind = AuthKind::WorkloadIdentity;
    auth.federated_token_file = file.to_str().unwrap().to_owned();
    let client = service.client();
    let refused = |reply: &Reply| matches!(reply, Err(Fault::SignIn(SignIn::Config)));
    assert!(refused(&get(&client).await), "there is no file");
    assert_eq!(service.asked().await, 0);
    std::fs::write(&file, "first\n").unwrap();
    pass(Duration::from_secs(11)).await;
    assert_eq!(status(&get(&client).await), 200);
    // The cluster replaces it, and the endpoint takes the new one alone.
    std::fs::write(&file, "second").unwrap();
    service.ask(Method::PUT, "tokens", json!({"client_assertion": "second"})).await;
    service.ask(Method::DELETE, "tokens", json!({})).await;
    assert_eq!(status(&get(&client).await), 200);
    assert_eq!(service.asked().await, 2);
}

async fn strict() -> Service {
    let simulator = simulator::Settings { profile: Profile::Strict, ..Default::default() };
    let mut service = Service::new(simulator).await;
    service.settings.target.csrf = true;
    service
}

#[tokio::test]
async fn csrf_token_is_fetched_once_and_again_when_it_is_refused() {
    let service = strict().await;
    let client = service.client();
    for day in 1..=3 {
        let tag = etag(&client).await;
        assert_eq!(status(&patch(&client, &tag, day).await), 204);
    }
    assert_eq!(service.patches().await, 3, "none was refused");
    service.ask(Method::DELETE, "sessions", json!({})).await;
    let tag = etag(&client).await;
    assert_eq!(status(&patch(&client, &tag, 4).await), 204);
    assert_eq!(service.patches().await, 5, "one was refused and sent again");
}

#[tokio::test]
async fn service_that_wants_a_csrf_token_and_is_not_given_one_refuses_the_write() {
    let mut service = strict().await;
    service.settings.target.csrf = false;
    let client = service.client();
    let tag = etag(&client).await;
    assert_eq!(status(&patch(&client, &tag, 1).await), 403);
    // One that gives none, though it is asked for: nothing is written without.
    let mut service = Service::new(simulator::Settings::default()).await;
    service.settings.target.csrf = true;
    let client = service.client();
    let tag = etag(&client).await;
    assert!(matches!(patch(&client, &tag, 1).await, Err(Fault::Csrf)));
    assert_eq!(service.patches().await, 0);
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
