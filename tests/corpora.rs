//! What the fuzzer began with and what it found, at the doors that it throws it at (`src/fuzzing.rs`), by the
//! stable compiler and with every run of the tests.

use std::fs;
use std::path::Path;

use orderwright::fuzzing::DOORS;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

#[test]
fn every_input_that_is_kept_is_taken_without_a_panic() {
    for (name, door) in DOORS {
        let corpus = Path::new(FOLDER).join("corpus").join(name);
        let mut inputs: Vec<_> =
            fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(inputs.len() >= 3, "{}: too few inputs", corpus.display());
        for input in inputs {
            // Its name stands above a panic.
            println!("{}", input.display());
            door(&fs::read(&input).unwrap());
        }
    }
}

#[test]
fn every_door_has_a_target_and_every_target_a_door() {
    let mut targets: Vec<String> = fs::read_dir(Path::new(FOLDER).join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    targets.sort();
    let mut doors: Vec<_> = DOORS.iter().map(|(name, _)| (*name).to_owned()).collect();
    doors.sort();
    assert_eq!(targets, doors);
}

#[test]
fn inputs_that_are_cut_or_bent_anywhere_are_taken_without_a_panic() {
    for (name, door) in DOORS {
        let corpus = Path::new(FOLDER).join("corpus").join(name);
        for entry in fs::read_dir(&corpus).unwrap() {
            let whole = fs::read(entry.unwrap().path()).unwrap();
            for at in (0..whole.len()).step_by(whole.len() / 40 + 1) {
                door(&whole[..at]);
                let mut bent = whole.clone();
                bent[at] ^= 0x15;
                door(&bent);
            }
        }
    }
}
