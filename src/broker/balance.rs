//! Which pod should hold which shard. Pure, and a matter of hints: a wrong view costs balance for
//! seconds, never safety, which is the broker's single active consumer.
//!
//! Every pod computes the same assignment from the same view. A pod that is not a shard's owner gives
//! its subscription back once and queues up again behind the owner, so the owner comes to the front
//! of the broker's line, whoever was active before and whether the shard has traffic or not.

use std::collections::BTreeMap;

/// Names a pod's subscriptions: the same pod with new ones, after a lost connection, stands at the
/// end of the broker's line again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Peer {
    /// The process.
    pub(super) pod: uuid::Uuid,
    /// Its session.
    pub(super) epoch: u64,
}

/// Assigns each of `shards` shards to one of the pods, evenly: no pod gets more than
/// `ceil(shards / pods)`. Rendezvous hashing with bounded loads, so that a pod that comes or goes
/// moves few shards besides its own. Empty without pods.
#[must_use]
pub(super) fn assign(shards: u16, peers: &[Peer]) -> Vec<Peer> {
    let mut peers = peers.to_vec();
    peers.sort_unstable();
    peers.dedup_by_key(|peer| peer.pod);
    if peers.is_empty() {
        return Vec::new();
    }
    let share_max = usize::from(shards).div_ceil(peers.len());
    let mut load: BTreeMap<Peer, usize> = BTreeMap::new();
    let mut owners = Vec::with_capacity(usize::from(shards));
    for shard in 0..shards {
        let free = peers.iter().filter(|peer| load.get(peer).copied().unwrap_or(0) < share_max);
        if let Some(owner) = free.max_by_key(|peer| weight(shard, peer.pod)) {
            *load.entry(*owner).or_default() += 1;
            owners.push(*owner);
        }
    }
    owners
}

/// Any well mixed function will do; all pods must have the same one. SplitMix64's finaliser.
fn weight(shard: u16, pod: uuid::Uuid) -> u64 {
    let (high, low) = pod.as_u64_pair();
    let mut mixed =
        high ^ low.rotate_left(32) ^ u64::from(shard).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What this pod has given back, and for whose sake. A shard is given back once per owner.
#[derive(Debug, Default)]
pub(super) struct Yields {
    given: BTreeMap<u16, Peer>,
}

impl Yields {
    /// The shards to give back under this assignment. Those of ours are forgotten, so that they are
    /// given back again should they go to somebody else and return.
    pub(super) fn due(&mut self, owners: &[Peer], me: Peer) -> Vec<u16> {
        let mut due = Vec::new();
        for (shard, owner) in (0..).zip(owners) {
            if owner.pod == me.pod {
                self.given.remove(&shard);
            } else if self.given.get(&shard) != Some(owner) {
                due.push(shard);
            }
        }
        due
    }

    /// This shard was given back.
    pub(super) fn done(&mut self, shard: u16, owner: Peer) {
        self.given.insert(shard, owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(count: u128) -> Vec<Peer> {
        let spread = |number: u128| number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let peer = |number| Peer { pod: uuid::Uuid::from_u128(spread(number)), epoch: 0 };
        (1..=count).map(peer).collect()
    }

    fn loads(owners: &[Peer]) -> Vec<usize> {
        let mut loads = BTreeMap::new();
        for owner in owners {
            *loads.entry(*owner).or_insert(0) += 1;
        }
        loads.into_values().collect()
    }

    #[test]
    fn no_pod_holds_more_than_its_fair_share() {
        for pods in 1..=20 {
            let owners = assign(64, &peers(pods));
            assert_eq!(owners.len(), 64);
            let fair = 64_usize.div_ceil(usize::try_from(pods).unwrap());
            assert!(loads(&owners).into_iter().max() <= Some(fair), "{pods} pods");
        }
        assert!(assign(64, &[]).is_empty());
    }

    #[test]
    fn every_pod_computes_the_same_whatever_order_it_heard_of_the_others_in() {
        let mut view = peers(5);
        let owners = assign(64, &view);
        view.reverse();
        view.push(view[0]);
        assert_eq!(assign(64, &view), owners);
    }

    #[test]
    fn pod_that_comes_takes_its_share_and_moves_little_else() {
        let before = assign(64, &peers(3));
        let after = assign(64, &peers(4));
        let newcomer = peers(4)[3];
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        let taken = after.iter().filter(|owner| **owner == newcomer).count();
        assert!((13..=16).contains(&taken), "{taken}");
        assert!(moved <= 32, "{moved} of 64 moved for {taken}");
    }

    #[test]
    fn shard_is_given_back_once_for_each_new_owner() {
        let (me, other) = (peers(2)[0], peers(2)[1]);
        let mut yields = Yields::default();
        assert_eq!(yields.due(&[me, other], me), [1]);
        yields.done(1, other);
        assert!(yields.due(&[me, other], me).is_empty());
        let again = Peer { epoch: 1, ..other };
        assert_eq!(yields.due(&[me, again], me), [1], "it stands at the end of the line again");
        assert!(yields.due(&[me, me], me).is_empty());
        assert_eq!(yields.due(&[me, other], me), [1], "it was ours in between");
    }
}
