//! The status page in a real Chromium: with and without scripts, light and dark, wide and narrow.
//!
//! Most of it looks at daemons that are made up: whatever they show, they show it when they are told. One
//! is real, with a broker and a simulator. `make browser-test` runs it; the pictures stay in the folder that
//! it names, to be looked at.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on must fail, and say where"
)]

#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../support/broker.rs"]
mod broker;
#[path = "devtools.rs"]
mod devtools;
#[path = "house.rs"]
mod house;
#[path = "life.rs"]
mod life;
#[path = "made_up.rs"]
mod made_up;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../support/program.rs"]
mod program;
#[path = "real.rs"]
mod real;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;

use house::House;

/// What helpers return: an error that is a sentence.
type Result<T> = std::result::Result<T, String>;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/local/chromium.sh");

/// Nothing that talks to anybody but us; a sandbox is not to be had in every container.
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
];

/// Whether the browser runs the page's scripts.
#[derive(Debug, Clone, Copy)]
enum Scripts {
    On,
    Off,
}

/// A browser whose profile goes away with it.
struct Browser {
    program: PathBuf,
    url: String,
}

impl Browser {
    /// What the browser prints, with these flags.
    fn run(&self, path: &str, scripts: Scripts, flags: &[&str]) -> Output {
        let profile = tempfile::tempdir().unwrap();
        if matches!(scripts, Scripts::Off) {
            // As a person switches them off. A flag would switch off the browser's own as well.
            let folder = profile.path().join("Default");
            let off = json!({"profile": {"default_content_setting_values": {"javascript": 2}}});
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("Preferences"), off.to_string()).unwrap();
        }
        let data = format!("--user-data-dir={}", profile.path().display());
        let url = format!("{}{path}", self.url);
        let limit = ["--kill-after=5", "90"];
        let mut command = Command::new("timeout");
        let output = command.args(limit).arg(&self.program).args(FLAGS).args(flags);
        let output = output.args([&data, &url]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{:?}: {said}", output.status);
        // What the policy forbids, and what a script stumbles over.
        let complaints: Vec<_> = said.lines().filter(|line| line.contains("CONSOLE")).collect();
        assert!(complaints.is_empty(), "{complaints:?}");
        output
    }

    fn dom(&self, path: &str, scripts: Scripts, flags: &[&str]) -> String {
        let output = self.run(path, scripts, &[&["--dump-dom"], flags].concat());
        String::from_utf8(output.stdout).unwrap()
    }

    fn picture(&self, folder: &Path, name: &str, flags: &[&str]) -> Vec<u8> {
        let file = folder.join(format!("{name}.png"));
        let shot = format!("--screenshot={}", file.display());
        self.run("", Scripts::On, &[&[shot.as_str()], flags].concat());
        let bytes = std::fs::read(&file).unwrap();
        assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 5_000, "{}", bytes.len());
        bytes
    }
}

fn chromium() -> PathBuf {
    let output = Command::new(SCRIPT).stderr(std::process::Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "no Chromium to be had");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// How often the made-up daemon was looked at before it said this.
fn looks(dom: &str) -> u32 {
    let rest = dom.split("<dt>received</dt><dd>").nth(1).unwrap_or_else(|| panic!("{dom}"));
    rest.split('<').next().unwrap().parse().unwrap()
}

fn with_scripts_the_page_changes_in_place(browser: &Browser) {
    let before = browser.dom("?refresh=off", Scripts::On, &[]);
    let looks_of_one_page = looks(&browser.dom("?refresh=off", Scripts::On, &[])) - looks(&before);
    let before = browser.dom("?refresh=off", Scripts::On, &[]);
    // Time in the page goes as fast as it can: 12 s are two refreshes.
    let dom = browser.dom("", Scripts::On, &["--virtual-time-budget=12000"]);
    assert!(dom.contains("data-refreshed=\"yes\""), "no refresh in:\n{dom}");
    assert!(dom.contains(">Stop refreshing</button>"), "{dom}");
    assert!(!dom.contains("No answer"), "{dom}");
    // The made-up daemon counts how often it is looked at.
    let later = looks(&dom) - looks(&before);
    assert!(later > looks_of_one_page, "it was looked at {later} times: the page did not change");
    assert!(dom.contains("&lt;script&gt;") && dom.matches("<script").count() == 1, "{dom}");
}

fn without_scripts_everything_is_there(browser: &Browser) {
    let dom = browser.dom("", Scripts::Off, &[]);
    assert!(!dom.contains("data-refreshed") && !dom.contains("<button"), "{dom}");
    assert!(dom.contains("http-equiv=\"refresh\"") && dom.contains("stop that</a>"), "{dom}");
    for text in ["USMF/SO-000001", "v1-0123456789ab", "W/\"", "Settings in force", "<polyline"] {
        assert!(dom.contains(text), "no {text} in:\n{dom}");
    }
}

fn page_stands_still_where_it_is_asked_to(browser: &Browser) {
    let dom = browser.dom("?refresh=off", Scripts::On, &["--virtual-time-budget=12000"]);
    assert!(!dom.contains("data-refreshed") && dom.contains("Refresh every 5 s"), "{dom}");
}

fn light_and_dark_wide_and_narrow_look_different(browser: &Browser, folder: &Path) {
    let (light, dark) =
        ("--blink-settings=preferredColorScheme=1", "--blink-settings=preferredColorScheme=0");
    let (wide, narrow) = ("--window-size=1280,2000", "--window-size=500,3000");
    let mut pictures = Vec::new();
    for (name, flags) in [
        ("light-wide", [light, wide]),
        ("dark-wide", [dark, wide]),
        ("light-narrow", [light, narrow]),
        ("dark-narrow", [dark, narrow]),
    ] {
        pictures.push(browser.picture(folder, name, &flags));
    }
    for (at, one) in pictures.iter().enumerate() {
        assert!(pictures.iter().skip(at + 1).all(|other| other != one), "two look the same");
    }
}

fn main() {
    let folder = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let program = chromium();
    let house = House::open();
    let browser = Browser { program: program.clone(), url: house.url() };
    with_scripts_the_page_changes_in_place(&browser);
    without_scripts_everything_is_there(&browser);
    page_stands_still_where_it_is_asked_to(&browser);
    light_and_dark_wide_and_narrow_look_different(&browser, &folder);
    life::tab_leads_through_the_page_in_its_order_and_past_what_is_closed(&program, &house);
    life::refresh_keeps_the_focus_and_what_is_open_and_brings_what_is_new(&program, &house);
    life::page_of_a_pod_that_starts_becomes_that_of_one_that_works(&program, &house);
    life::page_that_is_open_over_a_rollout_shows_the_new_version(&program, &house);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let real = real::page_of_a_real_daemon_is_what_it_does(&program, &folder);
    let real = runtime.block_on(real);
    // Waits for nobody: what blocks could only be the broker's script, which ends with our pipe.
    runtime.shutdown_background();
    real.unwrap_or_else(|reason| panic!("the page of a real daemon: {reason}"));
    println!("pictures: {}/{{real,{{light,dark}}-{{wide,narrow}}}}.png", folder.display());
    println!("9 passed, 0 failed");
}
