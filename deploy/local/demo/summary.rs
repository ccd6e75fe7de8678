//! What came of it, in words, and whether all accounts agree.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Result;
use crate::dead_letters::Group;
use crate::ledger::Ledger;
use crate::messages::{ORDERS, UPDATES_PER_ORDER};

/// What was published, and what simulator and dead-letter queue know about it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Messages that the broker confirmed.
    pub(crate) published: u64,
    /// The simulator's account.
    pub(crate) ledger: Ledger,
    /// The dead-letter queue, by reason.
    pub(crate) dead_letters: BTreeMap<String, Group>,
    /// From the first message until the last was settled.
    pub(crate) duration: Duration,
}

/// The daemon's own account, from its last line.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Report {
    applied: u64,
    already_applied: u64,
    dead_lettered: BTreeMap<String, u64>,
    conflicts: u64,
    conflicts_overcome: u64,
    failures: u64,
    retries: u64,
}

impl Report {
    fn dead(&self) -> u64 {
        self.dead_lettered.values().sum()
    }
}

/// Prints what is known while the daemon still runs.
pub(crate) fn print_settled(outcome: &Outcome) {
    let letters: u64 = outcome.dead_letters.values().map(|group| group.count).sum();
    println!(
        "Of {} messages {} were applied and {letters} dead-lettered, in {:.1} s.",
        outcome.published,
        outcome.ledger.applied_distinct,
        outcome.duration.as_secs_f64()
    );
}

/// Prints the summary on stdout.
pub(crate) fn print(report: &Report, outcome: &Outcome) {
    let Outcome { published, ledger, dead_letters, duration } = outcome;
    println!();
    let bad = published.saturating_sub(ORDERS * UPDATES_PER_ORDER);
    line("published", *published, &format!("for {ORDERS} orders; {bad} of them bad on purpose"));
    line("applied", report.applied, "by a GET and a PATCH with the ETag of that GET");
    line("already applied", report.already_applied, "the write was done, only its reply was lost");
    line("dead-lettered", report.dead(), "with the reason, for an operator to judge:");
    for (reason, group) in dead_letters {
        println!("    {reason:<22}{:>5}  e.g. {}", group.count, group.example);
    }
    println!();
    let overcome = format!(
        "another user wrote between GET and PATCH; {} updates met it and were applied all the same",
        report.conflicts_overcome
    );
    line("conflicts", report.conflicts, &overcome);
    let faults = format!("the simulator made {} faults on purpose", ledger.faults.total());
    line("failures", report.failures, &faults);
    line("retries", report.retries, "each with a fresh GET");
    let requests = format!("{} GETs, {} PATCHes in all", ledger.gets, ledger.patches);
    line("at the same time", ledger.in_flight_max, &requests);
    println!();
    line("overlapping writers", ledger.overlaps, "two requests for one order at the same time");
    line("out of order", ledger.out_of_order, "an older update written over a newer one");
    line("applied twice", ledger.applied_twice, "the same update written again");
    let seconds = duration.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a thousand messages")]
    let rate = *published as f64 / seconds;
    println!("\n{published} messages in {seconds:.1} s: {rate:.0} a second.");
}

fn line(name: &str, count: u64, meaning: &str) {
    println!("  {name:<22}{count:>7}  {meaning}");
}

/// Every message must be accounted for, by three parties that do not ask each other.
pub(crate) fn check(report: &Report, outcome: &Outcome) -> Result<()> {
    let Outcome { published, ledger, dead_letters, .. } = outcome;
    let written = report.applied + report.already_applied;
    let letters: u64 = dead_letters.values().map(|group| group.count).sum();
    let sums = [
        (
            "applied + already applied + dead-lettered = published",
            written + report.dead(),
            *published,
        ),
        ("dead letters in the queue = dead-lettered by the daemon", letters, report.dead()),
        ("updates in the ledger = applied + already applied", ledger.applied_distinct, written),
        ("overlapping writers = 0", ledger.overlaps, 0),
        ("out of order = 0", ledger.out_of_order, 0),
        ("applied twice = 0", ledger.applied_twice, 0),
    ];
    let wrong: Vec<String> = sums
        .into_iter()
        .filter(|(_, is, should)| is != should)
        .map(|(sum, is, should)| format!("{sum}: {is} is not {should}"))
        .collect();
    if wrong.is_empty() {
        println!("Every sum adds up: no update was lost, doubled or overtaken.");
        return Ok(());
    }
    Err(format!("a sum is off:\n  {}", wrong.join("\n  ")))
}
