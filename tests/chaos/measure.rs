//! `make chaos-measure`: how long shards are without a pod, how evenly they lie, and what a rolling
//! restart costs.
//!
//! Nobody is asked who holds what: a write to an order shows who held its shard at that moment. Each
//! shard gets several updates a second, so a shard that is taken over is seen as soon as its new owner
//! has written, the settle window of what was redelivered included.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::Result;
use crate::fleet::{Fleet, HEARTBEAT, Obituary};
use crate::holders::{Holders, sorted};
use crate::options::Options;
use crate::publisher::{Published, Publisher};
use crate::stage::Stage;

/// Workers where not said otherwise.
const WORKERS: u64 = 3;
/// How often each is measured.
const TIMES: usize = 3;
/// After which all shards have long been taken over, and the others have what is theirs.
const CALM: Duration = Duration::from_secs(12);
/// After which a worker that joined has its share.
const SPREAD_MAX: Duration = Duration::from_secs(25);
/// Between the steps of a rolling restart, as a deployment waits for a new pod to be ready.
const STEP: Duration = Duration::from_secs(5);
/// A worker that is cut off: longer than the broker takes to give it up.
const CUT: Duration = Duration::from_secs(20);
/// At which numbers of workers the balance is looked at.
const FLEETS: [u64; 4] = [2, 3, 5, 10];
/// Writes of so many seconds show who holds what.
const LOOK: Duration = Duration::from_secs(5);
/// Rolling restarts: those that are born in one and end in the next are looked at.
const ROUNDS: u64 = 3;
/// Longest time of all together.
const ALL_MAX: Duration = Duration::from_mins(15);

/// How a worker is taken from its shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Term,
    Kill,
    Cut,
}

/// What was done, and when.
#[derive(Debug, Default)]
struct Book {
    losses: Vec<(Loss, u64, Timestamp)>,
    joins: Vec<Timestamp>,
    /// Number of workers, and the end of the time that is looked at.
    looks: Vec<(u64, Timestamp)>,
    /// Begin and end of all but the first round, and the first and the last worker that was born in
    /// one round and ended in the next.
    rolling: Option<(Timestamp, Timestamp, u64, u64)>,
}

/// Measures, and prints a table.
pub(crate) async fn measure(stage: &Stage, options: &Options, seed: u64) -> Result<()> {
    let fleet = Fleet::new(&stage.ground, options);
    let stop = CancellationToken::new();
    let entry = format!("{}.updates", stage.ground.prefix);
    let publisher = Publisher::new(&stage.ground.url, entry, options, seed);
    let play = async {
        let played = timeout(ALL_MAX, play(&fleet)).await;
        stop.cancel();
        played.map_err(|_elapsed| format!("not measured after {} s", ALL_MAX.as_secs()))?
    };
    let (book, load) = tokio::join!(play, publisher.run(stop.clone()));
    let (workers, complaints) = fleet.finish().await?;
    for complaint in complaints {
        println!("  {complaint}");
    }
    let born = workers.last().map_or(0, |worker| worker.number);
    let history = stage.history(born).await?;
    let shards = u16::try_from(options.shards).map_err(|error| error.to_string())?;
    print(&book?, &Holders::of(&history, shards), &workers, &load);
    Ok(())
}

async fn play(fleet: &Fleet<'_>) -> Result<Book> {
    let mut book = Book::default();
    grow(fleet, WORKERS).await?;
    sleep(CALM).await;
    for loss in [Loss::Term, Loss::Kill, Loss::Cut] {
        for time in 1..=TIMES {
            println!("chaos: {loss:?} {time} of {TIMES}");
            lose(fleet, loss, &mut book).await?;
        }
    }
    book.rolling = Some(roll(fleet).await?);
    for workers in FLEETS {
        println!("chaos: {workers} workers");
        while fleet.alive() > workers {
            let Some(worker) = fleet.oldest() else { break };
            fleet.end(worker, "TERM").await?;
        }
        grow(fleet, workers).await?;
        sleep(CALM + LOOK).await;
        book.looks.push((workers, Timestamp::now()));
    }
    Ok(book)
}

async fn grow(fleet: &Fleet<'_>, workers: u64) -> Result<()> {
    while fleet.alive() < workers {
        fleet.start().await?;
    }
    Ok(())
}

/// Takes the oldest worker away, lets the others take over, and puts a new one in its place.
async fn lose(fleet: &Fleet<'_>, loss: Loss, book: &mut Book) -> Result<()> {
    let Some(worker) = fleet.oldest() else { return Err("no worker is there".to_owned()) };
    book.losses.push((loss, worker.number, Timestamp::now()));
    match loss {
        Loss::Term => fleet.end(worker, "TERM").await?,
        Loss::Kill => fleet.end(worker, "KILL").await?,
        Loss::Cut => {
            worker.link.cut();
            sleep(CUT).await;
            worker.link.heal();
            fleet.give_back(worker);
            sleep(CALM).await;
            return Ok(());
        }
    }
    sleep(CALM).await;
    fleet.start().await?;
    book.joins.push(Timestamp::now());
    sleep(SPREAD_MAX).await;
    Ok(())
}

/// As a deployment does it: a new worker, then one of the old ones goes.
async fn roll(fleet: &Fleet<'_>) -> Result<(Timestamp, Timestamp, u64, u64)> {
    let (mut begun, mut first, mut last) = (Timestamp::now(), 0, 0);
    for round in 1..=ROUNDS {
        println!("chaos: rolling restart {round} of {ROUNDS}");
        if round == 2 {
            begun = Timestamp::now();
        }
        for _ in 0..WORKERS {
            let new = fleet.start().await?;
            first = if first == 0 { new } else { first };
            last = if round < ROUNDS { new } else { last };
            sleep(STEP).await;
            let Some(old) = fleet.oldest() else { break };
            fleet.end(old, "TERM").await?;
        }
    }
    Ok((begun, Timestamp::now(), first, last))
}

fn print(book: &Book, holders: &Holders, workers: &[Obituary], published: &Published) {
    println!("\n| measured | shards or samples | median | largest |\n| --- | --- | --- | --- |");
    for (loss, name) in [
        (Loss::Term, "taken over after SIGTERM".to_owned()),
        (Loss::Kill, "taken over after SIGKILL".to_owned()),
        (Loss::Cut, format!("taken over after a silent cut, heartbeat {} s", HEARTBEAT.as_secs())),
    ] {
        let losses = book.losses.iter().filter(|it| it.0 == loss);
        let times = losses.flat_map(|(_, worker, at)| holders.taken_over(*worker, *at));
        row(&name, &sorted(times), "s");
    }
    let spread = book.joins.iter().filter_map(|at| holders.even_after(*at, WORKERS, SPREAD_MAX));
    let spread = sorted(spread);
    let (joined, within) = (book.joins.len(), SPREAD_MAX.as_secs());
    row(&format!("even after a pod joined, if within {within} s"), &spread, "s");
    println!(
        "| … of {joined} that joined, not within {within} s | {} | | |",
        joined - spread.len()
    );
    for (count, until) in &book.looks {
        let name = format!("largest share / mean, {count} pods");
        row(
            &name,
            &holders.balance(*until - LOOK, *until, *count).into_iter().collect::<Vec<_>>(),
            "",
        );
    }
    if let Some((begun, ended, first, last)) = book.rolling {
        let rolled = workers.iter().filter(|it| (first..=last).contains(&it.number));
        print_rolling(holders.writes_between(begun, ended), rolled);
    }
    for at in &book.joins {
        if holders.even_after(*at, WORKERS, SPREAD_MAX).is_none() {
            let shares = holders.shares(*at + SPREAD_MAX);
            println!("not even: shares {SPREAD_MAX:?} after a pod joined at {at:.0}: {shares:?}");
        }
    }
    println!("\n{} updates published in all", published.distinct());
}

/// What came of the workers that were born in one round and ended in the next: their whole lives,
/// so what they gave back to those that joined as well as what they left.
fn print_rolling<'a>(updates: u64, rolled: impl Iterator<Item = &'a Obituary>) {
    let (mut back, mut again, mut lost, mut count) = (0, 0, 0, 0_u64);
    for worker in rolled {
        let field = |name: &str| {
            worker.summary.as_ref().and_then(|it| it.get(name)?.as_u64()).unwrap_or_default()
        };
        let settled = field("applied") + field("already_applied") + field("forwarded");
        back += field("received").saturating_sub(settled);
        again += field("released") + field("already_applied");
        lost += field("settlements_lost");
        count += 1;
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 updates")]
    let of_thousand = |of: u64| of as f64 * 1_000.0 / updates.max(1) as f64;
    println!("| rolling restarts: pods replaced | {count} | | |");
    println!("| updates meanwhile | {updates} | | |");
    println!("| … of 1,000 given back and redelivered | | {:.1} | |", of_thousand(back));
    println!(
        "| … of 1,000 begun in vain: given up, or found applied | | {:.1} | |",
        of_thousand(again)
    );
    println!("| … of 1,000 whose ack was lost | | {:.1} | |", of_thousand(lost));
}

fn row(name: &str, sorted: &[f64], unit: &str) {
    let at = |index: usize| {
        sorted.get(index).map_or("-".to_owned(), |value| format!("{value:.2} {unit}"))
    };
    let (middle, last) = (sorted.len() / 2, sorted.len().saturating_sub(1));
    println!("| {name} | {} | {} | {} |", sorted.len(), at(middle).trim(), at(last).trim());
}
