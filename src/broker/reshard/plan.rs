//! What there is to do for another number of shards. Pure.

use crate::broker::generation::{Phase, ROUNDS};
use crate::broker::{Error, Generation, Generations};

/// Shards of two generations together: a pod has a channel for each, and a connection takes 2047.
pub const SHARDS_MAX: u16 = 2000;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// How many shards there are to be.
    pub shards: u16,
    /// Another generation also where there are so many already: its ring is in order.
    pub new_ring: bool,
    /// Most shards of two generations together. At most [`SHARDS_MAX`] count.
    pub both_max: u16,
}

/// A step on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make the queues of the next generation.
    Open(Generation),
    /// Let messages go to it and to no other.
    Switch(Generation),
    /// Wait until everything in this generation is settled: once for what was published to it, and once
    /// for what was sent on from one of its queues to another.
    Drain(Generation, u8),
    /// Let the pods work on the next generation.
    Start(Generation),
    /// Delete the one that was left, after whatever strayed into it was sent on.
    Retire(Generation),
}

/// What is left to do. Nothing where there are so many shards already, unless a new ring is wanted.
///
/// # Errors
/// [`Error::Unfinished`]: another reshard has to be finished first. [`Error::TooManyShards`].
pub fn steps(now: &Generations, wanted: Wanted) -> Result<Vec<Step>, Error> {
    let (live, Wanted { shards, new_ring, both_max }) = (now.live, wanted);
    let most = both_max.min(SHARDS_MAX);
    let goal = match (now.next, now.left) {
        (Some((next, _)), _) => next,
        (None, Some(_)) => live,
        (None, None) if live.shards == shards && !new_ring => return Ok(Vec::new()),
        (None, None) => Generation { number: live.number.saturating_add(1), shards },
    };
    if goal.shards != shards {
        return Err(Error::Unfinished { shards: goal.shards });
    }
    if now.may_open() && live.shards.saturating_add(shards) > most {
        return Err(Error::TooManyShards { live: live.shards, next: shards, most });
    }
    if let (None, Some(left)) = (now.next, now.left) {
        return Ok(vec![Step::Retire(left)]);
    }
    let mut steps = Vec::new();
    match now.next {
        None => steps.extend([Step::Open(goal), Step::Switch(goal)]),
        Some((_, Phase::Opened)) => steps.push(Step::Switch(goal)),
        Some((_, Phase::Switched)) => {}
    }
    steps.extend((1..=ROUNDS).map(|round| Step::Drain(live, round)));
    steps.extend([Step::Start(goal), Step::Retire(live)]);
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::generation::Record;

    const OLD: Generation = Generation { number: 4, shards: 16 };
    const NEW: Generation = Generation { number: 5, shards: 64 };

    fn wanted(shards: u16) -> Wanted {
        Wanted { shards, new_ring: false, both_max: SHARDS_MAX }
    }

    fn begun() -> Generations {
        Generations::begin(&Record::Begun(OLD)).unwrap()
    }

    #[test]
    fn steps_go_on_where_an_earlier_call_stopped() {
        let mut now = begun();
        let all = steps(&now, wanted(64)).unwrap();
        assert_eq!(
            all,
            [
                Step::Open(NEW),
                Step::Switch(NEW),
                Step::Drain(OLD, 1),
                Step::Drain(OLD, 2),
                Step::Start(NEW),
                Step::Retire(OLD),
            ]
        );
        now.apply(&Record::Opened(NEW));
        assert_eq!(steps(&now, wanted(64)).unwrap(), all[1..]);
        now.apply(&Record::Switched(NEW));
        assert_eq!(steps(&now, wanted(64)).unwrap(), all[2..]);
        for (shard, round) in (0..16).flat_map(|shard| [(shard, 1), (shard, 2)]) {
            now.apply(&Record::Drained { generation: 4, shard, round });
        }
        now.apply(&Record::Live(NEW));
        assert_eq!(steps(&now, wanted(64)).unwrap(), all[5..]);
    }

    #[test]
    fn reshard_that_is_not_finished_is_not_passed_over() {
        let mut now = begun();
        now.apply(&Record::Opened(NEW));
        assert!(matches!(steps(&now, wanted(32)), Err(Error::Unfinished { shards: 64 })));
    }

    #[test]
    fn same_number_of_shards_makes_a_new_ring_where_that_is_asked_for() {
        let (again, new_ring) = (wanted(16), Wanted { new_ring: true, ..wanted(16) });
        assert_eq!(steps(&begun(), again).unwrap(), []);
        let steps_of_ring = steps(&begun(), new_ring).unwrap();
        assert_eq!(steps_of_ring[0], Step::Open(Generation { number: 5, shards: 16 }));
        // One that was begun goes on, whether it is asked for again or not.
        let mut now = begun();
        now.apply(&Record::Opened(Generation { number: 5, shards: 16 }));
        assert_eq!(steps(&now, again).unwrap(), steps_of_ring[1..]);
        assert_eq!(steps(&now, new_ring).unwrap(), steps_of_ring[1..]);
    }

    #[test]
    fn two_generations_that_no_pod_could_hold_are_refused() {
        let wanted = |both_max| Wanted { both_max, ..wanted(64) };
        assert!(steps(&begun(), wanted(80)).is_ok());
        let refused = steps(&begun(), wanted(79)).unwrap_err();
        assert!(matches!(refused, Error::TooManyShards { live: 16, next: 64, most: 79 }));
        let most = Wanted { shards: SHARDS_MAX - 15, ..wanted(u16::MAX) };
        assert!(matches!(steps(&begun(), most), Err(Error::TooManyShards { most: 2000, .. })));
    }
}
