//! `make letters-measure`: how long it takes to look through a long queue of dead letters, and how much
//! memory.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::json;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::Result;

/// Orders that the letters are of.
const ORDERS: u64 = 20_000;
/// Confirms that are awaited together.
const TOGETHER: u64 = 1_000;
/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// What takes so long hangs.
const LONGEST: Duration = Duration::from_mins(10);

/// Kinds of trouble: reason, status, and what the service said.
const KINDS: [(&str, u64, &str); 3] = [
    (
        "rejected",
        400,
        "The property 'DeliveryModeCode' does not exist on type \
         'Microsoft.Dynamics.DataEntities.SalesOrderHeaderV2'. Make sure to only use property names that \
         are defined by the type.",
    ),
    ("conflict_exhausted", 412, "The order was changed by somebody else since it was read."),
    ("not_found", 404, "The resource was not found."),
];

/// Fills a queue, and measures the commands on it.
pub(crate) async fn measure(amqp: &str, program: &Path, letters: u64) -> Result<()> {
    let prefix = format!("letters-{:08x}", fastrand::u32(..));
    let settings = [
        ("ORDERWRIGHT__BROKER__URL", amqp),
        ("ORDERWRIGHT__TOPOLOGY__PREFIX", &prefix),
        ("ORDERWRIGHT__TARGET__URL", "http://127.0.0.1:9/data"),
    ];
    run(program, &settings, &["topology", "declare"]).await?;
    let bytes = fill(amqp, &format!("{prefix}.dead-letters"), letters).await?;
    println!("{letters} letters, {} bytes each\n", bytes / letters.max(1));
    println!("| command | time | peak memory |\n| --- | --- | --- |");
    let all = letters.to_string();
    let commands: [&[&str]; 4] = [
        &["dlq", "groups"],
        &["dlq", "plan", "--offline", "--reason", "rejected", "--limit", &all],
        &["dlq", "plan", "--offline", "--reason", "rejected"],
        &["dlq", "ls", "--reason", "rejected", "--output", "ndjson"],
    ];
    for words in commands {
        // Twice: the broker may keep from the first time what the second one wants.
        for _ in 0..2 {
            let (took, peak) = run(program, &settings, words).await?;
            let (command, mib) = (words.join(" "), peak / 1024);
            println!("| `{command}` | {:.1} s | {mib} MiB |", took.as_secs_f64());
        }
    }
    shows_progress(program, &settings, letters).await
}

/// Whoever waits for seconds sees how far it is.
async fn shows_progress(program: &Path, settings: &[(&str, &str)], letters: u64) -> Result<()> {
    let words = format!("{} dlq groups", program.display());
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &words, "/dev/null"]);
    command.envs(settings.iter().copied()).env("TERM", "xterm").stdin(Stdio::null());
    let output =
        command.output().await.map_err(|error| format!("no terminal (script): {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let shown = text.matches(&format!("of {letters} looked at")).count();
    if shown < 2 {
        return Err(format!("no progress is shown on a terminal: {text}"));
    }
    println!("\non a terminal, `dlq groups` showed {shown} times how far it was");
    Ok(())
}

/// How long it took, and its peak memory in KiB.
async fn run(program: &Path, settings: &[(&str, &str)], words: &[&str]) -> Result<(Duration, u64)> {
    let mut command = Command::new(program);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("ORDERWRIGHT") {
            command.env_remove(key);
        }
    }
    command.envs(settings.iter().copied()).args(words).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let begun = Instant::now();
    let mut child = command.spawn().map_err(|error| format!("cannot start: {error}"))?;
    let status = format!("/proc/{}/status", child.id().ok_or("it is gone")?);
    let mut peak = 0;
    let ended = async {
        loop {
            tokio::select! { biased;
                ended = child.wait() => return ended.map_err(|error| error.to_string()),
                () = sleep(LOOK) => {}
            }
            // The highest of all times, as the kernel says: only its last moments can be missed.
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let now = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
            peak = now.unwrap_or(0).max(peak);
        }
    };
    let ended = timeout(LONGEST, ended).await.map_err(|_elapsed| "it does not end")??;
    let took = begun.elapsed();
    if ended.success() { Ok((took, peak)) } else { Err(format!("{words:?}: {ended}")) }
}

/// Publishes the letters; how many bytes their bodies and headers have.
async fn fill(amqp: &str, queue: &str, letters: u64) -> Result<u64> {
    let text = |error: lapin::Error| error.to_string();
    let connecting = Connection::connect(amqp, ConnectionProperties::default());
    let connection = connecting.await.map_err(text)?;
    let channel = connection.create_channel().await.map_err(text)?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(text)?;
    let mut confirms = Vec::new();
    let mut bytes = 0;
    for number in 0..letters {
        let (properties, body) = letter(number);
        bytes += u64::try_from(body.len()).unwrap_or_default() + headers_bytes(&properties);
        let options = BasicPublishOptions::default();
        let sent =
            channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties);
        confirms.push(sent.await.map_err(text)?);
        if (number + 1) % TOGETHER == 0 || number + 1 == letters {
            for confirm in confirms.drain(..) {
                if !confirm.await.map_err(text)?.is_ack() {
                    return Err("a letter was not taken".to_owned());
                }
            }
            eprint!("\r{} of {letters} letters published ", number + 1);
        }
    }
    eprintln!();
    connection.close(200, "done".into()).await.map_err(text)?;
    Ok(bytes)
}

fn headers_bytes(properties: &BasicProperties) -> u64 {
    let headers = properties.headers().as_ref().map(|headers| {
        let size = |value: &AMQPValue| value.as_long_string().map_or(0, |it| it.as_bytes().len());
        headers.inner().iter().map(|(name, value)| name.as_str().len() + size(value)).sum::<usize>()
    });
    headers.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default()
}

/// As the daemon writes them.
fn letter(number: u64) -> (BasicProperties, String) {
    let of = |kinds: usize| usize::try_from(number).unwrap_or_default() % kinds;
    let (reason, status, said) = KINDS.get(of(KINDS.len())).copied().unwrap_or_default();
    let order = format!("SO-{:06}", number % ORDERS);
    let at = |seconds: u64| {
        format!(
            "2025-02-08T{:02}:{:02}:{:02}.125Z",
            seconds / 3_600 % 24,
            seconds / 60 % 60,
            seconds % 60
        )
    };
    let id = format!("0194e2f0-7c00-7000-8000-{number:012x}");
    let attempts: Vec<_> = (0..=of(3))
        .map(|attempt| {
            json!({
                "number": attempt + 1, "at": at(number / 5), "milliseconds": 180, "outcome": reason,
                "get_status": 200, "patch_status": status, "error_code": "Microsoft.OData.ODataException",
                "message": said, "etag_seen": format!("W/\"JzAsNTYzNzE0{number:08};MCwwOzAsMDswLDAn\""),
                "request_id": id, "service_request_id": id,
            })
        })
        .collect();
    let queue = format!("orderwright.shard.g1.{:03}", number % 16);
    let all = [
        ("dead-letter-id", id.clone()),
        ("reason", reason.to_owned()),
        ("detail", said.to_owned()),
        ("order", format!("USMF/{order}")),
        ("attempts", json!(attempts).to_string()),
        ("first-seen", at(number / 5)),
        ("dead-lettered-at", at(number / 5 + 7)),
        ("exchange", "orderwright.updates".to_owned()),
        ("routing-key", format!("USMF/{order}")),
        ("queue", queue),
        ("version", "0.1.0".to_owned()),
        ("instance", "pod-1".to_owned()),
        ("seen", json!({"DeliveryModeCode": ""}).to_string()),
    ];
    let mut headers = FieldTable::default();
    for (name, value) in all {
        let name = format!("orderwright-{name}");
        headers.insert(name.as_str().into(), AMQPValue::LongString(value.into()));
    }
    let key = json!({"dataAreaId": "USMF", "SalesOrderNumber": order});
    let changes = json!({"DeliveryModeCode": "Truck", "DeliveryDate": "2025-02-14"});
    let body = json!({"key": key, "changes": changes}).to_string();
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_message_id(id.as_str().into())
        .with_content_type("application/json".into())
        .with_delivery_mode(2);
    (properties, body)
}
