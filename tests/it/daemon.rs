//! The daemon as a child process whose log can be waited for.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Nothing that a test waits for takes this long, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Lines as they come in, and a bell.
#[derive(Debug, Default)]
struct Lines {
    lines: Mutex<Vec<String>>,
    arrived: Notify,
}

impl Lines {
    async fn collect(self: Arc<Self>, from: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            self.lines.lock().unwrap().push(line);
            self.arrived.notify_waiters();
        }
        self.arrived.notify_waiters();
    }

    /// The line that is the `nth` of its kind, from 1.
    async fn find(&self, what: &str, nth: usize, wanted: impl Fn(&str) -> bool) -> String {
        match timeout(PATIENCE, self.wait_for(nth, wanted)).await {
            Ok(line) => line,
            Err(_elapsed) => panic!("no {what} in:\n{}", self.tail()),
        }
    }

    async fn wait_for(&self, nth: usize, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            // Registered before the look, so that no line slips in between.
            arrived.as_mut().enable();
            let line = {
                let lines = self.lines.lock().unwrap();
                lines.iter().filter(|line| wanted(line)).nth(nth - 1).cloned()
            };
            match line {
                Some(line) => return line,
                None => arrived.await,
            }
        }
    }

    fn tail(&self) -> String {
        let lines = self.lines.lock().unwrap();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

/// A running `orderwright run`. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
    readers: JoinSet<()>,
}

/// What the daemon said when it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) summary: Option<Value>,
    pub(crate) log: String,
}

impl Ended {
    /// A number of the summary.
    pub(crate) fn count(&self, field: &str) -> u64 {
        let summary = self.summary.as_ref().unwrap_or_else(|| panic!("no summary: {}", self.log));
        summary[field].as_u64().unwrap_or_else(|| panic!("{field} in {summary}"))
    }
}

/// The program with these settings and no others.
pub(crate) fn orderwright(settings: &[(String, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orderwright"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ORDERWRIGHT") {
            command.env_remove(name);
        }
    }
    // Many at once, on one machine.
    command.env("ORDERWRIGHT__ADMIN__LISTEN", "127.0.0.1:0");
    command.envs(settings.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Sends a signal to a process of ours.
pub(crate) async fn signal(pid: u32, name: &str) {
    // The shell's own: a bare Debian has no program of that name.
    let kill = format!("kill -{name} {pid}");
    let sent = Command::new("bash").args(["-c", &kill]).status().await;
    assert!(sent.unwrap().success());
}

impl Daemon {
    /// Starts, and does not wait for anything.
    pub(crate) fn spawn(settings: &[(String, String)]) -> Self {
        let mut child = orderwright(settings).args(["run", "--output", "json"]).spawn().unwrap();
        let (stdout, stderr) = (Arc::<Lines>::default(), Arc::<Lines>::default());
        let mut readers = JoinSet::new();
        readers.spawn(stdout.clone().collect(child.stdout.take().unwrap()));
        readers.spawn(stderr.clone().collect(child.stderr.take().unwrap()));
        Self { child, stdout, stderr, readers }
    }

    /// Starts, and waits until it consumes from every shard.
    pub(crate) async fn start(settings: &[(String, String)]) -> Self {
        let mut daemon = Self::spawn(settings);
        let ready = daemon.stdout.wait_for(1, |line| line.contains("\"ready\""));
        let either = async {
            tokio::select! { biased;
                _line = ready => true,
                _status = daemon.child.wait() => false,
            }
        };
        match timeout(PATIENCE, either).await {
            Ok(true) => daemon,
            Ok(false) => panic!("the daemon ended instead: {:?}", daemon.ended().await),
            Err(_elapsed) => panic!("the daemon is not ready:\n{}", daemon.stderr.tail()),
        }
    }

    /// Waits for a line of the log that holds this text.
    pub(crate) async fn logs(&self, text: &str) -> String {
        self.stderr.find(text, 1, |line| line.contains(text)).await
    }

    /// Waits for a line of the log that holds both texts.
    pub(crate) async fn logs_both(&self, one: &str, other: &str) -> String {
        self.stderr.find(one, 1, |line| line.contains(one) && line.contains(other)).await
    }

    /// Waits until so many lines of the log hold this text.
    pub(crate) async fn logs_times(&self, text: &str, times: usize) {
        self.stderr.find(text, times, |line| line.contains(text)).await;
    }

    /// The root of the admin listener.
    pub(crate) async fn admin(&self) -> String {
        let line = self.logs("the admin listener is open").await;
        let line: Value = serde_json::from_str(&line).unwrap();
        format!("http://{}", line["address"].as_str().unwrap())
    }

    /// The root of the listener for admin actions.
    pub(crate) async fn actions(&self) -> String {
        let line = self.logs("the listener for admin actions is open").await;
        let line: Value = serde_json::from_str(&line).unwrap();
        format!("http://{}", line["address"].as_str().unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("the daemon still runs")
    }

    /// Sends a signal.
    pub(crate) async fn signal(&self, name: &str) {
        signal(self.pid(), name).await;
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) async fn stop(self) -> Ended {
        self.signal("TERM").await;
        self.ended().await
    }

    /// Waits for the end.
    pub(crate) async fn ended(mut self) -> Ended {
        let status = match timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_elapsed) => panic!("the daemon does not end:\n{}", self.stderr.tail()),
        };
        while self.readers.join_next().await.is_some() {}
        let lines = self.stdout.lines.lock().unwrap();
        let summary = lines.iter().find(|line| line.contains("\"summary\""));
        let summary = summary.map(|line| serde_json::from_str(line).unwrap());
        Ended { status, summary, log: self.stderr.lines.lock().unwrap().join("\n") }
    }
}
