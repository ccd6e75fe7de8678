//! Listens to what the answers say of the target, and sees every trouble of it to its end.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::admission::{Heard, Keeping, Turn};
use super::{Effects, Shared, Trail};
use crate::order::OrderKey;
use crate::protocol::{self, Code, Request, Trouble, Verdict};

/// For how long an order that was shown is remembered instead of a newer one.
const SHOWN_FOR: Duration = Duration::from_secs(10);

/// What a look is to show.
#[derive(Clone, Copy)]
enum Sight {
    /// Orders.
    List,
    /// Orders with their tags.
    Tag,
}

impl Sight {
    /// What an order waits for to be shown that ended in this.
    const fn of(code: Code) -> Self {
        if matches!(code, Code::NoEtag) { Self::Tag } else { Self::List }
    }
}

/// Whether it may be lists that the target does not do, as the least of OData allows, and not that it
/// does not work.
const fn may_show_no_lists(trouble: Trouble) -> bool {
    match trouble {
        Trouble::Systemic(code) | Trouble::Failure(code) | Trouble::Outage(code) => matches!(
            code,
            Code::WrongAddress
                | Code::Rejected
                | Code::BusinessRule
                | Code::NotSupported
                | Code::TooLarge
                | Code::Forbidden
                | Code::ServerError
        ),
        Trouble::Conflict(_) | Trouble::Refused(_) => true,
        Trouble::Throttled { .. } => false,
    }
}

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
        self.known_or_looked(known, epoch, Sight::of(last.1)).await
    }

    /// Whether the target shows orders, asked for one that it refused to show to a GET sent at `sent`.
    pub(super) async fn shows(self: &Arc<Self>, sent: Instant, epoch: u64) -> bool {
        let known = || self.admission.shows(sent, epoch);
        self.known_or_looked(known, epoch, Sight::List).await
    }

    async fn known_or_looked(
        self: &Arc<Self>,
        known: impl Fn() -> Option<bool>,
        epoch: u64,
        sight: Sight,
    ) -> bool {
        if let Some(known) = known() {
            return known;
        }
        let _one = self.admission.looking().await;
        // Somebody else may have looked meanwhile.
        match known() {
            Some(known) => known,
            None => self.look(epoch, sight).await.unwrap_or(false),
        }
    }

    /// Looks at the target. `None` where it refused to say.
    async fn look(self: &Arc<Self>, epoch: u64, sight: Sight) -> Option<bool> {
        let sent = Instant::now();
        let verdict = self.seen(sight).await;
        let (works, heard) = self.admission.looked(epoch, verdict, sent, self.effects.dice());
        self.mind(heard);
        works
    }

    /// The list of orders; and where that cannot tell, the order that was shown last.
    async fn seen(&self, sight: Sight) -> Verdict {
        let reply = self.effects.probe(None, self.trail()).await;
        let listed = protocol::look(&reply, &self.texts);
        let otherwise = match (sight, listed) {
            // Lists may come without tags.
            (Sight::Tag, Verdict::Done) => Verdict::Not(Trouble::Systemic(Code::NoEtag)),
            (Sight::List, Verdict::Done) => return Verdict::Done,
            (Sight::List | Sight::Tag, Verdict::Not(trouble)) if may_show_no_lists(trouble) => {
                listed
            }
            (Sight::List | Sight::Tag, Verdict::Not(_)) => return listed,
        };
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((_, order)) = shown else { return otherwise };
        let reply = self.effects.probe(Some(&order), self.trail()).await;
        if protocol::shows(&reply, &self.texts) { Verdict::Done } else { otherwise }
    }

    /// Remembers an order that was shown, instead of one that may be gone by now.
    pub(super) fn note_shown(&self, order: &OrderKey) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.as_ref().is_none_or(|(at, _)| at.elapsed() >= SHOWN_FOR) {
            *shown = Some((Instant::now(), order.clone()));
        }
    }

    fn trail(&self) -> Trail {
        Trail { walk: self.effects.uuid(), attempt: self.effects.uuid() }
    }

    fn mind(self: &Arc<Self>, heard: Heard) {
        if heard.opened {
            self.tally.outage();
        }
        if heard.must_keep {
            self.spawn(self.clone().keep());
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
                    self.spawn(async move {
                        tokio::select! { biased;
                            () = shared.stop.cancelled() => {}
                            _works = shared.look(epoch, Sight::List) => {}
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
