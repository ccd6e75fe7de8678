//! Decides the next step for one order update. Performs none.
//!
//! Why pure: the bugs to fear here (a lost update, a second PATCH, a hot loop) are orderings of
//! replies and timers, and orderings can be enumerated only where no socket and no clock hide.
//! Time and dice are arguments.
//!
//! ```text
//! Get   ── outdated ─────────▶ Patch ── applied ──▶ Settle(Applied)
//! Get   ── wanted values ────▶ Settle(AlreadyApplied)    a redelivery, a replay or a lost reply
//! Get   ── newer sequence ───▶ Settle(Superseded)        or a dead letter, as the rules say
//! Get   ── replay, and the order has moved on ▶ Settle(DeadLetter)
//! Get   ── guard says no ────▶ Settle(DeadLetter)
//! any   ── conflict ─────────▶ Wait ── elapsed ──▶ Get   spends one conflict
//! any   ── failure ──────────▶ Wait ── elapsed ──▶ Get   spends one failure; outcome unknown
//! any   ── throttled, outage ▶ Get                       spends nothing; the caller lets it wait
//! Get   ── not found ────────▶ Wait ── elapsed ──▶ Get   where the rules allow for an order that is new
//! Patch ── refused, or no conflict left to spend ▶ Settle(DeadLetter)
//! Get   ── refused ──────────▶ Ask ── orders are found ▶ Settle(DeadLetter)
//! any   ── no failure left ──▶ Ask ── target works ────▶ Settle(DeadLetter)
//!                               └──── it does not ─────▶ Get, with everything to spend again
//!          (after a PATCH of unknown outcome: one last Get, which may find it applied)
//! ```
//!
//! Invariant: every PATCH carries the ETag of a GET of the same attempt, and an attempt begins with
//! that GET. So a write whose reply was lost is seen by the next GET instead of being repeated.

pub mod backoff;
mod code;
pub mod compare;
pub mod complaint;
mod fetch;
mod fields;
pub mod guard;
pub mod merge;
pub mod plan;
mod rules;
pub mod verdict;

use std::time::Duration;

pub use code::Code;
pub use complaint::{Complaint, Texts};
pub use fetch::{Fetch, concerned, fetch, look, objection, shows};
pub use fields::fields;
pub use guard::Guard;
pub use plan::{Fetched, Judgement};
pub use rules::{Rules, Superseded};
pub use verdict::{Answer, Fault, Reply, Request, SignIn, Trouble, Verdict};

use crate::order::ETag;

/// Retries after a broken business rule that came as an error of the server. It may be one that passes,
/// such as a lock; most do not.
const BUSINESS_RULE_RETRIES_MAX: u32 = 2;

/// What has been spent so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Budget {
    conflicts: u32,
    failures: u32,
    not_found: u32,
    /// A PATCH was sent of which nobody knows what became.
    unsure: bool,
}

/// What the caller does next. Each variant owns the state that consumes the result, so a reply can
/// only be given to the state that asked for it.
#[derive(Debug, PartialEq)]
#[must_use]
pub enum Step {
    /// GET the order. An attempt begins.
    Get(Fetching),
    /// PATCH it under `If-Match`.
    Patch(Patching),
    /// Let the time pass, then continue.
    Wait(Waiting),
    /// Find something out about the target, before it is believed what it says of this order.
    Ask(Asking),
    /// Tell the broker.
    Settle(Settlement),
}

/// How a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// The PATCH was answered with success.
    Applied,
    /// The order already looked as wanted; nothing was written.
    AlreadyApplied,
    /// A newer update was written before it; nothing was written.
    Superseded,
    /// It cannot be applied, and an operator must know.
    DeadLetter(Code),
}

impl Settlement {
    /// Its stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::AlreadyApplied => "already_applied",
            Self::Superseded => "superseded",
            Self::DeadLetter(_) => "dead_lettered",
        }
    }
}

/// Waits for the reply to a GET.
#[derive(Debug, PartialEq)]
pub struct Fetching {
    budget: Budget,
    /// Nothing is left to spend, and this is why. Only a look is left: whether a PATCH of unknown
    /// outcome was applied after all.
    last: Option<Code>,
}

/// Waits for the reply to a PATCH.
#[derive(Debug, PartialEq)]
pub struct Patching {
    budget: Budget,
    etag: ETag,
}

/// Waits for time to pass.
#[derive(Debug, PartialEq)]
pub struct Waiting {
    budget: Budget,
    wait: Duration,
}

/// Waits for the answer to a question about the target.
#[derive(Debug, PartialEq)]
pub struct Asking {
    budget: Budget,
    code: Code,
    question: Question,
}

/// What is to be known of the target before an update is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Whether it works at all: its failures have used up what this update may spend.
    Works,
    /// Whether it shows any order: it has refused to show this one.
    Shows,
}

/// The first step of an update.
pub fn start() -> Step {
    Step::Get(Fetching { budget: Budget::default(), last: None })
}

impl Fetching {
    /// The same, with everything to spend again: the target was down meanwhile, so what was spent says
    /// nothing of the order.
    #[must_use]
    pub fn afresh(self) -> Self {
        Self { budget: self.budget.afresh(), last: None }
    }

    /// Consumes what the GET came to.
    pub fn on_fetch(self, fetch: Fetch, rules: &Rules) -> Step {
        match fetch {
            Fetch::Found(_, Judgement::AlreadyApplied) => Step::Settle(Settlement::AlreadyApplied),
            // On the last look as well: whatever became of our PATCH, nothing is left to be done.
            Fetch::Found(_, Judgement::Superseded) => match rules.superseded {
                Superseded::Settle => Step::Settle(Settlement::Superseded),
                Superseded::DeadLetter => dead_letter(Code::Superseded),
            },
            // Never settled without a letter: whoever replays gives the old one up for this one.
            Fetch::Found(_, Judgement::MovedOn) => dead_letter(Code::Superseded),
            // Nothing was seen, and nothing is spent: look again when the target may be asked again.
            Fetch::Missed(Trouble::Throttled { .. } | Trouble::Outage(_)) => Step::Get(self),
            Fetch::Found(..) | Fetch::Missed(_) if self.last.is_some() => {
                dead_letter(self.last.unwrap_or(Code::UnknownOutcome))
            }
            Fetch::Found(_, Judgement::Refused(code)) => dead_letter(code),
            Fetch::Found(etag, Judgement::Outdated) => {
                Step::Patch(Patching { budget: self.budget, etag })
            }
            // Something else may answer for a service that is away, and say the same of every order.
            Fetch::Missed(Trouble::Refused(code)) => self.budget.refused(code, rules),
            Fetch::Missed(trouble) => self.budget.spend(trouble, rules),
        }
    }
}

impl Patching {
    /// The ETag to send, byte for byte.
    pub fn etag(&self) -> &ETag {
        &self.etag
    }

    /// It was not sent: the target may not be asked at the moment. A later GET brings a fresh ETag.
    pub fn not_sent(self) -> Step {
        Step::Get(Fetching { budget: self.budget, last: None })
    }

    /// Consumes the verdict on the PATCH's reply.
    pub fn on_verdict(self, verdict: Verdict, rules: &Rules) -> Step {
        match verdict {
            Verdict::Done => Step::Settle(Settlement::Applied),
            Verdict::Not(trouble) => {
                let unsure = self.budget.unsure || trouble.leaves_doubt();
                Budget { unsure, ..self.budget }.spend(trouble, rules)
            }
        }
    }
}

impl Patching {
    /// Consumes the trouble of a PATCH that other updates of the order had a part in. What may be about any
    /// of them spends nothing, and the next PATCH is this update's own.
    pub fn on_merged(self, trouble: Trouble, rules: &Rules) -> Step {
        if trouble.is_nobodys() {
            return self.on_verdict(Verdict::Not(trouble), rules);
        }
        let unsure = self.budget.unsure || trouble.leaves_doubt();
        Step::Get(Fetching { budget: Budget { unsure, ..self.budget }, last: None })
    }
}

impl Waiting {
    /// How long to wait. `dice` is a uniform draw from `0.0..1.0`.
    pub fn duration(&self, dice: f64, rules: &Rules) -> Duration {
        backoff::jittered(self.wait, rules.jitter, dice)
    }

    /// The time has passed: look at the order again.
    pub fn elapsed(self) -> Step {
        Step::Get(Fetching { budget: self.budget, last: None })
    }
}

impl Asking {
    /// The code of the last failure.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What is to be found out.
    pub fn question(&self) -> Question {
        self.question
    }

    /// Consumes the answer. Of a target that does not work nothing can be learnt about this update.
    pub fn on_answer(self, is_so: bool) -> Step {
        match self.question {
            Question::Works if is_so => self.budget.exhausted(self.code),
            // It has been looked for just now: whatever became of a PATCH, it is not to be seen.
            Question::Shows if is_so => dead_letter(self.code),
            Question::Works | Question::Shows => {
                Step::Get(Fetching { budget: self.budget.afresh(), last: None })
            }
        }
    }
}

impl Budget {
    fn afresh(self) -> Self {
        Self { unsure: self.unsure, ..Self::default() }
    }

    fn spend(self, trouble: Trouble, rules: &Rules) -> Step {
        match trouble {
            Trouble::Conflict(_) => self.spend_conflict(rules),
            // One that others do not confirm is about this order after all, and must come to an end.
            Trouble::Failure(code) | Trouble::Systemic(code) => self.spend_failure(code, rules),
            Trouble::Throttled { .. } | Trouble::Outage(_) => {
                Step::Get(Fetching { budget: self, last: None })
            }
            // The GET before it was answered well: the service itself judges what we want.
            Trouble::Refused(code) => dead_letter(code),
        }
    }

    /// The target shows the order not.
    fn refused(self, code: Code, rules: &Rules) -> Step {
        match rules.not_found.wait(self.not_found).filter(|_| code == Code::NotFound) {
            Some(wait) => {
                let budget = Self { not_found: self.not_found + 1, ..self };
                Step::Wait(Waiting { budget, wait })
            }
            None => Step::Ask(Asking { budget: self, code, question: Question::Shows }),
        }
    }

    fn spend_conflict(self, rules: &Rules) -> Step {
        let Some(wait) = rules.conflicts.wait(self.conflicts) else {
            return self.exhausted(Code::ConflictExhausted);
        };
        let budget = Self { conflicts: self.conflicts + 1, ..self };
        Step::Wait(Waiting { budget, wait })
    }

    fn spend_failure(self, code: Code, rules: &Rules) -> Step {
        let few = code == Code::BusinessRule && self.failures >= BUSINESS_RULE_RETRIES_MAX;
        match rules.failures.wait(self.failures).filter(|_| !few) {
            Some(wait) => {
                let budget = Self { failures: self.failures + 1, ..self };
                Step::Wait(Waiting { budget, wait })
            }
            None => Step::Ask(Asking { budget: self, code, question: Question::Works }),
        }
    }

    /// A dead letter for an update that was applied would be replayed over newer ones: so look first.
    fn exhausted(self, code: Code) -> Step {
        if self.unsure {
            return Step::Get(Fetching { budget: self, last: Some(code) });
        }
        dead_letter(code)
    }
}

fn dead_letter(code: Code) -> Step {
    Step::Settle(Settlement::DeadLetter(code))
}

#[cfg(test)]
mod tests;
