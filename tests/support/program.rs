//! One of our programs as a child process that cannot outlive us.

use std::fs::File;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;

use crate::Result;

/// Runs its arguments as a command and sends it SIGTERM when its own stdin ends. That happens when
/// we close it, and also when we are killed, so the command ends in good order either way.
const UNTIL_STDIN_ENDS: &str = r#"
"$@" </dev/null &
program=$!
exec >&-
read -r _
kill -TERM "$program" 2>/dev/null
wait "$program"
"#;

/// A running child: JSON lines on its stdout, log lines in a file.
#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    /// Of a log that is in a pipe.
    reader: JoinSet<()>,
}

impl Program {
    /// Starts a program of this package that ends when its stdin does, or that needs no help to
    /// end because it reads all of it.
    pub(crate) fn start(
        name: &'static str,
        args: &[&str],
        environment: &[(String, String)],
        log: &Path,
    ) -> Result<Self> {
        let mut command = Command::new(binary(name)?);
        command.args(args);
        Self::spawn(name, command, environment, log)
    }

    /// Starts a program of this package that ends at SIGTERM.
    pub(crate) fn start_daemon(
        name: &'static str,
        args: &[&str],
        environment: &[(String, String)],
        log: &Path,
    ) -> Result<Self> {
        let mut command = Command::new("bash");
        command.args(["-c", UNTIL_STDIN_ENDS, name]).arg(binary(name)?).args(args);
        Self::spawn(name, command, environment, log)
    }

    /// The same, with its log in a pipe that is read and forgotten, as by a collector of logs.
    pub(crate) fn start_daemon_piped(
        name: &'static str,
        args: &[&str],
        environment: &[(String, String)],
    ) -> Result<Self> {
        let mut command = Command::new("bash");
        command.args(["-c", UNTIL_STDIN_ENDS, name]).arg(binary(name)?).args(args);
        let mut program = Self::spawn_with(name, command, environment, Stdio::piped())?;
        let log = program.child.stderr.take();
        program.reader.spawn(async move {
            if let Some(mut log) = log {
                let _read = tokio::io::copy(&mut log, &mut tokio::io::sink()).await;
            }
        });
        Ok(program)
    }

    fn spawn(
        name: &'static str,
        command: Command,
        environment: &[(String, String)],
        log: &Path,
    ) -> Result<Self> {
        let log = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        Self::spawn_with(name, command, environment, log.into())
    }

    fn spawn_with(
        name: &'static str,
        mut command: Command,
        environment: &[(String, String)],
        log: Stdio,
    ) -> Result<Self> {
        // Settings of the person who runs this may name a real broker, or a real token.
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("ORDERWRIGHT") {
                command.env_remove(key);
            }
        }
        let mut child = command
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C is for us alone: the programs are then ended in order.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| format!("{name} has no stdout"))?;
        let lines = BufReader::new(stdout).lines();
        Ok(Self { name, child, stdin, lines, reader: JoinSet::new() })
    }

    /// The process, while it runs; of a daemon, the shell that ends it with us.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The next line of stdout, or `None` once it has ended.
    pub(crate) async fn line(&mut self) -> Result<Option<Value>> {
        let name = self.name;
        let Some(line) =
            self.lines.next_line().await.map_err(|error| format!("{name}: {error}"))?
        else {
            return Ok(None);
        };
        let value = serde_json::from_str(&line)
            .map_err(|error| format!("{name} printed a line that is not JSON ({error}): {line}"))?;
        Ok(Some(value))
    }

    /// Reads lines until one has `field`, and gives that one.
    pub(crate) async fn line_with(&mut self, field: &str) -> Result<Value> {
        while let Some(value) = self.line().await? {
            if value.get(field).is_some() {
                return Ok(value);
            }
        }
        Err(format!("{} ended without saying \"{field}\"", self.name))
    }

    /// Reads lines until the event `name`, and gives that one.
    pub(crate) async fn event(&mut self, name: &str) -> Result<Value> {
        loop {
            let value = self.line_with("event").await?;
            if value.get("event").and_then(Value::as_str) == Some(name) {
                return Ok(value);
            }
        }
    }

    /// Writes all of the program's input and closes it.
    pub(crate) async fn feed(&mut self, input: &str) -> Result<()> {
        let name = self.name;
        let Some(mut stdin) = self.stdin.take() else {
            return Err(format!("{name} has been fed already"));
        };
        stdin.write_all(input.as_bytes()).await.map_err(|error| format!("{name}: {error}"))
    }

    /// Closes stdin, upon which the program ends.
    pub(crate) fn ask_to_end(&mut self) {
        drop(self.stdin.take());
    }

    /// Waits for the end.
    pub(crate) async fn ended(&mut self) -> Result<ExitStatus> {
        self.child.wait().await.map_err(|error| format!("{}: {error}", self.name))
    }
}

/// `target/debug/orderwright` beside the folder that this program is in, whatever the target folder.
fn binary(name: &str) -> Result<std::path::PathBuf> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = own.parent().and_then(Path::parent).ok_or("this program has no target folder")?;
    let path = folder.join(name);
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{} is missing: run `cargo build --bins`, or `make demo`", path.display()))
}
