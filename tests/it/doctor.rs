//! What the management API of a real broker shows: found by `topology check`, and by each start.

use std::collections::BTreeSet;
use std::net::TcpListener;

use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::admin::{json_of, shows};
use crate::broker;
use crate::daemon::{Daemon, PATIENCE, orderwright};
use crate::reshard::Reshard;
use crate::stage::{Raw, Stage};

/// A stage whose settings name the management API. Policies and users are named after its prefix.
struct Clinic {
    stage: Stage,
    raw: Raw,
    management: String,
    client: reqwest::Client,
}

type Settings = Vec<(String, String)>;

/// The management API. `None`, with a word, where the broker was given to us without one.
#[expect(clippy::print_stderr, reason = "a test that proves nothing here must say so")]
pub(crate) async fn management() -> Option<String> {
    let management = broker::shared().await.management().map(str::to_owned);
    if management.is_none() {
        eprintln!("skipped: this broker has no management API");
    }
    management
}

impl Clinic {
    /// `None`, with a word, where the broker was given to us without a management API.
    async fn open(name: &str) -> Option<Self> {
        let management = management().await?;
        let stage = Stage::new(name, &["--orders", "1"]).await;
        let raw = stage.channel().await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Some(Self { stage, raw, management, client })
    }

    async fn settings(&self, more: &[(&str, &str)]) -> Settings {
        let api = ("BROKER__MANAGEMENT_URL", self.management.as_str());
        self.stage.settings(&[&[api][..], more].concat()).await
    }

    async fn ask(&self, method: reqwest::Method, path: &str, body: &Value) {
        let request = self.client.request(method, format!("{}/api/{path}", self.management));
        let request = request.basic_auth("guest", Some("guest"));
        let request = request.header("content-type", "application/json").body(body.to_string());
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    }

    /// All objects of ours in one list of the broker's own definitions, without what is not ours to say.
    async fn defined(&self, kind: &str) -> BTreeSet<String> {
        let path = format!("{}/api/definitions/%2f", self.management);
        let answer = self.client.get(path).basic_auth("guest", Some("guest")).send().await.unwrap();
        let all: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        plain(&all[kind], &format!("{}.", self.stage.prefix()))
    }

    async fn put(&self, path: &str, body: Value) {
        self.ask(reqwest::Method::PUT, path, &body).await;
    }

    async fn delete(&self, path: &str) {
        self.ask(reqwest::Method::DELETE, path, &json!({})).await;
    }

    /// A policy over our queues whose names go on like this.
    async fn policy(&self, kind: &str, rest: &str, definition: Value) {
        let prefix = self.stage.prefix();
        let pattern = format!("^{prefix}\\.{rest}");
        let body = json!({"pattern": pattern, "definition": definition, "apply-to": "queues"});
        self.put(&format!("{kind}/%2f/{prefix}"), body).await;
    }

    async fn bind(&self, queue: &str, exchange: &str) {
        let (queue, exchange) = self.names(queue, exchange);
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
        self.raw.channel.queue_bind(queue, exchange, "".into(), options, none).await.unwrap();
    }

    async fn unbind(&self, queue: &str, exchange: &str) {
        let (queue, exchange) = self.names(queue, exchange);
        let none = FieldTable::default();
        let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
        self.raw.channel.queue_unbind(queue, exchange, "".into(), none).await.unwrap();
    }

    fn names(&self, queue: &str, exchange: &str) -> (String, String) {
        let prefix = self.stage.prefix();
        (format!("{prefix}.{queue}"), format!("{prefix}.{exchange}"))
    }
}

/// What makes an object what it is, of those whose name begins so.
fn plain(list: &Value, prefix: &str) -> BTreeSet<String> {
    let one = |object: &Value| {
        let keys =
            ["name", "source", "destination", "destination_type", "routing_key", "arguments"];
        let name = object["name"].as_str().or(object["source"].as_str()).unwrap();
        let part: Vec<_> = keys.iter().map(|key| object[key].clone()).collect();
        name.starts_with(prefix).then(|| json!(part).to_string())
    };
    list.as_array().unwrap().iter().filter_map(one).collect()
}

/// What `topology check` says, and its exit code.
async fn check(settings: &Settings) -> (Option<i32>, Vec<Value>) {
    let arguments = ["topology", "check", "--output", "json"];
    let output = orderwright(settings).args(arguments).output().await.unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let found = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code(), found)
}

/// Checks until the broker shows it: its lists lag behind by some seconds.
async fn check_until(
    settings: &Settings,
    wanted: impl Fn(&[Value]) -> bool,
) -> (Option<i32>, Vec<Value>) {
    let reached = async {
        loop {
            let checked = check(settings).await;
            if wanted(&checked.1) {
                return checked;
            }
        }
    };
    match timeout(PATIENCE, reached).await {
        Ok(checked) => checked,
        Err(_elapsed) => panic!("not found: {:?}", check(settings).await),
    }
}

fn of<'a>(found: &'a [Value], state: &str) -> Option<&'a Value> {
    found.iter().find(|it| it["state"] == state)
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_that_lose_messages_refuse_the_start_with_all_reasons_at_once() {
    let Some(clinic) = Clinic::open("policies").await else { return };
    let settings = clinic.settings(&[]).await;
    clinic.stage.daemon(&[]).await.stop().await;
    let (code, _) = check_until(&settings, |found| of(found, "policies_unseen").is_none()).await;
    assert_eq!(code, Some(0));

    let definition = json!({"message-ttl": 60_000, "delivery-limit": 5});
    clinic.policy("policies", "shard", definition).await;
    clinic.policy("operator-policies", "dead-letters", json!({"max-length": 10})).await;
    let seen = |state: &'static str, object: &'static str| {
        move |it: &Value| it["state"] == state && it["name"].as_str().unwrap().ends_with(object)
    };
    let (code, found) = check_until(&settings, |found| {
        found.iter().any(seen("loses_messages", ".shard.g1.003"))
            && found.iter().any(seen("delivery_limit", ".shard.g1.003"))
            && found.iter().any(seen("loses_messages", ".dead-letters"))
    })
    .await;
    assert_eq!(code, Some(78));
    let limit = of(&found, "delivery_limit").unwrap();
    assert!(limit["what"].as_str().unwrap().contains("in force is 5"), "{limit}");
    assert!(limit["fix"].as_str().unwrap().contains(clinic.stage.prefix()), "{limit}");

    let refused = Daemon::spawn(&settings).ended().await;
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    for reason in ["message-ttl is 60000 ms", "delivery limit in force is 5", "max-length is 10"] {
        assert!(refused.log.contains(reason), "{reason}: {}", refused.log);
    }

    clinic.delete(&format!("policies/%2f/{}", clinic.stage.prefix())).await;
    clinic.delete(&format!("operator-policies/%2f/{}", clinic.stage.prefix())).await;
    let cured = |found: &[Value]| found.iter().all(|it| it["severity"] != "refuse");
    let (code, _) = check_until(&settings, cured).await;
    assert_eq!(code, Some(0));
    Daemon::start(&settings).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_without_single_active_consumer_is_found_where_amqp_may_not_compare() {
    let Some(clinic) = Clinic::open("shape").await else { return };
    let prefix = clinic.stage.prefix();
    // Not of ours: a quorum queue, but not one consumer at a time.
    let (queue, _) = clinic.names("shard.g1.001", "");
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    clinic.raw.channel.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();
    let settings = clinic.settings(&[]).await;
    let declared = orderwright(&settings).args(["topology", "declare"]).output().await.unwrap();
    assert_eq!(declared.status.code(), Some(78), "{declared:?}");

    // A user who may not configure has nothing compared over AMQP, and could start.
    clinic.put(&format!("users/{prefix}"), json!({"password": "secret-7", "tags": ""})).await;
    let read = format!("^{prefix}\\.(shard\\.g1\\.00[012]|peers|generations)$");
    let granted = json!({"configure": "", "write": ".*", "read": read});
    clinic.put(&format!("permissions/%2f/{prefix}"), granted).await;
    let url = clinic.stage.url().await;
    let url = url.replace("guest:guest", &format!("{prefix}:secret-7"));
    let api = clinic.management.replace("://", "://guest:guest@");
    let limited = [("BROKER__URL", url.as_str()), ("TOPOLOGY__DECLARE", "false")];
    let seeing = [&limited[..], &[("BROKER__MANAGEMENT_URL", api.as_str())]].concat();

    let (code, found) = check(&clinic.settings(&seeing).await).await;
    assert_eq!(code, Some(78), "{found:?}");
    let not_single = of(&found, "not_single_active").unwrap();
    assert_eq!(not_single["name"], queue.as_str());
    assert!(of(&found, "binding_missing").is_some(), "{found:?}");
    let denied = of(&found, "permission").unwrap();
    let what = format!("may not read {prefix}.shard.g1.003: ");
    assert!(denied["what"].as_str().unwrap().starts_with(&what), "{denied}");
    let refused = Daemon::spawn(&clinic.settings(&seeing).await).ended().await;
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    assert!(refused.log.contains("two pods would work on one order"), "{}", refused.log);
    assert!(!refused.log.contains("secret-7"), "{}", refused.log);

    // Without the management API, or with a user whom it does not let in: said, and not refused.
    let (code, found) = check(&clinic.stage.settings(&limited).await).await;
    assert_eq!(code, Some(0), "{found:?}");
    assert!(of(&found, "not_configured").is_some() && of(&found, "unverified").is_some());
    let (code, found) = check(&clinic.settings(&limited).await).await;
    assert_eq!(code, Some(0), "{found:?}");
    let unseen = of(&found, "not_looked_at").unwrap();
    assert!(unseen["what"].as_str().unwrap().contains("status 401"), "{unseen}");
    clinic.delete(&format!("users/{prefix}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn second_way_into_the_shards_and_foreign_consumers_are_found() {
    let Some(clinic) = Clinic::open("doubled").await else { return };
    let settings = clinic.settings(&[]).await;
    let daemon = Daemon::start(&settings).await;
    // As it is left where one shard became several.
    clinic.bind("shard.g1.000", "updates").await;
    let (code, found) = check(&settings).await;
    assert_eq!(code, Some(78), "{found:?}");
    let doubled = of(&found, "doubles").unwrap();
    let (queue, exchange) = clinic.names("shard.g1.000", "updates");
    assert_eq!(doubled["name"], format!("{exchange} -> {queue}"));
    let refused = Daemon::spawn(&settings).ended().await;
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    assert!(refused.log.contains("each is applied twice"), "{}", refused.log);
    clinic.unbind("shard.g1.000", "updates").await;

    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let consuming =
        clinic.raw.channel.basic_consume(queue.as_str().into(), "theirs".into(), options, none);
    let _theirs = consuming.await.unwrap();
    let foreign = |found: &[Value]| of(found, "foreign_consumer").is_some();
    let (code, found) = check_until(&settings, foreign).await;
    assert_eq!(code, Some(0), "{found:?}");
    let foreign: Vec<_> = found.iter().filter(|it| it["state"] == "foreign_consumer").collect();
    assert_eq!(foreign.len(), 1, "the daemon's own are not among them: {foreign:?}");
    assert_eq!(foreign[0]["name"], queue.as_str());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn printed_objects_are_those_that_there_are_also_after_a_reshard() {
    let Some(clinic) = Clinic::open("printed").await else { return };
    let settings = clinic.settings(&[]).await;
    let daemon = Daemon::start(&settings).await;
    Reshard::start(&clinic.stage, "6", &["--linger", "0s"]).await.done().await;
    daemon.stop().await;

    let printed = |more: &[&str]| {
        let mut command = orderwright(&settings);
        command.args(["topology", "print", "--format", "definitions"]).args(more);
        async move {
            let output = command.output().await.unwrap();
            assert!(output.status.success(), "{output:?}");
            serde_json::from_slice::<Value>(&output.stdout).unwrap()
        }
    };
    let second = printed(&["--generation", "2", "--shards", "6"]).await;
    for kind in ["exchanges", "queues", "bindings"] {
        assert_eq!(plain(&second[kind], ""), clinic.defined(kind).await, "{kind}");
    }
    let first = printed(&[]).await;
    assert_ne!(plain(&first["queues"], ""), plain(&second["queues"], ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_that_is_taken_from_and_drops_what_comes_back_refuses_the_start() {
    let Some(clinic) = Clinic::open("intake").await else { return };
    let (queue, letters) = clinic.names("erp", "dead-letters");
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(5));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    clinic.raw.channel.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();
    clinic.stage.daemon(&[]).await.stop().await;
    let settings = clinic.settings(&[("TOPOLOGY__INTAKE", &queue)]).await;

    let refused = |found: &[Value]| found.iter().any(|it| it["severity"] == "refuse");
    let (code, found) = check_until(&settings, refused).await;
    assert_eq!(code, Some(78));
    let limit = of(&found, "intake_delivery_limit").unwrap();
    assert_eq!(limit["name"], queue.as_str());
    assert!(limit["fix"].as_str().unwrap().contains(&letters), "{limit}");
    let ended = Daemon::spawn(&settings).ended().await;
    assert_eq!(ended.status.code(), Some(78), "{ended:?}");
    assert!(ended.log.contains("the broker drops it"), "{}", ended.log);

    // As the fix says.
    clinic.policy("policies", "erp", json!({"dead-letter-exchange": letters})).await;
    let (code, found) = check_until(&settings, |found| !refused(found)).await;
    assert_eq!(code, Some(0), "{found:?}");
    let limit = of(&found, "intake_delivery_limit").unwrap();
    assert!(limit["what"].as_str().unwrap().contains("past its order"), "{limit}");
    Daemon::start(&settings).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn management_api_that_does_not_answer_is_told_and_stops_no_start() {
    let stage = Stage::new("silent", &["--orders", "1"]).await;
    // Connections wait in its backlog, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    for (address, words) in [("http://127.0.0.1:1", "refused"), (&silent, "timed out")] {
        let more = [("BROKER__MANAGEMENT_URL", address), ("BROKER__CONNECT_TIMEOUT", "2s")];
        let daemon = Daemon::start(&stage.settings(&more).await).await;
        let ended = daemon.stop().await;
        let line = ended.log.lines().find(|line| line.contains("policies, bindings, consumers"));
        let line = line.unwrap_or_else(|| panic!("not told: {}", ended.log));
        assert!(line.contains("WARN") && line.contains("unreachable"), "{line}");
        assert!(line.contains(words), "{line}");
    }
}

/// What is missing changes under a daemon that runs: it sees that, and that it is mended.
#[tokio::test(flavor = "multi_thread")]
async fn lost_binding_makes_a_running_pod_unready_until_it_is_there_again() {
    let Some(clinic) = Clinic::open("lost-binding").await else { return };
    let settings = clinic
        .settings(&[("TOPOLOGY__DECLARE", "false"), ("TOPOLOGY__CHECK_INTERVAL", "1s")])
        .await;
    let declared = orderwright(&settings).args(["topology", "declare"]).output().await.unwrap();
    assert!(declared.status.success(), "{declared:?}");
    let daemon = Daemon::start(&settings).await;
    let root = daemon.admin().await;
    assert_eq!(json_of(&root, "/readyz").await["ok"], true);
    clinic.unbind("dead-letters", "dead-letters").await;
    let status = shows(&root, |status| status["ready"]["ok"] == false).await;
    let because = status["ready"]["because"][0].as_str().unwrap();
    assert!(because.starts_with("binding") && because.contains("dead-letters"), "{because}");
    assert!(because.contains("run `orderwright topology declare`"), "{because}");
    let page = reqwest::get(format!("{root}/")).await.unwrap().text().await.unwrap();
    assert!(page.contains("messages go nowhere"), "{page}");
    let told = daemon.logs("not as it should be: missing").await;
    assert!(told.contains("\"level\":\"ERROR\"") && told.contains("binding_missing"), "{told}");
    clinic.bind("dead-letters", "dead-letters").await;
    shows(&root, |status| status["ready"]["ok"] == true).await;
    daemon.logs("the broker's objects are as they should be again").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.log.matches("not as it should be: missing").count(), 1, "{}", ended.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_binding_is_made_again_where_declaring_is_ours() {
    let Some(clinic) = Clinic::open("bound-again").await else { return };
    let settings = clinic.settings(&[("TOPOLOGY__CHECK_INTERVAL", "1s")]).await;
    let daemon = Daemon::start(&settings).await;
    let mut letters = clinic.stage.letters().await;
    clinic.unbind("dead-letters", "dead-letters").await;
    daemon.logs("declaring the broker's objects again").await;
    clinic.raw.publish(lapin::BasicProperties::default(), b"not JSON").await;
    assert_eq!(letters.next().await.reason(), "json_malformed");
    daemon.stop().await;
}

/// What AMQP shows needs no management API.
#[tokio::test(flavor = "multi_thread")]
async fn queue_that_is_gone_makes_a_running_pod_unready_without_a_management_api() {
    let stage = Stage::new("gone-unroutable", &["--orders", "1"]).await;
    let settings = stage.settings(&[("TOPOLOGY__CHECK_INTERVAL", "1s")]).await;
    let declared = orderwright(&settings).args(["topology", "declare"]).output().await.unwrap();
    assert!(declared.status.success(), "{declared:?}");
    let daemon =
        stage.daemon(&[("TOPOLOGY__DECLARE", "false"), ("TOPOLOGY__CHECK_INTERVAL", "1s")]).await;
    let root = daemon.admin().await;
    stage.channel().await.delete_queue("unroutable").await;
    let status = shows(&root, |status| status["ready"]["ok"] == false).await;
    let because = status["ready"]["because"][0].as_str().unwrap();
    assert!(
        because.ends_with(".unroutable: missing: run `orderwright topology declare`"),
        "{status}"
    );
    daemon.stop().await;
}
