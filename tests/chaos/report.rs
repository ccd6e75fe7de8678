//! What came of a run, in words, and whether every zero that is promised is one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::audit::{Flaw, Judged, judge, needless};
use crate::options::Options;
use crate::parked::{BEHIND, Parked, bad_of, judge_parked, letters_of};
use crate::ring::by_reason;
use crate::stage::Outcome;
use crate::{Result, flaws, overlap, proof};

/// Why an update that is older than its order is dead-lettered, where that is asked for.
const SUPERSEDED: &str = "superseded";

/// How far back the balance between workers is looked at.
const BALANCE_SECONDS: i64 = 10;

/// A figure that was found, and what it may be.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) found: u64,
    pub(crate) is_promised_zero: bool,
    meaning: &'static str,
}

/// All orders, judged.
pub(crate) struct Sums {
    pub(crate) orders: BTreeMap<u64, Judged>,
    parked: Parked,
}

impl Sums {
    fn of(options: &Options, outcome: &Outcome) -> Self {
        let mut dead: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for (order, sequence) in outcome.letters.iter().filter_map(|(_, update)| *update) {
            dead.entry(order).or_default().insert(sequence);
        }
        let mut sum = Parked::default();
        let orders = outcome.published.newest.iter().map(|(order, newest)| {
            let (none, no_writes) = (BTreeSet::new(), Vec::new());
            let writes = outcome.history.orders.get(order).unwrap_or(&no_writes);
            let copies = outcome.published.copied.get(order).filter(|_| options.may_arrive_late());
            let copies = copies.unwrap_or(&none);
            let dead = dead.get(order).unwrap_or(&none);
            if let Some(bad) = bad_of(*order).filter(|_| options.parked) {
                let letters = letters_of(*order, &outcome.letters, BEHIND);
                let (judged, parked) = judge_parked(bad, *newest, &letters, copies, writes);
                sum.passed += parked.passed;
                sum.disordered += parked.disordered;
                sum.unexplained += parked.unexplained;
                return (*order, judged);
            }
            let letters = letters_of(*order, &outcome.letters, SUPERSEDED);
            sum.unexplained += needless(&letters, writes);
            (*order, judge(*newest, dead, copies, writes))
        });
        let orders = orders.collect();
        sum.unexplained += outcome.letters.iter().filter(|it| it.1.is_none()).count() as u64;
        Self { orders, parked: sum }
    }

    fn sum(&self, of: impl Fn(&Judged) -> u64) -> u64 {
        self.orders.values().map(of).sum()
    }

    fn count(&self, flaw: Flaw) -> u64 {
        self.sum(|order| order.flaws.iter().filter(|(_, it)| *it == flaw).count() as u64)
    }
}

/// Prints everything, and writes the row of figures that was asked for. True if every promise was
/// kept.
pub(crate) fn tell(options: &Options, seed: u64, outcome: &Outcome) -> Result<bool> {
    let sums = Sums::of(options, outcome);
    print_faults(options, outcome);
    print_workers(outcome);
    let figures = figures(options, outcome, &sums);
    println!("\nfound");
    let broken = figures.iter().filter(|it| it.is_promised_zero && it.found > 0).count();
    for Figure { name, found, is_promised_zero, meaning } in &figures {
        let mark = match (is_promised_zero, found) {
            (true, 0) => "0 promised",
            (true, _) => "BROKEN",
            (false, _) => "",
        };
        println!("  {name:<24}{found:>8}  {mark:<12}{meaning}");
    }
    for complaint in &outcome.complaints {
        println!("  {complaint}");
    }
    for (reason, count) in by_reason(&outcome.letters) {
        println!("  dead letter {reason:<24}{count:>6}");
    }
    flaws::print(outcome, &sums);
    println!(
        "\n{}: seed {seed}, {} s, {} workers, faults {}",
        if broken == 0 { "kept" } else { "BROKEN" },
        options.seconds,
        options.workers,
        options.kinds().iter().map(|kind| kind.name()).collect::<Vec<_>>().join(","),
    );
    if let Some(file) = &options.proof {
        proof::append(file, &proof::row(options, seed, outcome, &figures))?;
    }
    Ok(broken == 0)
}

/// Which zeros are promised: this table, and nothing else, decides the verdict.
fn figures(options: &Options, outcome: &Outcome, sums: &Sums) -> Vec<Figure> {
    let ledger = &outcome.ledger;
    let zero = |name, found, meaning| Figure { name, found, is_promised_zero: true, meaning };
    let seen = |name, found, meaning| Figure { name, found, is_promised_zero: false, meaning };
    let either =
        |is_promised_zero, name, found, meaning| Figure { name, found, is_promised_zero, meaning };
    let stale = sums.sum(|order| u64::from(order.stale_at_the_end));
    let overlaps = overlap::all(outcome);
    let late_requests = overlaps.iter().filter(|it| it.is_late_request(outcome)).count() as u64;
    vec![
        seen("published", outcome.published.distinct(), "different updates, each confirmed"),
        seen("published again", outcome.published.again, "the broker's confirm was lost"),
        seen("applied", ledger.applied_distinct, "different updates that were written"),
        seen("conflicts", ledger.conflicts, "somebody else wrote between GET and PATCH"),
        seen("faults of the service", ledger.faults.total(), "503s and resets"),
        zero("unconfirmed", outcome.published.unconfirmed, "the broker did not take them"),
        zero("lost", sums.sum(|order| order.lost), "neither written nor a dead letter"),
        either(
            !options.may_skip(),
            "skipped",
            sums.sum(|order| order.skipped),
            "the same, but a newer update was written",
        ),
        zero(
            "overlapping writers",
            ledger.overlaps.saturating_sub(late_requests),
            "two messages of one order worked on at once",
        ),
        seen("late requests", late_requests, "the same, by a worker just woken that wrote nothing"),
        either(
            !options.may_reorder(),
            "stale at the end",
            stale,
            "orders that are not as their newest update wants",
        ),
        either(
            !options.may_reorder(),
            "overtaken",
            sums.count(Flaw::Overtaken),
            "first written after a newer update",
        ),
        either(
            !options.may_reorder(),
            "stale in between",
            sums.count(Flaw::Stale),
            "again, without all that came after it",
        ),
        either(
            !options.may_replay(),
            "replayed",
            sums.count(Flaw::Replay),
            "again, with all that came after it: acks were lost",
        ),
        seen("late copies", sums.sum(|order| order.late_copies), "of the publisher's own"),
        either(
            options.sequenced,
            "repeated",
            sums.sum(|order| order.repeats),
            "again, and nothing newer was there",
        ),
        seen("dead letters", outcome.letters.len() as u64, "copies of redelivered ones included"),
        zero("needless dead letters", sums.parked.unexplained, "of an update that is good"),
        either(
            !options.may_reorder(),
            "passed",
            sums.parked.passed,
            "written though an update before it is a dead letter",
        ),
        either(
            !options.may_reorder(),
            "letters out of order",
            sums.parked.disordered,
            "behind a dead letter of a newer update",
        ),
        zero("unroutable", u64::from(outcome.unroutable), "no queue took them"),
        zero("left in the queues", u64::from(outcome.waiting), "after the last worker has ended"),
        zero("not finished", u64::from(!outcome.is_settled), "work went on for too long"),
        zero("bad ends", outcome.complaints.len() as u64, "workers that ended as none should"),
    ]
}

fn print_faults(options: &Options, outcome: &Outcome) {
    println!("\nfaults");
    for kind in options.kinds() {
        let count = outcome.count(kind);
        let few = if count < options.due() {
            format!("; FEW: {} s allow {}", options.seconds, options.due())
        } else {
            String::new()
        };
        println!("  {:<8}{count:>4}  {}{few}", kind.name(), kind.meaning());
        let takeovers = outcome.history.takeovers(kind, &outcome.book);
        let count = takeovers.len();
        let first = spread(takeovers.iter().filter_map(|it| it.first));
        let half = spread(takeovers.iter().filter_map(|it| it.half));
        if let (Some(first), Some(half)) = (first, half) {
            println!("                {count} at work; others wrote to the first of its orders");
            println!("                after {first}, to half of them after {half}");
        }
    }
    println!("  all work done {:.1} s after the last of them", outcome.settled_after.as_secs_f64());
    if outcome.published.lost > 0 {
        println!("  the publisher lost its connection {} times", outcome.published.lost);
    }
}

/// Least, median and most, in words.
fn spread(seconds: impl Iterator<Item = f64>) -> Option<String> {
    let mut all: Vec<f64> = seconds.collect();
    all.sort_unstable_by(f64::total_cmp);
    let (least, middle, most) = (all.first()?, all.get(all.len() / 2)?, all.last()?);
    Some(format!("{least:.2} / {middle:.2} / {most:.2} s (least / median / most)"))
}

/// Writes are known for all workers, the rest only from those that could still say it.
fn print_workers(outcome: &Outcome) {
    let writes = outcome.history.by_worker(Timestamp::MIN);
    println!("\nworkers     lived   end       writes   a second  released  settlements lost");
    for worker in &outcome.workers {
        let seconds = worker.died.duration_since(worker.born).as_secs_f64();
        let count = writes.get(&worker.number).copied().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 updates")]
        let rate = count as f64 / seconds.max(0.1);
        let field = |name: &str| {
            let value = worker.summary.as_ref().and_then(|it| it.get(name)?.as_u64());
            value.map_or("-".to_owned(), |value| value.to_string())
        };
        println!(
            "  {:>4}  {seconds:>8.1} s   {:<9}{count:>6}  {rate:>9.1}  {:>8}  {:>16}",
            worker.number,
            worker.how,
            field("released"),
            field("settlements_lost"),
        );
    }
    let window = SignedDuration::from_secs(BALANCE_SECONDS);
    let late = outcome.history.by_worker(outcome.load_ended - window);
    let alive = outcome.workers.iter().filter(|worker| worker.died > outcome.load_ended);
    let shares: Vec<u64> =
        alive.map(|it| late.get(&it.number).copied().unwrap_or_default()).collect();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 updates")]
    let mean = shares.iter().sum::<u64>() as f64 / shares.len() as f64;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 updates")]
    let most = shares.iter().copied().max().unwrap_or_default() as f64;
    println!(
        "  writes in the last {BALANCE_SECONDS} s of load, by worker: {shares:?}; largest / mean \
         {:.2}",
        most / mean.max(1.0)
    );
}
