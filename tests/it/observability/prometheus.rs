//! A real Prometheus that scrapes daemons.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::daemon::PATIENCE;
use crate::skip::tool;

pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/observability");

/// How often it is asked again. It learns something new once a second.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// One of the two programs of Debian's package, if that can be had.
async fn program(name: &str) -> Option<PathBuf> {
    Some(tool("prometheus.sh").await?.join(name))
}

/// Runs promtool where the rules are. `None` where there is none to be had.
pub(crate) async fn promtool(arguments: &[&str], input: &str) -> Option<Output> {
    let mut child = Command::new(program("promtool").await?)
        .args(arguments)
        .current_dir(FOLDER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    Some(timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap())
}

/// A running one. Killed when dropped.
pub(crate) struct Prometheus {
    _child: Child,
    _log: Lines<BufReader<ChildStderr>>,
    url: String,
    folder: TempDir,
    client: reqwest::Client,
}

impl Prometheus {
    /// Starts, with these rules. Each job has the pods that [`Prometheus::scrape`] names. `None` where there is no
    /// Prometheus to be had.
    pub(crate) async fn start(rules: &str, jobs: &[&str]) -> Option<Self> {
        let program = program("prometheus").await?;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("rules.yaml"), rules).unwrap();
        std::fs::write(path("prometheus.yaml"), configuration(jobs)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let mut child = Command::new(program)
            .arg("--config.file=prometheus.yaml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = async {
            let mut said = String::new();
            while let Some(line) = log.next_line().await.unwrap() {
                if line.contains("Server is ready") {
                    return;
                }
                said = said + &line + "\n";
            }
            panic!("it did not start:\n{said}");
        };
        timeout(PATIENCE, ready).await.expect("Prometheus to be ready");
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Some(Self { _child: child, _log: log, url: format!("http://{address}"), folder, client })
    }

    /// From now on these daemons, by the roots of their admin listeners, are the pods of a job. A pod with
    /// a version says that it is of this one, whatever it is.
    pub(crate) fn scrape(&self, job: &str, pods: &[(&str, Option<&str>)]) {
        let group = |(root, version): &(&str, Option<&str>)| {
            let target = root.trim_start_matches("http://");
            let labels = serde_json::json!({"claims": version.unwrap_or_default()});
            serde_json::json!({"targets": [target], "labels": labels})
        };
        let groups: Vec<_> = pods.iter().map(group).collect();
        let path = |name: String| self.folder.path().join(name);
        let (new, known) = (path(format!("{job}.new")), path(format!("{job}.json")));
        std::fs::write(&new, serde_json::to_vec(&groups).unwrap()).unwrap();
        std::fs::rename(new, known).unwrap();
    }

    async fn api(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let mut url = reqwest::Url::parse(&format!("{}/api/v1/{path}", self.url)).unwrap();
        url.query_pairs_mut().extend_pairs(query);
        let answer = self.client.get(url).send().await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["status"], "success", "{query:?}: {answer}");
        answer["data"].clone()
    }

    /// What an expression comes to now: nothing where there is no sample.
    pub(crate) async fn query(&self, expression: &str) -> Vec<Value> {
        let data = self.api("query", &[("query", expression)]).await;
        data["result"].as_array().unwrap().clone()
    }

    /// Waits until an expression comes to something.
    pub(crate) async fn shows(&self, expression: &str) -> Vec<Value> {
        let mut tick = interval(ASK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let found = async {
            loop {
                tick.tick().await;
                let found = self.query(expression).await;
                if !found.is_empty() {
                    return found;
                }
            }
        };
        match timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(_elapsed) => {
                let alerts = self.query("ALERTS").await;
                panic!("{expression} comes to nothing; alerts: {alerts:#?}")
            }
        }
    }
}

fn configuration(jobs: &[&str]) -> String {
    let mut text = String::from(
        "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n\
         rule_files: [rules.yaml]\nscrape_configs:\n",
    );
    for job in jobs {
        write!(
            text,
            "- job_name: {job}\n  \
             file_sd_configs: [{{files: [{job}.json], refresh_interval: 1s}}]\n  \
             metric_relabel_configs:\n  \
             - {{source_labels: [__name__, claims], regex: orderwright_build;(.+), \
             target_label: version, replacement: $1}}\n"
        )
        .unwrap();
    }
    text
}
