//! What is known of one order, for people.

use std::fmt::Write;

use serde_json::Value;

use super::broker::{Letters, Seen, Shown};
use super::{Explained, Pod, Said};
use crate::cli::dead_letters::line;

/// Characters of a letter's detail.
const DETAIL_MAX: usize = 120;

pub(super) fn text(explained: &Explained) -> String {
    let mut text = format!("order {}\n", line(&explained.order, 200));
    match &explained.broker {
        Said::Said(seen) => broker(&mut text, seen),
        Said::Error(error) => push(&mut text, &format!("broker: {error}")),
    }
    for pod in &explained.pods {
        self::pod(&mut text, pod);
    }
    if let Said::Said(Seen { letters: Some(letters), .. }) = &explained.broker {
        self::letters(&mut text, letters);
    }
    text
}

fn push(text: &mut String, said: &str) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "{said}");
}

fn broker(text: &mut String, seen: &Seen) {
    let Seen { shard, generation, queue, messages, consumers, served, parked, .. } = seen;
    push(text, &format!("shard {shard} of generation {generation}: {queue}"));
    match (messages, consumers) {
        (Some(messages), Some(consumers)) => {
            let served = served.as_deref().map(|pod| format!(", {pod} is served"));
            push(
                text,
                &format!(
                    "  {messages} messages wait there, of all its orders; {consumers} subscribed{}",
                    served.unwrap_or_default()
                ),
            );
        }
        (_, _) => push(text, "  there is no such queue: run `orderwright topology check`"),
    }
    if let Some(parked) = parked {
        let (head, since, letters) = (parked.head, parked.since, parked.letters);
        push(
            text,
            &format!(
                "  the order stands still behind the dead letter {head} since {since:.0}, {letters} \
                 letter(s)"
            ),
        );
    }
}

fn pod(text: &mut String, pod: &Pod) {
    let url = &pod.url;
    match &pod.answer {
        Said::Error(error) => push(text, &format!("pod at {url}: {}", line(error, 200))),
        Said::Said(said) => {
            let name = said.get("instance").and_then(Value::as_str).unwrap_or("?");
            let version = said.get("version").and_then(Value::as_str).unwrap_or("?");
            push(text, &format!("pod {} at {url}, version {}:", line(name, 64), line(version, 32)));
            let says = said.get("says").and_then(Value::as_array).into_iter().flatten();
            for sentence in says.filter_map(Value::as_str) {
                push(text, &format!("  {}", line(sentence, 400)));
            }
        }
    }
}

fn letters(text: &mut String, letters: &Letters) {
    let Letters { there, looked_at, found, shown, because } = letters;
    let because = because.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
    push(text, &format!("dead letters: {found} among {looked_at} of {there} looked at{because}"));
    for Shown { id, dead_lettered_at, reason, fingerprint, status, etag, detail } in shown {
        let died = dead_lettered_at.map(|at| format!("{at:.0} ")).unwrap_or_default();
        let status = status.map(|status| format!(" HTTP {status}")).unwrap_or_default();
        let etag = etag.as_ref().map(|etag| format!(", last ETag seen {}", line(etag, 100)));
        let etag = etag.unwrap_or_default();
        let (reason, detail) = (line(reason, 40), line(detail, DETAIL_MAX));
        push(text, &format!("  {died}{id} {reason}{status} {fingerprint}{etag}: {detail}"));
    }
}
