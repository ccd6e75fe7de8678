//! What was typed and what was said, with all that differs from run to run made the same.

use std::collections::BTreeMap;
use std::path::Path;

use regex::{Captures, Regex};
use serde_json::Value;
use tokio::time::timeout;

use crate::daemon::{PATIENCE, orderwright};
use crate::stage::Stage;

/// Of more lines than this in one answer, those in the middle are left out.
const LINES_MAX: usize = 30;
/// Lines that are kept before and after them.
const KEPT: [usize; 2] = [14, 3];

/// Commands and their answers, by the names under which the prose has them.
pub(crate) struct Transcript {
    settings: Vec<(String, String)>,
    /// What is only true of this run, and what is written instead.
    own: Vec<(String, &'static str)>,
    said: BTreeMap<&'static str, String>,
    /// Ids of letters: each tells its order, and its place among the letters of that.
    letters: BTreeMap<String, String>,
    ids: Vec<String>,
    tags: Vec<String>,
}

impl Transcript {
    pub(crate) async fn new(stage: &Stage, more: &[(&str, &str)]) -> Self {
        let url = stage.simulator_url();
        let (_, port) = url.rsplit_once(':').unwrap();
        let own = vec![
            (stage.prefix().to_owned(), "orderwright"),
            (url.to_owned(), "http://erp.example"),
            (format!("port {port} answers"), "port 80 answers"),
            ("127.0.0.1 is 127.0.0.1".to_owned(), "erp.example is 192.0.2.7"),
        ];
        let (settings, none) = (stage.settings(more).await, Vec::new());
        let (said, letters) = (BTreeMap::new(), BTreeMap::new());
        Self { settings, own, said, letters, ids: none.clone(), tags: none }
    }

    /// Learns the ids of the letters that are there.
    pub(crate) async fn learn(&mut self) {
        let listed = self.say("dlq ls --output ndjson").await;
        let mut letters: BTreeMap<String, usize> = BTreeMap::new();
        for line in listed.1.lines() {
            let letter: Value = serde_json::from_str(line).unwrap();
            let order = letter["order"].as_str().unwrap().trim_start_matches("USMF/SO-").to_owned();
            let nth = letters.entry(order.clone()).or_default();
            let told = format!("0194e2f0-7c00-7000-8000-0000{order}{nth:02}");
            *nth += 1;
            self.letters.insert(letter["id"].as_str().unwrap().to_owned(), told);
        }
    }

    async fn say(&self, typed: &str) -> (Option<i32>, String, String) {
        let mut command = orderwright(&self.settings);
        command.args(words(typed)).env("ORDERWRIGHT_OPERATOR", "kim@desk");
        let output = timeout(PATIENCE, command.output()).await;
        let output = output.unwrap_or_else(|_elapsed| panic!("{typed} does not end")).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Runs a command as it would be typed, and keeps it under this name.
    pub(crate) async fn run(&mut self, name: &'static str, typed: &str, code: i32) -> String {
        let (ended, stdout, stderr) = self.say(typed).await;
        assert_eq!(ended, Some(code), "{typed}\n{stdout}{stderr}");
        // The log is another thing.
        let told = stderr.split_inclusive('\n').filter(|line| !line.starts_with('{'));
        let mut said = format!("$ orderwright {typed}\n{}{stdout}", told.collect::<String>());
        if code != 0 {
            said = format!("{said}$ echo $?\n{code}\n");
        }
        for (id, told) in &self.letters {
            said = said.replace(id, told);
        }
        let kept = self.plain(&without_middle(&in_order(&said)));
        assert!(self.said.insert(name, kept).is_none(), "{name} is there twice");
        stdout
    }

    /// Ids, tags, times and durations of no run in particular.
    fn plain(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (own, instead) in &self.own {
            text = text.replace(own, instead);
        }
        let id = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
        let numbered = |all: &mut Vec<String>, found: &Captures<'_>| {
            let known = all.iter().position(|known| *known == found[0]);
            known.unwrap_or_else(|| {
                all.push(found[0].to_owned());
                all.len() - 1
            })
        };
        let known: Vec<String> = self.letters.values().cloned().collect();
        let text = replace(&text, id, |found| {
            if known.iter().any(|letter| *letter == found[0]) {
                return found[0].to_owned();
            }
            format!("0194e2f0-7d00-7000-9000-{:012}", 1 + numbered(&mut self.ids, found))
        });
        // What a letter saw is older than what its order has now.
        for found in Regex::new(r#"saw (W/"[A-Za-z0-9+/=]+")"#).unwrap().captures_iter(&text) {
            if !self.tags.iter().any(|known| *known == found[1]) {
                self.tags.push(found[1].to_owned());
            }
        }
        let text = replace(&text, r#"W/"[A-Za-z0-9+/=]+""#, |found| {
            format!("W/\"{}\"", 1 + numbered(&mut self.tags, found))
        });
        // Times of today: those in the orders are long past.
        let time = r"20(?:2[6-9]|[3-9]\d)-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z";
        let span = format!("{time} … {time}");
        let text = replace(&text, &span, |_| "2025-02-08T02:11:40Z … 2025-02-08T02:26:02Z".into());
        let text = replace(&text, time, |found| {
            let fraction = if found.get(1).is_some() { ".519" } else { "" };
            format!("2025-02-08T02:41:07{fraction}Z")
        });
        let text = replace(&text, r"(?m)oldest \d.*$", |_| "oldest 29m 27s".into());
        let text = replace(&text, r"(?m), \d+\w+( \d+\w+)? ago$", |_| ", 29m 27s ago".into());
        let text = replace(&text, r"takes about [^(\n]+ \(", |_| "takes about 3s (".into());
        // In a column it stands to the right, in a sentence behind two blanks.
        let text =
            replace(&text, r" {3,}\d+ ms\b", |found| format!("{:>1$}", "21 ms", found[0].len()));
        replace(&text, r"(\S {1,2})\d+ ms\b", |found| format!("{}21 ms", &found[1]))
    }

    /// Puts the answers into the prose, and compares the document, or writes it.
    pub(crate) fn compare(&self, prose: &str, document: &str) {
        let mut text = prose.to_owned();
        for (name, said) in &self.said {
            let place = format!("{{{{{name}}}}}");
            assert_eq!(text.matches(&place).count(), 1, "{place} in the prose");
            text = text.replace(&place, said.trim_end());
        }
        assert!(!text.contains("{{"), "the prose wants what nobody said");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
        if std::env::var_os("ORDERWRIGHT_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        let differs = known.lines().zip(text.lines()).find(|(known, said)| known != said);
        let remedy = "if that is meant: ORDERWRIGHT_BLESS=1 cargo test --test it story";
        assert!(known == text, "{document} is stale at {differs:#?}\n{remedy}");
    }
}

fn replace(text: &str, what: &str, with: impl FnMut(&Captures<'_>) -> String) -> String {
    Regex::new(what).unwrap().replace_all(text, with).into_owned()
}

/// Orders go side by side: what is said of each, a row, is put in the order of their names.
fn in_order(said: &str) -> String {
    let mut lines: Vec<&str> = said.lines().collect();
    let is_row = Regex::new(r"^(\| 2.* )?0194e2f0-7c00-7000-8000-(\d{12})\b").unwrap();
    let order = |line: &&str| is_row.captures(line).map(|found| found[2].to_owned());
    for rows in lines.chunk_by_mut(|one, next| order(one).is_some() == order(next).is_some()) {
        rows.sort_by_key(order);
    }
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

/// All of what is short; of what is long, its beginning and its end.
fn without_middle(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    let [before, after] = KEPT;
    if lines.len() <= LINES_MAX {
        return said.to_owned();
    }
    let left_out = format!("… {} lines left out …", lines.len() - before - after);
    let (first, last) = (&lines[..before], &lines[lines.len() - after..]);
    [first, &[&left_out], last].concat().join("\n") + "\n"
}

/// As a shell takes them apart, as far as it is needed here.
fn words(typed: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in typed.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
