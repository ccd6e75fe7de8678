//! The task of one busy order: performs the steps that the protocol asks for, one update after the
//! other, and decides nothing itself.

use std::pin::pin;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::sleep;
use tracing::Instrument;

use super::card::{Card, Doing};
use super::company::Company;
use super::record::{Ended, Walked};
use super::walk::Walk;
use super::{
    Attempt, Effects, Gate, Held, Item, Job, Letter, Outcome, PARKED_BEHIND, Shared, story,
};
use crate::order::{ETag, Replay};
use crate::protocol::{Code, Settlement};
use crate::telemetry::field;
use crate::telemetry::panics::{Panicked, caught};

pub(super) struct Runner<E: Effects> {
    pub(super) shared: Arc<Shared<E>>,
    pub(super) key: Arc<str>,
    pub(super) card: Arc<Card>,
}

impl<E: Effects> Runner<E> {
    /// Works until the order's mailbox is empty or the drain begins.
    pub(super) async fn run(self, first: Item<E::Held>) {
        let mut company = Company::default();
        let mut item = Some(first);
        while let Some(next) = item {
            match next {
                Item::Update(job) => {
                    let span = job.held.span(Some(&self.key));
                    self.handle(job, &mut company).instrument(span).await;
                }
                Item::Release(held) => {
                    let span = held.span(Some(&self.key));
                    Box::pin(self.release(held)).instrument(span).await;
                }
            }
            let stopping = self.shared.stop.is_cancelled();
            let may_begin = |item: &Item<E::Held>| !stopping && item.held().may_begin();
            item = self.shared.router.next(&self.key, may_begin);
            company.turn();
        }
    }

    async fn handle(&self, job: Box<Job<E::Held>>, company: &mut Company<E::Held>) {
        // Not begun, so not counted as given back: the broker hands it out again.
        let Some(begun) = job.held.begin() else { return };
        self.card.begin(job.held.arrived());
        let gate = {
            // Pinned here, as below: whoever takes a future as it is has room for it twice.
            let gate = pin!(self.shared.effects.gate(&job.held, &self.key));
            let gate = pin!(self.shared.pass(&job.held, gate));
            caught(gate).await
        };
        match gate {
            Ok(Some(Gate::Open)) => self.work(job, begun, company).await,
            Ok(Some(Gate::Next)) => self.work(in_turn(job), begun, company).await,
            Ok(Some(Gate::Behind(head))) => Box::pin(self.park(job, &begun, head)).await,
            Ok(None) => self.given_back(&job.held),
            Err(panicked) => self.failed(&begun, &panicked),
        }
    }

    /// The order stands still: the update goes behind what it stands behind.
    async fn park(
        &self,
        job: Box<Job<E::Held>>,
        begun: &<E::Held as Held>::Begun,
        head: uuid::Uuid,
    ) {
        self.card.doing(Doing::Settling);
        let letter = Letter::behind(head, self.key.clone(), job.first_seen);
        let settling = caught(self.shared.effects.dead_letter(job.held, letter));
        let done = self.done(settling.await, begun);
        self.shared.tally.settled_letter(PARKED_BEHIND, done);
    }

    fn given_back(&self, held: &E::Held) {
        self.shared.tally.released();
        story::given_back(&self.key, held);
    }

    /// The order is to go on.
    async fn release(&self, held: E::Held) {
        let Some(begun) = held.begin() else { return };
        self.card.begin(held.arrived());
        self.card.doing(Doing::Settling);
        let released = caught(self.shared.effects.release(held)).await;
        self.done(released, &begun);
    }

    /// The receipt may have gone with a panic: what waits behind this message must not overtake it.
    fn failed(&self, begun: &<E::Held as Held>::Begun, panicked: &Panicked) {
        tracing::error!(
            { field::ORDER } = %self.key,
            { field::ERROR } = %panicked,
            "a bug: settling this message panicked"
        );
        E::Held::give_up_channel(begun);
    }

    /// Whether it was settled.
    fn done(&self, settled: Result<bool, Panicked>, begun: &<E::Held as Held>::Begun) -> bool {
        settled.unwrap_or_else(|panicked| {
            self.failed(begun, &panicked);
            false
        })
    }

    async fn work(
        &self,
        job: Box<Job<E::Held>>,
        begun: <E::Held as Held>::Begun,
        company: &mut Company<E::Held>,
    ) {
        let mut walk = Walk::new(&self.shared, (&job.update, &job.held), &self.card, company);
        // The receipt stays out here: a panic in the walk costs this message its handling, never
        // its settlement.
        let ended = {
            let walking = pin!(walk.run());
            caught(walking).await
        };
        let Walked { attempts, conflicts, unsure, etag, seen, together } = walk.end();
        let Job { held, first_seen, .. } = *job;
        if unsure && !matches!(ended, Ok(Ended::Settled(Settlement::Applied))) {
            E::Held::doubt(&begun);
            company.doubt();
        }
        let settlement = match ended {
            Ok(Ended::Settled(settlement)) => settlement,
            Ok(Ended::Released) => {
                self.given_back(&held);
                for (job, _) in company.disband(&self.card) {
                    self.given_back(&job.held);
                }
                return;
            }
            Err(panicked) => {
                tracing::error!(
                    { field::ORDER } = %self.key,
                    { field::ERROR } = %panicked,
                    "a bug: handling this message panicked"
                );
                Settlement::DeadLetter(Code::Bug)
            }
        };
        // A dead letter for a message that is redelivered anyway would be a second one.
        if !held.is_live() {
            let told = (&**held.queue(), held.message_id());
            story::settlement_lost(Some(&self.key), settlement.as_str(), told);
            self.shared.tally.settled(settlement, conflicts, false);
            return self.follow(company, together, settlement, etag).await;
        }
        self.card.doing(Doing::Settling);
        let done = {
            let settling =
                pin!(self.settle(held, settlement, (attempts, seen), first_seen, etag.clone()));
            self.done(caught(settling).await, &begun)
        };
        self.shared.tally.settled(settlement, conflicts, done);
        self.follow(company, together, settlement, etag).await;
        // That PATCH may still be at work, and it would land on the next update's state.
        if unsure && matches!(settlement, Settlement::DeadLetter(_)) {
            self.card.doing(Doing::Resting);
            tokio::select! { biased;
                () = self.shared.stop.cancelled() => {}
                () = sleep(self.shared.limits.settle_window) => {}
            }
        }
    }
}

impl<E: Effects> Runner<E> {
    /// Acks, or writes a letter. Whether it was settled.
    async fn settle(
        &self,
        held: E::Held,
        settlement: Settlement,
        tried: (Vec<Attempt>, Option<String>),
        first_seen: Timestamp,
        etag: Option<ETag>,
    ) -> bool {
        let order = self.key.clone();
        match settlement {
            Settlement::Applied | Settlement::AlreadyApplied | Settlement::Superseded => {
                self.shared.effects.ack(held, Outcome { settlement, order, etag }).await
            }
            Settlement::DeadLetter(code) => {
                let letter = Letter::of(code, order, tried, first_seen);
                // Rare, and large.
                Box::pin(self.shared.effects.dead_letter(held, letter)).await
            }
        }
    }

    /// What comes of those who were written together with an update, now that it is settled.
    async fn follow(
        &self,
        company: &mut Company<E::Held>,
        together: bool,
        settlement: Settlement,
        etag: Option<ETag>,
    ) {
        let aboard = company.disband(&self.card);
        if aboard.is_empty() {
            return;
        }
        if !together {
            let back = aboard.into_iter().map(|(job, _begun)| Item::Update(job));
            return self.shared.router.put_back(&self.key, back);
        }
        for (job, begun) in aboard {
            let span = job.held.span(Some(&self.key));
            self.followed(job, &begun, settlement, etag.clone()).instrument(span).await;
        }
    }

    async fn followed(
        &self,
        job: Box<Job<E::Held>>,
        begun: &<E::Held as Held>::Begun,
        settlement: Settlement,
        etag: Option<ETag>,
    ) {
        if !job.held.is_live() {
            let told = (&**job.held.queue(), job.held.message_id());
            story::settlement_lost(Some(&self.key), settlement.as_str(), told);
            return self.shared.tally.settled(settlement, false, false);
        }
        story::followed(&self.key, settlement.as_str(), &job.held);
        let outcome = Outcome { settlement, order: self.key.clone(), etag };
        let done = self.done(caught(self.shared.effects.ack(job.held, outcome)).await, begun);
        self.shared.tally.settled(settlement, false, done);
    }
}

/// A letter from behind the head was never begun, or saw no state of its order: it has none to be judged by.
/// No update of ours has come between, so it is judged like one that comes for the first time.
fn in_turn<H>(mut job: Box<Job<H>>) -> Box<Job<H>> {
    job.update.replay = job.update.replay.filter(|replay| *replay != Replay::Unknown);
    job
}
