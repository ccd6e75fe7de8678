//! The task of one busy order: performs the steps that the protocol asks for, one update after the
//! other, and decides nothing itself.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::time::sleep;

use super::walk::{Ended, Walk, Walked};
use super::{Effects, Held, Job, Letter, Outcome, Shared};
use crate::protocol::{Code, Settlement};
use crate::telemetry::field;

pub(super) struct Runner<E: Effects> {
    pub(super) shared: Arc<Shared<E>>,
    pub(super) key: Arc<str>,
}

impl<E: Effects> Runner<E> {
    /// Works until the order's mailbox is empty or the drain begins.
    pub(super) async fn run(self, first: Job<E::Held>) {
        let mut job = Some(first);
        while let Some(next) = job {
            self.handle(next).await;
            let stopping = self.shared.stop.is_cancelled();
            job = self.shared.router.next(&self.key, |job| !stopping && job.held.may_begin());
        }
    }

    async fn handle(&self, job: Job<E::Held>) {
        let Job { update, held, first_seen } = job;
        // Not begun, so not counted as given back: the broker hands it out again.
        let Some(begun) = held.begin() else { return };
        let mut walk = Walk::new(&self.shared, &update, &held);
        // The receipt stays out here: a panic in the walk costs this message its handling, never
        // its settlement.
        let ended = AssertUnwindSafe(walk.run()).catch_unwind().await;
        let Walked { attempts, conflicts, unsure, etag, seen } = walk.end();
        if unsure && !matches!(ended, Ok(Ended::Settled(Settlement::Applied))) {
            E::Held::doubt(&begun);
        }
        let settlement = match ended {
            Ok(Ended::Settled(settlement)) => settlement,
            Ok(Ended::Released) => return self.shared.tally.released(),
            Err(_panic) => {
                tracing::error!({ field::ORDER } = %self.key, "a bug: handling this message panicked");
                Settlement::DeadLetter(Code::Bug)
            }
        };
        // A dead letter for a message that is redelivered anyway would be a second one.
        if !held.is_live() {
            return self.shared.tally.settled(settlement, conflicts, false);
        }
        let settling = AssertUnwindSafe(async {
            match settlement {
                Settlement::Applied | Settlement::AlreadyApplied | Settlement::Superseded => {
                    let outcome = Outcome { settlement, order: self.key.clone(), etag };
                    self.shared.effects.ack(held, outcome).await
                }
                Settlement::DeadLetter(code) => {
                    let tried = (attempts, seen);
                    let letter = Letter::of(code, self.key.clone(), tried, first_seen);
                    self.shared.effects.dead_letter(held, letter).await
                }
            }
        });
        let done = settling.catch_unwind().await.unwrap_or_else(|_panic| {
            // The receipt went with it: what waits behind this message must not overtake it.
            tracing::error!({ field::ORDER } = %self.key, "a bug: settling this message panicked");
            E::Held::give_up_channel(&begun);
            false
        });
        self.shared.tally.settled(settlement, conflicts, done);
        // That PATCH may still be at work, and it would land on the next update's state.
        if unsure && matches!(settlement, Settlement::DeadLetter(_)) {
            tokio::select! { biased;
                () = self.shared.stop.cancelled() => {}
                () = sleep(self.shared.limits.settle_window) => {}
            }
        }
    }
}
