//! The least that a worker can do: GET, PATCH under `If-Match`, ack. What `make bench` compares the daemon with.
//!
//! It has the daemon's client libraries, allocator and limits, and none of its guarantees: no order within
//! an order, no retry, no dead letters, no drain, no telemetry. Whatever is not as expected ends it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program whose result is text")]

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// As the daemon has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What ends the program.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// Works messages off until it is ended.
#[derive(Debug, clap::Parser)]
#[command(name = "bare")]
struct Options {
    /// AMQP URL.
    #[arg(long)]
    broker: String,
    /// Service root, with a slash at its end.
    #[arg(long)]
    target: String,
    /// A queue; may be given again.
    #[arg(long, required = true)]
    queue: Vec<String>,
    /// Unacked messages of each queue.
    #[arg(long)]
    prefetch: u16,
    /// Messages at work.
    #[arg(long)]
    concurrency: usize,
}

/// The parts of a message that are needed.
#[derive(Debug, Deserialize)]
struct Update<'a> {
    key: Key,
    #[serde(borrow)]
    changes: &'a RawValue,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Key {
    #[serde(rename = "dataAreaId")]
    company: String,
    sales_order_number: String,
}

#[derive(Debug)]
struct Worker {
    http: reqwest::Client,
    /// Up to the key.
    orders: String,
    room: Arc<Semaphore>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    match runtime.block_on(run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Error> {
    let connection = Connection::connect(&options.broker, ConnectionProperties::default()).await?;
    let worker = Arc::new(Worker {
        http: reqwest::Client::builder().no_proxy().pool_max_idle_per_host(usize::MAX).build()?,
        orders: format!("{}SalesOrderHeadersV2(", options.target),
        room: Arc::new(Semaphore::new(options.concurrency)),
    });
    let (failed, mut failures) = mpsc::channel(1);
    let mut queues = JoinSet::new();
    for queue in options.queue {
        let channel = connection.create_channel().await?;
        channel.basic_qos(options.prefetch, BasicQosOptions::default()).await?;
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut messages =
            channel.basic_consume(queue.into(), "bare".into(), options, none).await?;
        let (worker, failed) = (worker.clone(), failed.clone());
        queues.spawn(async move {
            while let Some(Ok(message)) = messages.next().await {
                let Ok(room) = worker.room.clone().acquire_owned().await else { return };
                let (worker, failed) = (worker.clone(), failed.clone());
                // As small as it can be: nobody waits for these, the process ends with them.
                #[expect(clippy::disallowed_methods, reason = "nothing beside the work itself")]
                let _detached = tokio::spawn(async move {
                    if let Err(error) = worker.apply(message).await {
                        // A second one is not needed.
                        drop(failed.try_send(error));
                    }
                    drop(room);
                });
            }
        });
    }
    println!("{{\"event\":\"ready\"}}");
    // Until somebody ends us.
    failures.recv().await.map_or(Ok(()), Err)
}

impl Worker {
    async fn apply(&self, message: Delivery) -> Result<(), Error> {
        let update: Update<'_> = serde_json::from_slice(&message.data)?;
        let url = format!(
            "{}dataAreaId='{}',SalesOrderNumber='{}')?cross-company=true",
            self.orders, update.key.company, update.key.sales_order_number
        );
        let found = self.http.get(&url).send().await?.error_for_status()?;
        let etag = found.headers().get(ETAG).ok_or("no ETag")?.clone();
        found.bytes().await?;
        let written = self.http.patch(&url).header(IF_MATCH, etag);
        let written = written.header(CONTENT_TYPE, "application/json");
        let written = written.body(update.changes.get().to_owned()).send().await?;
        if written.status() != StatusCode::NO_CONTENT {
            return Err(format!("a PATCH was answered {}", written.status()).into());
        }
        message.acker.ack(BasicAckOptions::default()).await?;
        Ok(())
    }
}
