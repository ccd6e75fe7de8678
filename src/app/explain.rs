//! What this pod knows of one order, in words as well.

use std::sync::Arc;

use tokio::sync::watch;

use super::sight::Sight;
use super::target::canonical;
use crate::admin::{Explanation, Order, Parked, Shard};
use crate::broker::{Generations, Parking};
use crate::config;
use crate::shard::shard_of;

/// What it takes to find an order's place.
pub(super) struct Places {
    order: config::Order,
    generations: watch::Receiver<Generations>,
    pub(super) parking: Option<Arc<Parking>>,
}

impl Places {
    pub(super) fn new(
        settings: &config::Settings,
        generations: &watch::Receiver<Generations>,
        parking: Option<&Arc<Parking>>,
    ) -> Self {
        let (order, generations) = (settings.order.clone(), generations.clone());
        Self { order, generations, parking: parking.cloned() }
    }

    /// All that is known. An error says what is wrong with the text.
    pub(super) fn explain(&self, sight: &Sight, text: &str) -> Result<Explanation, String> {
        let order = canonical(&self.order, text)?;
        let live = self.generations.borrow().live;
        let shard = shard_of(&order, live.shards);
        let queue = sight.shard(shard);
        let at_work = sight.one(&order);
        let parked = self.parking.as_ref().and_then(|parking| parking.parked(&order));
        let parked = parked.map(|it| Parked {
            behind: it.head,
            last: it.last,
            letters: it.letters,
            since: it.since,
        });
        let mut says = vec![place(shard, queue.as_ref())];
        says.extend(parked.as_ref().map(stands_still));
        says.push(at_work.as_ref().map_or_else(at_rest, work));
        let order = sight.name(&order);
        let generation = u64::from(live.number);
        Ok(Explanation { order, shard, generation, queue, at_work, parked, says })
    }
}

fn place(shard: u16, queue: Option<&Shard>) -> String {
    let Some(Shard { queue, subscribed, served, unsettled, oldest_seconds, stood_still, .. }) =
        queue
    else {
        return format!("it belongs to shard {shard}, which this pod does not know yet");
    };
    let stood = match stood_still {
        0 => String::new(),
        times => format!(" (which stood still {times} times and was subscribed to again)"),
    };
    let place = format!("it belongs to shard {shard}, {queue}{stood}");
    match (served, subscribed) {
        (true, _) => {
            let oldest = oldest_seconds.map(|age| format!(", the oldest for {age:.1} s"));
            let oldest = oldest.unwrap_or_default();
            format!("{place}: this pod has it, and holds {unsettled} of its messages{oldest}")
        }
        (false, true) => {
            format!("{place}: this pod stands in line for it, and was handed nothing yet")
        }
        (false, false) => format!("{place}: this pod is not subscribed to it"),
    }
}

fn stands_still(parked: &Parked) -> String {
    let Parked { behind, letters, since, .. } = parked;
    format!(
        "it stands still behind the dead letter {behind} since {since:.0}; {letters} of its letters wait for \
         an operator"
    )
}

fn work(order: &Order) -> String {
    let Order { meaning, state_seconds, held_seconds, attempt, etag, behind, .. } = order;
    let etag = etag.as_ref().map(|etag| format!(", last ETag seen {etag}")).unwrap_or_default();
    format!(
        "it is at work: {meaning}, for {state_seconds:.1} s; attempt {attempt}, begun \
         {held_seconds:.1} s ago, {behind} updates behind it, the oldest of all here for \
         {:.1} s{etag}",
        order.oldest_seconds
    )
}

fn at_rest() -> String {
    "no update of it is in this pod's hands".to_owned()
}
