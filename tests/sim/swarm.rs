//! Many seeds on all cores, what they came through, and the smallest form of those that fail.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::book::{STATES, State};
use crate::fault::KINDS;
use crate::plan::Plan;
use crate::run::{Verdict, run};

/// Failures that are made small and told; more say little.
const TOLD_MAX: usize = 5;
/// Seeds that are enough to come through every state and kind of fault.
const SEEDS_TO_SEE_ALL: u64 = 1000;

/// What all seeds together came through.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    states: BTreeMap<State, u64>,
    codes: BTreeMap<String, u64>,
    kinds: [u64; KINDS.len()],
    events: u64,
    took: Duration,
    calm_max: Duration,
}

impl Coverage {
    pub(crate) fn add(&mut self, verdict: &Verdict) {
        for state in verdict.states.keys() {
            *self.states.entry(*state).or_default() += 1;
        }
        for (all, one) in self.kinds.iter_mut().zip(verdict.kinds) {
            *all += one;
        }
        for (code, count) in &verdict.codes {
            *self.codes.entry(code.clone()).or_default() += count;
        }
        self.events += verdict.events;
        self.took += verdict.took;
        self.calm_max = self.calm_max.max(verdict.calm);
    }

    /// What no seed came through.
    pub(crate) fn unseen(&self) -> Vec<&'static str> {
        let states = STATES.iter().filter(|(state, _)| !self.states.contains_key(state));
        states.map(|(_, name)| *name).chain(self.unseen_kinds()).collect()
    }

    /// The kinds of faults among it.
    pub(crate) fn unseen_kinds(&self) -> Vec<&'static str> {
        let kinds = KINDS.iter().zip(self.kinds).filter(|(_, count)| *count == 0);
        kinds.map(|(name, _)| *name).collect()
    }

    fn tell(&self) {
        let kinds = KINDS.iter().zip(self.kinds).map(|(name, count)| format!("{name} {count}"));
        println!("faults: {}", kinds.collect::<Vec<_>>().join(", "));
        for (state, name) in STATES {
            println!("  seeds with: {name:<50} {}", self.states.get(&state).unwrap_or(&0));
        }
        let codes = self.codes.iter().map(|(code, count)| format!("{code} {count}"));
        println!("dead letters: {}", codes.collect::<Vec<_>>().join(", "));
        let hours = self.took.as_secs_f64() / 3600.0;
        println!(
            "{} events in {hours:.1} h of virtual time; all was settled at most {:.1} s after the last fault",
            self.events,
            self.calm_max.as_secs_f64()
        );
    }
}

/// Runs these seeds. True if all kept their promises, and saw all that there is to see.
pub(crate) fn swarm((first, count): (u64, u64), threads: usize, until: Option<&str>) -> bool {
    #[expect(clippy::disallowed_methods, reason = "seeds a second are seconds of the machine")]
    let begun = Instant::now();
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let (mut coverage, mut failed, mut done) = (Coverage::default(), Vec::new(), 0_u64);
    std::thread::scope(|scope| {
        let (sender, verdicts) = mpsc::channel();
        for _ in 0..threads {
            let (sender, next, stop) = (sender.clone(), &next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count
                        || sender.send((seed, run(&Plan::of(seed), false))).is_err()
                    {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut told = begun;
        for (seed, verdict) in verdicts {
            done += 1;
            coverage.add(&verdict);
            let is_wanted = |it: &&String| until.is_none_or(|until| it.contains(until));
            if let Some(complaint) = verdict.complaints.iter().find(is_wanted) {
                println!("seed {seed}: {complaint}");
                failed.push(seed);
                stop.fetch_or(until.is_some(), Ordering::Relaxed);
            }
            if told.elapsed() > Duration::from_secs(5) {
                #[expect(clippy::disallowed_methods, reason = "as above")]
                let now = Instant::now();
                told = now;
                let rate = done as f64 / begun.elapsed().as_secs_f64();
                println!("{done} of {count} seeds, {rate:.0} seeds/s, {} failed", failed.len());
            }
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{done} seeds in {seconds:.1} s, {:.0} seeds/s on {threads} threads, {} failed",
        done as f64 / seconds,
        failed.len()
    );
    coverage.tell();
    failed.sort_unstable();
    let told = if until.is_some() { 0 } else { TOLD_MAX };
    for seed in failed.iter().take(told) {
        tell_smallest(*seed);
    }
    let unseen = coverage.unseen();
    let is_blind = count >= SEEDS_TO_SEE_ALL && until.is_none() && !unseen.is_empty();
    if is_blind {
        println!("BLIND: no seed came through: {}", unseen.join(", "));
    }
    failed.is_empty() && !is_blind
}

/// Takes away faults and updates for as long as it still fails.
pub(crate) fn shrink(seed: u64) -> (Vec<usize>, usize, Verdict) {
    let whole = Plan::of(seed);
    let (mut kept, mut updates) =
        ((0..whole.faults.len()).collect::<Vec<_>>(), whole.updates.len());
    let fails = |kept: &[usize], updates| {
        let verdict = run(&whole.with(kept, updates), false);
        (!verdict.complaints.is_empty()).then_some(verdict)
    };
    let mut last = run(&whole, false);
    loop {
        let mut is_smaller = false;
        for at in (0..kept.len()).rev() {
            let mut fewer = kept.clone();
            fewer.remove(at);
            if let Some(verdict) = fails(&fewer, updates) {
                (kept, last, is_smaller) = (fewer, verdict, true);
            }
        }
        for fewer in [updates / 2, updates * 3 / 4, updates.saturating_sub(1)] {
            if fewer > 0
                && fewer < updates
                && let Some(verdict) = fails(&kept, fewer)
            {
                (updates, last, is_smaller) = (fewer, verdict, true);
                break;
            }
        }
        if !is_smaller {
            return (kept, updates, last);
        }
    }
}

fn command(seed: u64, kept: &[usize], updates: usize) -> String {
    let kept: Vec<_> = kept.iter().map(ToString::to_string).collect();
    format!("make sim SEED={seed} KEEP='{}' UPDATES={updates}", kept.join(","))
}

fn tell_smallest(seed: u64) {
    let (kept, updates, verdict) = shrink(seed);
    let whole = Plan::of(seed);
    println!(
        "\nseed {seed}, with {} of {} faults and {updates} of {} updates:",
        kept.len(),
        whole.faults.len(),
        whole.updates.len()
    );
    for (at, fault) in &whole.with(&kept, updates).faults {
        println!("  {:9.3} s {fault:?}", at.as_secs_f64());
    }
    for complaint in verdict.complaints {
        println!("  BROKEN at {complaint}");
    }
    println!("  replay: {}", command(seed, &kept, updates));
}

/// Runs one seed and tells all of it.
pub(crate) fn replay(seed: u64, keep: Option<&[usize]>, updates: Option<usize>) -> bool {
    if std::env::var_os("SIM_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_env("SIM_LOG");
        tracing_subscriber::fmt().with_env_filter(filter).without_time().init();
    }
    let whole = Plan::of(seed);
    let all: Vec<usize> = (0..whole.faults.len()).collect();
    let plan = whole.with(keep.unwrap_or(&all), updates.unwrap_or(usize::MAX));
    let verdict = run(&plan, true);
    println!("{}", verdict.words);
    println!(
        "seed {seed}: {} pods, {} shards, {} orders, prefetch {}, {} updates, {}{}{}",
        plan.pods,
        plan.shards,
        plan.orders,
        plan.prefetch,
        plan.updates.len(),
        if plan.is_sequenced { "sequenced, " } else { "" },
        if plan.is_merging { "merged, " } else { "" },
        if plan.is_scrambled { "ring scrambled" } else { "ring in order" },
    );
    for (at, fault) in &plan.faults {
        println!("  {:9.3} s {fault:?}", at.as_secs_f64());
    }
    println!(
        "trace {:016x}, {} events, {:.1} s",
        verdict.hash,
        verdict.events,
        verdict.took.as_secs_f64()
    );
    for complaint in &verdict.complaints {
        println!("BROKEN at {complaint}");
    }
    verdict.complaints.is_empty()
}
