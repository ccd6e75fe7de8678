//! One round: who does what, and who is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::audit::Verdict;
use super::hands::{EDITED, Ended, Hands, LONGEST, Update, Written, name, tool};
use super::{Ground, ORDERS};
use crate::Result;
use crate::process::Process;

const SHARDS: u32 = 2;
/// Things that are done in a round.
const DEEDS: std::ops::RangeInclusive<usize> = 2..=4;
/// Longest life of a tool that is killed, in milliseconds.
const LIFE_MAX: u64 = 600;
/// A replay in a hurry: also about what was lost with a daemon it does not wait for long.
const REPLAY: [&str; 6] = ["replay", "--run", "--rate", "1000", "--ask-after", "1s"];
/// How often it is looked whether something has come about.
const LOOK: Duration = Duration::from_millis(50);

/// Who dies of a deed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Tool,
    Daemon,
    Nobody,
}

/// A round under way.
pub(super) struct Scene<'a> {
    ground: &'a Ground,
    rng: fastrand::Rng,
    hands: Hands,
    settings: Vec<(String, String)>,
    log: PathBuf,
    daemon: Option<Process>,
    /// The first order is this one plus one.
    base: u64,
    /// The newest update of each order.
    newest: BTreeMap<u64, u64>,
    published: Vec<Update>,
    /// Orders that stood still, and that nobody has let go or taken letters from.
    parked: BTreeSet<u64>,
    /// Whether a replay was begun: then the letters of those are written, in their order.
    is_replayed: bool,
    parks: bool,
    /// The ledger's newest change before the round.
    since: u64,
    overlaps: u64,
    verdict: Verdict,
}

impl<'a> Scene<'a> {
    pub(super) async fn begin(ground: &'a Ground, base: u64, seed: u64) -> Result<Self> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let parks = rng.bool();
        let prefix = format!("letters-{:08x}-{seed}", fastrand::u32(..));
        let (shards, url) = (SHARDS.to_string(), format!("{}/data", ground.url));
        let on_dead_letter = if parks { "park" } else { "continue" };
        let settings = [
            ("BROKER__URL", ground.amqp.as_str()),
            ("BROKER__RECONNECT_WAIT_MIN", "100ms"),
            ("TARGET__URL", &url),
            ("TARGET__GET_TIMEOUT", "5s"),
            ("TARGET__PATCH_TIMEOUT", "5s"),
            ("TOPOLOGY__PREFIX", &prefix),
            ("TOPOLOGY__SHARDS", &shards),
            ("BALANCE__INTERVAL", "200ms"),
            ("DISPATCH__SETTLE_WINDOW", "300ms"),
            ("DEAD_LETTER__ON_DEAD_LETTER", on_dead_letter),
            ("ADMIN__LISTEN", "127.0.0.1:0"),
        ];
        let own = |(name, value): (&str, &str)| (format!("ORDERWRIGHT__{name}"), value.to_owned());
        let settings = settings.map(own).to_vec();
        let ledger = ground.reader.read(0).await?;
        let since = ground.reader.changes(u64::MAX).await?;
        Ok(Self {
            ground,
            rng,
            hands: Hands::new(&ground.amqp, &prefix).await?,
            settings,
            log: ground.folder.path().join(format!("daemon-{seed}")),
            daemon: None,
            base,
            newest: BTreeMap::new(),
            published: Vec::new(),
            parked: BTreeSet::new(),
            is_replayed: false,
            parks,
            since: since.get("last").and_then(Value::as_u64).unwrap_or_default(),
            overlaps: ledger.overlaps,
            verdict: Verdict::default(),
        })
    }

    pub(super) async fn play(&mut self) -> Result<Verdict> {
        self.start().await?;
        self.trouble().await?;
        for _ in 0..self.rng.usize(DEEDS) {
            self.deed().await?;
            self.check_parked("after a deed").await?;
        }
        self.finish().await?;
        let written = self.written().await?;
        let letters = self.hands.letters(false).await?;
        let published = std::mem::take(&mut self.published);
        self.verdict.judge(&published, &written, &letters);
        let overlaps = self.ground.reader.read(0).await?.overlaps - self.overlaps;
        if overlaps > 0 {
            self.verdict.flaws.push(format!("{overlaps} requests met another one on their order"));
        }
        Ok(std::mem::take(&mut self.verdict))
    }

    /// Ends the daemon, and gives the end of its log.
    pub(super) async fn end(mut self) -> String {
        if let Some(daemon) = self.daemon.take() {
            drop(daemon.signal("KILL").await);
            drop(daemon.ended().await);
        }
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(25)).copied().collect::<Vec<_>>().join("\n")
    }

    async fn start(&mut self) -> Result<()> {
        let mut daemon = Process::start(&self.ground.program, &self.settings, &self.log).await?;
        let is_ready = daemon.ready(LONGEST).await;
        self.daemon = Some(daemon);
        if is_ready { Ok(()) } else { Err("the daemon does not consume".to_owned()) }
    }

    async fn kill_daemon(&mut self, at: &'static str) -> Result<()> {
        let Some(daemon) = self.daemon.take() else { return Ok(()) };
        daemon.signal("KILL").await?;
        drop(daemon.ended().await);
        *self.verdict.kills.entry(at).or_default() += 1;
        self.start().await
    }

    async fn publish(&mut self, order: u64, more: &Value) -> Result<()> {
        let newest = self.newest.entry(order).or_default();
        *newest += 1;
        let update = (order, *newest);
        self.published.push(update);
        self.hands.publish(update, more).await
    }

    /// The service has renamed a property, and the updates that set it die.
    async fn trouble(&mut self) -> Result<()> {
        let orders: Vec<u64> = (self.base + 1..=self.base + ORDERS).collect();
        let bad = orders.len() - self.rng.usize(1..3);
        let (bad, good) = orders.split_at(bad);
        let dying = json!({"DeliveryModeCode": "Truck"});
        self.ground.reader.rename("DeliveryModeCode", "DeliveryMode").await?;
        for _ in 0..self.rng.u64(1..=3) {
            for order in bad {
                self.publish(*order, &dying).await?;
            }
        }
        for order in good {
            self.publish(*order, &json!({})).await?;
        }
        if self.rng.bool() {
            sleep(Duration::from_millis(self.rng.u64(0..400))).await;
            let at = if self.parks { "park" } else { "dead-letter" };
            self.kill_daemon(at).await?;
        }
        let wanted: BTreeSet<Update> =
            self.published.iter().copied().filter(|(order, _)| bad.contains(order)).collect();
        let all_dead = async {
            loop {
                let letters = self.hands.letters(false).await?;
                if letters.iter().map(|it| it.update).collect::<BTreeSet<_>>().is_superset(&wanted)
                {
                    return Result::Ok(letters);
                }
                sleep(LOOK).await;
            }
        };
        let letters =
            timeout(LONGEST, all_dead).await.map_err(|_elapsed| "letters are missing")??;
        self.ground.reader.rename("DeliveryMode", "DeliveryModeCode").await?;
        if self.parks {
            self.parked = bad.iter().copied().collect();
            for order in bad {
                self.verdict.in_order(*order, &letters);
            }
        }
        self.check_parked("after the trouble").await
    }

    /// One thing that is done, with somebody's death at any point of it.
    async fn deed(&mut self) -> Result<()> {
        let order = self.base + self.rng.u64(1..=ORDERS);
        let key = name(order);
        let release = ["release", &key, "--yes", "--timeout", "3s", "--output", "json"];
        let discard = ["discard", "--order", &key, "--because", "chaos", "--yes"];
        let replay = [&REPLAY[..], &["--max-in-flight", "4"]].concat();
        let all = [&REPLAY[..], &["--canary", "0", "--order", &key]].concat();
        let deed = match self.rng.u8(0..if self.parks { 13 } else { 10 }) {
            0 => ("browse", vec!["ls", "--output", "ndjson"]),
            1 => ("browse", vec!["groups"]),
            2 => ("discard", discard.to_vec()),
            3 => ("restore", vec!["restore", "--all", "--yes"]),
            4 => ("replay", all),
            5 | 6 => ("replay", replay),
            7 => return self.publish(order, &json!({})).await,
            8 | 9 => return self.edit(&key).await,
            _ => ("release", release.to_vec()),
        };
        let (what, words) = deed;
        match what {
            // A discard of all that holds an order lets it go on.
            "release" | "discard" => drop(self.parked.remove(&order)),
            "replay" => self.is_replayed = true,
            _ => {}
        }
        if self.rng.u8(0..4) == 0 {
            // Something newer comes in meanwhile.
            self.publish(order, &json!({})).await?;
        }
        self.with_a_death(what, &words).await
    }

    /// A letter of this order is changed, if there is any.
    async fn edit(&mut self, key: &str) -> Result<()> {
        let list = ["ls", "--order", key, "--limit", "1", "--output", "ndjson"];
        let listed = loop {
            let listed = tool(&self.ground.program, &self.settings, &list, None).await?;
            match listed.code {
                Some(0) => break listed.said,
                // Of a tool that was killed: its connection is about to end.
                Some(75) => sleep(LOOK).await,
                code => return Err(format!("dlq ls: {code:?} {}", listed.said)),
            }
        };
        let letter = listed.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
        let id = letter.and_then(|it| Some(it.get("id")?.as_str()?.to_owned()));
        let Some(id) = id else { return Ok(()) };
        let set = format!("/changes/DeliveryModeCode={EDITED}");
        let edit = ["edit", &id, "--set", &set, "--because", "chaos"];
        self.with_a_death("edit", &edit).await
    }

    /// Does something, and somebody may die of it.
    async fn with_a_death(&mut self, what: &'static str, words: &[&str]) -> Result<()> {
        let victim = match self.rng.u8(0..10) {
            0..=5 => Victim::Tool,
            6..=8 => Victim::Daemon,
            _ => Victim::Nobody,
        };
        let life = Duration::from_millis(self.rng.u64(0..=LIFE_MAX));
        let ended = self.perform(what, words, victim, life).await?;
        if ended.code.is_none() {
            *self.verdict.kills.entry(what).or_default() += 1;
        }
        Ok(())
    }

    async fn perform(
        &mut self,
        what: &'static str,
        words: &[&str],
        victim: Victim,
        life: Duration,
    ) -> Result<Ended> {
        let (program, settings) = (self.ground.program.clone(), self.settings.clone());
        if victim != Victim::Daemon {
            let life = (victim == Victim::Tool).then_some(life);
            return tool(&program, &settings, words, life).await;
        }
        let running = tool(&program, &settings, words, None);
        let killing = async {
            sleep(life).await;
            self.kill_daemon(what).await
        };
        let (ended, killed) = tokio::join!(running, killing);
        killed?;
        ended
    }

    /// What was written in this round, in its order.
    async fn written(&self) -> Result<Vec<Written>> {
        let page = self.ground.reader.changes(self.since).await?;
        let changes = page.get("changes").and_then(Value::as_array).ok_or("no changes")?;
        let read = |change: &Value| {
            let order = change.get("order")?.as_str()?.strip_prefix("USMF/SO-")?.parse().ok()?;
            let update = (order, change.pointer("/changed/UpdateSequence")?.as_u64()?);
            let mode = change.pointer("/changed/DeliveryModeCode").and_then(Value::as_str);
            Some(Written { update, is_edited: mode == Some(EDITED) })
        };
        let ours = |it: &Written| (self.base + 1..=self.base + ORDERS).contains(&it.update.0);
        Ok(changes.iter().filter_map(read).filter(ours).collect())
    }

    async fn check_parked(&mut self, when: &str) -> Result<()> {
        let written = self.written().await?;
        for order in &self.parked {
            self.verdict.parked(when, *order, self.is_replayed, &written);
        }
        Ok(())
    }

    /// Brings everything to its end, with nobody killed any more, and nothing but what an operator's manual says: what
    /// was discarded is restored, and all is replayed, until no order stands still.
    async fn finish(&mut self) -> Result<()> {
        self.until_done(&["restore", "--all", "--yes"]).await?;
        let all = [&REPLAY[..], &["--canary", "0"]].concat();
        self.is_replayed = true;
        let begun = Instant::now();
        loop {
            let mut said = self.until_done(&all).await?;
            let parked = self.standing().await?;
            if parked.is_empty() {
                break;
            }
            // Of one that has no letters left, nothing is replayed unless it is named.
            for order in &parked {
                said = self.until_done(&[&all[..], &["--order", order]].concat()).await?;
            }
            if begun.elapsed() > LONGEST {
                return Err(format!("orders stand still for good: {parked:?}; at last: {said}"));
            }
        }
        self.check_parked("at the end").await?;
        self.settled().await?;
        let archived = self.hands.letters(true).await?;
        if archived.is_empty() { Ok(()) } else { Err("the archive is not empty".to_owned()) }
    }

    /// Orders that stand still.
    async fn standing(&self) -> Result<Vec<String>> {
        if !self.parks {
            return Ok(Vec::new());
        }
        let list = ["parked", "--output", "json"];
        let listed = tool(&self.ground.program, &self.settings, &list, None).await?;
        let orders: Vec<Value> = serde_json::from_str(listed.said.lines().next().unwrap_or(""))
            .map_err(|error| format!("dlq parked: {error}: {}", listed.said))?;
        let order = |it: &Value| Some(it.get("order")?.as_str()?.to_owned());
        Ok(orders.iter().filter_map(order).collect())
    }

    /// The tool's own advice is to start it again. What it said at last.
    async fn until_done(&self, words: &[&str]) -> Result<String> {
        let begun = Instant::now();
        loop {
            let ended = tool(&self.ground.program, &self.settings, words, None).await?;
            match ended.code {
                Some(0) => return Ok(ended.said),
                Some(75) if begun.elapsed() < LONGEST => sleep(LOOK).await,
                code => return Err(format!("dlq {}: {code:?} {}", words.join(" "), ended.said)),
            }
        }
    }

    /// Nothing is in the shard queues, and nothing at work: a daemon that drains settles what it has begun.
    async fn settled(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            while self.hands.waiting(SHARDS).await? > 0 {
                if begun.elapsed() > LONGEST {
                    return Err("something stays in the shard queues".to_owned());
                }
                sleep(LOOK).await;
            }
            if let Some(daemon) = self.daemon.take() {
                daemon.signal("TERM").await?;
                daemon.ended().await.ok_or("the daemon does not drain")?;
            }
            if self.hands.waiting(SHARDS).await? == 0 {
                return Ok(());
            }
            self.start().await?;
        }
    }
}
