//! `orderwright explain`: all that is known of one order, from the pods and from the broker.

mod broker;
mod text;

use serde::Serialize;
use serde_json::Value;

use super::pods::{self, Answer, Pods};
use super::{Output, complain, fail, print};
use crate::app::{exit, target};
use crate::config::Loaded;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright explain USMF/SO-2025-0145
  orderwright explain USMF/SO-2025-0145 --admin http://10.1.2.3:9464 --admin http://10.1.2.4:9464
  orderwright explain USMF/SO-2025-0145 --admin http://orderwright-pods:9464   every address of a name
  orderwright explain USMF/SO-2025-0145 --no-letters --output json | jq .broker

Pods tell what they do for the order and what they hold. The broker tells which shard it belongs to, how
many messages wait there, whether the order stands still, and its dead letters; with broker.management_url
also which pod is served. Nothing is changed, and no letter is moved.

Exit codes: 0 done, 64 that is no order key, 69 somebody who was asked did not answer (the others are shown),
75 another operator is at work, or it was interrupted: not all dead letters were looked at (the rest is
shown), 78 the settings are wrong")]
pub(super) struct Arguments {
    /// The order: the values of its key, joined by `/`.
    #[arg(value_name = "ORDER")]
    order: String,
    #[command(flatten)]
    pods: Pods,
    /// Most dead letters that are looked at, the oldest first.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    letters_max: u64,
    /// Look at no dead letters: while one looks, another operator cannot.
    #[arg(long, conflicts_with = "letters_max")]
    no_letters: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// All that is known.
#[derive(Debug, Serialize)]
struct Explained {
    order: String,
    /// What the broker shows, or why it does not.
    broker: Said<broker::Seen>,
    pods: Vec<Pod>,
}

/// What somebody said, or why he did not.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Said<T> {
    Said(T),
    Error(String),
}

#[derive(Debug, Serialize)]
struct Pod {
    url: String,
    #[serde(flatten)]
    answer: Said<Value>,
}

impl Explained {
    /// The exit code: somebody who is silent weighs more than letters that were not looked at.
    fn code(&self) -> u8 {
        let silent = |pod: &Pod| matches!(pod.answer, Said::Error(_));
        match &self.broker {
            Said::Error(_) => exit::UNAVAILABLE,
            Said::Said(_) if self.pods.iter().any(silent) => exit::UNAVAILABLE,
            Said::Said(seen) if seen.is_cut_short() => exit::GRACE,
            Said::Said(_) => exit::OK,
        }
    }
}

pub(super) async fn run(arguments: Arguments, loaded: Loaded) -> u8 {
    let settings = loaded.settings.clone();
    let order = match target::canonical(&settings.order, &arguments.order) {
        Ok(order) => order,
        Err(text) => {
            complain(&text);
            return exit::USAGE;
        }
    };
    let roots = match arguments.pods.roots(&settings).await {
        Ok(roots) => roots,
        Err(text) => {
            complain(&text);
            return exit::USAGE;
        }
    };
    let client = match pods::client() {
        Ok(client) => client,
        Err(error) => return fail(exit::CONFIG, &error),
    };
    let letters_max = (!arguments.no_letters).then_some(arguments.letters_max);
    let query = [("order", &*arguments.order)];
    let (answers, seen) = tokio::join!(
        pods::ask::<Value>(&client, &roots, "explain", &query),
        broker::look(loaded, &order, letters_max),
    );
    let pod = |Answer { url, said }: Answer<Value>| {
        let answer = said.map_or_else(Said::Error, Said::Said);
        Pod { url: url.to_string(), answer }
    };
    let broker = seen.map_or_else(|error| Said::Error(causes(&error)), Said::Said);
    let order = order.to_string();
    let explained = Explained { order, broker, pods: answers.into_iter().map(pod).collect() };
    match arguments.output {
        Output::Text => print(&text::text(&explained)),
        Output::Json => match serde_json::to_string(&explained) {
            Ok(line) => print(&format!("{line}\n")),
            Err(error) => return fail(exit::BUG, &error),
        },
    };
    explained.code()
}

/// An error with all its causes.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
