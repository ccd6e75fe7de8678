//! Keeps what no compiler checks: the rules of the house, and that the documents are true.
//!
//! Each test reads files and names every place that breaks its rule, with the way out. None needs a
//! broker.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must fail, and say where"
)]

#[path = "tidy/chart.rs"]
mod chart;
#[path = "tidy/cluster.rs"]
mod cluster;
#[path = "tidy/contract.rs"]
mod contract;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/fields.rs"]
mod fields;
#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/images.rs"]
mod images;
#[path = "tidy/links.rs"]
mod links;
#[path = "tidy/manifests.rs"]
mod manifests;
#[path = "tidy/mutants.rs"]
mod mutants;
#[path = "tidy/release.rs"]
mod release;

use std::fs;
use std::path::Path;

use files::{Line, ROOT, before_tests, code, is_ours, is_tests, read, rust, tidy, tracked};

const SELF: &str = "tests/tidy.rs";

/// Decide and perform nothing: beside each file, what it may name all the same, and why.
const PURE: &[(&str, &[&str])] = &[
    ("src/order.rs", &[]),
    ("src/decode.rs", &[]),
    ("src/decode/", &[]),
    ("src/protocol.rs", &[]),
    ("src/protocol/", &[]),
    ("src/dispatch/mailbox.rs", &[]),
    ("src/dispatch/attempt.rs", &[]),
    ("src/odata/batch.rs", &[]),
    // Headers are values.
    ("src/odata/csrf.rs", &["reqwest::header"]),
    ("src/odata/grant.rs", &[]),
    ("src/odata/lanes.rs", &[]),
    ("src/odata/multipart.rs", &[]),
    ("src/dispatch/admission/breaker.rs", &[]),
    ("src/dispatch/admission/pace.rs", &[]),
    ("src/dispatch/admission/quota.rs", &[]),
    ("src/dispatch/admission/singled.rs", &[]),
    ("src/dispatch/admission/throttle.rs", &[]),
    ("src/odata/retry_after.rs", &[]),
    ("src/odata/url.rs", &[]),
    ("src/shard.rs", &[]),
    ("src/parking.rs", &[]),
    // Headers are values.
    ("src/parking/", &["lapin::types", "lapin::BasicProperties"]),
    ("src/admin/chart.rs", &[]),
    ("src/admin/history.rs", &[]),
    ("src/broker/balance.rs", &[]),
    ("src/broker/generation.rs", &[]),
    ("src/broker/reshard/plan.rs", &[]),
    ("src/cli/config.rs", &[]),
    // Arguments of queues and headers of messages are values.
    ("src/broker/topology.rs", &["lapin::types"]),
    ("src/broker/topology/", &["lapin::types"]),
    ("src/broker/doctor.rs", &[]),
    ("src/broker/doctor/", &[]),
    ("src/dead_letter/record.rs", &["lapin::types", "lapin::BasicProperties"]),
    ("src/dead_letter/replay.rs", &["lapin::types", "lapin::BasicProperties"]),
    ("src/dead_letter/journal.rs", &[]),
    ("src/dead_letter/body.rs", &[]),
    ("src/dead_letter/course.rs", &[]),
    ("src/app/replay/edit.rs", &[]),
    ("src/dead_letter/manner.rs", &[]),
    ("src/app/replay/place.rs", &[]),
    ("src/app/replay/order.rs", &[]),
    ("src/app/replay/chain.rs", &[]),
    ("src/app/replay/prospect.rs", &[]),
    ("src/dead_letter/earlier.rs", &[]),
    ("src/broker/browse/window.rs", &[]),
    ("src/cli/dead_letters/incident.rs", &[]),
    ("src/dead_letter/view.rs", &["lapin::types", "lapin::BasicProperties"]),
    ("src/dead_letter/fingerprint.rs", &[]),
    ("src/dead_letter/advice.rs", &[]),
    ("src/dead_letter/death.rs", &["lapin::types"]),
    ("src/dead_letter/groups.rs", &[]),
    ("src/dead_letter/select.rs", &["lapin::types"]),
    ("src/dead_letter/stamp.rs", &["lapin::types", "lapin::BasicProperties"]),
    ("src/dead_letter/transfer.rs", &["lapin::types", "lapin::BasicProperties"]),
    ("src/dead_letter/typed.rs", &["lapin::types"]),
    // Dice with a seed, handed in or made from the settings.
    ("src/simulator/answer.rs", &["fastrand::Rng"]),
    ("src/simulator/catalogue.rs", &["fastrand::Rng"]),
    ("src/simulator/csrf.rs", &["fastrand::Rng"]),
    ("src/simulator/dialect.rs", &[]),
    ("src/simulator/entity.rs", &[]),
    ("src/simulator/etag.rs", &["fastrand::Rng"]),
    ("src/simulator/faults.rs", &["fastrand::Rng"]),
    ("src/simulator/gzip.rs", &[]),
    ("src/simulator/key.rs", &[]),
    ("src/simulator/latency.rs", &["fastrand::Rng"]),
    ("src/simulator/ledger.rs", &[]),
    ("src/simulator/profile.rs", &[]),
    ("src/simulator/rates.rs", &["fastrand::Rng"]),
    ("src/simulator/record.rs", &["fastrand::Rng"]),
    ("src/simulator/scenario.rs", &[]),
    ("src/simulator/spans.rs", &[]),
    ("src/simulator/switch.rs", &["fastrand::Rng"]),
    ("src/simulator/throttle.rs", &["fastrand::Rng"]),
    ("src/simulator/tokens.rs", &["fastrand::Rng"]),
    ("src/simulator/tokens/", &["fastrand::Rng"]),
    ("src/simulator/world.rs", &["fastrand::Rng"]),
];

/// The runtime, the wire, the clock and the dice.
const EFFECTS: &[&str] = &[
    "tokio::",
    "tokio_util::",
    "futures_util::",
    "async fn",
    "async move",
    ".await",
    "lapin::",
    "reqwest::",
    "hyper::",
    "tracing::",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env::",
    "::now()",
    "Instant",
    "SystemTime",
    "fastrand::",
    "Rng::new()",
];

/// Who may know whom. A module that is not here does not exist, or has just been added: say then
/// whom it may know.
const ARROWS: &[(&str, &[&str])] = &[
    ("order", &[]),
    ("decode", &["order"]),
    ("protocol", &["order"]),
    ("dispatch", &["order", "protocol", "telemetry"]),
    ("config", &[]),
    ("telemetry", &["config"]),
    ("admin", &["config", "telemetry"]),
    ("properties", &[]),
    ("shard", &[]),
    (
        "fuzzing",
        &["config", "dead_letter", "decode", "odata", "order", "parking", "properties", "protocol"],
    ),
    ("measuring", &["config", "dispatch", "odata", "order"]),
    ("parking", &["properties"]),
    ("broker", &["config", "parking", "properties", "protocol", "telemetry"]),
    ("odata", &["config", "dispatch", "order", "protocol", "telemetry"]),
    ("dead_letter", &["config", "dispatch", "parking", "properties"]),
    (
        "app",
        &[
            "admin",
            "broker",
            "config",
            "dead_letter",
            "decode",
            "dispatch",
            "odata",
            "order",
            "parking",
            "properties",
            "protocol",
            "shard",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "admin",
            "app",
            "broker",
            "config",
            "dead_letter",
            "decode",
            "odata",
            "parking",
            "telemetry",
        ],
    ),
    ("simulator", &[]),
];

/// Lines that a file may have before its tests.
const LINES_MAX: usize = 350;

#[test]
fn pure_modules_name_no_runtime_no_wire_no_clock_and_no_dice() {
    let mut findings = Vec::new();
    let all = rust(&["src"]);
    for (pure, allowed) in PURE {
        let is_meant = |file: &&String| {
            file.as_str() == *pure || (pure.ends_with('/') && file.starts_with(pure))
        };
        let files: Vec<_> = all.iter().filter(is_meant).collect();
        if files.is_empty() {
            findings.push(format!("{SELF}: {pure} is gone: take it out of PURE"));
        }
        for file in files.into_iter().filter(|file| !is_tests(file)) {
            for line in code(file, before_tests(&read(file))) {
                let hit = EFFECTS.iter().find(|word| {
                    line.text.contains(*word)
                        && !allowed.iter().any(|name| {
                            name.starts_with(*word) && !line.text.replace(name, "").contains(*word)
                        })
                });
                if let Some(word) = hit {
                    let place = line.place;
                    findings
                        .push(format!("{place}: {word} belongs to an edge: pass its result in"));
                }
            }
        }
    }
    tidy(&findings);
}

#[test]
fn arrows_between_modules_run_one_way() {
    let mut findings = Vec::new();
    for file in rust(&["src"]).iter().filter(|file| !is_tests(file)) {
        let inside = file.trim_start_matches("src/");
        let module = inside.split(['/', '.']).next().unwrap();
        if ["main", "lib", "bin"].contains(&module) {
            continue;
        }
        let Some((_, known)) = ARROWS.iter().find(|(name, _)| *name == module) else {
            findings
                .push(format!("{file}: {module} is not in ARROWS of {SELF}: say whom it knows"));
            continue;
        };
        for line in code(file, before_tests(&read(file))) {
            for path in line.text.split("crate::").skip(1) {
                let end = path.find(|it: char| !it.is_ascii_alphanumeric() && it != '_');
                let other = &path[..end.unwrap_or(path.len())];
                if other != module && !known.contains(&other) {
                    let place = &line.place;
                    findings.push(format!(
                        "{place}: {module} must not know {other}: let app pass what it needs, or \
                         change ARROWS in {SELF} and the picture in docs/ARCHITECTURE.md"
                    ));
                }
            }
        }
    }
    tidy(&findings);
}

#[test]
fn only_the_router_knows_the_map_and_nothing_in_it_waits() {
    const ROUTER: &str = "src/dispatch/router.rs";
    let mut findings = Vec::new();
    for file in rust(&["src"]) {
        for Line { place, text } in code(&file, &read(&file)) {
            if file == ROUTER {
                for word in ["async fn", "async move", "async {", ".await"] {
                    if text.contains(word) {
                        findings.push(format!(
                            "{place}: {word} could keep a guard of the map over an await: wait in \
                             src/dispatch/runner.rs"
                        ));
                    }
                }
            } else if text.to_lowercase().contains("dashmap") {
                findings.push(format!("{place}: ask {ROUTER}: nobody else touches the map"));
            }
        }
    }
    tidy(&findings);
}

#[test]
fn nothing_is_cancelled_nacked_or_rejected() {
    let mut findings = Vec::new();
    for file in rust(&["src"]) {
        for Line { place, text } in code(&file, &read(&file)) {
            for word in ["basic_cancel", "basic_nack", "basic_reject", ".nack(", ".reject("] {
                if text.contains(word) {
                    findings.push(format!(
                        "{place}: {word} loses the order of what is unsettled: close the channel \
                         instead, and the broker hands it out again in order"
                    ));
                }
            }
        }
    }
    tidy(&findings);
}

#[test]
fn files_are_named_after_what_they_hold() {
    let mut findings = Vec::new();
    for file in rust(&["src", "tests", "deploy"]) {
        let name = file.rsplit('/').next().unwrap();
        if name == "mod.rs" {
            findings.push(format!("{file}: name it after its folder and put it beside that"));
        }
        if ["util.rs", "utils.rs", "helpers.rs", "common.rs", "misc.rs"].contains(&name) {
            findings.push(format!("{file}: a drawer: name it after the one thing that it holds"));
        }
    }
    tidy(&findings);
}

#[test]
fn files_are_short_enough_to_be_read_at_once() {
    let mut findings = Vec::new();
    for file in rust(&["src"]).iter().filter(|file| !is_tests(file)) {
        let lines = before_tests(&read(file)).lines().count();
        if lines > LINES_MAX {
            findings.push(format!(
                "{file}:{LINES_MAX}: {lines} lines before its tests, {LINES_MAX} is the most: move \
                 one noun to a file of its own"
            ));
        }
    }
    tidy(&findings);
}

#[test]
fn tests_wait_for_events_and_none_is_switched_off() {
    let mut findings = Vec::new();
    for file in rust(&["src", "tests", "deploy"]) {
        for Line { place, text } in code(&file, &read(&file)) {
            if text.contains("#[ignore") {
                findings.push(format!("{place}: a test that is not run proves nothing: mend it"));
            }
            // A chaos run is a program with a schedule: how long a fault lasts is its matter. The simulation
            // sleeps in virtual time.
            let is_run = ["tests/chaos/", "tests/letters/", "tests/sim/"];
            let is_run = is_run.iter().any(|it| file.starts_with(it));
            let is_test = file.starts_with("tests/") && !is_run;
            if is_test && text.contains("sleep(") {
                findings.push(format!(
                    "{place}: wait for what must happen (a line of the log, a number of the \
                     ledger, a dead letter), not for time"
                ));
            }
        }
    }
    tidy(&findings);
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    let needles = ["/work/", "/root/", "/home/", "/Users/", "/tmp/ow"];
    let mut findings = Vec::new();
    for file in tracked().iter().filter(|file| !is_ours(file)) {
        let Ok(text) = fs::read_to_string(Path::new(ROOT).join(file)) else { continue };
        for (number, line) in text.lines().enumerate() {
            for needle in needles {
                // `$tree/root/usr` is a path below something, not a place.
                let absolute = line.match_indices(needle).any(|(at, _)| {
                    !line[..at].ends_with(|it: char| it.is_alphanumeric() || "_}.~".contains(it))
                });
                if absolute {
                    let place = format!("{file}:{}", number + 1);
                    findings
                        .push(format!("{place}: {needle} is not on every machine: leave it out"));
                }
            }
        }
    }
    tidy(&findings);
}
