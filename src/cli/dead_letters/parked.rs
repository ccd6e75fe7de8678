//! `orderwright dead-letters parked` and `release`: the orders that stand still behind a dead letter.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::desk::{Desk, failed};
use super::filters::age;
use super::standstill::knowing;
use super::{Format, counted, lines, plain, release};
use crate::app::exit;
use crate::broker::Parking;
use crate::cli::{complain, print};
use crate::config::Loaded;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq parked                               orders that stand still, the oldest first
  orderwright dlq parked --order USMF/SO-2025-0145
  orderwright dlq parked --older-than 1h --output ndjson | jq -r .order

Exit codes: 0 done (also where none does), 69 unreachable, 78 dead letters do not park here \
(dead_letter.on_dead_letter), or the settings are wrong")]
pub(super) struct Parked {
    /// Of these orders (canonical keys).
    #[arg(long, value_name = "KEY")]
    order: Vec<String>,
    /// Stands still at least so long.
    #[arg(long, value_name = "DURATION", value_parser = age)]
    older_than: Option<SignedDuration>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
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
            (Some(parking), Question::List(asked)) => Ok(print(&listed(parking, asked, desk.now))),
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

/// The orders that stand still and are meant, the oldest first.
fn listed(parking: &Parking, asked: &Parked, now: Timestamp) -> String {
    let set = parking.set();
    let mut orders: Vec<_> = set.iter().filter(|(order, it)| asked.means(order, it, now)).collect();
    orders.sort_by_key(|(_, parked)| parked.since);
    let object = |(order, parked): &(&str, &crate::parking::Parked)| {
        let mut object = json!(parked);
        if let Some(fields) = object.as_object_mut() {
            fields.insert("order".to_owned(), json!(order));
        }
        object
    };
    match asked.output {
        Format::Json => format!("{}\n", json!(orders.iter().map(object).collect::<Vec<_>>())),
        Format::Ndjson => lines(orders.iter().map(|it| object(it).to_string())),
        Format::Table => {
            let row = |(order, parked): &(&str, &crate::parking::Parked)| {
                let (letters, head) = (counted(parked.letters, "letter"), parked.head);
                let (order, since) = (plain(order), parked.since);
                format!("{order}  since {since:.0}  {letters}, the first is {head}\n")
            };
            orders.iter().map(row).collect()
        }
    }
}

impl Parked {
    fn means(&self, order: &str, parked: &crate::parking::Parked, now: Timestamp) -> bool {
        (self.order.is_empty() || self.order.iter().any(|it| it == order))
            && self.older_than.is_none_or(|age| now.duration_since(parked.since) >= age)
    }
}
