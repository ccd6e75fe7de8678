//! One update at a time: how long after it was published it is applied.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde::Deserialize;
use tokio::time::{MissedTickBehavior, interval};

use crate::Result;
use crate::broker::Broker;
use crate::figures::Spread;
use crate::scenario::Scenario;
use crate::stage::{Kind, Stage, body};

/// Between two updates: long enough for the one before to be over.
const EVERY: Duration = Duration::from_millis(20);

#[derive(Debug, Deserialize)]
struct Page {
    changes: Vec<Change>,
}

#[derive(Debug, Deserialize)]
struct Change {
    time: Timestamp,
    order: String,
}

/// From when on it is counted.
const SINCE: [&str; 2] = ["published", "confirmed"];

/// What is printed of the times.
const SHARES: [(&str, f64); 2] = [("p50", 0.5), ("p99", 0.99)];

/// Runs both in turn, and prints what the daemon adds to the bare pipeline's time.
pub(crate) async fn measure(scenario: &Scenario, broker: &Broker, runs: u32) -> Result<()> {
    let mut added: [[Vec<f64>; 2]; 2] = Default::default();
    for _ in 0..runs {
        let bare = run(scenario, broker, Kind::Bare).await?;
        let daemon = run(scenario, broker, Kind::Daemon).await?;
        for (since, (added, (bare, daemon))) in
            SINCE.iter().zip(added.iter_mut().zip(bare.into_iter().zip(daemon)))
        {
            let [bare, daemon] = [bare, daemon].map(quantiles);
            for (kind, [p50, p99]) in [(Kind::Bare, bare), (Kind::Daemon, daemon)] {
                let name = kind.name();
                println!("  {name:11} p50 {p50:.2} ms, p99 {p99:.2} ms from {since} to applied");
            }
            for (added, (bare, daemon)) in added.iter_mut().zip(bare.into_iter().zip(daemon)) {
                added.push(daemon - bare);
            }
        }
    }
    for (since, added) in SINCE.iter().zip(added) {
        for ((name, _), added) in SHARES.iter().zip(added) {
            if let Some(Spread { least, median, most }) = Spread::of(added) {
                println!(
                    "  {name} from {since} to applied: the daemon adds {median:.2} ms ({least:.2} to {most:.2})"
                );
            }
        }
    }
    Ok(())
}

fn quantiles(mut all: Vec<f64>) -> [f64; 2] {
    all.sort_by(f64::total_cmp);
    SHARES.map(|(_, share)| {
        let index = f64::from(u32::try_from(all.len()).unwrap_or(0)) * share;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place in a list"
        )]
        all.get(index as usize).copied().unwrap_or_default()
    })
}

/// Milliseconds to applied, of each update: from published on, and from when the broker has written it to its disk, which is
/// the same for whoever works on it and now and then takes a hundred times as long.
async fn run(scenario: &Scenario, broker: &Broker, kind: Kind) -> Result<[Vec<f64>; 2]> {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let stage = Stage::set(scenario, broker, folder.path()).await?;
    let mut worker = stage.worker(kind).await?;
    let failed = |error: lapin::Error| format!("the broker: {error}");
    let connection = Connection::connect(broker.url(), ConnectionProperties::default());
    let connection = connection.await.map_err(failed)?;
    let channel = connection.create_channel().await.map_err(failed)?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(failed)?;
    let exchange = format!("{}.updates", stage.prefix);
    let mut sent = HashMap::new();
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for order in 0..scenario.updates.min(scenario.orders) {
        tick.tick().await;
        let key = format!("USMF/SO-{:06}", order + 1);
        let body = body(order, 1).to_string();
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into());
        let (key_, options) = (key.as_str().into(), BasicPublishOptions::default());
        let published = Timestamp::now();
        let confirm = channel
            .basic_publish(exchange.as_str().into(), key_, options, body.as_bytes(), properties)
            .await
            .map_err(failed)?;
        confirm.await.map_err(failed)?;
        sent.insert(key, [published, Timestamp::now()]);
    }
    let wanted = sent.len() as u64;
    while stage.reader.read(wanted).await?.applied_distinct < wanted {}
    let url = format!("{}/sim/ledger/changes?limit=10000", stage.url);
    let page = async {
        reqwest::Client::builder().no_proxy().build()?.get(url).send().await?.text().await
    };
    let page = page.await.map_err(|error| format!("the ledger's changes: {error}"))?;
    let page: Page = serde_json::from_str(&page).map_err(|error| error.to_string())?;
    worker.ask_to_end();
    worker.ended().await?;
    stage.end().await?;
    // The first ones open connections.
    let all: Vec<_> = page.changes.iter().skip(20).collect();
    let since = |which: usize| {
        let took = |change: &&Change| {
            let sent = sent.get(&change.order)?.get(which)?;
            Some(change.time.duration_since(*sent).as_secs_f64() * 1_000.0)
        };
        all.iter().copied().filter_map(|change| took(&change)).collect()
    };
    Ok([since(0), since(1)])
}
