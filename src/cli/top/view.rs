//! What the pods say, in lines. Pure.

use serde::Deserialize;
use tokio::time::Instant;

use crate::cli::dead_letters::line;
use crate::cli::pods::Answer;

/// What one look brought.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) answers: Vec<Answer<Status>>,
    pub(super) at: Instant,
}

/// The part of `/status` that is shown. What is missing is zero: the pod may be of another version.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    instance: String,
    phase: String,
    ready: Ready,
    shards: Vec<Shard>,
    target: Target,
    orders: Vec<Order>,
    orders_busy: u64,
    updates_waiting: u64,
    counts: Counts,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Ready {
    ok: bool,
    because: Vec<String>,
    degraded: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Shard {
    number: Option<u16>,
    subscribed: bool,
    served: bool,
    unsettled: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Target {
    state: String,
    in_flight: u64,
}

#[expect(clippy::struct_field_names, reason = "what /status calls it")]
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Order {
    order: String,
    state: String,
    /// An older pod has none.
    oldest_seconds: f64,
    attempt: u64,
    behind: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Counts {
    applied: u64,
    already_applied: u64,
    superseded: u64,
    conflicts: u64,
    dead_lettered: std::collections::BTreeMap<String, u64>,
}

impl Counts {
    fn dead(&self) -> u64 {
        self.dead_lettered.values().sum()
    }

    fn settled(&self) -> u64 {
        self.applied + self.already_applied + self.superseded + self.dead()
    }
}

impl Look {
    /// Whether nobody answered.
    pub(super) fn is_silent(&self) -> bool {
        self.answers.iter().all(|answer| answer.said.is_err())
    }
}

/// A look, and the one before it.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) before: Option<&'a Look>,
    pub(super) now: &'a Look,
}

const HEAD: &str = "POD                  STATE        SHARDS SERVED  HELD  BUSY WAIT  WIRE SETTLED/S CONFLICTS/S  DEAD";
const ORDERS: &str = "ORDER                                    STATE         OLDEST ATT BEHIND POD";

impl Frame<'_> {
    /// As many lines as fit: pods, what is amiss, then the orders with the oldest updates.
    pub(super) fn lines(&self, width: usize, height: usize) -> Vec<String> {
        let mut lines = vec![HEAD.to_owned()];
        let mut amiss = Vec::new();
        let mut orders: Vec<(&Order, &str)> = Vec::new();
        for (index, Answer { url, said }) in self.now.answers.iter().enumerate() {
            match said {
                Ok(status) => {
                    lines.push(self.pod(index, status));
                    let Ready { because, degraded, .. } = &status.ready;
                    let name = line(&status.instance, 20);
                    let told = because.iter().chain(degraded);
                    amiss.extend(told.map(|text| format!("{name}: {}", line(text, 200))));
                    orders.extend(status.orders.iter().map(|order| (order, &*status.instance)));
                }
                Err(error) => amiss.push(format!("{url} {}", line(error, 200))),
            }
        }
        lines.push(String::new());
        lines.extend(amiss);
        lines.push(ORDERS.to_owned());
        orders.sort_by(|(one, _), (other, _)| other.oldest_seconds.total_cmp(&one.oldest_seconds));
        lines.extend(orders.into_iter().map(|(order, pod)| self::order(order, pod)));
        lines.truncate(height);
        lines.iter().map(|text| text.chars().take(width).collect()).collect()
    }

    fn pod(&self, index: usize, status: &Status) -> String {
        let Status { instance, phase, ready, shards, target, counts, .. } = status;
        let state = match (phase.as_str(), ready.ok, target.state.as_str()) {
            ("consuming", false, _) => "not ready",
            ("consuming", true, "works" | "") => "works",
            ("consuming", true, state) => state,
            (phase, _, _) => phase,
        };
        let count = |is_it: &dyn Fn(&&Shard) -> bool| {
            shards.iter().filter(|shard| shard.number.is_some()).filter(|it| is_it(it)).count()
        };
        let held: u64 = shards.iter().map(|shard| shard.unsettled).sum();
        format!(
            "{:<20} {:<12} {:>6} {:>6} {held:>5} {:>5} {:>4} {:>5} {:>9} {:>11} {:>5}",
            line(instance, 20),
            line(state, 12),
            count(&|it| it.subscribed),
            count(&|it| it.served),
            status.orders_busy,
            status.updates_waiting,
            target.in_flight,
            self.rate(index, instance, Counts::settled, counts),
            self.rate(index, instance, |counts| counts.conflicts, counts),
            counts.dead(),
        )
    }

    /// How much came in a second since the look before. Nothing for a pod that was another one then, or
    /// began anew.
    fn rate(&self, index: usize, name: &str, of: fn(&Counts) -> u64, now: &Counts) -> String {
        let rate = || {
            let before = self.before?;
            let Answer { said: Ok(then), .. } = before.answers.get(index)? else { return None };
            let seconds = self.now.at.saturating_duration_since(before.at).as_secs_f64();
            let came = u32::try_from(of(now).checked_sub(of(&then.counts))?).ok()?;
            (then.instance == name && seconds > 0.0).then(|| f64::from(came) / seconds)
        };
        rate().map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))
    }
}

fn order(order: &Order, pod: &str) -> String {
    let Order { order, state, oldest_seconds, attempt, behind } = order;
    let (order, state, pod) = (line(order, 40), line(state, 13), line(pod, 20));
    format!("{order:<40} {state:<13} {oldest_seconds:>6.1} {attempt:>3} {behind:>6} {pod}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn status(name: &str, applied: u64) -> Status {
        let order = |order: &str, held: f64| json!({"order": order, "state": "patch", "oldest_seconds": held, "attempt": 2, "behind": 1});
        let status = json!({
            "instance": name, "phase": "consuming", "ready": {"ok": true, "degraded": ["the service is down"]},
            "shards": [
                {"number": 0, "subscribed": true, "served": true, "unsettled": 4},
                {"number": 1, "subscribed": true, "unsettled": 1}, {"number": null, "subscribed": true}
            ],
            "target": {"state": "down", "in_flight": 3}, "orders_busy": 7, "updates_waiting": 5,
            "orders": [order("USMF/1", 1.0), order("USMF/\u{1b}[31m2", 9.0)],
            "counts": {"applied": applied, "conflicts": 4, "dead_lettered": {"not_found": 2, "gone": 1}},
        });
        serde_json::from_value(status).unwrap()
    }

    fn look(at: Instant, answers: Vec<Result<Status, String>>) -> Look {
        let url: url::Url = "http://10.0.0.1:9464/".parse().unwrap();
        let answers = answers.into_iter().map(|said| Answer { url: url.clone(), said });
        Look { answers: answers.collect(), at }
    }

    #[test]
    fn pods_stand_in_lines_with_rates_and_the_orders_that_are_held_longest_first() {
        let begun = Instant::now();
        let before = look(begun, vec![Ok(status("pod-a", 100)), Ok(status("pod-x", 0))]);
        let answers =
            vec![Ok(status("pod-a", 150)), Ok(status("pod-b", 9)), Err("no answer".to_owned())];
        let now = look(begun + Duration::from_secs(2), answers);
        let lines = Frame { before: Some(&before), now: &now }.lines(200, usize::MAX);
        assert_eq!(lines[0], HEAD);
        assert_eq!(
            lines[1],
            "pod-a                down              2      1     5     7    5     3      25.0         0.0     3"
        );
        assert!(
            lines[2].starts_with("pod-b ") && lines[2].contains(" - "),
            "another pod before: {lines:?}"
        );
        assert!(lines.contains(&"pod-a: the service is down".to_owned()), "{lines:?}");
        assert!(lines.contains(&"http://10.0.0.1:9464/ no answer".to_owned()), "{lines:?}");
        let orders: Vec<_> = lines.iter().skip_while(|line| *line != ORDERS).skip(1).collect();
        assert_eq!(orders.len(), 4);
        assert!(orders[0].contains('2') && orders[0].contains(" 9.0 "), "{orders:?}");
        assert!(orders.iter().all(|line| !line.contains('\u{1b}')), "nothing steers the terminal");
        assert!(!now.is_silent());
        assert!(look(begun, vec![Err(String::new())]).is_silent());
    }

    #[test]
    fn no_more_is_shown_than_fits() {
        let now = look(Instant::now(), vec![Ok(status("pod-a", 1))]);
        let lines = Frame { before: None, now: &now }.lines(30, 3);
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.chars().count() <= 30), "{lines:?}");
    }
}
