//! A real terminal, held by tmux: what is typed into it, and what it shows.

use std::path::PathBuf;

use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::daemon::PATIENCE;
use crate::skip::tool;

/// A shell in a terminal of its own. Ends when it is dropped.
pub(super) struct Tmux {
    program: PathBuf,
    folder: TempDir,
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let mut end = std::process::Command::new(&self.program);
        // The shell in it may have ended, and it with that.
        let _ended =
            end.arg("-S").arg(self.folder.path().join("socket")).arg("kill-server").output();
    }
}

impl Tmux {
    /// `None` where there is no tmux to be had.
    pub(super) async fn start() -> Option<Self> {
        let program = tool("tmux.sh").await?;
        let tmux = Self { program, folder: tempfile::tempdir().unwrap() };
        // Nobody's own settings, and a prompt that is known.
        let shell = "env PS1='$ ' HISTFILE= bash --noprofile --norc";
        tmux.run(&["-f", "/dev/null", "new-session", "-d", "-x", "140", "-y", "40", shell]).await;
        tmux.until(|screen| screen.starts_with('$')).await;
        Some(tmux)
    }

    async fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ORDERWRIGHT") || name == "TMUX" {
                command.env_remove(name);
            }
        }
        let output = command.arg("-S").arg(self.folder.path().join("socket")).args(arguments);
        let output = output.output().await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Types a line, and Enter.
    pub(super) async fn enter(&self, line: &str) {
        self.run(&["send-keys", "-l", line]).await;
        self.key("Enter").await;
    }

    /// Presses a key, such as `C-c`.
    pub(super) async fn key(&self, key: &str) {
        self.run(&["send-keys", key]).await;
    }

    pub(super) async fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"]).await
    }

    /// Waits until the screen is so.
    pub(super) async fn until(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut screen = String::new();
        let looking = async {
            loop {
                screen = self.screen().await;
                if wanted(&screen) {
                    return;
                }
            }
        };
        let shown = timeout(PATIENCE, looking).await;
        assert!(shown.is_ok(), "it shows:\n{screen}");
        screen
    }

    /// Whether the other screen is shown, and whether there is a cursor.
    pub(super) async fn modes(&self) -> (bool, bool) {
        let modes = self.run(&["display-message", "-p", "#{alternate_on}#{cursor_flag}"]).await;
        (modes.starts_with('1'), modes.trim_end().ends_with('1'))
    }
}
