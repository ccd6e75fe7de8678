//! Against the real parts: a real RabbitMQ, the daemon as a process, HTTP over real sockets.
//!
//! One binary, so that it links once and all tests share one broker (those that stop it have their
//! own). Tests wait for events, never for time: the simulator's ledger answers when a number is
//! reached, a dead letter arrives at a consumer, the daemon says what it does in its log.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::match_wild_err_arm,
    reason = "a test that cannot go on must fail, and say where"
)]

mod actions;
mod admin;
mod alarms;
mod answers;
mod batch;
mod broker_objects;
mod browse;
mod coalesce;
mod commands;
mod conformance;
mod connecting;
mod crash_loops;
mod daemon;
mod dead_letters;
mod doctor;
mod edits;
mod encryption;
mod explain;
mod faults;
mod ghosts;
mod guards;
mod hold;
mod intake;
mod journal;
mod letters;
mod lifecycle;
mod log;
mod manifests;
mod misplaced;
mod observability;
mod order;
mod outage;
mod parked_replays;
mod parking;
mod pods;
mod profiles;
mod publishers;
mod replay_runs;
mod replay_trouble;
mod replays;
mod reshard;
mod returns;
mod select;
mod shard;
mod skip;
mod stage;
mod story;
mod target;
mod throttle;
mod top;
mod traces;
mod triage;
mod watchdog;
mod wire;

#[allow(dead_code, reason = "shared with the demo, which uses all of it")]
#[path = "../support/broker.rs"]
mod broker;
#[allow(dead_code, reason = "shared with the demo, which uses all of it")]
#[path = "../support/ledger.rs"]
mod ledger;
#[allow(dead_code, reason = "shared with the chaos, which uses all of it")]
#[path = "../chaos/process.rs"]
mod process;
#[allow(dead_code, reason = "shared with the demo, which uses all of it")]
#[path = "../support/program.rs"]
mod program;
#[path = "../support/proxy.rs"]
mod proxy;

#[allow(dead_code, reason = "shared with the letters' chaos, which uses all of it")]
#[path = "../letters/rounds/rounds.rs"]
mod rounds;

/// What helpers return: an error that is a sentence.
type Result<T> = std::result::Result<T, String>;
