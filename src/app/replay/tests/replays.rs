//! Replays of the letters that lie in the world's queue.

use uuid::Uuid;

use super::super::chain::Chain;
use super::super::check::Behind;
use super::super::message::{Sending, message};
use super::super::{Allowed, Candidate, Message, Place, Prospect, Turn, by_order};
use super::service::{Meanwhile, Net};
use super::world::{Lying, World, wanted};
use crate::dead_letter::{Fate, Found, Letter};
use crate::order::Replay;
use crate::protocol::{Code, Settlement};

/// One letter's turn in a replay.
#[derive(Debug, Clone)]
pub(super) struct Turning {
    /// Written just before the look, and between it and the daemon's turn.
    pub(super) meanwhile: [Meanwhile; 2],
    pub(super) nets: Vec<(Net, Meanwhile)>,
    /// The service refuses it all the same.
    pub(super) refused: bool,
    /// The tool dies before the letter leaves the queue.
    pub(super) dies: bool,
}

impl World<'_> {
    /// As the tool does it: letter by letter, each in its turn, until one is not written or the tool dies.
    pub(super) fn replay(&mut self, turnings: &[Turning]) {
        let lying = self.queue.clone();
        let candidates: Vec<Candidate> =
            lying.iter().zip(1..).map(|(lying, place)| candidate(lying, place)).collect();
        let all: Vec<&Candidate> = candidates.iter().collect();
        let Some(turns) = by_order(&all, |_| None).pop() else { return };
        let mut chain = Chain::default();
        let quiet = Turning { meanwhile: [None; 2], nets: vec![], refused: false, dies: false };
        let mut turnings = turnings.iter().chain(std::iter::repeat(&quiet));
        for turn in turns {
            let (turning, letter) = (turnings.next().unwrap(), &lying[turn.index]);
            let fate = self.one(turn, letter, &candidates[turn.index], turning, &mut chain);
            if fate.is_some() && turning.dies {
                return;
            }
            if fate.is_some() {
                self.queue.retain(|it| it.serial != letter.serial);
            }
            if fate == Some(false) {
                return;
            }
        }
    }

    /// Whether it leaves the queue; and if so, whether what is behind it may go on.
    pub(super) fn one(
        &mut self,
        turn: Turn,
        lying: &Lying,
        candidate: &Candidate,
        turning: &Turning,
        chain: &mut Chain,
    ) -> Option<bool> {
        self.meanwhile(turning.meanwhile[0]);
        let update = self.tools.checker.asked(candidate, Allowed::Seen).unwrap();
        let behind = Behind { chain: Some(chain), is_sure: turn.is_sure };
        let checked =
            self.tools.checker.judge(candidate, update, &Ok(self.get()), (Allowed::Seen, behind));
        self.counts.unsure += usize::from(checked.why.contains("nothing tells for certain"));
        if !matches!(checked.prospect, Prospect::WouldApply | Prospect::AlreadyApplied) {
            self.counts.passed_over += 1;
            return None;
        }
        let sending = Sending {
            replay: Uuid::from_u128(7),
            may: &checked.may,
            seen: checked.seen.as_deref(),
            reply_to: "answers".into(),
            correlation_id: "1".into(),
        };
        let outgoing = message(&self.tools.topology, candidate, sending);
        self.meanwhile(turning.meanwhile[1]);
        let (properties, body) = (outgoing.properties, outgoing.body);
        let sent = Lying { properties, body, age: lying.age, serial: 0 };
        let (settlement, etag) = self.handle(sent, &turning.nets, turning.refused, 0);
        let over = match &checked.may {
            Replay::Since(etag) => Some(etag.to_string()),
            Replay::Unknown | Replay::Forced => None,
        };
        match settlement {
            Settlement::Applied => {
                self.counts.behind += usize::from(chain.is_begun());
                self.counts.applied += 1;
                chain.learn(Fate::Applied, over, wanted(&lying.body), etag.as_deref());
            }
            Settlement::AlreadyApplied => {
                self.counts.already += 1;
                // As its notice tells: of the order as it was found.
                let etag = self.service.etag().to_string();
                chain.learn(Fate::AlreadyApplied, over, wanted(&lying.body), Some(&etag));
            }
            Settlement::DeadLetter(Code::Superseded) => self.counts.superseded_again += 1,
            Settlement::DeadLetter(_) => return Some(false),
            Settlement::Superseded => panic!("nothing is numbered here"),
        }
        Some(true)
    }
}

pub(super) fn candidate(lying: &Lying, position: u64) -> Candidate {
    let found =
        Found { properties: &lying.properties, exchange: "e", routing_key: "k", body: &lying.body };
    let message = Message { properties: lying.properties.clone(), body: lying.body.clone() };
    Candidate { letter: Letter::read(found), message, place: Place::Free, position, rank: None }
}
