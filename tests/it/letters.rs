//! The operator's tool and the daemon, killed at any point of their work on dead letters.

use std::path::Path;

use crate::broker;
use crate::rounds::Ground;

/// `make letters-chaos` plays a hundred of them.
const ROUNDS: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_neither_lost_nor_doubled_whoever_is_killed_at_whatever_moment() {
    let program = Path::new(env!("CARGO_BIN_EXE_orderwright"));
    let ground = Ground::open(broker::shared().await.url(), program, ROUNDS).await.unwrap();
    for round in 0..ROUNDS {
        let verdict = ground.round(round, round + 1).await.unwrap();
        assert!(verdict.flaws.is_empty(), "seed {}: {:#?}", round + 1, verdict.flaws);
        assert!(verdict.published > 0, "{verdict:?}");
    }
}
