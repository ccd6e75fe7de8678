//! An operator looks at dead letters by the commands.

use std::collections::BTreeSet;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::broker;
use crate::browse::Queue;
use crate::commands::{Ran, run};
use crate::daemon::{PATIENCE, orderwright, signal};
use crate::stage::{Stage, message, update};

fn parsed(ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

fn lines_of(ran: &Ran) -> Vec<Value> {
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the journal keeps.
async fn told(settings: &[(String, String)]) -> Vec<Value> {
    lines_of(&run(settings, &["dlq", "history", "--output", "ndjson"]).await)
}

/// Two orders that are not there, one body that is none, and one letter that says nothing.
async fn trouble(name: &str) -> Stage {
    let stage = Stage::new(name, &["--orders", "5"]).await;
    let daemon = stage.daemon(&[]).await;
    let gone = |number: &str| message(number, &serde_json::json!({"SalesStatus": "Delivered"}));
    stage
        .publish(&[gone("SO-900001"), gone("SO-900002"), "no JSON".to_owned(), update(1, 1)])
        .await;
    daemon.logs_times("dead-lettered", 3).await;
    daemon.stop().await;
    let raw = stage.channel().await;
    let queue = format!("{}.dead-letters", stage.prefix());
    let options = lapin::options::BasicPublishOptions::default();
    let mut headers = FieldTable::default();
    headers.insert("from".into(), AMQPValue::LongString("elsewhere".into()));
    let properties = BasicProperties::default().with_headers(headers).with_delivery_mode(2);
    let key = queue.as_str().into();
    let sent = raw.channel.basic_publish("".into(), key, options, b"\xff\x00", properties);
    assert!(sent.await.unwrap().await.unwrap().is_ack());
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_is_grouped_listed_and_shown_and_nothing_moves() {
    let stage = trouble("triage").await;
    let settings = stage.settings(&[]).await;
    let groups = parsed(&run(&settings, &["dlq", "groups", "--output", "json"]).await);
    assert_eq!((&groups["letters"], &groups["mark"]), (&4.into(), &4.into()), "{groups}");
    let first = &groups["groups"][0];
    assert_eq!((&first["reason"], &first["letters"]), (&"not_found".into(), &2.into()));
    assert_eq!((&first["orders"], &first["status"]), (&2.into(), &404.into()));
    assert_eq!(groups["groups"].as_array().unwrap().len(), 3, "{groups}");

    let fingerprint = first["fingerprint"].as_str().unwrap();
    let listed = ["dlq", "ls", "--fingerprint", fingerprint, "--output", "ndjson"];
    let listed = lines_of(&run(&settings, &listed).await);
    let orders: Vec<_> = listed.iter().map(|it| it["order"].as_str().unwrap()).collect();
    let both = BTreeSet::from(["USMF/SO-900001", "USMF/SO-900002"]);
    assert_eq!(orders.iter().copied().collect::<BTreeSet<_>>(), both);
    assert!(listed.iter().all(|it| it["fingerprint"] == *fingerprint), "{listed:?}");
    let one = [
        "dlq",
        "ls",
        "--pointer",
        "/changes/SalesStatus=Delivered",
        "--limit",
        "1",
        "--output",
        "json",
    ];
    assert_eq!(parsed(&run(&settings, &one).await).as_array().unwrap().len(), 1);
    let none = ["dlq", "ls", "--status", "5xx", "--output", "json"];
    assert_eq!(parsed(&run(&settings, &none).await).as_array().unwrap().len(), 0);
    let table = run(&settings, &["dead-letters", "ls"]).await;
    assert_eq!(table.stdout.lines().count(), 5, "{}", table.stdout);

    let id = listed[1]["id"].as_str().unwrap();
    let shown = parsed(&run(&settings, &["dlq", "show", id, "--output", "json"]).await);
    assert_eq!((&shown["order"], &shown["position"]), (&orders[1].into(), &listed[1]["position"]));
    assert_eq!(shown["attempts"][0]["get_status"], 404);
    let number = orders[1].trim_start_matches("USMF/");
    assert_eq!(shown["body"], message(number, &serde_json::json!({"SalesStatus": "Delivered"})));
    let table = run(&settings, &["dlq", "show", id]).await;
    for part in [orders[1], "not_found", "HTTP 404", "GET 404", "SalesStatus", "what to do"] {
        assert!(table.stdout.contains(part), "{part}: {}", table.stdout);
    }
    let foreign = ["dlq", "ls", "--header", "from=elsewhere", "--output", "ndjson"];
    let foreign = lines_of(&run(&settings, &foreign).await);
    assert_eq!(foreign[0]["reason"], "foreign");
    let id = foreign[0]["id"].as_str().unwrap();
    let shown = parsed(&run(&settings, &["dlq", "show", id, "--output", "json"]).await);
    assert_eq!(shown["body_base64"], "/wA=");

    let missing = run(&settings, &["dlq", "show", "ffffffff"]).await;
    assert_eq!(missing.code, Some(65), "{}", missing.stderr);
    let raw = stage.channel().await;
    assert_eq!(raw.depth("dead-letters").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_that_is_killed_loses_nothing_and_a_second_one_is_told() {
    const LETTERS: u32 = 20_000;
    let queue = Queue::with("killed", LETTERS).await;
    let settings = queue.stage.settings(&[]).await;
    let mut child =
        orderwright(&settings).args(["dlq", "ls", "--output", "ndjson"]).spawn().unwrap();
    // It is in the middle: its reader does not read on.
    let mut out = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    let read = tokio::io::AsyncBufReadExt::read_line(&mut out, &mut first);
    timeout(PATIENCE, read).await.unwrap().unwrap();
    let second = run(&settings, &["dlq", "groups"]).await;
    assert_eq!(second.code, Some(75), "{}", second.stderr);
    assert!(second.stderr.contains("another operator is at work"), "{}", second.stderr);
    child.kill().await.unwrap();
    queue.ready(LETTERS).await;
    let groups = parsed(&run(&settings, &["dlq", "groups", "--output", "json"]).await);
    assert_eq!((&groups["letters"], &groups["seen"]), (&LETTERS.into(), &LETTERS.into()));
    queue.ready(LETTERS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_queue_and_a_wrong_filter_are_told() {
    let stage = Stage::new("nothing", &[]).await;
    let settings = stage.settings(&[]).await;
    let missing = run(&settings, &["dlq", "groups"]).await;
    assert_eq!(missing.code, Some(78), "{}", missing.stderr);
    assert!(missing.stderr.contains("there is no queue"), "{}", missing.stderr);
    let wrong = run(&settings, &["dlq", "ls", "--status", "teapot"]).await;
    assert_eq!(wrong.code, Some(64), "{}", wrong.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_go_out_and_come_back_byte_for_byte_and_are_not_doubled() {
    let stage = trouble("export").await;
    let settings = stage.settings(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("letters.ndjson");
    let file = file.to_str().unwrap();
    let exported = run(&settings, &["dlq", "export", "--file", file]).await;
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    let before = std::fs::read_to_string(file).unwrap();
    assert_eq!(before.lines().count(), 4);
    let again = run(&settings, &["dlq", "export", "--file", file]).await;
    assert_eq!(again.code, Some(65), "a file is not overwritten: {}", again.stderr);

    let import = ["dlq", "import", "--file", file, "--output", "json"];
    let nothing = parsed(&run(&settings, &import).await);
    assert_eq!((&nothing["imported"], &nothing["already_there"]), (&0.into(), &4.into()));
    let mut letters = stage.letters().await;
    letters.take(4).await;
    drop(letters);
    let all = parsed(&run(&settings, &[&import[..], &["--operator", "jane"]].concat()).await);
    assert_eq!((&all["imported"], &all["refused"]), (&4.into(), &0.into()));
    let told = told(&settings).await;
    let imported = &told[0];
    assert_eq!((told.len(), &imported["event"]), (1, &"imported".into()), "{told:?}");
    assert_eq!((&imported["by"], &imported["letters"]), (&"jane".into(), &4.into()));
    assert_eq!(imported["from"], file);
    let back = run(&settings, &["dlq", "export"]).await;
    // The exchange is the one that the letter was published to last.
    let same = |text: &str| -> Vec<Value> {
        let line = |line: &str| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            line["exchange"] = Value::Null;
            line
        };
        text.lines().map(line).collect()
    };
    assert_eq!(same(&back.stdout), same(&before));
}

#[tokio::test(flavor = "multi_thread")]
async fn export_that_comes_to_nothing_leaves_no_file_that_is_in_the_way_of_the_next() {
    let queue = Queue::with("export-again", 3).await;
    let settings = queue.stage.settings(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("letters.ndjson");
    let export = ["dlq", "export", "--file", file.to_str().unwrap()];
    let nobody = [("ORDERWRIGHT__BROKER__URL".to_owned(), "amqp://127.0.0.1:9/%2f".to_owned())];
    let failed = run(&[&settings[..], &nobody].concat(), &export).await;
    assert_eq!(failed.code, Some(69), "{}", failed.stderr);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(run(&settings, &export).await.code, Some(0));
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn import_that_is_interrupted_ends_in_good_order_and_doubles_nothing() {
    const LETTERS: u32 = 20_000;
    let queue = Queue::with("import-interrupted", LETTERS).await;
    let settings = queue.stage.settings(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("letters.ndjson").display().to_string();
    assert_eq!(run(&settings, &["dlq", "export", "--file", &file]).await.code, Some(0));
    let lines = std::fs::read_to_string(&file).unwrap();
    let begin = || {
        let mut command = orderwright(&settings);
        command.args(["dlq", "import", "--file", "-", "--output", "json"]);
        command.stdin(std::process::Stdio::piped()).spawn().unwrap()
    };

    // While it looks what is there: it does not know all of it, and brings nothing.
    let mut child = begin();
    let is_at_work = async { while queue.raw.depth("dead-letters").await == LETTERS {} };
    timeout(PATIENCE, is_at_work).await.expect("it has begun");
    signal(child.id().unwrap(), "INT").await;
    let mut stdin = child.stdin.take().unwrap();
    // It may have ended by now.
    let _broken_pipe = stdin.write_all(lines.as_bytes()).await;
    drop(stdin);
    let ended = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(75), "{ended:?}");
    let told: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((&told["imported"], &told["interrupted"]), (&0.into(), &true.into()), "{told}");
    queue.ready(LETTERS).await;

    // While it waits for more lines.
    let discard = ["dlq", "discard", "--all", "--because", "no more", "--yes"];
    assert_eq!(run(&settings, &discard).await.code, Some(0));
    let mut child = begin();
    let mut stdin = child.stdin.take().unwrap();
    let some: Vec<_> = lines.lines().take(250).collect();
    stdin.write_all((some.join("\n") + "\n").as_bytes()).await.unwrap();
    queue.ready(200).await;
    signal(child.id().unwrap(), "INT").await;
    let ended = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let told: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((ended.status.code(), &told["imported"]), (Some(75), &200.into()), "{told}");
    drop(stdin);
    queue.ready(200).await;
    let again = ["dlq", "import", "--file", &file, "--because", "TICKET-7", "--output", "json"];
    let again = parsed(&run(&settings, &again).await);
    assert_eq!((&again["imported"], &again["already_there"]), (&19_800.into(), &200.into()));
    queue.ready(LETTERS).await;
    let history = ["dlq", "history", "--event", "imported", "--limit", "1", "--output", "ndjson"];
    let newest = &lines_of(&run(&settings, &history).await)[0];
    assert_eq!((&newest["because"], &newest["letters"]), (&"TICKET-7".into(), &200.into()));
    assert_eq!(newest["named"].as_array().unwrap().len(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_discarded_with_a_reason_and_restored_as_they_were() {
    let stage = trouble("discard").await;
    let settings = stage.settings(&[]).await;
    let raw = stage.channel().await;
    let before = run(&settings, &["dlq", "export", "--reason", "not_found"]).await.stdout;
    let discard =
        ["dlq", "discard", "--reason", "not_found", "--because", "TICKET-7", "--output", "json"];
    let dry = parsed(&run(&settings, &discard).await);
    assert_eq!((&dry["matched"], &dry["done"]), (&2.into(), &0.into()));
    assert_eq!((raw.depth("dead-letters").await, raw.depth("dead-letters.archive").await), (4, 0));
    let everything = run(&settings, &["dlq", "discard", "--because", "x", "--yes"]).await;
    assert_eq!(everything.code, Some(64), "{}", everything.stderr);

    let done = [&discard[..], &["--yes", "--operator", "jane"]].concat();
    assert_eq!(parsed(&run(&settings, &done).await)["done"], 2);
    assert_eq!((raw.depth("dead-letters").await, raw.depth("dead-letters.archive").await), (2, 2));
    let archived =
        lines_of(&run(&settings, &["dlq", "ls", "--archived", "--output", "ndjson"]).await);
    let id = archived[0]["id"].as_str().unwrap();
    let shown =
        parsed(&run(&settings, &["dlq", "show", id, "--archived", "--output", "json"]).await);
    let decision = &shown["discarded"];
    assert_eq!((&decision["by"], &decision["because"]), (&"jane".into(), &"TICKET-7".into()));

    let restored = ["dlq", "restore", "--all", "--yes", "--operator", "joe", "--output", "json"];
    assert_eq!(parsed(&run(&settings, &restored).await)["done"], 2);
    let told = told(&settings).await;
    let of = |it: &Value| {
        [&it["event"], &it["by"], &it["because"]].map(|it| it.as_str().map(str::to_owned))
    };
    let discarded = ["discarded", "jane", "TICKET-7"].map(|it| Some(it.to_owned()));
    let restored = [Some("restored".to_owned()), Some("joe".to_owned()), None];
    assert_eq!(
        told.iter().map(of).collect::<Vec<_>>(),
        [discarded.clone(), discarded, restored.clone(), restored]
    );
    assert!(told.iter().any(|it| it["letter"] == *id), "{told:?}");
    assert_eq!((raw.depth("dead-letters").await, raw.depth("dead-letters.archive").await), (4, 0));
    let after = run(&settings, &["dlq", "export", "--reason", "not_found"]).await.stdout;
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_keep_their_order_through_the_archive_and_through_a_file() {
    const LETTERS: u32 = 500;
    let queue = Queue::with("order-kept", LETTERS).await;
    let settings = queue.stage.settings(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("letters.ndjson").display().to_string();
    let bodies = async || {
        let exported = run(&settings, &["dlq", "export"]).await;
        let body = |line: &Value| line["body"].as_str().unwrap().parse().unwrap();
        lines_of(&exported).iter().map(body).collect::<Vec<u32>>()
    };
    let discard = ["dlq", "discard", "--all", "--because", "no more", "--yes"];
    let in_order: Vec<u32> = (0..LETTERS).collect();
    assert_eq!(run(&settings, &["dlq", "export", "--file", &file]).await.code, Some(0));

    assert_eq!(run(&settings, &discard).await.code, Some(0));
    assert_eq!(run(&settings, &["dlq", "restore", "--all", "--yes"]).await.code, Some(0));
    assert_eq!(bodies().await, in_order);

    assert_eq!(run(&settings, &discard).await.code, Some(0));
    assert_eq!(run(&settings, &["dlq", "import", "--file", &file]).await.code, Some(0));
    assert_eq!(bodies().await, in_order);
}

#[tokio::test(flavor = "multi_thread")]
async fn discard_that_is_killed_leaves_every_letter_in_one_of_the_two_queues() {
    const LETTERS: u32 = 5_000;
    let queue = Queue::with("discard-killed", LETTERS).await;
    let settings = queue.stage.settings(&[]).await;
    let discard = ["dlq", "discard", "--all", "--because", "no more", "--yes"];
    let mut child = orderwright(&settings).args(discard).spawn().unwrap();
    let begun = async { while queue.raw.depth("dead-letters.archive").await < 100 {} };
    timeout(PATIENCE, begun).await.expect("it has begun");
    child.kill().await.unwrap();
    // What it held returns once the broker has noticed; a copy may be in both.
    let all_there = async {
        loop {
            let here = queue.raw.depth("dead-letters").await;
            if here + queue.raw.depth("dead-letters.archive").await >= LETTERS {
                return;
            }
        }
    };
    timeout(PATIENCE, all_there).await.expect("all are there");
    let again = run(&settings, &discard).await;
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    let export = run(&settings, &["dlq", "export", "--archived"]).await;
    let bodies: BTreeSet<u32> = lines_of(&export)
        .iter()
        .map(|line| line["body"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(bodies.len(), usize::try_from(LETTERS).unwrap());
    assert_eq!(queue.raw.depth("dead-letters").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_another_queue_are_adopted_with_headers_of_ours() {
    let stage = trouble("adopt").await;
    let settings = stage.settings(&[]).await;
    let raw = stage.channel().await;
    // Expired there, and sent on by the broker.
    let (waiting, theirs) =
        (format!("{}.waiting", stage.prefix()), format!("{}.theirs", stage.prefix()));
    let declare = async |name: &str, arguments: FieldTable| {
        let options = lapin::options::QueueDeclareOptions { durable: true, ..Default::default() };
        raw.channel.queue_declare(name.into(), options, arguments).await.unwrap();
    };
    let mut arguments = FieldTable::default();
    let long = |text: &str| AMQPValue::LongString(text.into());
    arguments.insert("x-dead-letter-exchange".into(), long(""));
    arguments.insert("x-dead-letter-routing-key".into(), long(&theirs));
    arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(1));
    declare(&theirs, FieldTable::default()).await;
    declare(&waiting, arguments).await;
    let (options, key) = (lapin::options::BasicPublishOptions::default(), waiting.as_str().into());
    let properties = BasicProperties::default().with_message_id("m-1".into()).with_delivery_mode(2);
    let sent = raw.channel.basic_publish("".into(), key, options, b"{}", properties).await.unwrap();
    assert!(sent.await.unwrap().is_ack());
    let died = async { while raw.depth("theirs").await == 0 {} };
    timeout(PATIENCE, died).await.expect("it expires");

    let adopt = ["dlq", "move", "--from", &theirs, "--all", "--yes", "--output", "json"];
    assert_eq!(parsed(&run(&settings, &adopt).await)["done"], 1);
    let told = told(&settings).await;
    assert_eq!((&told[0]["event"], &told[0]["from"]), (&"moved".into(), &theirs.as_str().into()));
    assert_eq!((&told[0]["letters"], told.len()), (&1.into(), 1));
    let expired = ["dlq", "ls", "--reason", "broker_expired", "--output", "ndjson"];
    let expired = lines_of(&run(&settings, &expired).await);
    assert_eq!((expired.len(), &expired[0]["order"]), (1, &waiting.as_str().into()), "{expired:?}");
    assert_eq!(expired[0]["message_id"], "m-1");
    assert_eq!((raw.depth("theirs").await, raw.depth("dead-letters").await), (0, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_at_another_programs_queue_end_before_it_gives_its_letters_up() {
    const LETTERS: u32 = 12;
    let Some(management) = broker::shared().await.management() else {
        eprintln!("skipped: this broker has no management API that tells of limits");
        return;
    };
    let queue = Queue::with("worn", 0).await;
    let mut settings = queue.stage.settings(&[]).await;
    settings.push(("ORDERWRIGHT__BROKER__MANAGEMENT_URL".into(), management.to_owned()));
    let theirs = format!("{}.theirs", queue.stage.prefix());
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(3));
    let options = lapin::options::QueueDeclareOptions { durable: true, ..Default::default() };
    queue.raw.channel.queue_declare(theirs.as_str().into(), options, arguments).await.unwrap();
    for number in 0..LETTERS {
        let (options, body) = (lapin::options::BasicPublishOptions::default(), number.to_string());
        let properties = BasicProperties::default().with_delivery_mode(2);
        let (channel, key) = (&queue.raw.channel, theirs.as_str().into());
        let sent = channel.basic_publish("".into(), key, options, body.as_bytes(), properties);
        assert!(sent.await.unwrap().await.unwrap().is_ack());
    }
    let there = async |letters: u32| {
        let back = async { while queue.raw.depth("theirs").await != letters {} };
        timeout(PATIENCE, back).await.expect("all are there");
    };
    // How many there are is known without a look.
    let all = ["dlq", "move", "--from", &theirs, "--all", "--output", "json"];
    for _ in 0..6 {
        assert_eq!(parsed(&run(&settings, &all).await)["matched"], LETTERS);
    }
    // A filter has to look, and each look counts: twice, and then no more, however often it is tried.
    let some = ["dlq", "move", "--from", &theirs, "--reason", "foreign", "--output", "json"];
    for _ in 0..2 {
        assert_eq!(parsed(&run(&settings, &some).await)["matched"], LETTERS);
        there(LETTERS).await;
    }
    for _ in 0..4 {
        let refused = run(&settings, &some).await;
        assert_eq!(refused.code, Some(78), "{}", refused.stdout);
        assert!(refused.stderr.contains("gives it up after 3"), "{}", refused.stderr);
        there(LETTERS).await;
    }
    let moved = [&all[..], &["--yes", "--because", "TICKET-7"]].concat();
    let moved = parsed(&run(&settings, &moved).await);
    assert_eq!((&moved["done"], &moved["matched"]), (&LETTERS.into(), &LETTERS.into()));
    there(0).await;
    let exported = lines_of(&run(&settings, &["dlq", "export"]).await);
    let body = |line: &Value| line["body"].as_str().unwrap().parse().unwrap();
    let bodies: BTreeSet<u32> = exported.iter().map(body).collect();
    assert_eq!(bodies, (0..LETTERS).collect(), "none is lost");
    let told = &told(&settings).await[0];
    assert_eq!((&told["event"], &told["because"]), (&"moved".into(), &"TICKET-7".into()));
    assert_eq!(told["selection"], "all");
    assert_eq!(told["named"].as_array().unwrap().len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_work_shows_its_progress_on_a_terminal() {
    let script = std::process::Command::new("script").arg("--version").output();
    if !script.is_ok_and(|it| it.status.success()) {
        eprintln!("skipped: no program that gives a terminal (script)");
        return;
    }
    let queue = Queue::with("progress", 3_000).await;
    let settings = queue.stage.settings(&[]).await;
    let words = format!("{} dlq groups", env!("CARGO_BIN_EXE_orderwright"));
    let mut command = tokio::process::Command::new("script");
    command.args(["--quiet", "--return", "--command", &words, "/dev/null"]);
    command.envs(settings).env("TERM", "xterm").stdin(std::process::Stdio::null());
    let shown = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success(), "{text}");
    assert!(text.contains("of 3000 looked at"), "{text}");
    assert!(text.contains("3000 dead letters, 1 kind of trouble"), "{text}");
}
