//! `orderwright dead-letters parked` and `release`: the orders that stand still behind a dead letter.

use std::sync::Arc;

use serde_json::json;

use super::release;
use crate::app::exit;
use crate::broker::{self, Error, Link, Parking, Publisher, Topology};
use crate::cli::{Output, complain, fail, instance, print};
use crate::config::Loaded;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dead-letters parked                        orders that stand still, the oldest first")]
pub(super) struct Parked {
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What is asked of the set of parked orders.
pub(super) enum Question<'a> {
    List(&'a Parked),
    Release(&'a release::Arguments),
}

pub(super) async fn run(question: Question<'_>, loaded: Loaded) -> u8 {
    let settings = &loaded.settings;
    if !settings.dead_letter.parks() {
        complain("dead_letter.on_dead_letter is continue: no order stands still");
        return exit::CONFIG;
    }
    let topology = Topology::of_all(settings);
    let name = format!("orderwright dead-letters {}", instance(settings));
    let link = match Link::new(&settings.broker, &name) {
        Ok(link) => link,
        Err(error) => return fail(exit::CONFIG, &error),
    };
    let publisher = Arc::new(Publisher::new(link.clone(), settings.broker.publish_timeout));
    let parking = Parking::new(publisher.clone(), &topology, usize::MAX);
    let asked = async {
        let connection = broker::connect(&link).await?;
        let done = tokio::select! { biased;
            ended = parking.follow(&connection) => ended.map(|()| exit::UNAVAILABLE),
            code = answer(&question, &topology, &publisher, &parking) => code,
        };
        broker::close(&connection, settings.broker.connect_timeout).await;
        publisher.close().await;
        done
    };
    match asked.await {
        Ok(code) => code,
        Err(error) => {
            let code = if error.may_heal() { exit::UNAVAILABLE } else { exit::CONFIG };
            fail(code, &error)
        }
    }
}

async fn answer(
    question: &Question<'_>,
    topology: &Topology,
    publisher: &Publisher,
    parking: &Parking,
) -> Result<u8, Error> {
    let _reading = parking.ready().await;
    match question {
        Question::List(Parked { output }) => Ok(print(&listed(parking, *output))),
        Question::Release(arguments) => release::run(arguments, topology, publisher, parking).await,
    }
}

/// All orders that stand still, the oldest first.
fn listed(parking: &Parking, output: Output) -> String {
    let set = parking.set();
    let mut orders: Vec<_> = set.iter().collect();
    orders.sort_by_key(|(_, parked)| parked.since);
    let line = |(order, parked): (&str, &crate::parking::Parked)| match output {
        Output::Json => {
            let mut line = json!(parked);
            if let Some(fields) = line.as_object_mut() {
                fields.insert("order".to_owned(), json!(order));
            }
            format!("{line}\n")
        }
        Output::Text => {
            let (letters, head) = (parked.letters, parked.head);
            format!("{order}  since {}  {letters} letter(s), the first is {head}\n", parked.since)
        }
    };
    orders.into_iter().map(line).collect()
}
