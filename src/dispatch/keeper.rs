//! Listens to what the answers say of the target, and sees every trouble of it to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::admission::{Heard, Keeping, Turn};
use super::{Effects, Shared, Trail};
use crate::protocol::{self, Code, Request, Verdict};

impl<E: Effects> Shared<E> {
    /// Tells what an answer says of the target. Returns what it says of the order.
    pub(super) fn hear(
        self: &Arc<Self>,
        turn: &mut Turn<'_>,
        which: (u64, Request),
        sent: Instant,
        verdict: Verdict,
    ) -> Verdict {
        let dice = self.effects.dice();
        let heard = self.admission.heard(turn, which, sent, verdict, dice);
        self.mind(heard);
        heard.verdict
    }

    /// Whether the target works, asked for an order that has spent all its failures: the first one at
    /// `times[0]`, the last but one at `times[1]`.
    pub(super) async fn works(
        self: &Arc<Self>,
        order: u64,
        last: (Request, Code),
        times: [Instant; 2],
        epoch: u64,
    ) -> bool {
        let known = || {
            let (works, heard) = self.admission.works(order, last, times, epoch);
            self.mind(heard);
            works
        };
        if let Some(works) = known() {
            return works;
        }
        let _one = self.admission.looking().await;
        // Somebody else may have looked meanwhile.
        match known() {
            Some(works) => works,
            None => self.look(epoch).await.unwrap_or(false),
        }
    }

    /// Looks at the target, not at an order. `None` where it refused to say.
    async fn look(self: &Arc<Self>, epoch: u64) -> Option<bool> {
        let trail = Trail { walk: self.effects.uuid(), attempt: self.effects.uuid() };
        let sent = Instant::now();
        let reply = self.effects.probe(trail).await;
        let verdict = protocol::look(&reply, &self.texts);
        let (works, heard) = self.admission.looked(epoch, verdict, sent, self.effects.dice());
        self.mind(heard);
        works
    }

    fn mind(self: &Arc<Self>, heard: Heard) {
        if heard.opened {
            self.tally.outage();
        }
        if heard.must_keep {
            self.runners.spawn(self.clone().keep());
        }
    }

    /// Lives as long as the trouble. Updates that wait find out by themselves that it is over; where none
    /// does, somebody must look.
    async fn keep(self: Arc<Self>) {
        let mut looked = Instant::now();
        while !self.stop.is_cancelled() {
            let changed = self.admission.changed();
            tokio::pin!(changed);
            // Registered before the look, or a change in between would be missed.
            changed.as_mut().enable();
            match self.admission.keep() {
                Keeping::Done => return,
                Keeping::Look { epoch } => {
                    let shared = self.clone();
                    // Not waited for: one that hangs holds up no other. Bounded by its deadline.
                    self.runners.spawn(async move {
                        tokio::select! { biased;
                            () = shared.stop.cancelled() => {}
                            _works = shared.look(epoch) => {}
                        }
                    });
                }
                Keeping::At(due) => {
                    // Under load something changes all the time.
                    let rest = looked + Duration::from_millis(10);
                    tokio::select! { biased;
                        () = self.stop.cancelled() => {}
                        () = sleep_until(due) => {}
                        () = async { changed.await; sleep_until(rest).await } => {}
                    }
                    looked = Instant::now();
                }
            }
        }
    }
}
