//! A private RabbitMQ for tests and the demo, brought up by `deploy/local/broker.sh`.
//!
//! The script stops the broker when its stdin ends, and its stdin is a pipe whose other end only
//! this process holds. So however the process ends (return, panic, SIGKILL), no broker is left.
//!
//! Standard pipes and not Tokio's: those belong to the runtime that opened them, and every
//! `#[tokio::test]` has a runtime of its own, while the shared broker outlives them all.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/local/broker.sh");

/// A running RabbitMQ. Dropping it stops the broker and removes its data.
#[derive(Debug)]
pub(crate) struct Broker {
    script: Arc<Mutex<Script>>,
    ready: Ready,
}

/// What the script says once the broker serves.
#[derive(Debug, Clone, serde::Deserialize)]
struct Ready {
    amqp: String,
    management: Option<String>,
    how: String,
    /// All nodes; empty unless it is a cluster.
    #[serde(default)]
    nodes: Vec<String>,
}

/// One line of the script's stdout.
#[derive(Debug, serde::Deserialize)]
#[serde(untagged)]
enum Answer {
    Ready(Ready),
    Down {
        #[serde(rename = "down")]
        _how: String,
    },
    Error {
        error: String,
    },
}

/// The broker that all tests of this process share; started by the first one that asks.
///
/// Use names of your own (queues, exchanges, prefixes) on it, and do not restart it: for that,
/// [`Broker::start`] one of your own.
pub(crate) async fn shared() -> &'static Broker {
    static SHARED: OnceCell<Broker> = OnceCell::const_new();
    SHARED.get_or_init(Broker::start).await
}

impl Broker {
    /// Starts a broker of the caller's own, which it may stop and kill: never one that was given.
    pub(crate) async fn own() -> Self {
        match Self::spawn(true, 1).await {
            Ok(broker) => broker,
            #[expect(clippy::panic, reason = "a test without its broker must fail")]
            Err(reason) => panic!("no RabbitMQ of its own for this test: {reason}"),
        }
    }

    /// Starts a broker, or takes the one that was given by `AMQP_URL`.
    ///
    /// Panics with the script's reason and the ways to go on if none can be had: a test that needs
    /// a broker must fail without one, or it would pass for the wrong reason.
    pub(crate) async fn start() -> Self {
        match Self::try_start().await {
            Ok(broker) => broker,
            #[expect(clippy::panic, reason = "a test without its broker must fail")]
            Err(reason) => panic!("no RabbitMQ for this test: {reason}"),
        }
    }

    /// Starts a broker of the caller's own, or says why none can be had.
    pub(crate) async fn try_start() -> Result<Self, String> {
        Self::spawn(false, 1).await
    }

    /// Starts a broker of the caller's own, a cluster where `nodes` is more than one.
    pub(crate) async fn try_start_nodes(nodes: u64) -> Result<Self, String> {
        Self::spawn(true, nodes).await
    }

    async fn spawn(own: bool, nodes: u64) -> Result<Self, String> {
        let mut script = Script::spawn(own, nodes).map_err(|error| format!("{SCRIPT}: {error}"))?;
        let (script, answer) = blocking(move || {
            let answer = script.answer();
            (script, answer)
        })
        .await?;
        let Answer::Ready(ready) = answer? else {
            return Err(format!("{SCRIPT}: the first line does not say where the broker is"));
        };
        Ok(Self { script: Arc::new(Mutex::new(script)), ready })
    }

    /// The AMQP URL, credentials and virtual host included. It survives restarts.
    pub(crate) fn url(&self) -> &str {
        &self.ready.amqp
    }

    /// The AMQP URLs of all nodes, the one of [`Broker::url`] first.
    pub(crate) fn nodes(&self) -> &[String] {
        if self.ready.nodes.is_empty() {
            std::slice::from_ref(&self.ready.amqp)
        } else {
            &self.ready.nodes
        }
    }

    /// Root of the management API (user and password are `guest`), if this broker has one.
    pub(crate) fn management(&self) -> Option<&str> {
        self.ready.management.as_deref()
    }

    /// How the broker came to be: `docker`, `installed`, `unpacked`, or `given` by `AMQP_URL`.
    ///
    /// A given broker is not ours to stop: the functions below panic on it.
    pub(crate) fn how(&self) -> &str {
        &self.ready.how
    }

    /// Stops the broker in good order and starts it on the same port and data.
    pub(crate) async fn restart(&self) {
        self.command("restart").await;
    }

    /// Kills the node with SIGKILL, as a crash of its machine would. It stays down.
    pub(crate) async fn kill(&self) {
        self.command("kill").await;
    }

    /// Stops the broker in good order. It stays down.
    pub(crate) async fn stop(&self) {
        self.command("stop").await;
    }

    /// Starts the broker again after [`Broker::kill`] or [`Broker::stop`].
    pub(crate) async fn start_again(&self) {
        self.command("start").await;
    }

    /// Runs `rabbitmqctl` with these words, none of which may hold a blank.
    pub(crate) async fn ctl(&self, words: &str) {
        self.command(&format!("ctl {words}")).await;
    }

    /// Ends the broker and waits until nothing is left of it; dropping does not wait.
    pub(crate) async fn end(self) {
        let script = self.script;
        let ended = blocking(move || lock(&script).end()).await;
        drop(ended);
    }

    /// Does something to one node of a cluster, by its number from 1: `kill`, `start`, `restart`,
    /// `stop`, `freeze` or `thaw`. Those that bring it back wait until all nodes see each other.
    pub(crate) async fn node(&self, command: &str, number: u64) -> Result<(), String> {
        self.ask(format!("{command} {number}")).await
    }

    async fn ask(&self, command: String) -> Result<(), String> {
        let script = Arc::clone(&self.script);
        blocking(move || lock(&script).ask(&command)).await?
    }

    /// Gives the script a command and waits for its answer.
    async fn command(&self, command: &str) {
        let answer = self.ask(command.to_owned()).await;
        #[expect(clippy::panic, reason = "a test cannot go on without the broker it controls")]
        if let Err(reason) = answer {
            panic!("broker.sh could not {command}: {reason}");
        }
    }
}

/// The script's process and our ends of its pipes.
#[derive(Debug)]
struct Script {
    child: Child,
    /// The broker lives as long as this is open.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Script {
    /// In a process group of its own, so that the terminal's Ctrl-C does not reach it: the tidying
    /// starts when this process is gone, and not while it still speaks with the broker.
    fn spawn(own: bool, nodes: u64) -> std::io::Result<Self> {
        let mut command = Command::new("bash");
        if own {
            command.env_remove("AMQP_URL");
        }
        let mut child = command
            .args([SCRIPT, "run"])
            .env("ORDERWRIGHT_BROKER_NODES", nodes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let commands = child.stdin.take();
        let answers = child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
        Ok(Self { child, commands, answers: BufReader::new(answers) })
    }

    /// Writes one command, reads its answer.
    fn ask(&mut self, command: &str) -> Result<(), String> {
        let commands = self.commands.as_mut().ok_or("it has been ended")?;
        writeln!(commands, "{command}").map_err(|error| error.to_string())?;
        self.answer().map(drop)
    }

    /// Reads one line. The script bounds all that it does, so this ends.
    fn answer(&mut self) -> Result<Answer, String> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line).map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("broker.sh ended without an answer; its stderr says why".to_owned());
        }
        match serde_json::from_str(&line) {
            Ok(Answer::Error { error }) => Err(error),
            Ok(answer) => Ok(answer),
            Err(error) => Err(format!("broker.sh said {line:?}: {error}")),
        }
    }

    /// Lets the script end, and waits for it.
    fn end(&mut self) -> std::io::Result<()> {
        drop(self.commands.take());
        self.child.wait().map(drop)
    }
}

/// A command that failed leaves the pipes in step, so a poisoned lock is still good.
fn lock(script: &Mutex<Script>) -> std::sync::MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pipes block, so they are served off the runtime's workers.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    spawn_blocking(work).await.map_err(|error| error.to_string())
}
