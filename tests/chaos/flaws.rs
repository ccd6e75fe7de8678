//! What went wrong in the end: after which faults, and what was written around it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::audit::Flaw;
use crate::fault::Kind;
use crate::overlap;
use crate::report::Sums;
use crate::stage::Outcome;
use crate::trouble::Injected;

/// How long a fault that has ended is named beside the flaws that are found.
const AFTERMATH_SECONDS: i64 = 5;
/// Flaws of each kind around which the writes are shown.
const EXAMPLES_MAX: usize = 5;
/// Writes shown before and after it.
const AROUND: usize = 4;

/// Where flaws come from: after which faults, and what was written around some of them.
pub(crate) fn print(outcome: &Outcome, sums: &Sums) {
    let mut after: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut count = |flaw: &str, time| {
        *after.entry((flaw.to_owned(), causes(&outcome.book, time))).or_default() += 1;
    };
    let mut bad: BTreeMap<Flaw, Vec<(u64, Timestamp)>> = BTreeMap::new();
    for (order, judged) in &sums.orders {
        for (time, flaw) in &judged.flaws {
            count(&format!("{flaw:?}").to_lowercase(), *time);
            bad.entry(*flaw).or_default().push((*order, *time));
        }
    }
    let overlaps = overlap::all(outcome);
    for overlap in &overlaps {
        let what = if overlap.is_late_request(outcome) { "late request" } else { "overlap" };
        count(what, overlap.time);
    }
    if after.is_empty() {
        return;
    }
    println!("\nby the faults at that time");
    for ((flaw, fault), count) in after {
        println!("  {flaw:<32}{fault:<24}{count:>6}");
    }
    for (flaw, mut all) in bad {
        // The earliest are told first: what comes later may come of them.
        all.sort_unstable_by_key(|(_, time)| *time);
        for (order, time) in all.into_iter().take(EXAMPLES_MAX) {
            println!("  {flaw:?} at {time:.3}, SO-{order:06}: {}", around(outcome, order, time));
        }
    }
    for overlap in overlaps.iter().take(EXAMPLES_MAX) {
        println!("  {}", overlap.in_words(outcome));
    }
}

/// All kinds of faults that went on, or had ended shortly before.
fn causes(book: &[Injected], time: Timestamp) -> String {
    let is_recent = |fault: &&Injected| {
        fault.begun <= time && time.duration_since(fault.ended).as_secs() < AFTERMATH_SECONDS
    };
    let kinds: BTreeSet<Kind> = book.iter().filter(is_recent).map(|fault| fault.kind).collect();
    let names: Vec<&str> = kinds.into_iter().map(Kind::name).collect();
    if names.is_empty() { "(none)".to_owned() } else { names.join(" ") }
}

fn around(outcome: &Outcome, order: u64, time: Timestamp) -> String {
    let Some(writes) = outcome.history.orders.get(&order) else { return String::new() };
    let at = writes.partition_point(|write| write.time < time);
    let shown = writes.iter().skip(at.saturating_sub(AROUND)).take(2 * AROUND + 1);
    let shown = shown.map(|write| {
        let worker = write.worker.map_or("?".to_owned(), |worker| worker.to_string());
        let apart = write.time.duration_since(time).as_secs_f64();
        format!("{}({apart:+.3}s by {worker})", write.sequence)
    });
    shown.collect::<Vec<_>>().join(" ")
}
