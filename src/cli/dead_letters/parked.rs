//! `orderwright dead-letters parked` and `release`: the orders that stand still behind a dead letter.

use std::sync::Arc;

use serde_json::json;

use super::desk::{Desk, failed};
use super::release;
use super::standstill::knowing;
use crate::app::exit;
use crate::broker::Parking;
use crate::cli::{Output, complain, print};
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
    if !loaded.settings.dead_letter.parks() {
        complain("dead_letter.on_dead_letter is continue: no order stands still");
        return exit::CONFIG;
    }
    let asked = async {
        let desk = Desk::open(loaded, "parked").await?;
        let publisher = Arc::new(desk.publisher()?);
        let done = knowing(&desk, &publisher, async |parking| match (parking, &question) {
            // It was looked at above.
            (None, _) => Ok(exit::CONFIG),
            (Some(parking), Question::List(Parked { output })) => {
                Ok(print(&listed(parking, *output)))
            }
            (Some(parking), Question::Release(arguments)) => {
                release::run(arguments, &desk, &publisher, parking).await
            }
        })
        .await;
        publisher.close().await;
        desk.leave().await;
        done
    };
    match asked.await {
        Ok(code) => code,
        Err(error) => failed(&error),
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
