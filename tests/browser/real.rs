//! The page of a real daemon, at work on a real broker's messages.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use crate::Result;
use crate::broker::Broker;
use crate::devtools::Tab;
use crate::program::Program;

/// How long broker, simulator and daemon may take to be there, and to go.
const PATIENCE: Duration = Duration::from_mins(3);

/// Shows the page of a daemon that has updates at work, one dead letter, and nothing amiss.
pub(crate) async fn page_of_a_real_daemon_is_what_it_does(
    program: &Path,
    pictures: &Path,
) -> Result<()> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let log = |name: &str| folder.path().join(name);
    let broker = Broker::try_start().await?;
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--orders",
        "20",
        "--patch-latency",
        "25s",
        "--exit-with-stdin",
    ];
    let mut simulator = Program::start("orderwright-sim", &arguments, &[], &log("simulator"))?;
    let line = simulator.line_with("listening").await?;
    let target = line.get("listening").and_then(|url| url.as_str()).unwrap_or_default().to_owned();
    let listen = format!("127.0.0.1:{}", free_port().await?);
    let settings = settings(&broker, &target, &listen);
    let mut daemon = Program::start_daemon(
        "orderwright",
        &["run", "--output", "json"],
        &settings,
        &log("daemon"),
    )?;
    let ready = timeout(PATIENCE, daemon.event("ready")).await;
    ready.map_err(|_late| "not ready".to_owned())?.map_err(|error| {
        format!("{error}\n{}", std::fs::read_to_string(log("daemon")).unwrap_or_default())
    })?;
    publish(&settings, &log("publish")).await?;
    // The browser is waited for; everything else goes on beside it.
    let (url, program, pictures) =
        (format!("http://{listen}/"), program.to_owned(), pictures.to_owned());
    let looked = tokio::task::spawn_blocking(move || look(&program, &url, &pictures)).await;
    daemon.ask_to_end();
    simulator.ask_to_end();
    timeout(PATIENCE, daemon.ended()).await.map_err(|_late| "no end".to_owned())??;
    broker.end().await;
    looked.map_err(|error| error.to_string())
}

fn look(program: &Path, url: &str, pictures: &Path) {
    let mut tab = Tab::open(program, url);
    // It changes in place until all of this is there.
    for text in ["10 orders, and 10 updates that wait", "<code>patch</code>", "not_found"] {
        tab.until(&format!("document.getElementById('live').outerHTML.includes('{text}')"));
    }
    tab.until("document.getElementById('state').textContent === 'Works'");
    // Two samples, five seconds apart.
    tab.until("document.querySelectorAll('polyline').length === 6");
    let rows = "document.querySelectorAll('#shards-table tbody tr').length";
    assert_eq!(tab.ask(rows), 4, "one for each shard");
    let masked = "document.getElementById('settings-table').textContent.includes('guest:***@')";
    assert_eq!(tab.ask(masked), true, "no password");
    tab.picture(&pictures.join("real.png"));
    tab.is_quiet();
}

async fn free_port() -> Result<u16> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|error| error.to_string())
}

fn settings(broker: &Broker, target: &str, listen: &str) -> Vec<(String, String)> {
    let all = [
        ("BROKER__URL", broker.url().to_owned()),
        ("TARGET__URL", format!("{target}/data")),
        ("TOPOLOGY__PREFIX", format!("browser-{:08x}", fastrand::u32(..))),
        ("TOPOLOGY__SHARDS", "4".to_owned()),
        ("DRAIN__GRACE", "1s".to_owned()),
        ("ADMIN__LISTEN", listen.to_owned()),
    ];
    all.into_iter().map(|(name, value)| (format!("ORDERWRIGHT__{name}"), value)).collect()
}

/// Two updates of each of ten orders, and one of an order that is not there.
async fn publish(settings: &[(String, String)], log: &Path) -> Result<()> {
    let mut bodies = String::new();
    for number in (1..=10).chain(1..=10).chain([999_999]) {
        let key = json!({"dataAreaId": "USMF", "SalesOrderNumber": format!("SO-{number:06}")});
        let changes = json!({"DeliveryDate": "2025-02-03"});
        let _infallible = writeln!(bodies, "{}", json!({"key": key, "changes": changes}));
    }
    let publish = ["publish", "--file", "-", "--unchecked", "--output", "json"];
    let mut program = Program::start("orderwright", &publish, settings, log)?;
    program.feed(&bodies).await?;
    let summary = program.line_with("confirmed").await?;
    let ended = program.ended().await?;
    if ended.success() { Ok(()) } else { Err(format!("publish: {summary}")) }
}
