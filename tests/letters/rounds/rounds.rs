//! A round: a few orders, letters of theirs, and an operator and a daemon who are killed at any point of
//! what they do. Then all is brought to its end, and the simulator's ledger and the queues are asked.

mod audit;
mod hands;
mod scene;

pub(crate) use audit::Verdict;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::Result;
use crate::ledger::Reader;
use crate::program::Program;
use scene::Scene;

/// Orders of one round. Those of different rounds are different ones.
const ORDERS: u64 = 6;

/// What all rounds play on: one broker, one simulator.
pub(crate) struct Ground {
    amqp: String,
    program: PathBuf,
    url: String,
    reader: Reader,
    folder: TempDir,
    _simulator: Program,
}

impl Ground {
    /// For so many rounds. `program` is what is proved.
    pub(crate) async fn open(amqp: &str, program: &Path, rounds: u64) -> Result<Self> {
        let folder =
            tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let orders = (ORDERS * rounds).to_string();
        let arguments = [
            ["--listen", "127.0.0.1:0"],
            ["--orders", &orders],
            ["--get-latency", "1ms..8ms"],
            ["--patch-latency", "2ms..15ms"],
        ];
        let arguments = [&arguments.concat()[..], &["--exit-with-stdin"]].concat();
        let log = folder.path().join("simulator");
        let mut simulator = Program::start("orderwright-sim", &arguments, &[], &log)?;
        let line = simulator.line_with("listening").await?;
        let url = line.get("listening").and_then(|url| url.as_str()).unwrap_or_default().to_owned();
        let (amqp, program) = (amqp.to_owned(), program.to_owned());
        Ok(Self { amqp, program, reader: Reader::new(&url)?, url, folder, _simulator: simulator })
    }

    /// Plays round `index` of the ground, from 0, by the dice of this seed.
    pub(crate) async fn round(&self, index: u64, seed: u64) -> Result<Verdict> {
        let mut scene = Scene::begin(self, index * ORDERS, seed).await?;
        let played = scene.play().await;
        let log = scene.end().await;
        played.map_err(|reason| format!("{reason}\n{log}"))
    }
}
