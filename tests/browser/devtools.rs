//! A browser that is told what to do while it runs: keys pressed, scripts asked, time left to pass.
//!
//! Over a pipe, in JSON that ends with a zero byte (`--remote-debugging-pipe`): no port, no web socket.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::FLAGS;

/// How long the browser may take to answer. A page that is waited for is refreshed every five seconds.
const PATIENCE: Duration = Duration::from_mins(1);

/// One page in a running browser. Killed when dropped.
pub(crate) struct Tab {
    child: Child,
    commands: File,
    said: Receiver<Value>,
    session: Option<String>,
    asked: u64,
    complaints: Vec<String>,
    _profile: TempDir,
}

impl Drop for Tab {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = (self.child.kill(), self.child.wait());
    }
}

fn pipe(path: &Path) -> File {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    // For both, so that opening waits for nobody.
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

impl Tab {
    /// Opens an address.
    pub(crate) fn open(program: &Path, url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let path = |name: &str| profile.path().join(name);
        let (commands, answers) = (pipe(&path("commands")), pipe(&path("answers")));
        let script = "exec \"$0\" \"$@\" 3<\"$COMMANDS\" 4>\"$ANSWERS\"";
        let child = Command::new("bash")
            .args(["-c", script])
            .arg(program)
            .args(FLAGS)
            .args(["--remote-debugging-pipe", "--window-size=1280,1000"])
            .arg(format!("--user-data-dir={}", path("data").display()))
            .env("COMMANDS", path("commands"))
            .env("ANSWERS", path("answers"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (say, said) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(answers).split(0) {
                let message = serde_json::from_slice::<Value>(&message.unwrap()).unwrap();
                if say.send(message).is_err() {
                    return;
                }
            }
        });
        let (session, complaints) = (None, Vec::new());
        let mut tab =
            Self { child, commands, said, session, asked: 0, complaints, _profile: profile };
        let target = tab.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = tab.call("Target.attachToTarget", &attach);
        tab.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            tab.call(domain, &json!({}));
        }
        // As if its window were the one in front.
        tab.call("Emulation.setFocusEmulationEnabled", &json!({"enabled": true}));
        tab.go(url);
        tab
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        let came = self.send(method, parameters);
        came.unwrap_or_else(|error| panic!("{method} {parameters}: {error}"))
    }

    /// An error is the browser's.
    fn send(&mut self, method: &str, parameters: &Value) -> Result<Value, Value> {
        self.asked += 1;
        let mut message = json!({"id": self.asked, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let said = self.said.recv_timeout(PATIENCE);
            let mut said = said.unwrap_or_else(|error| panic!("no answer to {message}: {error}"));
            match said["method"].as_str() {
                None if said["id"] == json!(self.asked) => {
                    let error = said["error"].take();
                    return if error.is_null() { Ok(said["result"].take()) } else { Err(error) };
                }
                // What the policy forbids, and what a script stumbles over.
                Some("Runtime.exceptionThrown" | "Log.entryAdded" | "Runtime.consoleAPICalled") => {
                    let complaint = said.to_string();
                    // Asked for by the browser, and not by the page.
                    if !complaint.contains("/favicon.ico") {
                        self.complaints.push(complaint);
                    }
                }
                Some(_) | None => {}
            }
        }
    }

    pub(crate) fn go(&mut self, url: &str) {
        self.call("Page.navigate", &json!({"url": url}));
        self.until("document.readyState === 'complete'");
    }

    /// What an expression comes to in the page. A promise is waited for.
    pub(crate) fn ask(&mut self, expression: &str) -> Value {
        let came = self.evaluate(expression);
        came.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    fn evaluate(&mut self, expression: &str) -> Result<Value, Value> {
        let ask = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut came = self.send("Runtime.evaluate", &ask)?;
        let stumbled = came["exceptionDetails"].take();
        if stumbled.is_null() { Ok(came["result"]["value"].take()) } else { Err(stumbled) }
    }

    /// Waits until the page is so.
    pub(crate) fn until(&mut self, condition: &str) {
        let begun = tokio::time::Instant::now();
        // A page that is being loaded has no answer.
        while self.evaluate(condition) != Ok(json!(true)) {
            assert!(begun.elapsed() < PATIENCE, "never: {condition}\n{}", self.text());
        }
    }

    pub(crate) fn text(&mut self) -> String {
        self.ask("document.documentElement.outerHTML").as_str().unwrap().to_owned()
    }

    /// Presses Tab, and says where it leads: the id of what has the focus, or its text.
    pub(crate) fn tab(&mut self) -> String {
        for kind in ["rawKeyDown", "keyUp"] {
            let key =
                json!({"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9});
            self.call("Input.dispatchKeyEvent", &key);
        }
        let name = self.ask("document.activeElement.id || document.activeElement.textContent");
        name.as_str().unwrap().to_owned()
    }

    /// Presses Enter on what has the focus.
    pub(crate) fn enter(&mut self) {
        for kind in ["keyDown", "keyUp"] {
            let key = json!({
                "type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r",
            });
            self.call("Input.dispatchKeyEvent", &key);
        }
    }

    pub(crate) fn picture(&mut self, file: &Path) {
        let shot = self.call("Page.captureScreenshot", &json!({"captureBeyondViewport": true}));
        let bytes = STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 5_000, "{}", bytes.len());
        std::fs::write(file, bytes).unwrap();
    }

    /// Nothing was forbidden, and no script stumbled.
    pub(crate) fn is_quiet(&self) {
        assert!(self.complaints.is_empty(), "{:#?}", self.complaints);
    }
}
