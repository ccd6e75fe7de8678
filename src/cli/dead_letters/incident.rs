//! What one replay did, for an incident's document and for people at a terminal. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{line, lines};
use crate::dead_letter::journal::{Event, Record};

/// What came of the letters of a replay.
#[derive(Debug, Default, Serialize)]
pub(super) struct Account {
    /// Letters that it was about.
    letters: u64,
    /// Those that had no room.
    left_over: u64,
    /// Letters by what came of them.
    counts: BTreeMap<String, usize>,
    /// Letters of which the journal does not say what came of them.
    unaccounted: u64,
}

/// Counts what the records of a replay say.
pub(super) fn account(records: &[Record]) -> Account {
    let mut account = Account::default();
    let mut known = BTreeSet::new();
    let count = |counts: &mut BTreeMap<String, usize>, outcome: &str| {
        *counts.entry(outcome.to_owned()).or_default() += 1;
    };
    // A record may be there twice: its confirm was lost. A replay has a beginning for each of its rounds.
    let mut begun = BTreeSet::new();
    for Record { at, event, .. } in records {
        match event {
            Event::ReplayBegun { letters, left_over, .. } if begun.insert(*at) => {
                account.letters += letters;
                account.left_over += left_over;
            }
            Event::Replayed { letter, outcome, .. } => {
                if known.insert((begun.len(), letter.as_str())) {
                    count(&mut account.counts, outcome);
                }
            }
            Event::Left { letter, .. } => {
                if known.insert((begun.len(), letter.as_str())) {
                    count(&mut account.counts, "left");
                }
            }
            Event::Unsent { letters, .. } => {
                for it in letters {
                    if known.insert((begun.len(), it.letter.as_str())) {
                        count(&mut account.counts, "left");
                    }
                }
            }
            Event::ReplayBegun { .. }
            | Event::ReplayEnded { .. }
            | Event::Released { .. }
            | Event::Discarded { .. }
            | Event::Restored { .. }
            | Event::Edited { .. }
            | Event::Imported { .. }
            | Event::Moved { .. } => {}
        }
    }
    let known = u64::try_from(known.len()).unwrap_or(u64::MAX);
    account.unaccounted = account.letters.saturating_sub(known);
    account
}

/// A letter's line.
struct Row {
    at: String,
    order: String,
    letter: String,
    outcome: String,
    why: String,
}

/// The steps of it, in sentences, and what came of each letter.
fn told(records: &[Record]) -> (Vec<String>, Vec<Row>) {
    let (mut steps, mut rows) = (Vec::new(), Vec::new());
    for record in records {
        let (at, by) = (format!("{:.0}", record.at), shown(&record.by));
        let row = |order: Option<&str>, letter: &str, outcome: &str, why: &str| Row {
            at: at.clone(),
            order: shown(order.unwrap_or_default()),
            letter: shown(letter),
            outcome: shown(outcome),
            why: shown(why),
        };
        match &record.event {
            Event::ReplayBegun { selection, because, forced, never_seen, letters, .. } => {
                let because = because.as_deref().map(shown).unwrap_or_default();
                let how = match (forced, never_seen) {
                    (true, _) => ", forced",
                    (false, true) => ", with those that never saw their order",
                    (false, false) => "",
                };
                steps.push(format!("{at}: begun by {by}{how}: {letters} letters. {because}"));
                steps.push(format!("selection: `{}`", shown(selection).replace('`', "'")));
            }
            Event::ReplayEnded { end, why, .. } => {
                let why = why.as_deref().map(shown).unwrap_or_default();
                let end = json!(end);
                let said = format!("{} {why}", end.as_str().unwrap_or_default());
                steps.push(format!("{at}: {}", said.trim_end()));
            }
            Event::Released { order, letters, .. } => {
                steps.push(format!("{at}: {} goes on, after {letters} letters", shown(order)));
            }
            Event::Replayed { letter, order, outcome, reason, new_letter, .. } => {
                let (reason, new) = (reason.as_deref(), new_letter.as_deref());
                let why = [reason, new].into_iter().flatten().collect::<Vec<_>>().join(" ");
                rows.push(row(order.as_deref(), letter, outcome, &why));
            }
            Event::Left { letter, order, why, .. } => {
                rows.push(row(order.as_deref(), letter, "left", why));
            }
            Event::Unsent { letters, why, .. } => {
                let left = letters.iter();
                rows.extend(left.map(|it| row(it.order.as_deref(), &it.letter, "left", why)));
            }
            Event::Discarded { .. }
            | Event::Restored { .. }
            | Event::Edited { .. }
            | Event::Imported { .. }
            | Event::Moved { .. } => {}
        }
    }
    (steps, rows)
}

/// What is to be known before the letters: the steps, and the sum.
fn head(records: &[Record], steps: &[String]) -> String {
    let account = account(records);
    let mut text = lines(steps.iter().map(|step| format!("- {}", cell(step))));
    for (outcome, count) in &account.counts {
        let _infallible = writeln!(text, "- {}: {count}", cell(outcome));
    }
    if account.left_over > 0 {
        let _infallible =
            writeln!(text, "- had no room, and are left for the next time: {}", account.left_over);
    }
    if account.unaccounted > 0 {
        let count = account.unaccounted;
        let _infallible =
            writeln!(text, "- not accounted for: {count}: it was killed, or broke off, or goes on");
    }
    text
}

/// For the incident's document.
pub(super) fn markdown(replay: Uuid, records: &[Record]) -> String {
    let (steps, rows) = told(records);
    let mut text = format!("## Replay {replay}\n\n{}\n", head(records, &steps));
    text.push_str(
        "| when | order | dead letter | outcome | why |\n| --- | --- | --- | --- | --- |\n",
    );
    for Row { at, order, letter, outcome, why } in &rows {
        let [order, outcome, why] = [order, outcome, why].map(|it| cell(it));
        let _infallible = writeln!(text, "| {at} | {order} | {letter} | {outcome} | {why} |");
    }
    text
}

/// For people at a terminal.
pub(super) fn table(replay: Uuid, records: &[Record]) -> String {
    let (steps, rows) = told(records);
    let mut text = format!("replay {replay}\n{}\n", head(records, &steps));
    for Row { at, order, letter, outcome, why } in &rows {
        let row = format!("{at}  {letter}  {outcome:<15}  {order}  {why}");
        let _infallible = writeln!(text, "{}", row.trim_end());
    }
    text
}

/// A text on one line, whole.
fn shown(text: &str) -> String {
    line(text, usize::MAX)
}

/// A text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::dead_letter::journal::Named;

    fn replayed(letter: &str, order: &str, outcome: &str) -> Event {
        Event::Replayed {
            replay: Uuid::from_u128(7),
            letter: letter.to_owned(),
            order: Some(order.to_owned()),
            outcome: outcome.to_owned(),
            reason: None,
            new_letter: None,
            etag: None,
        }
    }

    fn records() -> Vec<Record> {
        let replay = Uuid::from_u128(7);
        let events = [
            Event::ReplayBegun {
                replay,
                selection: "reason rejected".to_owned(),
                because: Some("TICKET-7".to_owned()),
                forced: true,
                never_seen: false,
                letters: 6,
                left_over: 3,
            },
            replayed("l-1", "USMF/a|b", "applied"),
            replayed("l-1", "USMF/a|b", "applied"),
            Event::Left {
                replay,
                letter: "l-2".to_owned(),
                order: None,
                why: "superseded: the ETag".to_owned(),
            },
            replayed("l-3", "USMF/c", "unknown"),
            Event::Unsent {
                replay,
                letters: ["l-4", "l-5"]
                    .map(|it| Named { letter: it.to_owned(), order: Some("USMF/c".to_owned()) })
                    .into(),
                why: "not begun: stopped".to_owned(),
            },
            Event::ReplayEnded { replay, end: crate::dead_letter::End::Stopped, why: None },
        ];
        let record = |event| Record { at: Timestamp::UNIX_EPOCH, by: "kim@desk".into(), event };
        events.map(record).into()
    }

    #[test]
    fn report_says_who_when_what_and_what_came_of_each_letter() {
        let text = markdown(Uuid::from_u128(7), &records());
        for part in [
            "begun by kim@desk, forced: 6 letters. TICKET-7",
            "- selection: `reason rejected`",
            "- 1970-01-01T00:00:00Z: stopped",
            "- applied: 1\n- left: 3\n- unknown: 1\n",
            "- had no room, and are left for the next time: 3\n- not accounted for: 1: ",
            "| 1970-01-01T00:00:00Z | USMF/a\\|b | l-1 | applied |",
            "| l-2 | left | superseded: the ETag |",
            "| USMF/c | l-5 | left | not begun: stopped |",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let text = table(Uuid::from_u128(7), &records());
        assert!(text.contains("l-5  left             USMF/c  not begun: stopped\n"), "{text}");
    }

    #[test]
    fn every_letter_is_accounted_for_once() {
        let account = account(&records());
        assert_eq!((account.letters, account.left_over, account.unaccounted), (6, 3, 1));
        assert_eq!(account.counts.values().sum::<usize>(), 5);
    }
}
