//! Which shard an order belongs to.
//!
//! Every message of an order must go through one shard queue. The broker spreads messages with its
//! exchange type `x-consistent-hash`, but that exchange cannot be what decides: its ring changes
//! with its history. [`shard_of`] decides. It is what the exchange itself computes while its ring
//! is in order (queues 0, 1, 2, … bound one after the other, each with weight 1), so that in normal
//! life every message is in the shard queue of its order already.
//!
//! **It never changes.** Two workers that disagree would work on one order at the same time. The
//! golden vectors in its tests are its definition: a change that moves one is a mistake.
//!
//! ```text
//! canonical key ──phash2──▶ 32 bits ──seed──▶ xorshift1024* ──▶ random numbers in 0..=1
//! shard = 0, then jump to trunc((shard + 1) / random) as long as that is below the shard count
//! ```
//!
//! The source is the broker's plugin `rabbitmq_consistent_hash_exchange`, file
//! `rabbit_exchange_type_consistent_hash.erl`, as of RabbitMQ 3.10.8, 4.0.5 and 4.3.6, which
//! compute the same (on Erlang/OTP 25, 27 and 29). Its parts:
//!
//! - Jump consistent hashing: Lamping and Veach, *A Fast, Minimal Memory, Consistent Hash
//!   Algorithm* (arXiv:1406.2294). Going from n to n + 1 shards, a key stays or goes to the new
//!   shard. The paper draws its random numbers from a 64-bit linear generator, the plugin from
//!   Erlang's `rand`.
//! - `erlang:phash2/1`, documented to be the same on every machine and in every version of Erlang.
//!   Of a binary it is Bob Jenkins' *lookup2* (1996) with a start value of its own.
//! - Erlang's `rand`, algorithm `exs1024`: xorshift1024* by Vigna, *An experimental exploration of
//!   Marsaglia's xorshift generators, scrambled* (arXiv:1402.6246).
//!
//! Of the hash only the last 21 bits reach the seed: at most 2,097,152 ways for a key to go, far
//! more than there are shards. `tests/it/shard.rs` compares with a real broker.

/// The shard, from `0` to `shards - 1`, of the order with this canonical key.
///
/// Zero shards are taken as one: there is always a shard.
#[must_use]
pub fn shard_of(canonical_key: &str, shards: u16) -> u16 {
    jump(phash2(canonical_key.as_bytes()), shards)
}

/// Jump consistent hashing: walks from shard to shard as the count grows, to the last one that is
/// below `shards`. The way is the same for every count, only its end is not.
fn jump(hash: u32, shards: u16) -> u16 {
    let mut random = Xorshift1024::new(hash);
    let mut shard = 0;
    while shard + 1 < shards {
        let next = (f64::from(shard) + 1.0) / random.uniform();
        if next >= f64::from(shards) {
            break;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the fraction is to be cut off; what is left is positive and below `shards`"
        )]
        let next = next as u16;
        shard = next;
    }
    shard
}

/// The golden ratio in 32 bits: what *lookup2* fills its state with.
const GOLDEN: u32 = 0x9e37_79b9;

/// The start value that Erlang gives to binaries, to tell them from other terms of the same bytes.
const BINARY: u32 = GOLDEN.wrapping_mul(13);

/// Erlang's `phash2` of a binary, all 32 bits of it. (`phash2/1` gives the last 27.)
fn phash2(bytes: &[u8]) -> u32 {
    if bytes.is_empty() {
        return BINARY;
    }
    let mut state = [GOLDEN, GOLDEN, BINARY];
    let (blocks, rest) = bytes.as_chunks::<12>();
    for block in blocks {
        state = absorbed(state, block);
    }
    // The last block is filled up with zeros, and the lowest byte of its third word is kept free
    // for the length: so the rest, which is 11 bytes at most, leaves a gap there.
    let mut last = [0; 12];
    for (index, byte) in rest.iter().enumerate() {
        let gap = usize::from(index >= 8);
        if let Some(place) = last.get_mut(index + gap) {
            *place = *byte;
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "as Erlang does, above 4 GB")]
    let length = bytes.len() as u32;
    let [a, b, c] = state;
    let [_, _, hash] = absorbed([a, b, c.wrapping_add(length)], &last);
    hash
}

/// Adds twelve bytes to the state, as three little-endian words, and mixes.
fn absorbed([a, b, c]: [u32; 3], block: &[u8; 12]) -> [u32; 3] {
    let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3] = *block;
    mixed([
        a.wrapping_add(u32::from_le_bytes([a0, a1, a2, a3])),
        b.wrapping_add(u32::from_le_bytes([b0, b1, b2, b3])),
        c.wrapping_add(u32::from_le_bytes([c0, c1, c2, c3])),
    ])
}

/// The mixing step of *lookup2*: three rounds, each with its own three shifts.
fn mixed([mut a, mut b, mut c]: [u32; 3]) -> [u32; 3] {
    for [right, left, right_again] in [[13, 8, 13], [12, 16, 5], [3, 10, 15]] {
        a = a.wrapping_sub(b).wrapping_sub(c) ^ (c >> right);
        b = b.wrapping_sub(c).wrapping_sub(a) ^ (a << left);
        c = c.wrapping_sub(a).wrapping_sub(b) ^ (b >> right_again);
    }
    [a, b, c]
}

/// The random numbers of Erlang's `rand:seed_s(exs1024, {Hash, Hash, Hash})`.
struct Xorshift1024 {
    state: [u64; 16],
    at: usize,
}

impl Xorshift1024 {
    /// Erlang multiplies each of the three seeds by a prime of its own in 21 bits, joins them to a
    /// 64-bit state and lets a smaller generator of the family (xorshift64*) fill the large one,
    /// from its end.
    fn new(hash: u32) -> Self {
        const MASK: u64 = (1 << 21) - 1;
        let seed = (u64::from(hash) & MASK) + 1;
        let [high, middle, low] =
            [2_097_131, 2_097_133, 2_097_143].map(|prime| (seed * prime) & MASK);
        let mut small = (high << 43) | (middle << 22) | (low << 1) | 1;
        let mut state = [0; 16];
        for word in state.iter_mut().rev() {
            small ^= small >> 12;
            small ^= small << 25;
            small ^= small >> 27;
            *word = small.wrapping_mul(0x2545_f491_4f6c_dd1d);
        }
        Self { state, at: 0 }
    }

    /// The next 64 bits as a fraction of 2^64.
    ///
    /// One when they round up to that. Never zero, for which Erlang would fail: the 2^21 seeds were
    /// all tried.
    #[expect(clippy::cast_precision_loss, reason = "rounds to the nearest float, as Erlang does")]
    #[expect(clippy::indexing_slicing, reason = "`at` is kept below 16")]
    fn uniform(&mut self) -> f64 {
        let mut old = self.state[self.at];
        self.at = (self.at + 1) % 16;
        let mut new = self.state[self.at];
        new ^= new << 31;
        new ^= new >> 11;
        old ^= old >> 30;
        new ^= old;
        self.state[self.at] = new;
        new.wrapping_mul(0x1066_89d4_5497_fdb5) as f64 / 2_f64.powi(64)
    }
}

#[cfg(test)]
mod tests;
