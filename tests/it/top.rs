//! `orderwright top` in a real terminal, and what it leaves of that.

mod tmux;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::commands::run;
use crate::daemon::Daemon;
use crate::stage::{Stage, updates};
use tmux::Tmux;

const PROGRAM: &str = env!("CARGO_BIN_EXE_orderwright");

/// A pod with this name.
async fn pod(stage: &Stage, name: &str) -> (Daemon, String) {
    let daemon = stage.daemon(&[("INSTANCE__NAME", name), ("TARGET__PATCH_TIMEOUT", "60s")]).await;
    let root = daemon.admin().await;
    (daemon, root)
}

/// Where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_look_shows_every_pod_and_its_exit_code_says_whether_any_answered() {
    let stage = Stage::new("top-once", &["--orders", "4"]).await;
    let (one, first) = pod(&stage, "pod-one").await;
    let (other, second) = pod(&stage, "pod-two").await;
    let nobody = nobody().await;
    let all = ["top", "--once", "--admin", &first, "--admin", &second, "--admin", &nobody];
    let looked = run(&[], &all).await;
    assert_eq!(looked.code, Some(0), "{}{}", looked.stdout, looked.stderr);
    for text in ["pod-one", "pod-two", "SETTLED/S", &format!("{nobody}/ no answer")] {
        assert!(looked.stdout.contains(text), "no {text} in:\n{}", looked.stdout);
    }
    assert!(!looked.stdout.contains('\u{1b}'), "nothing steers a terminal: {:?}", looked.stdout);
    let silent = run(&[], &["top", "--once", "--admin", &nobody]).await;
    assert_eq!(silent.code, Some(69), "{}{}", silent.stdout, silent.stderr);
    let wrong = run(&[], &["top", "--once", "--admin", "ftp://127.0.0.1/"]).await;
    assert_eq!(wrong.code, Some(64), "{}{}", wrong.stdout, wrong.stderr);
    let no_terminal = run(&[], &["top", "--admin", &first]).await;
    assert_eq!(no_terminal.code, Some(64), "{}{}", no_terminal.stdout, no_terminal.stderr);
    assert!(no_terminal.stderr.contains("needs a terminal"), "{}", no_terminal.stderr);
    one.stop().await;
    other.stop().await;
}

/// A shell whose terminal modes are known, and a file that has the number of the `top` that runs in it.
struct Desk {
    tmux: Tmux,
    folder: TempDir,
    pods: String,
    runs: u32,
}

impl Desk {
    /// `None` where there is no tmux to be had.
    async fn set_up(roots: &[&str]) -> Option<Self> {
        let (tmux, folder) = (Tmux::start().await?, tempfile::tempdir().unwrap());
        tmux.enter("before=$(stty -g); echo known").await;
        tmux.until(|screen| screen.contains("\nknown")).await;
        let pods =
            roots.iter().map(|root| ["--admin", root].join(" ")).collect::<Vec<_>>().join(" ");
        Some(Self { tmux, folder, pods, runs: 0 })
    }

    /// Starts it, and waits until it shows this.
    async fn begin(&mut self, text: &str) {
        self.runs += 1;
        self.tmux.enter("clear").await;
        let pid = self.folder.path().join("pid");
        let pid = pid.display();
        let top = format!("{PROGRAM} top --every 1 {}", self.pods);
        let line = format!("sh -c 'echo $$ >{pid}; exec {top}'; echo run {} ended $?", self.runs);
        self.tmux.enter(&line).await;
        self.tmux.until(|screen| screen.contains("SETTLED/S") && screen.contains(text)).await;
        assert_eq!(self.tmux.modes().await, (true, false), "another screen, without a cursor");
    }

    /// It ends with this code, and the terminal is as it was: screen, cursor and modes.
    async fn ends(&self, code: u32) {
        let ended = format!("\nrun {} ended {code}", self.runs);
        let screen = self.tmux.until(|screen| screen.contains(&ended)).await;
        assert!(screen.contains("exec ") && !screen.contains("SETTLED/S"), "{screen}");
        assert_eq!(self.tmux.modes().await, (false, true));
        let same = format!("same modes {}", self.runs);
        let ask = format!("[ \"$(stty -g)\" = \"$before\" ] && echo same modes {}", self.runs);
        self.tmux.enter(&ask).await;
        self.tmux.until(|screen| screen.contains(&format!("\n{same}"))).await;
    }

    async fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.folder.path().join("pid")).unwrap();
        let kill = format!("kill -{name} {}", pid.trim());
        assert!(Command::new("bash").args(["-c", &kill]).status().await.unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn top_shows_pods_that_work_again_and_again_and_gives_the_terminal_back_as_it_was() {
    let stage = Stage::new("top", &["--orders", "4", "--patch-latency", "30s"]).await;
    let (one, first) = pod(&stage, "pod-one").await;
    let (other, second) = pod(&stage, "pod-two").await;
    let nobody = nobody().await;
    let Some(mut desk) = Desk::set_up(&[&first, &second, &nobody]).await else { return };
    desk.begin("pod-two").await;
    let screen = desk.tmux.screen().await;
    assert!(
        screen.contains("pod-one") && screen.contains(&format!("{nobody}/ no answer")),
        "{screen}"
    );
    // What changes is shown without being asked for.
    stage.publish(&updates(4, 2)).await;
    let at_work = |screen: &str| {
        let orders =
            screen.lines().filter(|line| line.starts_with("USMF/SO-0") && line.contains("patch"));
        orders.count() == 4
    };
    let screen = desk.tmux.until(at_work).await;
    assert!(screen.contains(" 0.0 "), "a rate since the look before:\n{screen}");
    // A key that means nothing does nothing, and is not shown.
    desk.tmux.key("#").await;
    desk.tmux.key("q").await;
    desk.ends(0).await;
    assert!(!desk.tmux.screen().await.contains('#'), "keys are unseen");

    desk.begin("pod-one").await;
    desk.tmux.key("C-c").await;
    desk.ends(0).await;
    for name in ["TERM", "HUP"] {
        desk.begin("pod-one").await;
        desk.signal(name).await;
        desk.ends(0).await;
    }
    // The shell has the terminal in between.
    desk.begin("pod-one").await;
    desk.tmux.key("C-z").await;
    let stopped = desk.tmux.until(|screen| screen.contains("Stopped")).await;
    assert!(!stopped.contains("SETTLED/S"), "{stopped}");
    assert_eq!(desk.tmux.modes().await, (false, true));
    desk.tmux.enter("fg").await;
    desk.tmux.until(|screen| screen.contains("SETTLED/S")).await;
    assert_eq!(desk.tmux.modes().await, (true, false));
    desk.tmux.key("q").await;
    desk.tmux.until(|screen| screen.contains("fg") && !screen.contains("SETTLED/S")).await;
    assert_eq!(desk.tmux.modes().await, (false, true));
    drop((one, other));
}
