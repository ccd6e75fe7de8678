//! A few seconds of it in every run of the tests.

use crate::plan::Plan;
use crate::run::run;
use crate::swarm::Coverage;

/// Seeds that once found something, and must not again. A change of what seeds stand for makes them others: look
/// for new ones with the broken builds of `tests/sim/mutants` that do the same.
const REGRESSIONS: &[u64] = &[
    // A pod that got a shard by a loss, and gave it on at once, said that nothing of it was on the wire.
    923,
    // A pod that could not hear that the broker had given its shards away began new attempts for what it held, and
    // wrote what was older over what the next owner had written.
    40_320, 51_006,
];

/// Some fifteen seconds of a debug build.
const SEEDS: u64 = 100;

#[test]
fn seed_gives_the_same_run_every_time() {
    for seed in 1..=12 {
        let (one, other) = (run(&Plan::of(seed), false), run(&Plan::of(seed), true));
        assert_eq!((one.hash, one.events), (other.hash, other.events), "seed {seed}");
    }
}

#[test]
fn promises_are_kept_under_faults_of_every_kind() {
    let mut coverage = Coverage::default();
    for seed in (1..=SEEDS).chain(REGRESSIONS.iter().copied()) {
        let verdict = run(&Plan::of(seed), false);
        assert!(verdict.complaints.is_empty(), "seed {seed}: {:?}", verdict.complaints);
        coverage.add(&verdict);
    }
    assert_eq!(coverage.unseen_kinds(), [""; 0], "faults that no seed has");
}
