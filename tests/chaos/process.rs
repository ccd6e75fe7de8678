//! One daemon as a child process that can be stopped and killed, and that cannot outlive us.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Result;

/// Runs its arguments as a command, says its process id, and ends it when stdin ends: when we close
/// it after its end, and also when we are killed. Signals before that are ours to send.
const UNTIL_STDIN_ENDS: &str = r#"
"$@" </dev/null &
program=$!
echo "{\"pid\":$program}"
exec >&-
read -r _
kill -KILL "$program" 2>/dev/null
wait "$program"
"#;

/// A daemon that is told to drain takes its grace and a goodbye; what takes this long hangs.
const END_MAX: Duration = Duration::from_secs(20);

/// What a daemon has said on its stdout.
#[derive(Debug, Default, Clone)]
pub(crate) struct Said {
    /// It consumes.
    pub(crate) ready: bool,
    /// Its own account, the last thing that it says.
    pub(crate) summary: Option<Value>,
    /// It is gone.
    pub(crate) ended: bool,
}

/// How a daemon ended.
#[derive(Debug)]
pub(crate) struct End {
    /// Its exit code, or 128 and the number of the signal.
    pub(crate) code: Option<i32>,
    /// Its own account.
    pub(crate) summary: Option<Value>,
}

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u64,
    child: Child,
    stdin: Option<ChildStdin>,
    said: watch::Receiver<Said>,
    _reader: JoinSet<()>,
}

impl Process {
    /// Starts it, and does not wait until it consumes.
    pub(crate) async fn start(
        program: &Path,
        settings: &[(String, String)],
        log: &Path,
    ) -> Result<Self> {
        let log = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let mut command = Command::new("bash");
        command.args(["-c", UNTIL_STDIN_ENDS, "worker"]).arg(program);
        command.args(["run", "--output", "json"]);
        // Settings of the person who runs this may name a real broker, or a real token.
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("ORDERWRIGHT") {
                command.env_remove(key);
            }
        }
        let mut child = command
            .envs(settings.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C is for us alone: the daemons are then ended in order.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start a worker: {error}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("a worker has no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let first = lines.next_line().await.ok().flatten().unwrap_or_default();
        let pid = serde_json::from_str::<Value>(&first).ok();
        let pid = pid.and_then(|line| line.get("pid")?.as_u64()).ok_or("a worker has no pid")?;
        let (say, said) = watch::channel(Said::default());
        let mut reader = JoinSet::new();
        reader.spawn(read(lines, say));
        Ok(Self { pid, child, stdin, said, _reader: reader })
    }

    /// Whether it has ended by itself.
    pub(crate) fn is_over(&self) -> bool {
        self.said.borrow().ended
    }

    /// Waits until it consumes from every shard. False if it does not come to that.
    pub(crate) async fn ready(&mut self, within: Duration) -> bool {
        let ready = self.said.wait_for(|said| said.ready || said.ended);
        match timeout(within, ready).await {
            Ok(Ok(said)) => said.ready,
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Sends a signal, unless it has ended: its number may be somebody else's then.
    pub(crate) async fn signal(&self, name: &str) -> Result<()> {
        if self.is_over() {
            return Ok(());
        }
        // The shell's own: a bare Debian has no program of that name.
        let kill = format!("kill -{name} {}", self.pid);
        let sent = Command::new("bash").args(["-c", &kill]).stderr(Stdio::null()).status().await;
        sent.map(drop).map_err(|error| format!("kill: {error}"))
    }

    /// Waits for the end that a signal has brought about. `None` if it does not end.
    pub(crate) async fn ended(mut self) -> Option<End> {
        let hangs = timeout(END_MAX, self.said.wait_for(|said| said.ended)).await.is_err();
        if hangs {
            drop(self.signal("KILL").await);
        }
        drop(self.stdin.take());
        let status = timeout(END_MAX, self.child.wait()).await.ok()?.ok()?;
        let summary = self.said.borrow().summary.clone();
        (!hangs).then_some(End { code: status.code(), summary })
    }
}

/// Notes what the daemon says until it is gone.
async fn read(mut lines: Lines<BufReader<ChildStdout>>, say: watch::Sender<Said>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        match event.get("event").and_then(Value::as_str) {
            Some("ready") => say.send_modify(|said| said.ready = true),
            Some("summary") => say.send_modify(|said| said.summary = Some(event.clone())),
            Some(_) | None => {}
        }
    }
    say.send_modify(|said| said.ended = true);
}
