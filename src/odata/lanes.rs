//! Who waits for company, and who goes next with whom. Pure: time is an argument.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use uuid::Uuid;

use crate::dispatch::{Allowance, Quota};

/// Walks that are remembered as going alone. One that is forgotten goes with others again.
const LONERS_MAX: usize = 4_096;

/// Batches in a row that came to nothing, while single requests were answered, after which there are none
/// for a while. Fewer may be chance: each costs every order in it a failure, once.
const SPOILT_MAX: u32 = 3;

/// How requests are gathered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Most requests in a batch.
    pub(super) operations_max: usize,
    /// Most bytes of a batch.
    pub(super) bytes_max: usize,
    /// How long one waits for company.
    pub(super) wait: Duration,
    /// How long requests go in smaller batches, or one by one, after a batch was refused.
    pub(super) refused_for: Duration,
    /// Whether the quota counts every request in a batch, and not the batch.
    pub(super) counts_operations: bool,
}

/// One that waits.
pub(super) trait Waits {
    /// Its walk.
    fn walk(&self) -> Uuid;
    /// Whether it is a PATCH.
    fn writes(&self) -> bool;
    /// Bytes that it takes in a batch, about.
    fn bytes(&self) -> usize;
    /// It is not to be written any more: nobody waits for it, or it may not be.
    fn is_void(&self) -> bool;
}

/// Since when each waits, and how many bytes they are together.
#[derive(Debug)]
struct Lane<P> {
    waiting: VecDeque<(Duration, P)>,
    bytes: usize,
}

impl<P> Default for Lane<P> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0 }
    }
}

/// All that waits. Those that go by themselves before all others, PATCHes before GETs: an ETag grows old.
#[derive(Debug)]
pub(super) struct Lanes<P> {
    rules: Rules,
    alone: Lane<P>,
    patches: Lane<P>,
    gets: Lane<P>,
    loners: (HashSet<Uuid>, VecDeque<Uuid>),
    /// Batches in a row that came to nothing, and whether a single request was answered since the first.
    spoilt: (u32, bool),
    /// Most requests in a batch at the moment, and until when, where it is fewer than usual.
    shrunk: Option<(usize, Duration)>,
    quota: Option<Quota>,
}

impl<P: Waits> Lanes<P> {
    pub(super) fn new(rules: Rules, quota: Option<Allowance>) -> Self {
        Self {
            rules,
            alone: Lane::default(),
            patches: Lane::default(),
            gets: Lane::default(),
            loners: (HashSet::new(), VecDeque::new()),
            spoilt: (0, false),
            shrunk: None,
            quota: quota.map(Quota::new),
        }
    }

    /// So many pods share the quota.
    pub(super) fn shared_by(&mut self, pods: usize) {
        if let Some(quota) = &mut self.quota {
            quota.shared_by(pods);
        }
    }

    /// How many wait. Those that are void are taken out.
    pub(super) fn purge(&mut self) -> usize {
        let lanes = [&mut self.alone, &mut self.patches, &mut self.gets];
        lanes.into_iter().map(Lane::purge).sum()
    }

    pub(super) fn len(&self) -> usize {
        [&self.alone, &self.patches, &self.gets].iter().map(|lane| lane.waiting.len()).sum()
    }

    /// Most requests in a batch now.
    fn operations_max(&self, now: Duration) -> usize {
        let most = match self.shrunk {
            Some((most, until)) if now < until => most,
            Some(_) | None => self.rules.operations_max,
        };
        match &self.quota {
            // More may never go at once.
            Some(quota) if self.rules.counts_operations => most.min(quota.room_max()),
            Some(_) | None => most,
        }
    }

    pub(super) fn push(&mut self, part: P, now: Duration) {
        let is_alone = self.operations_max(now) < 2 || self.loners.0.contains(&part.walk());
        let lane = match (is_alone, part.writes()) {
            (true, _) => &mut self.alone,
            (false, true) => &mut self.patches,
            (false, false) => &mut self.gets,
        };
        lane.push(part, now);
    }

    /// It goes by itself.
    pub(super) fn push_alone(&mut self, part: P, now: Duration) {
        self.alone.push(part, now);
    }

    /// What comes of this walk from now on is judged by answers of its own: it may be what spoils the
    /// batches that it is in, or one of them may spoil it.
    pub(super) fn part_from_others(&mut self, walk: Uuid) {
        let (known, order) = &mut self.loners;
        if known.insert(walk) {
            order.push_back(walk);
        }
        if order.len() > LONERS_MAX
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
    }

    /// A batch of so many was refused. Returns how many may be in one from now on.
    pub(super) fn shrink(&mut self, refused: usize, now: Duration) -> usize {
        let most = (refused.min(self.operations_max(now)) / 2).max(1);
        self.shrunk = Some((most, now + self.rules.refused_for));
        most
    }

    /// A batch was answered as it should be.
    pub(super) fn batch_answered(&mut self) {
        self.spoilt = (0, false);
    }

    /// A single request was answered as it should be.
    pub(super) fn single_answered(&mut self) {
        self.spoilt.1 |= self.spoilt.0 > 0;
    }

    /// A batch came to nothing, in a way that says nothing of what is in it. Returns whether it is batches
    /// that do not get through, while single requests do.
    pub(super) fn batch_spoilt(&mut self) -> bool {
        let (times, is_answered) = &mut self.spoilt;
        *times = times.saturating_add(1);
        *times >= SPOILT_MAX && *is_answered
    }

    /// Batches are refused. Returns whether that is news.
    pub(super) fn stop_batching(&mut self, now: Duration) -> bool {
        let is_news = self.operations_max(now) > 1;
        self.spoilt = (0, false);
        self.shrunk = Some((1, now + self.rules.refused_for));
        is_news
    }

    /// When something must be sent, if anything waits.
    pub(super) fn due(&self, now: Duration) -> Option<Duration> {
        let most = self.operations_max(now);
        let alone = self.alone.waiting.front().map(|(since, _)| *since);
        let lanes = [&self.patches, &self.gets];
        let due = lanes.iter().filter_map(|lane| lane.due(most, &self.rules)).chain(alone).min()?;
        Some(self.quota.as_ref().map_or(due, |quota| due.max(quota.due())))
    }

    /// Those that go next, together. Empty if nothing is due.
    pub(super) fn take(&mut self, now: Duration) -> Vec<P> {
        let most = self.operations_max(now);
        if self.quota.as_ref().is_some_and(|quota| quota.due() > now) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        if !self.alone.waiting.is_empty() {
            taken = self.alone.take(1, usize::MAX);
        }
        for lane in [&mut self.patches, &mut self.gets] {
            let is_due = lane.due(most, &self.rules).is_some_and(|due| due <= now);
            if taken.is_empty() && is_due {
                let counted = if self.rules.counts_operations { &self.quota } else { &None };
                let allowed = counted.as_ref().map_or(most, |quota| quota.room(now).min(most));
                taken = lane.take(allowed.max(1), self.rules.bytes_max);
            }
        }
        if let (Some(quota), false) = (&mut self.quota, taken.is_empty()) {
            let counted = if self.rules.counts_operations { taken.len() } else { 1 };
            quota.take(u32::try_from(counted).unwrap_or(u32::MAX), now);
        }
        taken
    }
}

impl<P: Waits> Lane<P> {
    fn push(&mut self, part: P, now: Duration) {
        self.bytes = self.bytes.saturating_add(part.bytes());
        self.waiting.push_back((now, part));
    }

    fn purge(&mut self) -> usize {
        self.waiting.retain(|(_, part)| !part.is_void());
        self.bytes = self.waiting.iter().map(|(_, part)| part.bytes()).sum();
        self.waiting.len()
    }

    /// When its first ones must go: at once if they fill a batch.
    fn due(&self, most: usize, rules: &Rules) -> Option<Duration> {
        let (since, _) = self.waiting.front()?;
        let is_full = self.waiting.len() >= most || self.bytes >= rules.bytes_max;
        Some(if is_full { *since } else { *since + rules.wait })
    }

    /// Takes the first ones, but for those that are void. One that is too large goes by itself.
    fn take(&mut self, most: usize, bytes_max: usize) -> Vec<P> {
        let (mut taken, mut bytes) = (Vec::new(), 0_usize);
        while taken.len() < most
            && let Some((_, next)) = self.waiting.front()
        {
            let size = next.bytes();
            if !taken.is_empty() && bytes.saturating_add(size) > bytes_max {
                break;
            }
            let Some((_, part)) = self.waiting.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(size);
            if !part.is_void() {
                bytes = bytes.saturating_add(size);
                taken.push(part);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests;
