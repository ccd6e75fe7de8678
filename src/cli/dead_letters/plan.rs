//! `orderwright dead-letters plan`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, interval, sleep_until};

use super::super::{fail, instance, print};
use super::desk::{Desk, failed, progress};
use super::filters::Filters;
use super::gather::{Gathered, gather};
use super::standstill::knowing;
use super::{Format, line};
use crate::app::exit;
use crate::app::replay::{Allowed, Candidate, Checked, Checker, Prospect, by_order};
use crate::broker::Error;
use crate::config::Loaded;
use crate::dead_letter::Manner;

/// Characters of a text that the table shows.
const SHOWN_CHARACTERS_MAX: usize = 400;

/// Letters that the table shows for each kind.
const SHOWN_MAX: usize = 20;

/// A letter takes about so many requests, one after the other: the look, and the daemon's GET and PATCH.
const REQUESTS: u32 = 3;

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq plan --fingerprint v1-4f1d
  orderwright dlq plan --reason business_rule --rate 50 --output json
  orderwright dlq plan --offline                       how many of how many orders; asks nobody

would_apply      it would be written
already_applied  it is there; the letter would go
superseded       the order has moved on since; it would stay (--force-superseded)
never_seen       it died before it saw its order: nobody can tell whether that has moved on since;
                 it would stay, and what is behind it (--never-seen, where you know)
order_missing    there is no such order; it would stay
refused          a guard, or the contract, does not allow it; it would stay
held             its order stands still, and it is not its turn (it says why); it would stay
unknown          the service did not say

At most --rate orders a second are asked for, --max-in-flight at once. A service that wants to be left alone \
(429, or 503 with Retry-After) is. The time that a replay takes is estimated by how fast the service answers.

Exit codes: 0 done, 69 unreachable, 75 another operator is at work or it was interrupted (what was asked by \
then is printed), 78 the settings are wrong")]
pub(super) struct Arguments {
    #[command(flatten)]
    asked: Asked,
}

/// What is asked for, with or without a replay after it.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Asked {
    #[command(flatten)]
    pub(super) filters: Filters,
    /// Most letters in one go, oldest first. Those of the same orders that are meant as well come along.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) limit: u32,
    /// Orders asked for a second, and letters sent a second.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) rate: u32,
    /// Orders asked for at once, and letters whose outcome is awaited at once.
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(super) max_in_flight: u16,
    /// Of a replay: so many first, and all must be applied before the rest begins. 0 for none.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(super) canary: usize,
    /// Of a replay: then so many, step by step; each step is over before the next begins. Then all others.
    #[arg(long, value_name = "COUNTS", value_delimiter = ',')]
    pub(super) ramp: Vec<usize>,
    /// Ask nobody: counts alone.
    #[arg(long)]
    offline: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Format,
}

impl Asked {
    /// How a replay would go.
    pub(super) fn manner(&self) -> Manner {
        Manner {
            canary: self.canary,
            ramp: self.ramp.clone(),
            rate: Some(self.rate),
            in_flight_max: usize::from(self.max_in_flight),
            ..Manner::steady()
        }
    }
}

pub(super) async fn run(arguments: &Arguments, loaded: Loaded) -> u8 {
    plan(&arguments.asked, Allowed::Seen, loaded).await
}

pub(super) async fn plan(arguments: &Asked, allowed: Allowed, loaded: Loaded) -> u8 {
    let checker = match Checker::new(&loaded.settings, &instance(&loaded.settings)) {
        Ok(checker) => checker,
        Err(error) => return fail(exit::CONFIG, &error),
    };
    match attempt(arguments, allowed, loaded, &checker).await {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

async fn attempt(
    arguments: &Asked,
    allowed: Allowed,
    loaded: Loaded,
    checker: &Checker,
) -> Result<u8, Error> {
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let desk = Desk::open(loaded, "plan").await?;
    let publisher = Arc::new(desk.publisher()?);
    let selection = arguments.filters.selection();
    let gathered = knowing(&desk, &publisher, async |parking| {
        let gathered = gather(&desk, checker, parking, &selection, limit).await?;
        let Gathered { browser, candidates, left_over, interrupted, .. } = gathered;
        // Nothing is taken away: let others look while the service is asked.
        desk.close(browser).await?;
        Ok((candidates, left_over, interrupted))
    });
    let (candidates, left_over, mut interrupted) = gathered.await?;
    let all: Vec<&Candidate> = candidates.iter().collect();
    let groups = by_order(&all, |message| checker.sequence(message));
    let orders: Vec<usize> = groups.iter().map(Vec::len).collect();
    let unsure = groups.iter().flatten().filter(|turn| !turn.is_sure).map(|turn| turn.index);
    let unsure: BTreeSet<usize> = unsure.collect();
    let mut found = Vec::new();
    if !arguments.offline && !interrupted {
        (found, interrupted) = look(&desk, arguments, allowed, (checker, &candidates)).await;
    }
    publisher.close().await;
    desk.leave().await;
    let manner = arguments.manner();
    let plan = Plan {
        candidates: &candidates,
        found: &found,
        orders: &orders,
        unsure: &unsure,
        left_over,
        manner,
    };
    print(&plan.text(arguments.output));
    Ok(if interrupted { exit::GRACE } else { exit::OK })
}

/// Asks for the order of each, until an interrupt; whether there was one.
async fn look(
    desk: &Desk,
    arguments: &Asked,
    allowed: Allowed,
    (checker, candidates): (&Checker, &[Candidate]),
) -> (Vec<Checked>, bool) {
    let apart = Duration::from_secs(1) / arguments.rate;
    // Whoever is held up does not make up for it all at once.
    let due = Mutex::new(Instant::now());
    let looks = candidates.iter().map(async |candidate| {
        {
            let mut due = due.lock().await;
            sleep_until(*due).await;
            *due = Instant::now() + apart;
        }
        checker.look(candidate, allowed).await
    });
    let mut looks = stream::iter(looks).buffered(usize::from(arguments.max_in_flight));
    let bar = progress("orders asked for", u64::try_from(candidates.len()).unwrap_or(u64::MAX));
    let (mut found, mut look_again) = (Vec::new(), interval(Duration::from_secs(1)));
    let interrupted = loop {
        tokio::select! { biased;
            () = desk.interrupt.cancelled() => break true,
            said = looks.next() => match said {
                Some(said) => {
                    found.push(said);
                    bar.inc(1);
                }
                None => break false,
            },
            _ = look_again.tick() => {
                let left = checker.left_alone_for().map(|left| left.as_secs());
                let text = left.map(|left| format!(", the service wants {left} s of rest"));
                bar.set_message(text.unwrap_or_default());
            }
        }
    };
    bar.finish_and_clear();
    (found, interrupted)
}

struct Plan<'a> {
    candidates: &'a [Candidate],
    /// Empty where nobody was asked.
    found: &'a [Checked],
    /// How many letters each has.
    orders: &'a [usize],
    /// Those that are not known for certain to be newer than the letters of their order before them.
    unsure: &'a BTreeSet<usize>,
    left_over: u64,
    manner: Manner,
}

impl Plan<'_> {
    fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for checked in self.found {
            *counts.entry(checked.prospect.name()).or_default() += 1;
        }
        counts
    }

    /// How long one GET takes: the middle one of all.
    fn get(&self) -> Option<Duration> {
        let mut took: Vec<Duration> = self.found.iter().filter_map(|it| it.took).collect();
        took.sort_unstable();
        took.get(took.len() / 2).copied()
    }

    fn takes(&self) -> Duration {
        let each = self.get().unwrap_or_default().saturating_mul(REQUESTS);
        self.manner.estimate(self.orders, each)
    }

    fn summary(&self) -> Value {
        json!({
            "letters": self.candidates.len(), "orders": self.orders.len(),
            "left_over": self.left_over, "prospects": self.counts(),
            "unsure_of_their_place": self.unsure.len(),
            "seconds": self.takes().as_secs_f64(),
            "get_milliseconds": self.get().map(|it| it.as_millis()),
        })
    }

    fn rows(&self) -> impl Iterator<Item = Value> + '_ {
        let all = self.candidates.iter().zip(self.found).enumerate();
        all.map(|(index, (candidate, checked))| {
            json!({
                "is_sure_of_its_place": !self.unsure.contains(&index),
                "id": candidate.letter.id, "order": candidate.letter.order,
                "prospect": checked.prospect, "why": checked.why, "changed": checked.changed,
            })
        })
    }

    fn text(&self, output: Format) -> String {
        match output {
            Format::Json => {
                let mut all = self.summary();
                if let Some(all) = all.as_object_mut() {
                    all.insert("plan".to_owned(), self.rows().collect());
                }
                format!("{all}\n")
            }
            Format::Ndjson => {
                let rows = self.rows().chain([self.summary()]).map(|row| row.to_string());
                rows.collect::<Vec<_>>().join("\n") + "\n"
            }
            Format::Table => self.table(),
        }
    }

    fn table(&self) -> String {
        let seconds = self.takes().as_secs_f64().ceil();
        let takes = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let takes = humantime::format_duration(takes);
        let (letters, orders) = (self.candidates.len(), self.orders.len());
        let mut text = match self.get() {
            Some(get) => format!(
                "{letters} letters of {orders} orders; a replay takes about {takes} (one GET takes {} ms)\n",
                get.as_millis()
            ),
            None => {
                format!("{letters} letters of {orders} orders; a replay takes at least {takes}\n")
            }
        };
        if self.left_over > 0 {
            let _infallible = writeln!(text, "{} more are left for the next time", self.left_over);
        }
        if !self.unsure.is_empty() {
            let _infallible = writeln!(
                text,
                "{} may be older than letters of their order before them, and stay once those are written",
                self.unsure.len()
            );
        }
        for (name, count) in self.counts() {
            let _infallible = writeln!(text, "  {name:<16} {count:>7}");
            let is_news = !matches!(name, "would_apply" | "already_applied");
            let of = self.candidates.iter().zip(self.found);
            let of = of.filter(|(_, checked)| is_news && checked.prospect.name() == name);
            for (candidate, checked) in of.take(SHOWN_MAX) {
                text.push_str(&entry(candidate, checked));
            }
            if is_news && count > SHOWN_MAX {
                let _infallible = writeln!(text, "    and {} more", count - SHOWN_MAX);
            }
        }
        text
    }
}

/// One letter that stays, and why.
fn entry(candidate: &Candidate, checked: &Checked) -> String {
    let letter = &candidate.letter;
    let order = letter.order.as_deref().unwrap_or("-");
    // The fields say it better than two ETags do.
    let why = if checked.changed.is_empty() { shown(&checked.why) } else { String::new() };
    let row = format!("    {}  {}  {why}", letter.id, shown(order));
    let mut text = format!("{}\n", row.trim_end());
    for change in &checked.changed {
        let value = |value: &Option<Value>| {
            shown(&value.as_ref().map_or("absent".to_owned(), Value::to_string))
        };
        let (property, now, wanted) =
            (shown(&change.property), value(&change.now), value(&change.wanted));
        let _infallible = if checked.prospect == Prospect::NeverSeen {
            writeln!(text, "      {property}: is {now}, wants {wanted}")
        } else {
            let seen = value(&change.seen);
            writeln!(text, "      {property}: saw {seen}, is {now}, wants {wanted}")
        };
    }
    text
}

fn shown(text: &str) -> String {
    line(text, SHOWN_CHARACTERS_MAX)
}
