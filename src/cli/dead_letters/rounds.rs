//! Replays what is meant, and then, of orders that stood still, what has come behind them meanwhile, until
//! they go on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use indicatif::ProgressBar;
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use super::super::{complain, fail, print};
use super::Format;
use super::desk::{Desk, progress};
use super::gather::{Gathered, gather};
use crate::app::exit;
use crate::app::replay::release::{self, Answer};
use crate::app::replay::{Allowed, Candidate, Checker, Counts, Hold, Report, Run, Told};
use crate::broker::{Error, Parking, Publisher};
use crate::dead_letter::{End, Fate, Manner, Selection, letter_id};
use crate::parking::Release;

/// Rounds for orders whose publishers never pause. What has come by then is left for the next time.
const ROUNDS_MAX: usize = 20;

/// Orders that are named one by one. Others are counted, and stand in the report.
const NAMED_MAX: usize = 10;

/// How long a release may take to have its turn in its order's queue.
const RELEASE_MAX: Duration = Duration::from_mins(1);

/// How it is to be done.
pub(super) struct Wish<'a> {
    pub(super) by: &'a str,
    /// The selection in words.
    pub(super) words: &'a str,
    pub(super) because: Option<&'a str>,
    pub(super) allowed: Allowed,
    /// Letters in one round.
    pub(super) limit: usize,
    pub(super) manner: Manner,
    /// After so long without an outcome the service is asked.
    pub(super) ask_after: Duration,
    pub(super) output: Format,
}

/// What came of it.
struct Sum {
    replay: Uuid,
    end: End,
    counts: Counts,
    left_over: u64,
    released: usize,
    /// Orders that stand still although all their letters that were there are written.
    standing: Vec<String>,
    /// Parked orders that stay so, as not all their letters were written.
    kept: BTreeSet<String>,
}

/// Replays, prints what came of it, and says what to exit with.
///
/// # Errors
/// Any of the broker's, before anything is sent. What goes wrong later is told here.
pub(super) async fn perform(
    desk: &Desk,
    (checker, publisher): (&Checker, &Arc<Publisher>),
    parking: Option<&Parking>,
    selection: &Selection,
    wish: Wish<'_>,
) -> Result<u8, Error> {
    let replay = letter_id(jiff::Timestamp::now(), fastrand::u128(..));
    let (mut selection, mut manner) = (selection.clone(), wish.manner.clone());
    let mut sum = Sum {
        replay,
        end: End::Done,
        counts: Counts::new(),
        left_over: 0,
        released: 0,
        standing: Vec::new(),
        kept: BTreeSet::new(),
    };
    for round in 0..ROUNDS_MAX {
        let gathered = gather(desk, checker, parking, &selection, wish.limit).await?;
        let Gathered { browser, candidates, tickets, releases, cut, left_over, interrupted } =
            gathered;
        if interrupted {
            desk.close(browser).await?;
            sum.end = End::Cancelled;
            break;
        }
        let behind = if round > 0 { " that came behind" } else { "" };
        complain(&format!("replay {replay}: {} letters{behind}", candidates.len()));
        let run = Run {
            replay,
            by: wish.by,
            selection: if round > 0 { "what came behind" } else { wish.words },
            because: wish.because,
            allowed: wish.allowed,
            cut: &cut,
            left_over,
            connection: &desk.connection,
            publisher,
            topology: &desk.topology,
            checker,
            held_max: desk.settings.broker.consumer_timeout / 2,
            ask_after: wish.ask_after,
        };
        let hold = Hold::new(browser, tickets);
        let letters = u64::try_from(candidates.len()).unwrap_or(u64::MAX);
        // Those who see a line for each letter need no count of them.
        let bar = match wish.output {
            Format::Json => progress("letters seen to", letters),
            Format::Table | Format::Ndjson => ProgressBar::hidden(),
        };
        let tell = |told: Told| tell(&told, wish.output, &bar);
        let what = (candidates.as_slice(), releases);
        let report = match Box::pin(run.perform(hold, what, manner, &desk.interrupt, tell)).await {
            Ok(report) => report,
            Err(error) => return Ok(fail(exit::UNAVAILABLE, &error)),
        };
        bar.finish_and_clear();
        sum.keep(&candidates, &report);
        let more = sum.add(report, left_over, parking, desk).await;
        if more.is_empty() || sum.end != End::Done {
            break;
        }
        selection = Selection { orders: more, ..Selection::default() };
        manner = Manner { canary: 0, ramp: Vec::new(), ..wish.manner.clone() };
    }
    print(&sum.text(wish.output));
    sum.complain();
    Ok(sum.code())
}

impl Sum {
    /// Takes what came of one round; the orders that have got letters meanwhile.
    async fn add(
        &mut self,
        report: Report,
        left_over: u64,
        parking: Option<&Parking>,
        desk: &Desk,
    ) -> Vec<String> {
        self.end = report.end;
        self.left_over += left_over;
        for (fate, count) in report.counts {
            *self.counts.entry(fate).or_default() += count;
        }
        let Some(parking) = parking else { return Vec::new() };
        self.standing.clear();
        let mut more = Vec::new();
        let answers = join_all(report.releases.iter().map(|it| awaited(parking, it, desk))).await;
        for (release, answer) in report.releases.iter().zip(answers) {
            match answer {
                Some(Answer::Released) => self.released += 1,
                Some(Answer::StillParked) => {
                    more.push(release.order.to_string());
                    self.standing.push(release.order.to_string());
                }
                None => self.standing.push(release.order.to_string()),
            }
        }
        more
    }

    /// Notes which orders stay parked behind a letter that was not written.
    fn keep(&mut self, candidates: &[Candidate], report: &Report) {
        let parked = candidates.iter().filter(|it| it.place.unparks().is_some());
        self.kept.extend(parked.filter_map(|it| it.letter.order.clone()));
        for release in &report.releases {
            self.kept.remove(&*release.order);
        }
    }

    fn complain(&self) {
        for order in &self.standing {
            complain(&format!(
                "{order} stands still: start it again, or look at it with dlq parked"
            ));
        }
        for order in self.kept.iter().take(NAMED_MAX) {
            complain(&format!(
                "{order} stays parked, as not all its letters were written: see the report"
            ));
        }
        let more = self.kept.len().saturating_sub(NAMED_MAX);
        if more > 0 {
            complain(&format!("{more} more orders stay parked"));
        }
    }

    fn code(&self) -> u8 {
        if self.end != End::Done || !self.standing.is_empty() {
            return exit::GRACE;
        }
        let failed = [Fate::Failed, Fate::Unknown].iter().any(|it| self.counts.contains_key(it));
        if failed { exit::FAILED } else { exit::OK }
    }

    fn text(&self, output: Format) -> String {
        let Self { replay, end, counts, left_over, released, standing, kept } = self;
        let name = |fate: &Fate| json!(fate).as_str().unwrap_or_default().to_owned();
        match output {
            Format::Json | Format::Ndjson => {
                let counts: serde_json::Map<_, _> =
                    counts.iter().map(|(fate, count)| (name(fate), json!(count))).collect();
                let all = json!({
                    "replay": replay, "end": end, "counts": counts, "left_over": left_over,
                    "orders_released": released, "orders_standing": standing, "orders_parked": kept,
                });
                format!("{all}\n")
            }
            Format::Table => {
                let end = json!(end);
                let counts: Vec<_> =
                    counts.iter().map(|(fate, count)| format!("{count} {}", name(fate))).collect();
                let mut text =
                    format!("{}: {}", end.as_str().unwrap_or_default(), counts.join(", "));
                if *released > 0 {
                    text += "; parked orders that go on: ";
                    text += &released.to_string();
                }
                if !kept.is_empty() {
                    text += "; parked orders that stay parked: ";
                    text += &kept.len().to_string();
                }
                if *left_over > 0 {
                    text += "; ";
                    text += &left_over.to_string();
                    text += " more are left for the next time";
                }
                format!("{text}\norderwright dlq report {replay}\n")
            }
        }
    }
}

/// Nothing where no pod has taken it in time, or nobody wants to wait.
async fn awaited(parking: &Parking, release: &Release, desk: &Desk) -> Option<Answer> {
    tokio::select! { biased;
        answer = timeout(RELEASE_MAX, release::answered(parking, release)) => answer.ok(),
        () = desk.interrupt.cancelled() => None,
    }
}

fn tell(told: &Told, output: Format, bar: &ProgressBar) {
    if matches!(told, Told::Fate(..)) {
        bar.inc(1);
    }
    match (told, output) {
        (Told::Fate(id, fate), Format::Ndjson) => {
            print(&format!("{}\n", json!({"letter": id, "outcome": fate})));
        }
        (Told::Fate(id, fate), Format::Table) => {
            print(&format!("{id}  {}\n", json!(fate).as_str().unwrap_or_default()));
        }
        (Told::Fate(..), Format::Json) => {}
        (Told::Silence(silence, awaited), _) => bar.suspend(|| complain(&format!(
            "nothing heard for {} s of {awaited} letters: the service is down, or no daemon runs; waiting",
            silence.as_secs()
        ))),
    }
}
