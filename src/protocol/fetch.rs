//! What the reply to a GET says: of the order, or of the target.

use super::verdict::{self, Answer, Reply, Request, Trouble, Verdict};
use super::{Code, Fetched, Guard, Judgement, Texts};
use crate::order::{ETag, OrderUpdate};

/// What a GET came to, once its answer was classified and a good one was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Fetch {
    /// The order is there, and this is what the update means for it.
    Found(ETag, Judgement),
    /// It is not, or not now.
    Missed(Trouble),
}

/// Reads the reply to a GET.
#[must_use]
pub fn fetch(reply: &Reply, update: &OrderUpdate, guard: &Guard, texts: &Texts) -> Fetch {
    let unreadable = Trouble::Failure(Code::UnknownOutcome);
    match (verdict::verdict(Request::Get, reply, texts), reply) {
        (Verdict::Not(trouble), _) => Fetch::Missed(trouble),
        (Verdict::Done, Err(_)) => Fetch::Missed(unreadable),
        (Verdict::Done, Ok(answer)) => match Fetched::read(&answer.body) {
            None => Fetch::Missed(unreadable),
            // The header first: it is what the standard asks of a service that needs ETags.
            Some(order) => match answer.etag.clone().or_else(|| order.etag()) {
                // The type of all orders has one, or something else answers for the service.
                None => Fetch::Missed(Trouble::Systemic(Code::NoEtag)),
                Some(etag) => {
                    let judgement = order.judge(update, guard, &etag);
                    Fetch::Found(etag, judgement)
                }
            },
        },
    }
}

/// Reads the reply to a GET that named no order: whether the target answers as it should. Only a list
/// will do. No order is to blame for anything else, be it a refusal.
#[must_use]
pub fn look(reply: &Reply, texts: &Texts) -> Verdict {
    let is_page = |answer: &Answer| Fetched::read(&answer.body).is_some_and(|page| page.is_page());
    match verdict::verdict(Request::Get, reply, texts) {
        Verdict::Done if reply.as_ref().is_ok_and(is_page) => Verdict::Done,
        Verdict::Done => Verdict::Not(Trouble::Failure(Code::UnknownOutcome)),
        // The set itself is not there: the words differ, and not all are in the settings.
        Verdict::Not(Trouble::Refused(Code::NotFound)) => {
            Verdict::Not(Trouble::Systemic(Code::WrongAddress))
        }
        Verdict::Not(Trouble::Refused(code)) => Verdict::Not(Trouble::Systemic(code)),
        other @ Verdict::Not(_) => other,
    }
}

/// Reads the reply to a GET of an order that was shown before: whether orders are shown as they should be.
#[must_use]
pub fn shows(reply: &Reply, texts: &Texts) -> bool {
    let order = |answer: &Answer| {
        let order = Fetched::read(&answer.body);
        order.is_some_and(|order| answer.etag.is_some() || order.etag().is_some())
    };
    verdict::verdict(Request::Get, reply, texts) == Verdict::Done && reply.as_ref().is_ok_and(order)
}

/// In words, why a GET's reply, which brought this ETag, ended an update unwritten. Empty where nothing
/// stood in its way.
#[must_use]
pub fn objection(reply: &Reply, update: &OrderUpdate, guard: &Guard, etag: &ETag) -> String {
    let order = reply.as_ref().ok().and_then(|answer| Fetched::read(&answer.body));
    order.map(|order| order.objection(update, guard, etag)).unwrap_or_default()
}

/// What of a fetched order the update would change: a JSON object, of a few KiB at most.
#[must_use]
pub fn concerned(order: &[u8], update: &OrderUpdate, guard: &Guard) -> Option<String> {
    Fetched::read(order).map(|order| order.concerned(update, guard))
}

impl Fetch {
    /// What the reply says of the target.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        match self {
            Self::Found(..) => Verdict::Done,
            Self::Missed(trouble) => Verdict::Not(*trouble),
        }
    }
}
