//! Who held which shard when, from the writes to the orders. Pure: no clock, no socket.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use orderwright::shard::shard_of;

use crate::history::History;

/// The writes to each shard, oldest first: when, and by which worker.
#[derive(Debug)]
pub(crate) struct Holders {
    shards: BTreeMap<u16, Vec<(Timestamp, u64)>>,
    /// How many there are, also those that no order of this run is in.
    count: u16,
}

impl Holders {
    /// From the writes whose worker is known.
    pub(crate) fn of(history: &History, shards: u16) -> Self {
        let mut all: BTreeMap<u16, Vec<(Timestamp, u64)>> = BTreeMap::new();
        for (order, writes) in &history.orders {
            let shard = shard_of(&format!("USMF/SO-{order:06}"), shards);
            let named = writes.iter().filter_map(|it| Some((it.time, it.worker?)));
            all.entry(shard).or_default().extend(named);
        }
        for writes in all.values_mut() {
            writes.sort_unstable();
        }
        Self { shards: all, count: shards }
    }

    /// For each shard that this worker had written to last at that moment: seconds until another one
    /// wrote.
    pub(crate) fn taken_over(&self, worker: u64, struck: Timestamp) -> Vec<f64> {
        let of_shard = |writes: &Vec<(Timestamp, u64)>| {
            let (before, after) = writes.split_at(writes.partition_point(|it| it.0 <= struck));
            before.last().filter(|last| last.1 == worker)?;
            let next = after.iter().find(|it| it.1 != worker)?;
            Some(next.0.duration_since(struck).as_secs_f64())
        };
        self.shards.values().filter_map(of_shard).collect()
    }

    /// Seconds from this moment until no worker holds more than its fair share, if that came about
    /// within so long.
    pub(crate) fn even_after(
        &self,
        joined: Timestamp,
        workers: u64,
        within: Duration,
    ) -> Option<f64> {
        let (share, mut holder) = (self.fair(workers), self.at(joined));
        let mut moves = self.moves(joined, joined + within);
        moves.sort_unstable();
        moves.into_iter().find_map(|(time, shard, worker)| {
            holder.insert(shard, worker);
            (count(&holder).values().all(|it| *it <= share))
                .then(|| time.duration_since(joined).as_secs_f64())
        })
    }

    /// The largest share, in shares of the mean.
    pub(crate) fn balance(&self, from: Timestamp, to: Timestamp, workers: u64) -> Option<f64> {
        let mut holder = BTreeMap::new();
        for (_, shard, worker) in self.moves(from, to) {
            holder.insert(shard, worker);
        }
        let most = count(&holder).values().copied().max()?;
        #[expect(clippy::cast_precision_loss, reason = "at most as many as there are shards")]
        let share = (most * workers) as f64 / holder.len() as f64;
        Some(share)
    }

    /// How many shards each worker held at that moment.
    pub(crate) fn shares(&self, at: Timestamp) -> BTreeMap<u64, u64> {
        count(&self.at(at))
    }

    /// How many updates were written in this time.
    pub(crate) fn writes_between(&self, from: Timestamp, to: Timestamp) -> u64 {
        let in_time = |it: &&(Timestamp, u64)| it.0 > from && it.0 <= to;
        self.shards.values().flatten().filter(in_time).count() as u64
    }

    fn fair(&self, workers: u64) -> u64 {
        u64::from(self.count).div_ceil(workers)
    }

    fn at(&self, time: Timestamp) -> BTreeMap<u16, u64> {
        let last = |writes: &Vec<(Timestamp, u64)>| {
            writes.iter().take_while(|it| it.0 <= time).last().map(|it| it.1)
        };
        self.shards.iter().filter_map(|(shard, writes)| Some((*shard, last(writes)?))).collect()
    }

    fn moves(&self, from: Timestamp, to: Timestamp) -> Vec<(Timestamp, u16, u64)> {
        let all = self.shards.iter().flat_map(|(shard, writes)| {
            writes.iter().map(|(time, worker)| (*time, *shard, *worker))
        });
        all.filter(|it| it.0 > from && it.0 <= to).collect()
    }
}

fn count(holder: &BTreeMap<u16, u64>) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    for worker in holder.values() {
        *counts.entry(*worker).or_default() += 1;
    }
    counts
}

/// Smallest first.
pub(crate) fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut all: Vec<f64> = values.collect();
    all.sort_unstable_by(f64::total_cmp);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    fn holders(shards: &[&[(i64, u64)]]) -> Holders {
        let writes = |writes: &&[(i64, u64)]| writes.iter().map(|it| (at(it.0), it.1)).collect();
        let shards: BTreeMap<_, _> = (0..).zip(shards.iter().map(writes)).collect();
        Holders { count: u16::try_from(shards.len()).unwrap_or_default(), shards }
    }

    #[test]
    fn only_the_shards_that_a_worker_held_last_are_taken_over() {
        let holders = holders(&[&[(1, 1), (5, 2)], &[(1, 1), (2, 2), (6, 3)], &[(1, 1), (4, 1)]]);
        assert_eq!(holders.taken_over(1, at(3)), [2.0]);
    }

    #[test]
    fn shards_are_even_once_nobody_holds_more_than_the_fair_share() {
        let holders = holders(&[&[(1, 1), (9, 1)], &[(1, 1), (7, 2)]]);
        assert_eq!(holders.shares(at(6)), BTreeMap::from([(1, 2)]));
        assert_eq!(holders.shares(at(7)), BTreeMap::from([(1, 1), (2, 1)]));
        assert_eq!(holders.even_after(at(3), 2, Duration::from_secs(3)), None);
        assert_eq!(holders.even_after(at(3), 2, Duration::from_secs(9)), Some(4.0));
        assert_eq!(holders.balance(at(0), at(3), 2), Some(2.0));
        assert_eq!(holders.balance(at(3), at(9), 2), Some(1.0));
    }
}
