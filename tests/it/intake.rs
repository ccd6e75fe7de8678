//! Queues of somebody else's that updates are taken from: what keeps their order, and what does not.

use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;

use tokio::time::timeout;

use crate::daemon::{Daemon, PATIENCE, orderwright};
use crate::doctor::management;
use crate::proxy::Way;
use crate::stage::{Raw, Stage, update, updates};
use crate::wire::wired;

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// Somebody else's queue, and a way to publish to it.
pub(crate) struct Theirs {
    raw: Raw,
    pub(crate) queue: String,
}

impl Theirs {
    async fn new(stage: &Stage, arguments: &[(&str, AMQPValue)]) -> Self {
        let theirs = Self { raw: stage.channel().await, queue: format!("{}-erp", stage.prefix()) };
        theirs.declare(arguments).await;
        theirs
    }

    /// A quorum queue that one consumer at a time takes from.
    pub(crate) async fn single(stage: &Stage) -> Self {
        let single = ("x-single-active-consumer", AMQPValue::Boolean(true));
        let limit = ("x-delivery-limit", AMQPValue::LongInt(1000));
        Self::new(stage, &[("x-queue-type", text("quorum")), single, limit]).await
    }

    async fn declare(&self, arguments: &[(&str, AMQPValue)]) {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let queue = self.queue.as_str().into();
        self.raw.channel.queue_declare(queue, options, table).await.unwrap();
    }

    pub(crate) async fn publish(&self, bodies: &[String]) {
        let mut confirms = Vec::new();
        for body in bodies {
            let (options, properties) =
                (BasicPublishOptions::default(), BasicProperties::default());
            let (exchange, key) = ("".into(), self.queue.as_str().into());
            let channel = &self.raw.channel;
            let sent = channel.basic_publish(exchange, key, options, body.as_bytes(), properties);
            confirms.push(sent.await.unwrap());
        }
        for confirm in confirms {
            assert!(confirm.await.unwrap().is_ack());
        }
    }
}

async fn nothing_went_wrong(stage: &Stage) {
    let ledger = stage.simulator.read(0).await.unwrap();
    let wrong = (ledger.overlaps, ledger.out_of_order, ledger.applied_twice);
    assert_eq!(wrong, (0, 0, 0), "{}", stage.simulator.bad_orders().await.unwrap());
}

const LATENCY: [&str; 6] =
    ["--orders", "200", "--get-latency", "2ms..10ms", "--patch-latency", "5ms..20ms"];

#[tokio::test(flavor = "multi_thread")]
async fn queue_of_somebody_elses_is_an_intake_and_its_dead_letters_tell_where_they_came_from() {
    let stage = Stage::new("intake", &LATENCY).await;
    let theirs = Theirs::new(&stage, &[("x-queue-type", text("quorum"))]).await;
    let queue = theirs.queue.as_str();
    let daemon = stage.daemon(&[("TOPOLOGY__INTAKE_UNORDERED", queue)]).await;
    let mut letters = stage.letters().await;
    let missing = update(777, 1);
    theirs.publish(&[updates(20, 5), vec![missing.clone()]].concat()).await;
    stage.applied(100).await;
    let letter = letters.next().await;
    let ended = daemon.stop().await;
    nothing_went_wrong(&stage).await;
    assert_eq!(ended.count("forwarded"), 101);
    assert_eq!((letter.reason().as_str(), &letter.body[..]), ("not_found", missing.as_bytes()));
    assert_eq!(letter.header("original-exchange"), "");
    assert_eq!(letter.header("original-routing-key"), queue);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pods_keep_the_order_of_a_queue_with_a_single_active_consumer_under_load() {
    let stage = Stage::new("intake-order", &LATENCY).await;
    let theirs = Theirs::single(&stage).await;
    let intake = [("TOPOLOGY__INTAKE", theirs.queue.as_str())];
    let first = stage.daemon(&intake).await;
    let second = stage.daemon(&intake).await;
    // One of them forwards, and goes in mid-work; the other one and a third go on.
    let all = updates(200, 12);
    let (before, after) = all.split_at(1_200);
    theirs.publish(before).await;
    stage.applied(300).await;
    let first = first.stop().await;
    let third = stage.daemon(&intake).await;
    theirs.publish(after).await;
    stage.applied(1_500).await;
    let second = second.stop().await;
    stage.applied(2_400).await;
    let ended = [first, second, third.stop().await];
    nothing_went_wrong(&stage).await;
    assert!(ended.iter().all(|ended| ended.status.success()), "{ended:?}");
    let forwarded = ended.each_ref().map(|ended| ended.count("forwarded"));
    assert_eq!(forwarded.iter().sum::<u64>(), 2_400, "{forwarded:?}");
    assert!(forwarded.iter().filter(|count| **count > 0).count() > 1, "{forwarded:?}");
    assert_eq!(stage.waiting().await, 0);
}

/// Closes the connection on which this instance consumes, as an operator may.
async fn close(management: &str, instance: &str) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = |method, path: &str| {
        let url = format!("{management}/api/connections{path}");
        client.request(method, url).basic_auth("guest", Some("guest"))
    };
    let named = format!("orderwright {instance}");
    let found = async {
        loop {
            let text =
                request(reqwest::Method::GET, "").send().await.unwrap().text().await.unwrap();
            let all: Vec<Value> = serde_json::from_str(&text).unwrap();
            let name = all.iter().find(|it| it["user_provided_name"] == named.as_str());
            if let Some(name) = name.and_then(|it| it["name"].as_str()) {
                return name.replace(' ', "%20").replace('>', "%3E");
            }
        }
    };
    let name = timeout(PATIENCE, found).await.unwrap();
    let answer = request(reqwest::Method::DELETE, &format!("/{name}")).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn publication_of_a_lost_owner_that_comes_late_does_not_land_behind_newer_ones() {
    let Some(management) = management().await else { return };
    let stage = Stage::new("intake-late", &["--orders", "2"]).await;
    let theirs = Theirs::single(&stage).await;
    let instance = format!("{}-lost", stage.prefix());
    let settings = [
        ("TOPOLOGY__INTAKE", theirs.queue.as_str()),
        ("DISPATCH__SETTLE_WINDOW", "6s"),
        ("LOG__LEVEL", "debug"),
    ];
    let lost = [&settings[..], &[("INSTANCE__NAME", instance.as_str())]].concat();
    let (proxy, lost) = wired(&stage, &lost).await;
    let next = stage.daemon(&settings).await;
    // Its publication stays on the way, and then it loses the queue.
    let body = update(1, 1).into_bytes();
    let is_sent = move |sent: &[u8]| sent.windows(body.len()).any(|it| it == body);
    proxy.pause_when(Way::ToBroker, is_sent.clone());
    theirs.publish(&[update(1, 1), update(1, 2)]).await;
    proxy.records(|sent| sent.iter().any(|sent| is_sent(sent))).await;
    close(&management, &instance).await;
    next.logs_times("\"received\"", 2).await;
    // What nobody had before is forwarded at once; what came before it could be as well.
    theirs.publish(&[update(2, 1)]).await;
    stage.applied(1).await;
    proxy.heal();
    stage.applied(3).await;
    assert!(next.stop().await.status.success() && lost.stop().await.status.success());
    nothing_went_wrong(&stage).await;
    let found = stage.simulator.order("USMF", "SO-000001").await.unwrap();
    assert_eq!(found["properties"]["UpdateSequence"], 2, "{found}");
}

/// What `topology check` says of this queue over AMQP alone, and whether it lets us start.
async fn checked(stage: &Stage, queue: &str) -> (Option<String>, bool) {
    let settings = stage.settings(&[("TOPOLOGY__INTAKE", queue)]).await;
    let arguments = ["topology", "check", "--output", "json"];
    let output = orderwright(&settings).args(arguments).output().await.unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let found: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let about = found.iter().find(|it| it["name"] == queue);
    let word = about.map(|it| it["state"].as_str().unwrap().to_owned());
    (word, output.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_that_cannot_keep_its_order_is_refused_over_amqp_alone_and_none_is_made() {
    let stage = Stage::new("intake-shape", &["--orders", "1"]).await;
    let theirs = Theirs::single(&stage).await;
    stage.daemon(&[]).await.stop().await;
    let single = ("x-single-active-consumer", AMQPValue::Boolean(true));
    let quorum = ("x-queue-type", text("quorum"));
    let shapes: [Vec<(&str, AMQPValue)>; 4] = [
        vec![],
        vec![quorum.clone()],
        vec![("x-max-length", AMQPValue::LongInt(9)), ("x-overflow", text("reject-publish"))],
        vec![
            quorum,
            ("x-dead-letter-exchange", text("erp.it's")),
            ("x-message-ttl", AMQPValue::LongInt(3_600_000)),
            ("x-delivery-limit", AMQPValue::LongInt(9)),
        ],
    ];
    for (number, shape) in shapes.iter().enumerate() {
        for (is_single, state) in [(false, "intake_not_single_active"), (true, "fine")] {
            let queue = format!("{}-{number}-{is_single}", stage.prefix());
            let theirs = Theirs { raw: stage.channel().await, queue: queue.clone() };
            let more = is_single.then_some(&single);
            theirs.declare(&shape.iter().chain(more).cloned().collect::<Vec<_>>()).await;
            let found = checked(&stage, &queue).await;
            assert_eq!(found, (Some(state.to_owned()), is_single), "{shape:?} {is_single}");
        }
    }
    let many = format!("{}-0-false", stage.prefix());
    let settings = stage.settings(&[("TOPOLOGY__INTAKE", &many)]).await;
    let refused = Daemon::spawn(&settings).ended().await;
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    assert!(refused.log.contains("name it in topology.intake_unordered"), "{}", refused.log);
    stage.daemon(&[("TOPOLOGY__INTAKE_UNORDERED", &many)]).await.stop().await;
    // One that is not there stays so: the name is free for its owner.
    let missing = format!("{}-missing", stage.prefix());
    assert_eq!(checked(&stage, &missing).await, (None, true));
    let theirs = Theirs { queue: missing, ..theirs };
    theirs.declare(&shapes[3]).await;
}
