//! Another number of shards in mid-run, by the command that an operator would use.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::Result;
use crate::fleet::Ground;
use crate::options::Options;

/// The command goes on by itself after a loss of the broker; what takes this long hangs.
const RESHARD_MAX: Duration = Duration::from_mins(5);

/// A generation of shard queues: its number and how many there are.
pub(crate) type Generation = (u64, u64);

/// Reshards, and goes on where an earlier one was killed. `None` if it was killed after `killed_after`.
pub(crate) async fn reshard(
    ground: &Ground,
    options: &Options,
    shards: u64,
    killed_after: Option<Duration>,
) -> Result<Option<Generation>> {
    let settings = ground.settings(options, "resharder", ground.broker, ground.simulator);
    let shards = shards.to_string();
    let mut command = Command::new(&ground.program);
    command
        .args(["topology", "reshard", "--output", "json", "--linger", "1s", "--shards", &shards])
        .envs(settings)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(killed_after.unwrap_or(RESHARD_MAX), command.output()).await;
    let Ok(output) = output else {
        return match killed_after {
            Some(_) => Ok(None),
            None => Err(format!("a reshard hangs for {} s", RESHARD_MAX.as_secs())),
        };
    };
    let output = output.map_err(|error| format!("topology reshard: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("topology reshard: {}", said.trim_end()));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
    let done = last.filter(|line| line.get("step").is_some_and(|step| step == "done"));
    let number = |name: &str| done.as_ref()?.get("generation")?.get(name)?.as_u64();
    match (number("number"), number("shards")) {
        (Some(generation), Some(shards)) => Ok(Some((generation, shards))),
        _ => Err(format!("topology reshard did not say what it did: {said}")),
    }
}
